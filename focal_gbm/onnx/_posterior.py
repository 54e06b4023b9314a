"""Posteriors from margins as ONNX nodes, by the formulas that all backends share."""

from typing import Any

import numpy as np

from focal_gbm._kernels import formulas
from focal_gbm.objective import Loss, n_classes_of
from focal_gbm.onnx._graph import Graph, Tensor, where

# Posteriors of margins further below the top are zero in single precision whatever gamma is, and
# exp(-700) is still a normal number, so that no formula divides by a posterior of zero.
LOWEST = -700.0


class Positive(Tensor):
    """A posterior, which is above zero for every margin."""

    def __gt__(self, zero: int) -> bool:
        return True


def log_posteriors(graph: Graph, margin: Tensor, loss: Loss) -> Tensor:
    """Logarithms of posteriors, of shape (n, n_classes), up to a number for each row.

    They are in the double precision of the margins. For two classes, these are zero and the margin.
    """
    n_classes = n_classes_of(loss)
    if n_classes == 2:
        margin = graph.node("Pad", margin, graph.constant([0, 1, 0, 0]))
    one, columns = graph.constant(1.0), graph.constant([1])

    def log1p(x: Tensor) -> Tensor:
        """log(1 + x) for x >= 0, to full relative precision.

        ONNX has no such function. The rounding error of ``1 + x`` is known exactly, and the
        derivative of the logarithm corrects for it. The usual ``x * log(1 + x) / ((1 + x) - 1)``
        divides by zero.
        """
        total = one + x
        return graph.node("Log", total) + (x - (total - one)) / total

    # The odds of a class are its share over the sum of the others. For the top class, that sum is
    # taken without its own share: subtracting one from the sum of all would leave nothing.
    top, top_class = graph.nodes("TopK", margin, columns, n_outputs=2, axis=1)
    is_top = graph.node("Equal", top_class, graph.constant(np.arange(n_classes)))
    below = graph.node("Max", margin - top, graph.constant(LOWEST))
    share = graph.node("Exp", below)
    below_top = graph.node("ReduceSum", where(is_top, one - one, share), columns, keepdims=1)
    others = where(is_top, below_top, one + (below_top - share))
    is_likely = graph.node("GreaterOrEqual", share, others)
    odds = graph.node("Min", share, others) / graph.node("Max", share, others)
    log_odds = -abs(below - graph.node("Log", others))

    larger, smaller, log_larger, log_smaller = formulas.posteriors(odds, log_odds, True, one, log1p)
    p, q = where(is_likely, larger, smaller), where(is_likely, smaller, larger)
    log_p = where(is_likely, log_larger, log_smaller)
    log_q = where(is_likely, log_smaller, log_larger)
    of_class: dict[str, Any] = loss._by_class()
    gamma, log_alpha = graph.constant([of_class["gamma"]]), np.log([of_class["alpha"]])
    calibration = formulas.calibration(p, Positive(graph, q.name), log_p, log_q, gamma, one, log1p)
    found: Tensor = log_p + calibration - graph.constant(log_alpha)
    return found
