"""Areas under the ROC and precision-recall curves: one pass over the rows sorted by score."""

import math

import numpy as np

from focal_gbm._kernels import formulas
from focal_gbm._kernels.cpu import inlined
from focal_gbm._kernels.launch import launch_whole
from focal_gbm._kernels.limits import AREAS
from focal_gbm._types import Array

_roc_area = inlined(formulas.roc_area)
_precision_area = inlined(formulas.precision_area)
_interpolated_precision_area = inlined(formulas.interpolated_precision_area)

_ROC, _PRECISION, _INTERPOLATED = range(3)


def _areas(
    score: Array,
    y: Array,
    weight: Array | None,
    order: Array,
    out: Array,
    parameters: Array,
    kind: int,
) -> np.int32:
    """Area, negatives and positives; rows of equal score are a single step of the curve."""
    area = fp = tp = fp_before = tp_before = 0.0
    last = order.size - 1
    for position in range(last, -1, -1):
        i = order[position]
        of_row = 1.0 if weight is None else np.float64(weight[i])
        positive = of_row * y[i]
        tp += positive
        fp += of_row - positive
        if position == 0 or score[order[position - 1]] != score[i]:
            if kind == _ROC:
                area += _roc_area(fp_before, tp_before, fp, tp)
            elif kind == _PRECISION:
                area += _precision_area(fp_before, tp_before, fp, tp)
            else:
                area += _interpolated_precision_area(fp_before, tp_before, fp, tp, math.log)
            fp_before, tp_before = fp, tp
    out[0], out[1], out[2] = area, fp, tp
    return np.int32(0)


def area(y: Array, score: Array, weight: Array | None, order: Array, kind: str) -> float:
    """Area under a curve, as a share of the whole; ``order`` sorts the scores, lowest first."""
    out = np.empty(3)
    launch_whole(_areas, (score, y, weight, order), (out,), (AREAS.index(kind),))
    total, negatives, positives = out.tolist()
    return total / (negatives * positives if kind == "ROC" else positives)
