"""Focal loss on the Dask interfaces of XGBoost and LightGBM.

Class counts, alpha and the starting margin come from all partitions, whatever a worker holds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from focal_gbm._extras import needed_by

if TYPE_CHECKING:
    from focal_gbm.dask._lightgbm_classifier import DaskFocalLGBMClassifier
    from focal_gbm.dask._xgboost_classifier import DaskFocalXGBClassifier
    from focal_gbm.dask._xgboost_train import train

__all__ = ["DaskFocalLGBMClassifier", "DaskFocalXGBClassifier", "train"]

_HOMES = {
    "DaskFocalLGBMClassifier": "_lightgbm_classifier",
    "DaskFocalXGBClassifier": "_xgboost_classifier",
    "train": "_xgboost_train",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: either library works without the other.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needed_by(f"focal_gbm.dask.{name}", "dask", "distributed", "xgboost", "lightgbm"):
        home = import_module(f"{__name__}.{_HOMES[name]}")
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
