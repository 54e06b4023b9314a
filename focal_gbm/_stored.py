"""What models record about focal loss, as JSON.

A file may be damaged or hostile, so everything is checked before it is used.
"""

import json
import re
from typing import Any

import numpy as np

from focal_gbm._types import Array
from focal_gbm.objective import FocalObjective, Loss, loss_for

# Kinds of NumPy dtypes that labels may have, and their types in JSON.
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

# What is raised for damaged parts.
ERRORS = (KeyError, TypeError, ValueError, OverflowError)


def decoded(name: str, text: str, kind: type = dict) -> Any:
    """The dictionary, or value of another kind, that a model stores under a name."""
    try:
        return of_kind(kind, json.loads(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise damaged(name, text, error) from None


def damaged(name: str, text: str, reason: Exception) -> ValueError:
    kind = type(reason).__name__
    return ValueError(f"the model's attribute {name!r} is damaged ({kind}: {reason}): {text:.200}")


def of_kind(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r:.50} is no {kind.__name__}")
    return value


def margins(values: Any, n_margins: int) -> Array:
    """One finite margin, or one per class."""
    margin = np.array([of_kind(float, value) for value in of_kind(list, values)])
    if margin.size != n_margins or not np.isfinite(margin).all():
        raise ValueError(f"{values} are not {n_margins} finite margins")
    return margin


def parameters_of(loss: Loss) -> dict[str, Any]:
    """The parameters that identify a loss."""
    return {"gamma": loss.gamma, "alpha": loss.alpha, "hessian": loss.hessian}


def loss_from(parameters: dict[str, Any], n_classes: int) -> Loss:
    """The loss with these parameters."""
    if of_kind(dict, parameters).keys() != {"gamma", "alpha", "hessian"}:
        raise ValueError(f"its keys are {sorted(parameters)}")
    loss = loss_for(FocalObjective(**parameters), n_classes)
    if loss.alpha == "balanced":
        raise ValueError("alpha is 'balanced', for labels that are not known")
    return loss


def prior_of(totals: Array) -> list[float] | None:
    """The share of each class, from their total weights; None if one has none."""
    share: list[float] = (totals / totals.sum()).tolist()
    return share if totals.all() else None


def labels_of(classes: Array) -> dict[str, Any]:
    """The labels of the classes, for JSON."""
    is_time = classes.dtype.kind in "mM"  # JSON has no such type
    labels = (classes.view(np.int64) if is_time else classes).tolist()
    return {"labels": labels, "dtype": classes.dtype.str}


def classes_from(stored: dict[str, Any]) -> Array:
    """The labels of the classes, sorted."""
    return _labels(of_kind(dict, stored)["labels"], _dtype(of_kind(str, stored["dtype"])))


def _dtype(text: str) -> np.dtype[Any]:
    # NumPy would evaluate other text as code.
    if not re.fullmatch(r"[<>|](O|U\d+|[biuf]\d|[mM]8(\[\d*[a-zA-Z]+\])?)", text):
        raise ValueError(f"labels have no dtype {text!r}")
    return np.dtype(text)


def _labels(labels: Any, dtype: np.dtype[Any]) -> Array:
    for label in of_kind(list, labels):
        of_kind(_KINDS[dtype.kind], label)
    if dtype.kind in "mM":
        classes = np.array(labels, np.int64).view(dtype)
    else:
        with np.errstate(over="ignore"):  # the comparison below finds it
            # Text gets the width that it needs, whatever the dtype asks for.
            classes = np.array(labels, None if dtype.kind == "U" else dtype)
    if not classes.size or not (classes[1:] > classes[:-1]).all():
        raise ValueError("labels are missing, not sorted or not different")
    if (classes.view(np.int64) if dtype.kind in "mM" else classes).tolist() != labels:
        raise ValueError(f"labels are none of {dtype}")
    return classes
