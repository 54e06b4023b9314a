"""What a booster of XGBoost, and the file of one, knows of focal loss: its attributes."""

import json
import re
from typing import Any

import numpy as np
import xgboost as xgb

from focal_gbm._stored import damaged, decoded, margins, of_kind
from focal_gbm._types import Array
from focal_gbm._validation import check_prior
from focal_gbm.objective import FocalObjective, Loss, loss_for

# Kinds of NumPy's dtypes that labels may have, and what they are in JSON.
_KINDS = {
    "b": bool,
    "i": int,
    "u": int,
    "f": float,
    "U": str,
    "O": str,
    "m": int,
    "M": int,
}


def text_of_loss(loss: Loss) -> str:
    """The attribute "focal_loss"."""
    return json.dumps({"gamma": loss.gamma, "alpha": loss.alpha, "hessian": loss.hessian})


def loss_of(booster: xgb.Booster, n_classes: int) -> Loss | None:
    """The loss of a booster that has been trained here, None if it does not tell."""
    text = _attribute(booster, "focal_loss")
    if text is None:
        return None
    parameters = decoded("focal_loss", text)
    try:
        if parameters.keys() != {"gamma", "alpha", "hessian"}:
            raise ValueError(f"its keys are {sorted(parameters)}")
        loss = loss_for(FocalObjective(**parameters), n_classes)
        if loss.alpha == "balanced":
            raise ValueError("alpha is 'balanced', for labels that are not known")
    except (TypeError, ValueError, OverflowError) as error:
        raise damaged("focal_loss", text, error) from None
    return loss


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
    except (TypeError, ValueError) as error:
        raise damaged("focal_intercept", text, error) from None


def text_of_class_prior(totals: Array) -> str | None:
    """The attribute "class_prior", from the total weight of each class; None if one has none."""
    return json.dumps((totals / totals.sum()).tolist()) if totals.all() else None


def class_prior_of(booster: xgb.Booster, n_classes: int) -> Array | None:
    """The share of each class in the training data of a booster, None if it does not tell."""
    text = _attribute(booster, "class_prior")
    if text is None:
        return None
    try:
        return check_prior("class_prior", decoded("class_prior", text, list), n_classes)
    except (TypeError, ValueError) as error:
        raise damaged("class_prior", text, error) from None


def attributes_of_classes(classes: Array) -> dict[str, str]:
    """The attributes that tell the labels of the classes, and how many there are."""
    is_time = classes.dtype.kind in "mM"  # which JSON does not know
    labels = (classes.view(np.int64) if is_time else classes).tolist()
    text = json.dumps({"labels": labels, "dtype": classes.dtype.str})
    return {"classes": text, "n_classes": str(classes.size)}


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
        classes = _labels(stored["labels"], _dtype(of_kind(str, stored["dtype"])))
        if size not in (None, str(classes.size)):
            raise ValueError(f"the model is one of {size} classes")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise damaged("classes", text, error) from None
    return classes


def _dtype(text: str) -> np.dtype[Any]:
    # NumPy would evaluate other text.
    if not re.fullmatch(r"[<>|](O|U\d+|[biuf]\d|[mM]8(\[\d*[a-zA-Z]+\])?)", text):
        raise ValueError(f"labels have no dtype {text!r}")
    return np.dtype(text)


def _labels(labels: Any, dtype: np.dtype[Any]) -> Array:
    for label in of_kind(list, labels):
        of_kind(_KINDS[dtype.kind], label)
    if dtype.kind in "mM":
        classes = np.array(labels, np.int64).view(dtype)
    else:
        with np.errstate(over="ignore"):  # which the comparison below finds
            # Text gets the width that it needs, whatever the dtype asks for.
            classes = np.array(labels, None if dtype.kind == "U" else dtype)
    if not classes.size or not (classes[1:] > classes[:-1]).all():
        raise ValueError("labels are missing, not sorted or not different")
    if (classes.view(np.int64) if dtype.kind in "mM" else classes).tolist() != labels:
        raise ValueError(f"labels are none of {dtype}")
    return classes


def _attribute(booster: xgb.Booster, name: str) -> str | None:
    try:
        return booster.attr(name)
    except AssertionError:  # of XGBoost, for text that is empty
        return ""
