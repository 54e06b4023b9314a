"""Warnings about training or a model, attributed to the line that called the package."""

import sys
import warnings

from focal_gbm.losses import BinaryFocalLoss, SoftmaxFocalLoss

# Packages whose lines are not the user's: this one, and those that call it.
_NOT_THE_USERS = ("focal_gbm.", "xgboost.", "lightgbm.")


def warn(message: str) -> None:
    """Warn, attributing the warning to the line that called the package."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(_NOT_THE_USERS):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def warn_of_no_split(parameters: str) -> None:
    """Warn that no tree has a split, so the booster predicts a constant."""
    warn(
        f"no tree has a split. {parameters} are on the scale of the Hessian, which is small for a "
        "large gamma: try lower values"
    )


def warn_of_other_loss(
    name: str,
    found: BinaryFocalLoss | SoftmaxFocalLoss | None,
    expected: BinaryFocalLoss | SoftmaxFocalLoss,
    advice: str = "",
) -> None:
    """Warn if training continues a model that was trained with another or an unknown loss."""
    of_classes = expected._by_class()
    n_classes = len(of_classes["gamma"])
    # An unknown loss is most likely the library's own, which is log loss.
    log_loss = {"gamma": (0.0,) * n_classes, "alpha": (1.0,) * n_classes}
    if of_classes != (found._by_class() if found else log_loss):
        warn(
            f"{name} was trained with {found or 'a loss that it does not name'}, and training "
            f"continues with {expected}: probabilities are right only once the new trees outweigh "
            f"the old{advice}"
        )
