"""What a booster of XGBoost, and the file of one, knows of focal loss: its attributes."""

import json

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


def text_of_loss(loss: Loss) -> str:
    """The attribute "focal_loss"."""
    return json.dumps(parameters_of(loss))


def loss_of(booster: xgb.Booster, n_classes: int) -> Loss | None:
    """The loss of a booster that has been trained here, None if it does not tell."""
    text = _attribute(booster, "focal_loss")
    if text is None:
        return None
    stored = decoded("focal_loss", text)
    try:
        return loss_from(stored, n_classes)
    except ERRORS as error:
        raise damaged("focal_loss", text, error) from None


def text_of_intercept(**margin: Array) -> str:
    """The attribute "focal_intercept": what the shift of the intercept has changed, and where.

    The ``base_margin`` before, or the ``shift`` of the first trees.
    """
    return json.dumps({name: values.tolist() for name, values in margin.items()})


def intercept_of(booster: xgb.Booster, n_margins: int) -> tuple[str, Array] | None:
    """The name and the values in it, None for a booster that has not been shifted."""
    text = _attribute(booster, "focal_intercept")
    if text is None:
        return None
    stored = decoded("focal_intercept", text)
    try:
        ((name, values),) = stored.items()
        if name not in ("base_margin", "shift"):
            raise ValueError(f"{name!r} is unknown")
        return name, margins(values, n_margins)
    except ERRORS as error:
        raise damaged("focal_intercept", text, error) from None


def text_of_class_prior(totals: Array) -> str | None:
    """The attribute "class_prior", from the total weight of each class; None if one has none."""
    prior = prior_of(totals)
    return None if prior is None else json.dumps(prior)


def class_prior_of(booster: xgb.Booster, n_classes: int) -> Array | None:
    """The share of each class in the training data of a booster, None if it does not tell."""
    text = _attribute(booster, "class_prior")
    if text is None:
        return None
    stored = decoded("class_prior", text, list)
    try:
        return check_prior("class_prior", stored, n_classes)
    except ERRORS as error:
        raise damaged("class_prior", text, error) from None


def attributes_of_classes(classes: Array) -> dict[str, str]:
    """The attributes that tell the labels of the classes, and how many there are."""
    return {"classes": json.dumps(labels_of(classes)), "n_classes": str(classes.size)}


def classes_of(booster: xgb.Booster) -> Array | None:
    """The labels of a booster, None if it has been trained without a classifier."""
    text, size = _attribute(booster, "classes"), _attribute(booster, "n_classes")
    if text is None:
        if size is not None:
            raise ValueError(
                f"the model is one of {size} classes, but has no attribute 'classes' with their "
                "labels: it is damaged"
            )
        return None
    stored = decoded("classes", text)
    try:
        classes = classes_from(stored)
        if size not in (None, str(classes.size)):
            raise ValueError(f"the model is one of {size} classes")
    except ERRORS as error:
        raise damaged("classes", text, error) from None
    return classes


def _attribute(booster: xgb.Booster, name: str) -> str | None:
    try:
        return booster.attr(name)
    except AssertionError:  # of XGBoost, for text that is empty
        return ""
