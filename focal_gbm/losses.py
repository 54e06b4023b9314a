"""Focal loss for boosting: gradients in margin space and the posterior behind a margin."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from focal_gbm._arrays import as_margins, is_on_device
from focal_gbm._base_loss import FocalLoss, check_totals, with_weights
from focal_gbm._kernels import binary, softmax
from focal_gbm._kernels.rows import BAD_LABEL, BAD_MARGIN, BAD_WEIGHT
from focal_gbm._optimum import binary_optimum, softmax_optimum
from focal_gbm._types import Array, Balanced, HessianMode, HostKernels
from focal_gbm._validation import (
    as_real,
    check_alpha,
    check_classes,
    check_finite_margins,
    check_gamma,
    check_hessian,
    check_labels,
    check_margins,
    check_n_classes,
    check_weights,
)


@dataclass(frozen=True)
class BinaryFocalLoss(FocalLoss):
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
        weight per class, negative first. "balanced" weights each class by the share of the other
        class in the (weighted) labels.
    hessian : {"exact", "clip", "abs", "gradient"}, default="exact"
        The curvature a booster gets. The exact second derivative is negative where the posterior
        of the true class is small; "clip" raises it until the row's step (gradient over curvature)
        is no longer than that of log loss, for soft labels in each class's part, and at least to
        0.001 times the row's weight or log loss's curvature, whichever is lower; "abs" takes its
        absolute value, and "gradient" takes the absolute gradient instead.

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

    gamma: float | Sequence[float] = 2.0
    alpha: Balanced | float | Sequence[float] | None = None
    hessian: HessianMode = "exact"

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", check_gamma(self.gamma, n_classes=2))
        object.__setattr__(self, "alpha", check_alpha(self.alpha, n_classes=2))
        object.__setattr__(self, "hessian", check_hessian(self.hessian))

    _kernels: ClassVar[HostKernels] = binary

    def initial_margin(self, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Constant margin that minimises the weighted loss of these labels.

        At this margin the posterior equals the weighted share of the positive class. Boosting from
        the log-odds of that share instead may start where the mean Hessian is negative, and then
        grows nothing but stumps.

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
        return self._initial_margin(self._totals(y, sample_weight))

    def _initial_margin(self, totals: Array) -> float:
        check_totals(totals)
        log_odds = math.log(totals[1]) - math.log(totals[0])
        return binary_optimum(log_odds, **self._resolved(totals)._by_class())

    @property
    def _n_columns(self) -> None:
        return None

    def _posterior(self, margin: ArrayLike, *, as_margin: bool = False) -> Array:
        if is_on_device(margin):
            return self._posterior_of(as_margins(margin), as_margin=as_margin)
        margin = as_real("margin", margin)
        flat = np.ascontiguousarray(margin).ravel()
        return self._posterior_of(flat, as_margin=as_margin).reshape(margin.shape)[()]

    def _totals(self, y: ArrayLike, sample_weight: ArrayLike | None) -> Array:
        y, sample_weight = with_weights(y, sample_weight)
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
class SoftmaxFocalLoss(FocalLoss):
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
        per class; "balanced" weights each class by the share of the other classes in the (weighted)
        labels. A float is for two classes: the weight of class 1, with ``1 - alpha`` for class 0.
    hessian : {"exact", "clip", "abs", "gradient"}, default="exact"
        The curvature a booster gets, as in ``BinaryFocalLoss``, for the diagonal of the Hessian.

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
    gamma: float | Sequence[float] = 2.0
    alpha: Balanced | float | Sequence[float] | None = None
    hessian: HessianMode = "exact"

    _kernels: ClassVar[HostKernels] = softmax

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
            Labels, integers from 0 to n_classes - 1.
        sample_weight : array-like of shape (n,), optional
            Finite weights >= 0.

        Returns
        -------
        ndarray of shape (n_classes,)
            The margins, normalised so that they are the logarithms of their softmax.

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
        return self._initial_margin(self._totals(y, sample_weight))

    def _initial_margin(self, totals: Array) -> Array:
        check_totals(totals)
        return softmax_optimum(np.log(totals), **self._resolved(totals)._by_class())

    @property
    def _n_columns(self) -> int:
        return self.n_classes

    def _posterior(self, margin: ArrayLike, *, as_margin: bool = False) -> Array:
        margin = as_margins(margin, self.n_classes)
        return self._posterior_of(margin, as_margin=as_margin)

    def _totals(self, y: ArrayLike, sample_weight: ArrayLike | None) -> Array:
        y, sample_weight = with_weights(y, sample_weight)
        check_classes(y, self.n_classes)
        totals = np.bincount(y.astype(np.intp), sample_weight, self.n_classes)
        return totals.astype(np.float64, copy=False)  # integers where there are no rows

    def _balanced(self, totals: Array) -> tuple[float, ...]:
        return tuple(map(float, 1 - totals / totals.sum()))

    def _refuse(self, found: int, y: Array, margin: Array, sample_weight: Array | None) -> None:
        if found & BAD_LABEL:
            check_classes(y, self.n_classes)
        if found & BAD_MARGIN:
            check_finite_margins(margin)
        if found & BAD_WEIGHT and sample_weight is not None:
            check_weights(sample_weight)
