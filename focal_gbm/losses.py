"""Focal loss for boosting: gradients in margin space and the posterior behind a margin."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from focal_gbm._kernels import cpu
from focal_gbm._validation import (
    as_real,
    as_rows,
    check_alpha,
    check_gamma,
    check_hessian,
    check_labels,
    check_length,
    check_margins,
    check_n_threads,
    check_out,
    check_rows,
    check_weights,
)

Array = NDArray[Any]


@dataclass(frozen=True)
class BinaryFocalLoss:
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
        of the true class is small; "clip" raises it to at least 0.001 times the row's weight,
        "abs" takes its absolute value, and "gradient" takes the absolute gradient instead.

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

    def loss(
        self, y: ArrayLike, margin: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Array:
        """Weighted loss of each row.

        Parameters
        ----------
        y : array-like of shape (n,)
            Labels in [0, 1]; between the two classes they are mixed.
        margin : array-like of shape (n,)
            Margins (log-odds scale). float32 is computed in float32, anything else in float64.
        sample_weight : array-like of shape (n,), optional
            Finite weights >= 0.

        Returns
        -------
        ndarray of shape (n,)
            float32 for float32 margins, else float64. Infinite only where the margin is infinite
            on the wrong side.

        Raises
        ------
        TypeError, ValueError
            For input of the wrong kind, shape or value; NaN is refused everywhere.

        Examples
        --------
        >>> BinaryFocalLoss(gamma=2.0).loss([1, 0], [0.0, 0.0]).round(4)
        array([0.1733, 0.1733])
        """
        y, margin, sample_weight = check_rows(y, margin, sample_weight)
        loss = np.empty_like(margin)
        parameters = self._parameters(y, sample_weight)
        found = cpu.loss(y, margin, sample_weight, loss, n_threads=None, **parameters)
        _raise_for(found, y, margin, sample_weight)
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
            Labels in [0, 1].
        margin : array-like of shape (n,)
            Margins. float32 is computed in float32, anything else in float64.
        sample_weight : array-like of shape (n,), optional
            Finite weights >= 0.
        out : tuple of 2 ndarrays of shape (n,), optional
            C-contiguous float32 or float64 arrays to write the result to. Their content is
            undefined after an error.
        n_threads : int, optional
            At most so many threads; by default one per available processor.

        Returns
        -------
        grad, hess : ndarray of shape (n,)
            ``out`` if given, else new arrays in the precision of the margins. ``hess`` is what
            ``hessian`` names.

        Raises
        ------
        TypeError, ValueError
            For input of the wrong kind, shape or value; NaN is refused everywhere.

        Examples
        --------
        >>> BinaryFocalLoss(gamma=0.0).gradient_hessian([1, 0], [0.0, 0.0])
        (array([-0.5,  0.5]), array([0.25, 0.25]))
        """
        y, margin, sample_weight = check_rows(y, margin, sample_weight)
        n_threads = check_n_threads(n_threads)
        if out is None:
            out = np.empty_like(margin), np.empty_like(margin)
        grad, hess = check_out(out, (margin, y, sample_weight))
        found = cpu.gradient_hessian(
            y,
            margin,
            sample_weight,
            grad,
            hess,
            hessian=self.hessian,
            n_threads=n_threads,
            **self._parameters(y, sample_weight),
        )
        _raise_for(found, y, margin, sample_weight)
        return grad, hess

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
        negative, positive = _class_totals(y, sample_weight)
        loss = self.resolve(y, sample_weight)
        target = math.log(positive) - math.log(negative)
        if loss.gamma == 0 and loss.alpha is None:
            return target

        from scipy.optimize import brentq

        def error(margin: float) -> float:
            return float(loss.posterior_margin(margin)) - target

        # posterior_margin increases without bound on both sides.
        bound = 1.0
        while error(-bound) > 0 or error(bound) < 0:
            bound *= 2
        return float(brentq(error, -bound, bound, xtol=1e-14))

    def posterior(self, margin: ArrayLike) -> Array:
        """Probability of the positive class that a margin stands for.

        The sigmoid of a margin trained by focal loss is not that probability: focusing and alpha
        distort it. This undoes both.

        Parameters
        ----------
        margin : array-like
            Margins, of any shape.

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
        """Log-odds of the probability that a margin stands for.

        Parameters
        ----------
        margin : array-like
            Margins, of any shape.

        Returns
        -------
        ndarray or scalar
            Log-odds in the shape of ``margin``, strictly increasing in it; equal to it for
            ``gamma=0, alpha=None``.

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

    def resolve(self, y: ArrayLike, sample_weight: ArrayLike | None = None) -> "BinaryFocalLoss":
        """The same loss with ``alpha="balanced"`` replaced by its value for these labels.

        Parameters
        ----------
        y : array-like of shape (n,)
            Labels in [0, 1].
        sample_weight : array-like of shape (n,), optional
            Finite weights >= 0.

        Returns
        -------
        BinaryFocalLoss

        Raises
        ------
        ValueError
            If the labels are all of one class.

        Examples
        --------
        >>> BinaryFocalLoss(alpha="balanced").resolve([1] * 5 + [0] * 95).alpha
        0.95
        """
        if self.alpha != "balanced":
            return self
        negative, positive = _class_totals(y, sample_weight)
        return dataclasses.replace(self, alpha=negative / (negative + positive))

    def _posterior(self, margin: ArrayLike, *, as_margin: bool) -> Array:
        if self.alpha == "balanced":
            raise ValueError(
                "alpha: expected a value, got 'balanced', which needs labels: use resolve(y)"
            )
        margin = as_real("margin", margin)
        flat = np.ascontiguousarray(margin).ravel()
        out = np.empty_like(flat)
        if cpu.posterior(flat, out, as_margin=as_margin, **self._parameters(flat, None)):
            check_margins(flat)
        return out.reshape(margin.shape)[()]

    def _parameters(self, y: Array, sample_weight: Array | None) -> dict[str, Any]:
        """Gamma and alpha by class, negative first, as the kernels take them."""
        gamma, alpha = self.gamma, self.resolve(y, sample_weight).alpha
        if alpha is None:
            alpha = 1.0, 1.0
        elif isinstance(alpha, float):
            alpha = 1.0 - alpha, alpha
        return {"gamma": (gamma, gamma) if isinstance(gamma, float) else gamma, "alpha": alpha}


def _class_totals(y: ArrayLike, sample_weight: ArrayLike | None) -> tuple[float, float]:
    """Total weight of the negative and of the positive class, both above zero."""
    y = as_rows("y", y)
    check_labels(y)
    if sample_weight is None:
        total, positive = float(y.size), float(y.sum(dtype=np.float64))
    else:
        sample_weight = as_rows("sample_weight", sample_weight)
        check_length("sample_weight", sample_weight, y)
        check_weights(sample_weight)
        total = float(sample_weight.sum(dtype=np.float64))
        positive = float(np.einsum("i,i", y, sample_weight, dtype=np.float64))
    if not 0 < positive < total:
        raise ValueError(
            "y: expected labels of both classes with weight above 0, "
            f"got a total weight of {positive:g} positive in {total:g}"
        )
    return total - positive, positive


def _raise_for(found: int, y: Array, margin: Array, sample_weight: Array | None) -> None:
    """Raise for the first bad row, if a kernel found one."""
    if found & cpu.BAD_LABEL:
        check_labels(y)
    if found & cpu.BAD_MARGIN:
        check_margins(margin)
    if found & cpu.BAD_WEIGHT and sample_weight is not None:
        check_weights(sample_weight)
