"""Focal loss for gradient boosting, as if it were built in."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from focal_gbm.display import FocalLossDisplay
    from focal_gbm.losses import BinaryFocalLoss, SoftmaxFocalLoss
    from focal_gbm.objective import FocalObjective

__version__ = "0.1.0"
__all__ = ["BinaryFocalLoss", "FocalLossDisplay", "FocalObjective", "SoftmaxFocalLoss"]

_HOMES = {
    "BinaryFocalLoss": "losses",
    "FocalLossDisplay": "display",
    "FocalObjective": "objective",
    "SoftmaxFocalLoss": "losses",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: Numba alone takes half a second to import.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
