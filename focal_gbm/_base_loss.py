"""The base class of the binary and the softmax loss."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from focal_gbm._arrays import (
    check_out,
    check_rows,
    empty,
    is_on_device,
    kernels_for,
    to_host,
    total,
)
from focal_gbm._kernels.threads import Threads
from focal_gbm._types import Array, Balanced, HessianMode, HostKernels
from focal_gbm._validation import as_rows, check_length, check_n_threads, check_prior, check_weights


class FocalLoss(ABC):
    """The base class of the binary and the softmax loss, which differ in kernels and shapes.

    Margins, gradients, Hessians and posteriors have the shape (n,) in the binary loss and
    (n, n_classes) in the softmax loss. They are computed where the margins are: NumPy arrays on the
    CPU, anything with ``__cuda_array_interface__`` on its GPU.
    """

    gamma: float | Sequence[float]
    alpha: Balanced | float | Sequence[float] | None
    hessian: HessianMode
    _kernels: ClassVar[HostKernels]

    def loss(
        self, y: ArrayLike, margin: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Array:
        """Weighted loss of each row.

        Parameters
        ----------
        y : array-like of shape (n,)
            Labels: in [0, 1] for the binary loss, where values in between mix the classes, and
            integers from 0 to n_classes - 1 for softmax.
        margin : array-like of shape (n,), or (n, n_classes) for softmax
            Margins (raw scores on the log-odds scale). float32 is computed in float32, anything
            else in float64. An array with ``__cuda_array_interface__`` is computed on its GPU; it
            must be of one of these types, and labels and weights must be on that GPU too.
        sample_weight : array-like of shape (n,), optional
            Finite weights >= 0.

        Returns
        -------
        ndarray of shape (n,)
            On the device of the margins; float32 for float32 margins, else float64. Infinite only
            where a binary margin is infinite on the wrong side.

        Raises
        ------
        TypeError, ValueError
            For input of the wrong kind, shape or value; NaN is refused everywhere.
        RuntimeError
            For arrays on a GPU without numba-cuda.

        Examples
        --------
        >>> from focal_gbm import BinaryFocalLoss
        >>> BinaryFocalLoss(gamma=2.0).loss([1, 0], [0.0, 0.0]).round(4)
        array([0.1733, 0.1733])
        """
        return self._losses(y, margin, sample_weight, None)

    def _losses(
        self, y: ArrayLike, margin: ArrayLike, sample_weight: ArrayLike | None, n_threads: Threads
    ) -> Array:
        y, margin, sample_weight = check_rows(y, margin, sample_weight, self._n_columns)
        loss = empty(margin.shape[:1], margin)
        parameters = self.resolve(y, sample_weight)._by_class()
        kernels = kernels_for(margin, self._kernels)
        found = kernels.loss(y, margin, sample_weight, loss, n_threads=n_threads, **parameters)
        self._raise_for(found, y, margin, sample_weight)
        return loss

    def _total_loss(
        self, y: ArrayLike, margin: ArrayLike, sample_weight: ArrayLike | None, n_threads: Threads
    ) -> float:
        """Sum of the weighted losses, on the CPU without an array of them."""
        if is_on_device(margin):
            return total(self._losses(y, margin, sample_weight, n_threads))
        y, margin, sample_weight = check_rows(y, margin, sample_weight, self._n_columns)
        parameters = self.resolve(y, sample_weight)._by_class()
        found, value = self._kernels.loss_total(
            y, margin, sample_weight, n_threads=n_threads, **parameters
        )
        self._raise_for(found, y, margin, sample_weight)
        return value

    def gradient_hessian(
        self,
        y: ArrayLike,
        margin: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        out: tuple[Array, Array] | None = None,
        n_threads: int | None = None,
    ) -> tuple[Array, Array]:
        """First and second derivatives of the weighted loss in the margin, in one pass.

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
            float32 or float64 arrays to write the result to, on the device of the margins:
            contiguous for the binary loss on the CPU, else with any strides. Their content is
            undefined after an error.
        n_threads : int, optional
            Maximum number of threads; by default one per available processor.

        Returns
        -------
        grad, hess : ndarray of the margins' shape
            ``out`` if given, else new arrays on the device and in the precision of the margins.
            ``hess`` is the curvature that ``hessian`` names; for softmax, of the Hessian's
            diagonal.

        Raises
        ------
        TypeError, ValueError
            For input of the wrong kind, shape or value; NaN is refused everywhere.
        RuntimeError
            For arrays on a GPU without numba-cuda.

        Examples
        --------
        >>> from focal_gbm import BinaryFocalLoss
        >>> BinaryFocalLoss(gamma=0.0).gradient_hessian([1, 0], [0.0, 0.0])
        (array([-0.5,  0.5]), array([0.25, 0.25]))
        """
        y, margin, sample_weight = check_rows(y, margin, sample_weight, self._n_columns)
        n_threads = check_n_threads(n_threads)
        if out is None:
            out = empty(margin.shape, margin), empty(margin.shape, margin)
        out = check_out(out, (margin, y, sample_weight))
        loss = self.resolve(y, sample_weight)
        return loss._gradient_hessian(y, margin, sample_weight, out, n_threads)

    def _gradient_hessian(
        self,
        y: Array,
        margin: Array,
        sample_weight: Array | None,
        out: tuple[Array, Array],
        n_threads: Threads,
        **curvature: Any,
    ) -> tuple[Array, Array]:
        """The same for arrays that are checked, with a booster's options for the curvature."""
        grad, hess = out
        found = kernels_for(margin, self._kernels).gradient_hessian(
            y,
            margin,
            sample_weight,
            grad,
            hess,
            hessian=self.hessian,
            n_threads=n_threads,
            **self._by_class(),
            **curvature,
        )
        self._raise_for(found, y, margin, sample_weight)
        return grad, hess

    def posterior(
        self, margin: ArrayLike, *, prior: Any = None, training_prior: Any = None
    ) -> Array:
        """Probability of the positive class, or of each class, for a margin.

        The sigmoid or softmax of a margin trained with focal loss is not that probability: focusing
        and alpha distort it. This undoes both.

        If the shares of the classes in the data to predict differ from those in the training data,
        as after undersampling, give the two priors to get probabilities for the data to predict
        (Saerens, Latinne and Decaestecker, 2002). This is right if only the shares differ, and not
        the distribution of the features within each class.

        Parameters
        ----------
        margin : array-like
            Margins: of any shape for the binary loss, of shape (n,) on a GPU; of shape
            (n, n_classes) for softmax.
        prior : float or sequence of n_classes floats, optional
            Share of the positive class, or of each class, in the data to predict; in (0, 1), and
            of sum 1. By default it is that of the training data.
        training_prior : float or sequence of n_classes floats, optional
            The same for the training data, weighted as in training: the mean of ``y``, or the
            classifiers' ``class_prior_``. Give both priors or neither.

        Returns
        -------
        ndarray or scalar
            Probabilities in the shape of ``margin``.

        Raises
        ------
        TypeError, ValueError
            For margins that are not numbers or are NaN, for priors that are not probabilities or
            of which one is missing, and for ``alpha="balanced"``, which has a value only together
            with labels: see ``resolve``.

        References
        ----------
        Saerens, Latinne, Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori
        Probabilities: A Simple Procedure", Neural Computation 14 (1), 2002

        Examples
        --------
        >>> from focal_gbm import BinaryFocalLoss
        >>> BinaryFocalLoss(gamma=2.0).posterior([-2.0, 0.0, 2.0]).round(4)
        array([0.0045, 0.5   , 0.9955])
        >>> loss = BinaryFocalLoss(gamma=2.0)
        >>> loss.posterior([-2.0, 0.0, 2.0], prior=0.01, training_prior=0.5).round(4)
        array([0.    , 0.01  , 0.6907])
        """
        return self._at_prior(prior, training_prior)._posterior(margin)

    def posterior_margin(
        self, margin: ArrayLike, *, prior: Any = None, training_prior: Any = None
    ) -> Array:
        """The posterior as a margin: its log-odds, or the logarithms of the classes' posteriors.

        Parameters
        ----------
        margin : array-like
            Margins, as for ``posterior``.
        prior, training_prior : float or sequence of n_classes floats, optional
            As for ``posterior``.

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
        >>> from focal_gbm import BinaryFocalLoss
        >>> BinaryFocalLoss(gamma=0.0).posterior_margin([-2.0, 0.0, 2.0])
        array([-2.,  0.,  2.])
        """
        return self._at_prior(prior, training_prior)._posterior(margin, as_margin=True)

    def _at_prior(self, prior: Any, training_prior: Any) -> Self:
        """The same loss for data with other shares of the classes.

        Alpha weights each class in training, and the posterior undoes it. A class that had too
        large a share was in effect weighted, too.
        """
        if prior is None and training_prior is None:
            return self
        n_classes = self._n_columns or 2
        for name, given in (("prior", prior), ("training_prior", training_prior)):
            if given is None:
                raise ValueError(
                    f"{name}: the shares of the classes in the training data and in those that are "
                    f"predicted are needed, but {name} is missing: give both or none"
                )
        shares = check_prior("prior", prior, n_classes)
        of_training = check_prior("training_prior", training_prior, n_classes)
        if self.alpha == "balanced":
            return self  # its posterior raises
        log_alpha = np.log(self._by_class()["alpha"]) + (np.log(of_training) - np.log(shares))
        loss = copy.copy(self)
        alpha = np.exp(log_alpha - log_alpha.mean())  # only its ratios matter
        object.__setattr__(loss, "alpha", tuple(alpha.tolist()))
        return loss

    @abstractmethod
    def initial_margin(self, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Any:
        """Constant margin that minimises the weighted loss of these labels."""

    @abstractmethod
    def _initial_margin(self, totals: Array) -> Any:
        """The same, for the total weights of the classes."""

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
        >>> from focal_gbm import BinaryFocalLoss, SoftmaxFocalLoss
        >>> BinaryFocalLoss(alpha="balanced").resolve([1] * 5 + [0] * 95).alpha
        0.95
        >>> SoftmaxFocalLoss(3, alpha="balanced").resolve([0, 0, 1, 2]).alpha
        (0.5, 0.75, 0.75)
        """
        if self.alpha != "balanced":
            return self
        return self._resolved(self._totals(y, sample_weight))

    def _resolved(self, totals: Array) -> Self:
        """The same as ``resolve``, for the total weights of the classes."""
        if self.alpha != "balanced":
            return self
        check_totals(totals)
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

        This is a sufficient summary of labels and weights: one row of each class, with these
        weights, has the same starting margin and the same alpha.
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

    @abstractmethod
    def _posterior(self, margin: ArrayLike, *, as_margin: bool = False) -> Array:
        """Posterior or its margin, for margins that are not checked yet."""

    def _posterior_of(self, margin: Array, *, as_margin: bool = False) -> Array:
        """The same for a checked array, in which a kernel may still find NaN."""
        if self.alpha == "balanced":
            raise ValueError(
                "alpha: 'balanced' has a value only for given labels: use loss.resolve(y)"
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


def with_weights(y: ArrayLike, sample_weight: ArrayLike | None) -> tuple[Array, Array]:
    """Labels and their weights, which are one by default."""
    y = as_rows("y", to_host(y))
    if sample_weight is None:
        return y, np.ones(y.size)
    sample_weight = as_rows("sample_weight", to_host(sample_weight))
    check_length("sample_weight", sample_weight, y)
    check_weights(sample_weight)
    return y, sample_weight


def check_totals(totals: Array) -> None:
    if not (totals > 0).all():
        raise ValueError(
            "y: a class has no rows of a weight above 0: the total weights by class are "
            f"{', '.join(f'{total:g}' for total in totals)}"
        )
