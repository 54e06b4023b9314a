"""What a booster of LightGBM, and the file of one, knows of focal loss: a parameter of ours."""

import json

import lightgbm as lgb

from focal_gbm._stored import damaged, decoded, margins
from focal_gbm._types import Array
from focal_gbm.lightgbm._internals import parameter_of, with_parameter

_NAME = "focal_loss"


def with_shift(model: str, shift: Array) -> str:
    """The text of a model that knows by how much its first trees have been shifted."""
    return with_parameter(model, _NAME, json.dumps({"shift": shift.tolist()}))


def shift_of_model(booster: lgb.Booster) -> Array | None:
    """By how much the first trees of a booster have been shifted, None if they have not."""
    text = parameter_of(booster, _NAME)
    if text is None:
        return None
    stored = decoded(_NAME, text)
    try:
        return margins(stored["shift"], booster.num_model_per_iteration())
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(_NAME, text, error) from None
