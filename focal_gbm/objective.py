"""One objective and one metric for every booster."""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from focal_gbm._arrays import check_rows, empty, is_on_device, to_device, total
from focal_gbm._kernels.threads import Threads
from focal_gbm._types import Array, Balanced, HessianMode
from focal_gbm._validation import (
    as_real,
    check_alpha,
    check_device,
    check_gamma,
    check_hessian,
    check_n_threads,
)
from focal_gbm.losses import BinaryFocalLoss, SoftmaxFocalLoss

Loss = BinaryFocalLoss | SoftmaxFocalLoss


@dataclass(frozen=True)
class FocalObjective:
    """Focal loss as the custom objective of XGBoost and LightGBM.

    One immutable object for every place where they take a callable: ``obj`` of ``xgboost.train``,
    ``objective`` in the parameters of ``lightgbm.train``, ``fobj`` of both ``Booster.update``
    methods, and ``objective`` of ``XGBClassifier`` and ``LGBMClassifier``.

    It holds its parameters and nothing else: labels and weights of a ``DMatrix`` or ``Dataset`` are
    read in every iteration, so new ones count from the next iteration on.
    ``focal_gbm.xgboost.train`` and ``focal_gbm.lightgbm.train`` read them once per training.

    Parameters
    ----------
    gamma : float or sequence of floats, default=2.0
        Focusing parameter, >= 0, or one per class in class order; 0 is log loss.
    alpha : None, "balanced", float or sequence of floats, default=None
        Class weights, as in ``BinaryFocalLoss``. "balanced" takes them from the training labels.
    hessian : {"exact", "clip", "abs", "gradient"}, optional
        The curvature the booster gets, as in ``BinaryFocalLoss``. By default it is exact for two
        classes, and clipped for more, where negative curvature makes leaf values explode.
    n_threads : int, optional
        Maximum number of threads; by default that of the booster in the two ``train`` functions,
        and one per available processor elsewhere.
    device : {"cpu", "cuda", "cuda:<number>"}, optional
        Where to compute. With a GPU, labels, weights and margins are copied to it in each
        iteration, and gradient and Hessian are arrays on it, which XGBoost takes as they are and
        LightGBM does not accept. The default is the CPU, unless ``focal_gbm.xgboost.train`` or
        ``FocalXGBClassifier`` trains on a GPU: then nothing is copied in an iteration.

    Raises
    ------
    TypeError, ValueError
        For a parameter of the wrong kind or value.
    RuntimeError
        When called with a ``device`` of "cuda", if there is no GPU or no numba-cuda.

    See Also
    --------
    focal_gbm.xgboost.train, focal_gbm.lightgbm.train :
        Drop-in training functions that also choose the starting margin and return a model that
        predicts probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> from focal_gbm import FocalObjective
    >>> grad, hess = FocalObjective(gamma=2.0, alpha=0.25)(np.array([1, 0]), np.array([0.5, -2.0]))
    >>> grad.round(4), grad.dtype
    (array([-0.0345,  0.0037], dtype=float32), dtype('float32'))
    """

    gamma: float | Sequence[float] = 2.0
    alpha: Balanced | float | Sequence[float] | None = None
    hessian: HessianMode | None = None
    n_threads: int | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", check_gamma(self.gamma))
        object.__setattr__(self, "alpha", check_alpha(self.alpha))
        if self.hessian is not None:
            object.__setattr__(self, "hessian", check_hessian(self.hessian))
        object.__setattr__(self, "n_threads", check_n_threads(self.n_threads))
        object.__setattr__(self, "device", check_device(self.device))

    def __sklearn_clone__(self) -> Self:
        return self  # it cannot change

    @property
    def loss(self) -> BinaryFocalLoss:
        """The binary loss behind the objective; its ``posterior`` converts trained margins."""
        return _binary_loss(self.gamma, self.alpha, self.hessian or "exact")

    def softmax_loss(self, n_classes: int) -> SoftmaxFocalLoss:
        """The loss behind the objective for margins of shape (n, n_classes).

        Parameters
        ----------
        n_classes : int
            Number of classes, at least 2.

        Returns
        -------
        SoftmaxFocalLoss

        Raises
        ------
        ValueError
            If gamma or alpha are given for another number of classes.

        Examples
        --------
        >>> FocalObjective(gamma=1.5).softmax_loss(3)
        SoftmaxFocalLoss(n_classes=3, gamma=1.5, alpha=None, hessian='exact')
        """
        return SoftmaxFocalLoss(n_classes, self.gamma, self.alpha, self.hessian or "exact")

    def resolve(
        self, y: ArrayLike, sample_weight: ArrayLike | None = None, *, n_classes: int = 2
    ) -> "FocalObjective":
        """The same objective with ``alpha="balanced"`` replaced by its value for these labels.

        Parameters
        ----------
        y : array-like of shape (n,)
            Labels in [0, 1], or integers from 0 to n_classes - 1 for more than two classes.
        sample_weight : array-like of shape (n,), optional
            Finite weights >= 0.
        n_classes : int, default=2
            Number of classes.

        Returns
        -------
        FocalObjective

        Raises
        ------
        ValueError
            If a class is missing from the labels.

        Examples
        --------
        >>> FocalObjective(alpha="balanced").resolve([1] * 5 + [0] * 95).alpha
        0.95
        """
        if self.alpha != "balanced":
            return self
        loss = loss_for(self, n_classes).resolve(y, sample_weight)
        return dataclasses.replace(self, alpha=loss.alpha)

    def __call__(
        self, y_true: ArrayLike, y_pred: Any, sample_weight: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        """Gradient and Hessian for a boosting iteration.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            Labels: in [0, 1], or integers from 0 to n_classes - 1; or the margins, if ``y_pred`` is
            a data set.
        y_pred : array-like of shape (n,) or (n, n_classes), DMatrix or Dataset
            Margins, or the data set with the labels and weights. For several classes they also
            determine the library, whose curvature of softmax the Hessian follows: a matrix in
            double precision is taken as LightGBM's, any other as XGBoost's.
        sample_weight : array-like of shape (n,), optional
            Finite weights >= 0; only together with labels.

        Returns
        -------
        grad, hess : ndarray of the margins' shape and dtype float32
            In the precision that the boosters keep; computed in that of the margins. For a
            ``device`` of "cuda", arrays on the GPU with ``__cuda_array_interface__``.

        Raises
        ------
        TypeError, ValueError
            For input of the wrong kind, shape or value.
        """
        y_true, margin, sample_weight = _rows_of(y_true, y_pred, sample_weight)
        library = library_of(y_pred) if is_dataset(y_pred) else library_of_margins(margin)
        n_columns = None if margin.ndim == 1 else margin.shape[-1]
        y, margin, weight = (
            on_device(array, self.device)
            for array in check_rows(y_true, margin, sample_weight, n_columns)
        )
        loss = loss_of_margins(self, margin).resolve(y, weight)
        out = single_precision_pair(margin)
        return boosted_gradient_hessian(loss, library, y, margin, weight, out, self.n_threads)


@dataclass(frozen=True)
class FocalMetric:
    """Weighted mean focal loss of margins, adapted to each library by its ``focal_metric``."""

    objective: FocalObjective

    # XGBoost and LightGBM name a metric after its function.
    __name__ = "focal_loss"

    def mean(self, y_true: ArrayLike, y_pred: Any, sample_weight: ArrayLike | None = None) -> float:
        """Mean over the rows of a data set, or of labels, margins and weights."""
        y_true, margin, sample_weight = _rows_of(y_true, y_pred, sample_weight)
        if not margin.shape[0]:
            raise ValueError("y: there are no rows")
        loss = loss_of_margins(self.objective, margin)
        if loss.alpha == "balanced":
            raise ValueError(
                "alpha: 'balanced' would be taken from the labels that are evaluated: use "
                "resolve(y) with the training labels"
            )
        value = loss._total_loss(y_true, margin, sample_weight, self.objective.n_threads)
        weight = margin.shape[0] if sample_weight is None else total(sample_weight)
        if weight == 0:
            raise ValueError("sample_weight: all weights are zero")
        return value / weight

    def resolve(
        self, y: ArrayLike, sample_weight: ArrayLike | None = None, *, n_classes: int = 2
    ) -> Self:
        """The same metric with ``alpha="balanced"`` replaced by its value for these labels."""
        objective = self.objective.resolve(y, sample_weight, n_classes=n_classes)
        return dataclasses.replace(self, objective=objective)


def _rows_of(y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
    """Labels, margins and weights; labels and weights may come from a data set."""
    y, margin = y_true, y_pred
    if is_dataset(y_pred):
        if sample_weight is not None:
            raise ValueError("sample_weight: weights are those of the data set: leave it out")
        margin = y_true
        y, sample_weight = labels_and_weights(y_pred)
    margin = margin if is_on_device(margin) else as_real("margin", margin)
    if margin.ndim == 0:
        raise ValueError(f"margin: expected one for each row, got the number {margin}")
    return y, margin, sample_weight


def check_objective(name: str, objective: Any) -> FocalObjective:
    if not isinstance(objective, FocalObjective):
        raise TypeError(f"{name}: expected a FocalObjective, got {objective!r}")
    return objective


def loss_for(objective: FocalObjective, n_classes: int) -> Loss:
    """The loss that a booster minimises for this number of classes; two have a single margin.

    Its Hessian is the one the booster gets: by default it is clipped for several classes.
    """
    return objective.loss if n_classes == 2 else _softmax_for(objective, n_classes)


def n_classes_of(loss: Loss) -> int:
    return loss.n_classes if isinstance(loss, SoftmaxFocalLoss) else 2


def loss_of_margins(objective: FocalObjective, margin: Array) -> Loss:
    """The loss for margins of shape (n,) or (n, n_classes)."""
    return objective.loss if margin.ndim == 1 else _softmax_for(objective, margin.shape[-1])


def _softmax_for(objective: FocalObjective, n_classes: int) -> SoftmaxFocalLoss:
    hessian = objective.hessian or "clip"
    return _softmax_loss(n_classes, objective.gamma, objective.alpha, hessian)


# Losses are immutable, and boosters and metrics ask their objective for one in every iteration.
_binary_loss = functools.lru_cache(BinaryFocalLoss)
_softmax_loss = functools.lru_cache(SoftmaxFocalLoss)


def single_precision_pair(margin: Array) -> tuple[Array, Array]:
    """New arrays for gradient and Hessian, in the precision that the boosters keep."""
    return empty(margin.shape, margin, np.float32), empty(margin.shape, margin, np.float32)


def on_device(array: Any, device: str | None, to: Any = None) -> Any:
    """The array on the named GPU; unchanged if it is on one already, or for the CPU."""
    if array is None or device is None or device == "cpu" or is_on_device(array):
        return array
    return to_device(array, device, to)


def labels_and_weights(dataset: Any) -> tuple[Any, Any]:
    """Labels and weights of a ``DMatrix`` or ``Dataset``."""
    y = dataset.get_label()
    if y is None or len(y) == 0:
        raise ValueError(f"y: the {type(dataset).__name__} has no labels")
    sample_weight = dataset.get_weight()
    if sample_weight is not None and len(sample_weight) == 0:  # a DMatrix without weights
        sample_weight = None
    return y, sample_weight


def is_dataset(value: Any) -> bool:
    return hasattr(value, "get_label")


def library_of(dataset: Any) -> str:
    """The library of a ``DMatrix`` or ``Dataset``, or of a class derived from one."""
    modules = {kind.__module__.partition(".")[0] for kind in type(dataset).__mro__}
    return "lightgbm" if "lightgbm" in modules else "xgboost"


def library_of_margins(margin: Array) -> str:
    """The library that calls with margins alone; LightGBM's are in double precision."""
    return "lightgbm" if str(margin.dtype).endswith("float64") else "xgboost"


# A step is the gradient over the Hessian, of which the libraries take the diagonal. With the
# softmax of several classes the diagonal alone makes steps too long, so they multiply it: XGBoost
# by 2 (src/objective/multiclass_obj.cu, seen in 3.2.0 and 3.4.1), LightGBM by K / (K - 1) for K
# classes (src/objective/multiclass_objective.hpp, seen in 4.6.0 and 4.7.0), after Friedman, "Greedy
# Function Approximation: A Gradient Boosting Machine", 2001, section 4.6. Without this factor a
# gamma of 0 would not be the library's log loss: with equal parameters, steps would be longer by
# the factor.
def boosted_gradient_hessian(
    loss: Loss,
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
