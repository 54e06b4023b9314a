"""What models store of focal loss, as JSON.

A file may be damaged or hostile, so that what is read is checked before it is used.
"""

import json
from typing import Any

import numpy as np

from focal_gbm._types import Array


def decoded(name: str, text: str, kind: type = dict) -> Any:
    """The dictionary, or what else, that a model stores by a name."""
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
    """One finite margin, or one of each class."""
    margin = np.array([of_kind(float, value) for value in of_kind(list, values)])
    if margin.size != n_margins or not np.isfinite(margin).all():
        raise ValueError(f"{values} are not {n_margins} finite margins")
    return margin
