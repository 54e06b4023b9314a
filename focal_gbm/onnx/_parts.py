"""What an ONNX file is made of: the trees, the loss and the classes of a fitted model."""

from functools import singledispatch
from typing import Any, NamedTuple

from focal_gbm._types import Array
from focal_gbm.objective import FocalObjective, Loss, check_objective, loss_for
from focal_gbm.onnx._trees import Ensemble


class Parts(NamedTuple):
    """A fitted model of either library."""

    ensemble: Ensemble
    loss: Loss
    classes: Array


@singledispatch
def parts_of(model: Any, objective: FocalObjective | None = None) -> Parts:
    """The parts of a model; each library adds its own models to this function.

    A booster may need the objective that it was trained with.
    """
    raise TypeError(
        "model: expected a FocalXGBClassifier, a FocalLGBMClassifier or a booster of either "
        f"library, got {type(model).__name__}. A pipeline of them is converted by "
        "skl2onnx.to_onnx(pipeline, X), once focal_gbm.onnx is imported"
    )


def refuse_objective(objective: FocalObjective | None) -> None:
    """Refuse an objective for a classifier, which has its own."""
    if objective is not None:
        raise ValueError(
            f"objective: the classifier has its own loss, but got {objective!r}: leave it out"
        )


def loss_of_booster(told: Loss | None, objective: Any, n_classes: int) -> Loss:
    """The loss that a booster records, or that of the objective it was trained with."""
    if objective is None:
        if told is None:
            raise ValueError(
                "objective: the booster does not tell its loss, as those of the train functions of "
                "focal_gbm do: give the FocalObjective that it has been trained with"
            )
        return told
    given = _given_loss(objective, n_classes)
    if told is not None and (told.gamma, told.alpha) != (given.gamma, given.alpha):
        raise ValueError(
            f"objective: it is {objective!r}, but the booster has been trained with {told!r}: "
            "leave it out"
        )
    return given


def _given_loss(objective: Any, n_classes: int) -> Loss:
    loss = loss_for(check_objective("objective", objective), n_classes)
    if loss.alpha == "balanced":
        raise ValueError(
            "objective: its alpha is 'balanced', which has a value only for given labels: give "
            "objective.resolve(y) with the training labels"
        )
    return loss
