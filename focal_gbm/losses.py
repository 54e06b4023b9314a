"""Focal loss for boosting: gradients in margin space and the posterior behind a margin."""

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from focal_gbm._arrays import (
    as_margins,
    check_out,
    check_rows,
    empty,
    is_on_device,
    kernels_for,
    to_host,
)
from focal_gbm._kernels import binary, softmax
from focal_gbm._kernels.rows import BAD_LABEL, BAD_MARGIN, BAD_WEIGHT
from focal_gbm._optimum import increasing_root, softmax_optimum
from focal_gbm._types import Array
from focal_gbm._validation import (
    as_real,
    as_rows,
    check_alpha,
    check_classes,
    check_finite_margins,
    check_gamma,
    check_hessian,
    check_labels,
    check_length,
    check_margins,
    check_n_classes,
    check_n_threads,
    check_weights,
)


class _FocalLoss(ABC):
    """What the binary and the softmax loss share; they differ in kernels and shapes.

    Margins have the shape (n,) in the binary and (n, n_classes) in the softmax loss, and so have
    gradients, Hessians and posteriors. Work is done where the margins are: NumPy's on the CPU, and
    anything with ``__cuda_array_interface__`` on its GPU.
    """

    gamma: float | tuple[float, ...]
    alpha: str | float | tuple[float, ...] | None
    hessian: str
    _kernels: ClassVar[ModuleType]

    def loss(
        self, y: ArrayLike, margin: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Array:
        """Weighted loss of each row.

        Parameters
        ----------
        y : array-like of shape (n,)
            Labels: in [0, 1] for the binary loss, which mixes the classes in between, and one of 0
            to n_classes - 1 for softmax.
        margin : array-like of shape (n,), or (n, n_classes) for softmax
            Margins (scores on the log-odds scale). float32 is computed in float32, anything else in
            float64. An array with ``__cuda_array_interface__`` is computed on its GPU, where it
            must be of one of these types, and labels and weights must be too.
        sample_weight : array-like of shape (n,), optional
            Finite weights >= 0.

        Returns
        -------
        ndarray of shape (n,)
            Where the margins are; float32 for float32 margins, else float64. Infinite only where a
            binary margin is infinite on the wrong side.

        Raises
        ------
        TypeError, ValueError
            For input of the wrong kind, shape or value; NaN is refused everywhere.
        RuntimeError
            For arrays on a GPU without numba-cuda.

        Examples
        --------
        >>> BinaryFocalLoss(gamma=2.0).loss([1, 0], [0.0, 0.0]).round(4)
        array([0.1733, 0.1733])
        """
        y, margin, sample_weight = check_rows(y, margin, sample_weight, self._n_columns)
        loss = empty(margin.shape[:1], margin)
        parameters = self.resolve(y, sample_weight)._by_class()
        kernels = kernels_for(margin, self._kernels)
        found = kernels.loss(y, margin, sample_weight, loss, n_threads=None, **parameters)
        self._raise_for(found, y, margin, sample_weight)
        return loss

    def gradient_hessian(
        self,
        y: ArrayLike,
        margin: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        out: tuple[Array, Array] | None = None,
        n_threads: int | None = None,
    ) -> tuple[Array, Array]:
        """First and second derivative of the weighted loss in the margin, in one pass.

        Parameters
        ----------
        y : array-like of shape (n,)
            Labels, as for ``loss``.
        margin : array-like of shape (n,), or (n, n_classes) for softmax
            Margins. float32 is computed in float32, anything else in float64; on a GPU as for
            ``loss``.
        sample_weight : array-like of shape (n,), optional
            Finite weights >= 0.
        out : tuple of 2 ndarrays of the margins' shape, optional
            float32 or float64 arrays to write the result to, where the margins are: contiguous
            ones for the binary loss on the CPU, else of any strides. Their content is undefined
            after an error.
        n_threads : int, optional
            At most so many threads; by default one per available processor.

        Returns
        -------
        grad, hess : ndarray of the margins' shape
            ``out`` if given, else new arrays where the margins are, and in their precision.
            ``hess`` is what ``hessian`` names, for softmax of the Hessian's diagonal.

        Raises
        ------
        TypeError, ValueError
            For input of the wrong kind, shape or value; NaN is refused everywhere.
        RuntimeError
            For arrays on a GPU without numba-cuda.

        Examples
        --------
        >>> BinaryFocalLoss(gamma=0.0).gradient_hessian([1, 0], [0.0, 0.0])
        (array([-0.5,  0.5]), array([0.25, 0.25]))
        """
        y, margin, sample_weight = check_rows(y, margin, sample_weight, self._n_columns)
        n_threads = check_n_threads(n_threads)
        if out is None:
            out = empty(margin.shape, margin), empty(margin.shape, margin)
        grad, hess = check_out(out, (margin, y, sample_weight))
        found = kernels_for(margin, self._kernels).gradient_hessian(
            y,
            margin,
            sample_weight,
            grad,
            hess,
            hessian=self.hessian,
            n_threads=n_threads,
            **self.resolve(y, sample_weight)._by_class(),
        )
        self._raise_for(found, y, margin, sample_weight)
        return grad, hess

    def posterior(self, margin: ArrayLike) -> Array:
        """Probability of the positive class, or of each class, that a margin stands for.

        The sigmoid or softmax of a margin trained by focal loss is not that probability: focusing
        and alpha distort it. This undoes both.

        Parameters
        ----------
        margin : array-like
            Margins: of any shape for the binary loss, of shape (n,) on a GPU; of shape
            (n, n_classes) for softmax.

        Returns
        -------
        ndarray or scalar
            Probabilities in the shape of ``margin``.

        Raises
        ------
        TypeError, ValueError
            For margins that are no numbers or NaN, and for ``alpha="balanced"``, which has a value
            only together with labels: see ``resolve``.

        Examples
        --------
        >>> BinaryFocalLoss(gamma=2.0).posterior([-2.0, 0.0, 2.0]).round(4)
        array([0.0045, 0.5   , 0.9955])
        """
        return self._posterior(margin, as_margin=False)

    def posterior_margin(self, margin: ArrayLike) -> Array:
        """The posterior as a margin: its log-odds, or the logarithms of the classes' posteriors.

        Parameters
        ----------
        margin : array-like
            Margins, as for ``posterior``.

        Returns
        -------
        ndarray or scalar
            In the shape of ``margin``. In the binary case strictly increasing in it, and equal to
            it for ``gamma=0, alpha=None``.

        Raises
        ------
        TypeError, ValueError
            As for ``posterior``.

        Examples
        --------
        >>> BinaryFocalLoss(gamma=0.0).posterior_margin([-2.0, 0.0, 2.0])
        array([-2.,  0.,  2.])
        """
        return self._posterior(margin, as_margin=True)

    @abstractmethod
    def initial_margin(self, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Any:
        """Constant margin that minimises the weighted loss of these labels."""

    def resolve(self, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """The same loss with ``alpha="balanced"`` replaced by its value for these labels.

        Parameters
        ----------
        y : array-like of shape (n,)
            Labels, as for ``loss``.
        sample_weight : array-like of shape (n,), optional
            Finite weights >= 0.

        Returns
        -------
        BinaryFocalLoss or SoftmaxFocalLoss

        Raises
        ------
        ValueError
            If a class is missing from the labels.

        Examples
        --------
        >>> BinaryFocalLoss(alpha="balanced").resolve([1] * 5 + [0] * 95).alpha
        0.95
        >>> SoftmaxFocalLoss(3, alpha="balanced").resolve([0, 0, 1, 2]).alpha
        (0.5, 0.75, 0.75)
        """
        if self.alpha != "balanced":
            return self
        return self._resolved(_check_totals(self._totals(y, sample_weight)))

    def _resolved(self, totals: Array) -> Self:
        """The same as ``resolve``, for the total weights of the classes."""
        if self.alpha != "balanced":
            return self
        loss = copy.copy(self)  # the other parameters are checked already
        object.__setattr__(loss, "alpha", self._balanced(totals))
        return loss

    @property
    @abstractmethod
    def _n_columns(self) -> int | None:
        """Columns of the margins, None for a vector."""

    @abstractmethod
    def _totals(self, y: ArrayLike, sample_weight: ArrayLike | None) -> Array:
        """Total weight of each class; soft labels count for both.

        Labels and weights are summed up by it: one row of each class, with these weights, has the
        same starting margin and the same alpha.
        """

    @abstractmethod
    def _balanced(self, totals: Array) -> float | tuple[float, ...]:
        """Alpha that gives each class the share of the others."""

    @abstractmethod
    def _refuse(self, found: int, y: Array, margin: Array, sample_weight: Array | None) -> None:
        """Raise for the first bad row."""

    def _raise_for(self, found: int, y: Array, margin: Array, sample_weight: Array | None) -> None:
        if found:
            self._refuse(found, to_host(y), to_host(margin), to_host(sample_weight))

    def _posterior(self, margin: Any, *, as_margin: bool) -> Array:
        if self.alpha == "balanced":
            raise ValueError(
                "alpha: expected a value, got 'balanced', which needs labels: use resolve(y)"
            )
        out = empty(margin.shape, margin)
        parameters = self._by_class()
        kernels = kernels_for(margin, self._kernels)
        found = kernels.posterior(margin, out, as_margin=as_margin, **parameters)
        self._raise_for(found, margin, margin, None)
        return out

    def _by_class(self) -> dict[str, Any]:
        """Gamma and alpha of each class, as the kernels take them; alpha must be resolved."""
        n_classes = self._n_columns or 2
        gamma, alpha = self.gamma, self.alpha
        if alpha is None:
            alpha = (1.0,) * n_classes
        elif isinstance(alpha, float):
            alpha = 1.0 - alpha, alpha
        return {
            "gamma": (gamma,) * n_classes if isinstance(gamma, float) else gamma,
            "alpha": alpha,
        }


@dataclass(frozen=True)
class BinaryFocalLoss(_FocalLoss):
    r"""Focal loss of a binary label, as a function of the margin.

    With the margin :math:`z`, :math:`p = \sigma(z)` and a label :math:`y \in [0, 1]`,

    .. math::

        L(y, z) = -y \alpha_1 (1 - p)^{\gamma_1} \log p
                  - (1 - y) \alpha_0 p^{\gamma_0} \log(1 - p)

    Parameters
    ----------
    gamma : float or sequence of 2 floats, default=2.0
        Focusing parameter, >= 0; 0 is log loss. A sequence gives one per class, negative first.
    alpha : None, "balanced", float or sequence of 2 floats, default=None
        Class weights. None is a weight of one for each class; a float in (0, 1) is the weight of
        the positive class, and the negative has ``1 - alpha``; a sequence gives one positive
        weight per class, negative first. "balanced" gives each class the share that the other has
        of the (weighted) labels.
    hessian : {"exact", "clip", "abs", "gradient"}, default="exact"
        The curvature a booster gets. The exact second derivative is negative where the posterior
        of the true class is small; "clip" raises it to that of log loss, but not above 0.001 times
        the row's weight, "abs" takes its absolute value, and "gradient" takes the absolute
        gradient instead.

    Raises
    ------
    TypeError, ValueError
        For a parameter of the wrong kind or value.

    References
    ----------
    Lin, Goyal, Girshick, He, Dollár, "Focal Loss for Dense Object Detection", 2017,
    https://arxiv.org/abs/1708.02002

    Charoenphakdee, Vongkulbhisal, Chairatanakul, Sugiyama, "On Focal Loss for Class-Posterior
    Probability Estimation: A Theoretical Perspective", 2021, https://arxiv.org/abs/2011.09172

    Examples
    --------
    >>> import numpy as np
    >>> from focal_gbm import BinaryFocalLoss
    >>> loss = BinaryFocalLoss(gamma=2.0, alpha=0.25)
    >>> grad, hess = loss.gradient_hessian(np.array([1, 0]), np.array([0.5, -2.0]))
    >>> grad.round(4)
    array([-0.0345,  0.0037])
    >>> hess.round(4)
    array([0.0601, 0.0095])
    """

    gamma: float | tuple[float, ...] = 2.0
    alpha: str | float | tuple[float, ...] | None = None
    hessian: str = "exact"

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", check_gamma(self.gamma, n_classes=2))
        object.__setattr__(self, "alpha", check_alpha(self.alpha, n_classes=2))
        object.__setattr__(self, "hessian", check_hessian(self.hessian))

    _kernels: ClassVar[ModuleType] = binary

    def initial_margin(self, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Constant margin that minimises the weighted loss of these labels.

        It is where the posterior equals the weighted share of the positive class. Boosting that
        starts at the log-odds of that share instead may start where the mean Hessian is negative,
        and then grows nothing but stumps.

        Parameters
        ----------
        y : array-like of shape (n,)
            Labels in [0, 1].
        sample_weight : array-like of shape (n,), optional
            Finite weights >= 0.

        Returns
        -------
        float
            A margin.

        Raises
        ------
        ValueError
            Also if the labels are all of one class: the minimum is then at infinity.

        Examples
        --------
        >>> round(BinaryFocalLoss(gamma=0.0).initial_margin([0, 0, 0, 1]), 4)
        -1.0986
        >>> round(BinaryFocalLoss(gamma=2.0).initial_margin([0, 0, 0, 1]), 4)
        -0.4104
        """
        totals = _check_totals(self._totals(y, sample_weight))
        loss = self._resolved(totals)
        target = math.log(totals[1]) - math.log(totals[0])
        if loss.gamma in (0, (0, 0)):
            negative, positive = loss._by_class()["alpha"]
            return target + math.log(positive) - math.log(negative)
        return increasing_root(lambda margin: float(loss.posterior_margin(margin)) - target)

    @property
    def _n_columns(self) -> None:
        return None

    def _posterior(self, margin: ArrayLike, *, as_margin: bool) -> Array:
        if is_on_device(margin):
            return super()._posterior(as_margins(margin), as_margin=as_margin)
        margin = as_real("margin", margin)
        flat = np.ascontiguousarray(margin).ravel()
        return super()._posterior(flat, as_margin=as_margin).reshape(margin.shape)[()]

    def _totals(self, y: ArrayLike, sample_weight: ArrayLike | None) -> Array:
        y, sample_weight = _labels_and_weights(y, sample_weight)
        check_labels(y)
        positive = np.einsum("i,i", y, sample_weight, dtype=np.float64)
        negative = np.einsum("i,i", 1 - y, sample_weight, dtype=np.float64)
        return np.array([negative, positive])

    def _balanced(self, totals: Array) -> float:
        return float(totals[0] / totals.sum())

    def _refuse(self, found: int, y: Array, margin: Array, sample_weight: Array | None) -> None:
        if found & BAD_LABEL:
            check_labels(y)
        if found & BAD_MARGIN:
            check_margins(margin)
        if found & BAD_WEIGHT and sample_weight is not None:
            check_weights(sample_weight)


@dataclass(frozen=True)
class SoftmaxFocalLoss(_FocalLoss):
    r"""Focal loss of one of several classes, as a function of the margins.

    With margins :math:`z`, :math:`p = \mathrm{softmax}(z)` and the true class :math:`t`,

    .. math::

        L(t, z) = -\alpha_t (1 - p_t)^{\gamma_t} \log p_t

    which is the binary focal loss of :math:`z_t - \log \sum_{j \ne t} e^{z_j}`.

    Parameters
    ----------
    n_classes : int
        Number of classes, from 2 to 2**24.
    gamma : float or sequence of n_classes floats, default=2.0
        Focusing parameter, >= 0, or one per class; 0 is log loss.
    alpha : None, "balanced", float or sequence of n_classes floats, default=None
        Class weights. None is a weight of one for each class; a sequence gives one positive weight
        per class; "balanced" gives each class the share that the others have of the (weighted)
        labels. A float, the weight of class 1 with ``1 - alpha`` for class 0, is for two classes.
    hessian : {"exact", "clip", "abs", "gradient"}, default="exact"
        The curvature a booster gets, as in ``BinaryFocalLoss``, of the diagonal of the Hessian.

    Raises
    ------
    TypeError, ValueError
        For a parameter of the wrong kind or value.

    References
    ----------
    Lin, Goyal, Girshick, He, Dollár, "Focal Loss for Dense Object Detection", 2017,
    https://arxiv.org/abs/1708.02002

    Charoenphakdee, Vongkulbhisal, Chairatanakul, Sugiyama, "On Focal Loss for Class-Posterior
    Probability Estimation: A Theoretical Perspective", 2021, https://arxiv.org/abs/2011.09172

    Examples
    --------
    >>> import numpy as np
    >>> from focal_gbm import SoftmaxFocalLoss
    >>> loss = SoftmaxFocalLoss(n_classes=3, gamma=2.0)
    >>> grad, hess = loss.gradient_hessian(np.array([2]), np.array([[0.5, 0.0, 1.0]]))
    >>> grad.round(4)
    array([[ 0.1793,  0.1087, -0.288 ]])
    """

    n_classes: int
    gamma: float | tuple[float, ...] = 2.0
    alpha: str | float | tuple[float, ...] | None = None
    hessian: str = "exact"

    _kernels: ClassVar[ModuleType] = softmax

    def __post_init__(self) -> None:
        n_classes = check_n_classes(self.n_classes)
        object.__setattr__(self, "n_classes", n_classes)
        object.__setattr__(self, "gamma", check_gamma(self.gamma, n_classes))
        object.__setattr__(self, "alpha", check_alpha(self.alpha, n_classes))
        object.__setattr__(self, "hessian", check_hessian(self.hessian))

    def initial_margin(self, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        """Constant margins that minimise the weighted loss of these labels.

        Parameters
        ----------
        y : array-like of shape (n,)
            Labels, each one of 0 to n_classes - 1.
        sample_weight : array-like of shape (n,), optional
            Finite weights >= 0.

        Returns
        -------
        ndarray of shape (n_classes,)
            Logarithms of the posteriors that the margins have under softmax: the margins whose
            softmax sums to one without a normaliser.

        Raises
        ------
        ValueError
            Also if a class is missing: its margin is then at minus infinity.

        Examples
        --------
        >>> SoftmaxFocalLoss(3, gamma=0.0).initial_margin([0, 0, 1, 2]).round(4)
        array([-0.6931, -1.3863, -1.3863])
        >>> SoftmaxFocalLoss(3, gamma=2.0).initial_margin([0, 0, 1, 2]).round(4)
        array([-0.8572, -1.2454, -1.2454])
        """
        totals = _check_totals(self._totals(y, sample_weight))
        return softmax_optimum(np.log(totals), **self._resolved(totals)._by_class())

    @property
    def _n_columns(self) -> int:
        return self.n_classes

    def _posterior(self, margin: ArrayLike, *, as_margin: bool) -> Array:
        margin = as_margins(margin, self.n_classes)
        return super()._posterior(margin, as_margin=as_margin)

    def _totals(self, y: ArrayLike, sample_weight: ArrayLike | None) -> Array:
        y, sample_weight = _labels_and_weights(y, sample_weight)
        check_classes(y, self.n_classes)
        return np.bincount(y.astype(np.intp), sample_weight, self.n_classes)

    def _balanced(self, totals: Array) -> tuple[float, ...]:
        return tuple(map(float, 1 - totals / totals.sum()))

    def _refuse(self, found: int, y: Array, margin: Array, sample_weight: Array | None) -> None:
        if found & BAD_LABEL:
            check_classes(y, self.n_classes)
        if found & BAD_MARGIN:
            check_finite_margins(margin)
        if found & BAD_WEIGHT and sample_weight is not None:
            check_weights(sample_weight)


def _labels_and_weights(y: ArrayLike, sample_weight: ArrayLike | None) -> tuple[Array, Array]:
    """Labels, and their weights, which are one where none are given."""
    y = as_rows("y", to_host(y))
    if sample_weight is None:
        return y, np.ones(y.size)
    sample_weight = as_rows("sample_weight", to_host(sample_weight))
    check_length("sample_weight", sample_weight, y)
    check_weights(sample_weight)
    return y, sample_weight


def _check_totals(totals: Array) -> Array:
    if not (totals > 0).all():
        raise ValueError(
            "y: expected labels of every class with weight above 0, got total weights "
            f"{', '.join(f'{total:g}' for total in totals)} by class"
        )
    return totals
