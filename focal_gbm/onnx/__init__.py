"""Models as ONNX files that predict posteriors.

Importing this module registers the classifiers with skl2onnx, so that it converts pipelines that
contain them.
"""

from focal_gbm._extras import needed_by

with needed_by("focal_gbm.onnx", "onnx", "skl2onnx"):
    from focal_gbm.onnx._export import to_onnx

__all__ = ["to_onnx"]
