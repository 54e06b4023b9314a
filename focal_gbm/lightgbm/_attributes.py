"""What a LightGBM booster and its file record about focal loss.

The record is a line of JSON among the parameters of the model's text: the "loss"; the "start" of
the margins and the "shift" of the intercept, both of which are in the first trees; "class_prior",
the share of each class in the training data; and "classes", the labels of a classifier.
"""

import json
import re
from typing import Any

import lightgbm as lgb

from focal_gbm._stored import (
    ERRORS,
    classes_from,
    damaged,
    decoded,
    labels_of,
    loss_from,
    margins,
    parameters_of,
    prior_of,
)
from focal_gbm._types import Array
from focal_gbm._validation import check_prior
from focal_gbm.lightgbm._internals import parameter_of, with_parameter
from focal_gbm.objective import Loss

_NAME = "focal_gbm"


def stored_of(booster: lgb.Booster) -> dict[str, Any]:
    """What a booster records, nothing if it was not trained by this package."""
    text = parameter_of(booster, _NAME)
    return {} if text is None else decoded(_NAME, text)


def with_stored(model: str, stored: dict[str, Any]) -> str:
    """The text of a model with this record."""
    return with_parameter(model, _NAME, json.dumps(stored))


def to_store(
    loss: Loss, start: Array | None, shift: Array, totals: Array | None, classes: Array | None
) -> dict[str, Any]:
    """What a model should record, as far as it is known."""
    stored = {
        "loss": None if loss.alpha == "balanced" else parameters_of(loss),
        "start": None if start is None else start.tolist(),
        "shift": shift.tolist(),
        "class_prior": None if totals is None else prior_of(totals),
        "classes": None if classes is None else labels_of(classes),
    }
    return {name: part for name, part in stored.items() if part is not None}


def loss_of(booster: lgb.Booster) -> Loss | None:
    """The loss of a booster trained by this package, None if it records none."""
    loss: Loss | None = _part(booster, "loss", lambda part: loss_from(part, n_classes_of(booster)))
    return loss


def classes_of(booster: lgb.Booster) -> Array | None:
    """The labels of a booster's classes, None if it was trained without a classifier."""
    classes: Array | None = _part(booster, "classes", classes_from)
    return classes


def class_prior_of(booster: lgb.Booster) -> Array | None:
    """The share of each class in a booster's training data, None if it records none."""
    n_classes = n_classes_of(booster)
    prior: Array | None = _part(
        booster, "class_prior", lambda part: check_prior("class_prior", part, n_classes)
    )
    return prior


def margins_of(booster: lgb.Booster, name: str) -> Array | None:
    """The "start" or the "shift" of a booster, None if it records none."""
    n_margins = booster.num_model_per_iteration()
    margin: Array | None = _part(booster, name, lambda part: margins(part, n_margins))
    return margin


def n_classes_of(booster: lgb.Booster) -> int:
    """Number of classes of the loss."""
    return max(2, booster.num_model_per_iteration())


def check_is_whole(model: str) -> None:
    """Refuse a model's text that is cut off: LightGBM might never return from reading it."""
    if not re.search(r"^end of parameters\n\npandas_categorical:.*\n\Z", model, re.MULTILINE):
        raise ValueError("fname: the file is no model of LightGBM, or has been cut off")


def _part(booster: lgb.Booster, name: str, read: Any) -> Any:
    stored = stored_of(booster)
    if name not in stored:
        return None
    try:
        return read(stored[name])
    except ERRORS as error:
        raise damaged(_NAME, json.dumps(stored), error) from None
