"""Focal loss for gradient boosting, as if it were built in."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from focal_gbm._compare._api import compare
    from focal_gbm._compare._encoder import TableEncoder
    from focal_gbm._compare._result import Comparison
    from focal_gbm._engines import label_totals
    from focal_gbm.display import FocalLossDisplay
    from focal_gbm.losses import BinaryFocalLoss, SoftmaxFocalLoss
    from focal_gbm.objective import FocalObjective

__version__ = "0.2.0"
__all__ = [
    "BinaryFocalLoss",
    "Comparison",
    "FocalLossDisplay",
    "FocalObjective",
    "SoftmaxFocalLoss",
    "TableEncoder",
    "compare",
    "label_totals",
]

_HOMES = {
    "BinaryFocalLoss": "losses",
    "Comparison": "_compare._result",
    "FocalLossDisplay": "display",
    "FocalObjective": "objective",
    "SoftmaxFocalLoss": "losses",
    "TableEncoder": "_compare._encoder",
    "compare": "_compare._api",
    "label_totals": "_engines",
}


# Names that need another library are in the module for that library.
_ELSEWHERE = {
    "FocalLGBMClassifier": ["lightgbm"],
    "FocalXGBClassifier": ["xgboost"],
    "DaskFocalLGBMClassifier": ["dask"],
    "DaskFocalXGBClassifier": ["dask"],
    "SigmoidFocalLoss": ["torch"],
    "SparkFocalXGBClassifier": ["spark"],
    "SparkFocalXGBClassifierModel": ["spark"],
    "sigmoid_focal_loss": ["torch"],
    "softmax_focal_loss": ["torch"],
    "cv": ["xgboost", "lightgbm"],
    "to_onnx": ["onnx"],
    "focal_metric": ["xgboost", "lightgbm"],
    "train": ["xgboost", "lightgbm", "dask"],
}
_MODULES = ("dask", "lightgbm", "onnx", "spark", "torch", "xgboost")


def __getattr__(name: str) -> Any:
    # Loaded on first use: Numba alone takes half a second to import.
    if name in _ELSEWHERE:
        # `from focal_gbm import` would not show the message of an AttributeError.
        places = " or ".join(f"from {__name__}.{module}" for module in _ELSEWHERE[name])
        raise ImportError(f"{__name__} has no {name}: import it {places}")
    if name not in _HOMES:
        hint = f": import {__name__}.{name} first" if name in _MODULES else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
