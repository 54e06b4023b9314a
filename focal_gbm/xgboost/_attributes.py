"""What an XGBoost booster and its file record about focal loss: the attributes."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import xgboost as xgb

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
from focal_gbm.objective import Loss

_Part = TypeVar("_Part")


def text_of_loss(loss: Loss) -> str:
    """The attribute "focal_loss"."""
    return json.dumps(parameters_of(loss))


def loss_of(booster: xgb.Booster, n_classes: int) -> Loss | None:
    """The loss of a booster trained by this package, None if it records none."""
    return _part(booster, "focal_loss", lambda stored: loss_from(stored, n_classes))


def text_of_intercept(**margin: Array) -> str:
    """The attribute "focal_intercept": what undoes the shift of the intercept, and where.

    It has the ``base_margin`` before the shift, or the ``shift`` of the first trees.
    """
    return json.dumps({name: values.tolist() for name, values in margin.items()})


def intercept_of(booster: xgb.Booster, n_margins: int) -> tuple[str, Array] | None:
    """The name and values in "focal_intercept", None for a booster that was not shifted."""

    def read(stored: dict[str, Any]) -> tuple[str, Array]:
        ((name, values),) = stored.items()
        if name not in ("base_margin", "shift"):
            raise ValueError(f"{name!r} is unknown")
        return name, margins(values, n_margins)

    return _part(booster, "focal_intercept", read)


def text_of_class_prior(totals: Array) -> str | None:
    """The attribute "class_prior", from the total weight of each class; None if one has none."""
    prior = prior_of(totals)
    return None if prior is None else json.dumps(prior)


def class_prior_of(booster: xgb.Booster, n_classes: int) -> Array | None:
    """The share of each class in a booster's training data, None if it records none."""

    def read(prior: list[float]) -> Array:
        return check_prior("class_prior", prior, n_classes)

    return _part(booster, "class_prior", read, list)


def attributes_of_classes(classes: Array) -> dict[str, str]:
    """The attributes that record the labels of the classes, and how many there are."""
    return {"classes": json.dumps(labels_of(classes)), "n_classes": str(classes.size)}


def classes_of(booster: xgb.Booster) -> Array | None:
    """The labels of a booster's classes, None if it was trained without a classifier."""
    size = _attribute(booster, "n_classes")

    def read(stored: dict[str, Any]) -> Array:
        classes = classes_from(stored)
        if size not in (None, str(classes.size)):
            raise ValueError(f"the model is one of {size} classes")
        return classes

    classes = _part(booster, "classes", read)
    if classes is None and size is not None:
        raise ValueError(
            f"the model is one of {size} classes, but has no attribute 'classes' with their "
            "labels: it is damaged"
        )
    return classes


def _part(
    booster: xgb.Booster, name: str, read: Callable[[Any], _Part], kind: type = dict
) -> _Part | None:
    text = _attribute(booster, name)
    if text is None:
        return None
    stored = decoded(name, text, kind)
    try:
        return read(stored)
    except ERRORS as error:
        raise damaged(name, text, error) from None


def _attribute(booster: xgb.Booster, name: str) -> str | None:
    try:
        return booster.attr(name)
    except AssertionError:  # XGBoost raises it for empty text
        return ""
