"""One objective and one metric for every booster."""

import copy
import dataclasses
import sys
import warnings
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike

from focal_gbm._arrays import check_rows, empty, is_on_device, to_device, total
from focal_gbm._types import Array
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

    Labels and weights of a ``DMatrix`` or ``Dataset`` are read when a training begins, at a
    constant margin, and kept as long as that data set lives. To have them read again at another
    time (set anew in the middle of a training, or before one that starts from margins of its own)
    pass a copy of the objective: pickles and copies carry the parameters only. Within
    ``focal_gbm.xgboost.train`` and ``focal_gbm.lightgbm.train`` the results of an iteration are
    written over those of the one before.

    Parameters
    ----------
    gamma : float or sequence of floats, default=2.0
        Focusing parameter, >= 0, or one per class in class order; 0 is log loss.
    alpha : None, "balanced", float or sequence of floats, default=None
        Class weights, as in ``BinaryFocalLoss``. "balanced" takes them from the training labels.
    hessian : {"exact", "clip", "abs", "gradient"}, optional
        The curvature the booster gets, as in ``BinaryFocalLoss``. By default it is exact for two
        classes, and clipped for more, where negative curvature makes leaves explode.
    n_threads : int, optional
        At most so many threads; by default one per available processor.
    device : {"cpu", "cuda", "cuda:<number>"}, optional
        Where to compute. On a GPU labels and weights stay there, margins are brought there in each
        iteration, and gradient and Hessian are arrays there, for a data set the same ones each
        time, which XGBoost takes as they are and LightGBM does not take. By default it is the CPU,
        unless ``focal_gbm.xgboost.train`` and ``FocalXGBClassifier`` train on a GPU: they need no
        way to the host at all.

    Raises
    ------
    TypeError, ValueError
        For a parameter of the wrong kind or value.
    RuntimeError
        When called, where there is no GPU or numba-cuda for a ``device`` of "cuda".

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

    gamma: float | tuple[float, ...] = 2.0
    alpha: str | float | tuple[float, ...] | None = None
    hessian: str | None = None
    n_threads: int | None = None
    device: str | None = None
    _datasets: WeakKeyDictionary[Any, "_Rows"] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False
    )
    _reuses_outputs: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", check_gamma(self.gamma))
        object.__setattr__(self, "alpha", check_alpha(self.alpha))
        if self.hessian is not None:
            check_hessian(self.hessian)
        object.__setattr__(self, "n_threads", check_n_threads(self.n_threads))
        object.__setattr__(self, "device", check_device(self.device))

    def __reduce__(self) -> tuple[type, tuple[Any, ...], dict[str, bool]]:
        parameters = [getattr(self, f.name) for f in dataclasses.fields(self) if f.init]
        return type(self), tuple(parameters), {"_reuses_outputs": self._reuses_outputs}

    def __sklearn_clone__(self) -> "FocalObjective":
        return copy.copy(self)

    @property
    def loss(self) -> BinaryFocalLoss:
        """The binary loss behind the objective, which has the posterior of a trained margin."""
        return BinaryFocalLoss(self.gamma, self.alpha, self.hessian or "exact")

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
        SoftmaxFocalLoss(n_classes=3, gamma=1.5, alpha=None, hessian='clip')
        """
        return SoftmaxFocalLoss(n_classes, self.gamma, self.alpha, self.hessian or "clip")

    def _loss_of(self, margin: Array) -> Loss:
        """The binary loss for a vector of margins, the softmax loss for a matrix."""
        return self.loss if margin.ndim == 1 else self.softmax_loss(margin.shape[-1])

    def resolve(
        self, y: ArrayLike, sample_weight: ArrayLike | None = None, *, n_classes: int = 2
    ) -> "FocalObjective":
        """The same objective with ``alpha="balanced"`` replaced by its value for these labels.

        Parameters
        ----------
        y : array-like of shape (n,)
            Labels in [0, 1], or one of 0 to n_classes - 1 for more than two classes.
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
        loss = loss_for(self, n_classes).resolve(y, sample_weight)
        return dataclasses.replace(self, alpha=loss.alpha)

    def __call__(
        self, y_true: ArrayLike, y_pred: Any, sample_weight: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        """Gradient and Hessian for a boosting iteration.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            Labels: in [0, 1], or one of 0 to n_classes - 1; or the margins, if ``y_pred`` is a data
            set.
        y_pred : array-like of shape (n,) or (n, n_classes), DMatrix or Dataset
            Margins, or the data set that has the labels and weights.
        sample_weight : array-like of shape (n,), optional
            Finite weights >= 0; only together with labels.

        Returns
        -------
        grad, hess : ndarray of the margins' shape and dtype float32
            In the precision that the boosters keep; computed in that of the margins. On a GPU for a
            ``device`` of "cuda", as arrays with ``__cuda_array_interface__``.

        Raises
        ------
        TypeError, ValueError
            For input of the wrong kind, shape or value.
        """
        if is_dataset(y_pred):
            margin = as_real("margin", y_true)
            rows = self._rows(y_pred, margin)
        else:
            margin = y_pred if is_on_device(y_pred) else as_real("margin", y_pred)
            rows = self._placed(self._loss_of(margin), y_true, margin, sample_weight)
        margin = self._put(margin, rows.margin)
        out = rows.out or tuple(empty(margin.shape, margin, np.float32) for _ in range(2))
        is_on_gpu = is_on_device(margin)
        if is_dataset(y_pred) and (is_on_gpu or self._reuses_outputs):
            # Margins of the host are the booster's own.
            self._datasets[y_pred] = rows._replace(margin=margin if is_on_gpu else None, out=out)
        return rows.loss.gradient_hessian(
            rows.y, margin, rows.sample_weight, out=out, n_threads=self.n_threads
        )

    def _rows(self, dataset: Any, margin: Array) -> "_Rows":
        rows = self._datasets.get(dataset)
        # A constant margin is where training starts: the labels may have been set anew since.
        if rows is None or _is_constant(margin):
            y, sample_weight = labels_and_weights(dataset)
            loss = self._loss_of(margin).resolve(y, sample_weight)
            rows = self._placed(loss, y, margin, sample_weight)
            self._datasets[dataset] = rows
        return rows

    def _placed(self, loss: Loss, y: Any, margin: Array, sample_weight: Any) -> "_Rows":
        """Labels and weights where they are used."""
        n_columns = None if margin.ndim == 1 else margin.shape[-1]
        y, _, sample_weight = check_rows(y, margin, sample_weight, n_columns)
        weight = None if sample_weight is None else self._put(sample_weight)
        return _Rows(loss, self._put(y), weight)

    def _put(self, array: Array, to: Array | None = None) -> Array:
        if self.device in (None, "cpu") or is_on_device(array):
            return array
        return to_device(array, self.device, to)


class _Rows(NamedTuple):
    """What a data set contributes to each iteration."""

    loss: Loss
    y: Array
    sample_weight: Array | None
    # What the next iteration writes to: the margins on a device, gradient and Hessian.
    margin: Array | None = None
    out: Any = None


@dataclass(frozen=True)
class FocalMetric:
    """Weighted mean focal loss of margins; each library's ``focal_metric`` gives it its form."""

    objective: FocalObjective

    # XGBoost and LightGBM name a metric after its function.
    __name__ = "focal_loss"

    def mean(self, y_true: ArrayLike, y_pred: Any, sample_weight: ArrayLike | None = None) -> float:
        """Mean over the rows of a data set, or of labels, margins and weights."""
        margin = y_pred
        if is_dataset(y_pred):
            margin = y_true
            y_true, sample_weight = labels_and_weights(y_pred)
        margin = margin if is_on_device(margin) else as_real("margin", margin)
        loss = self.objective._loss_of(margin)
        if loss.alpha == "balanced":
            raise ValueError(
                "alpha: expected a value, got 'balanced', which a metric would take from the rows "
                "it evaluates: use resolve(y) with the training labels"
            )
        losses = loss.loss(y_true, margin, sample_weight)
        weight = len(losses) if sample_weight is None else total(sample_weight)
        if weight == 0:
            raise ValueError("sample_weight: expected a total above 0, got 0")
        return total(losses) / weight

    def resolve(
        self, y: ArrayLike, sample_weight: ArrayLike | None = None, *, n_classes: int = 2
    ) -> Self:
        """The same metric with ``alpha="balanced"`` replaced by its value for these labels."""
        objective = self.objective.resolve(y, sample_weight, n_classes=n_classes)
        return dataclasses.replace(self, objective=objective)


def check_objective(name: str, objective: Any) -> FocalObjective:
    if not isinstance(objective, FocalObjective):
        raise TypeError(f"{name}: expected a FocalObjective, got {objective!r}")
    return objective


def for_training(objective: FocalObjective) -> FocalObjective:
    """The same, whose results for a data set are written over those it gave before.

    The libraries are done with them by then. New memory costs a third of the time for tens of
    millions of rows.
    """
    objective = copy.copy(objective)
    object.__setattr__(objective, "_reuses_outputs", True)
    return objective


def loss_for(objective: FocalObjective, n_classes: int) -> Loss:
    """The loss that a booster of so many classes minimises: for two, of a single margin."""
    return objective.loss if n_classes == 2 else objective.softmax_loss(n_classes)


def warn_of_other_loss(name: str, found: Loss | None, expected: Loss) -> None:
    """Warn where training continues a model of another loss, or of one that is not known."""
    # What is not known is most likely the library's own, which is log loss.
    was = (found.gamma, found.alpha) if found else (0, None)
    if was != (expected.gamma, expected.alpha):
        warn(
            f"{name}: expected a model of the same loss, {expected}, or else the posterior is "
            "right only once the new trees outweigh the old, "
            f"got one of {found or 'an unknown loss'}"
        )


def warn_of_no_split(parameters: str) -> None:
    """Warn of a booster that predicts a constant."""
    warn(
        f"the booster has no split: perhaps {parameters} ask too much of the Hessian of the focal "
        "loss, which is smaller than that of log loss"
    )


def warn(message: str) -> None:
    """Warn at the line that called the package."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("focal_gbm."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def labels_and_weights(dataset: Any) -> tuple[Any, Any]:
    """Labels and weights of a ``DMatrix`` or ``Dataset``."""
    y = dataset.get_label()
    if y is None or len(y) == 0:
        raise ValueError(f"y: expected labels in the {type(dataset).__name__}, got none")
    sample_weight = dataset.get_weight()
    if sample_weight is not None and len(sample_weight) == 0:  # a DMatrix without weights
        sample_weight = None
    return y, sample_weight


def is_dataset(value: Any) -> bool:
    return hasattr(value, "get_label")


def _is_constant(margin: Array) -> bool:
    # The last row nearly always answers at no cost.
    return bool(margin.size and (margin[0] == margin[-1]).all() and (margin == margin[0]).all())
