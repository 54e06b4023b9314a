"""The curvature of softmax in each library's own log loss, which focal loss follows.

A step is the gradient over the Hessian, of which the libraries take the diagonal. With the softmax
of several classes the diagonal alone makes steps too long, so they multiply it: XGBoost by 2
(src/objective/multiclass_obj.cu, seen in 3.2.0 and 3.4.1), LightGBM by K / (K - 1) for K classes
(src/objective/multiclass_objective.hpp, seen in 4.6.0 and 4.7.0), after Friedman, "Greedy Function
Approximation: A Gradient Boosting Machine", 2001, section 4.6. Without this factor a gamma of 0
would not be the library's log loss: with equal parameters, steps would be longer by the factor.
"""

from typing import Any

from focal_gbm._kernels.threads import Threads
from focal_gbm._types import Array
from focal_gbm.losses import BinaryFocalLoss, SoftmaxFocalLoss


def library_of(dataset: Any) -> str:
    """The library of a ``DMatrix`` or ``Dataset``, or of a class derived from one."""
    modules = {kind.__module__.partition(".")[0] for kind in type(dataset).__mro__}
    return "lightgbm" if "lightgbm" in modules else "xgboost"


def library_of_margins(margin: Array) -> str:
    """The library that calls with margins alone; LightGBM's are in double precision."""
    return "lightgbm" if str(margin.dtype).endswith("float64") else "xgboost"


def boosted_gradient_hessian(
    loss: BinaryFocalLoss | SoftmaxFocalLoss,
    library: str,
    y: Array,
    margin: Array,
    sample_weight: Array | None,
    out: tuple[Array, Array],
    n_threads: Threads,
) -> tuple[Array, Array]:
    """Gradient and Hessian, equal to those of the library's own log loss if gamma is 0.

    Labels, margins and weights are checked, and alpha has a value.
    """
    # The mode "gradient" uses no second derivative, so there is nothing to multiply.
    if isinstance(loss, BinaryFocalLoss) or loss.hessian == "gradient":
        return loss._gradient_hessian(y, margin, sample_weight, out, n_threads)
    n_classes = loss.n_classes
    factor = 2.0 if library == "xgboost" else n_classes / (n_classes - 1)
    return loss._gradient_hessian(y, margin, sample_weight, out, n_threads, curvature_factor=factor)
