"""Plots of the focal loss."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from focal_gbm._extras import needed_by
from focal_gbm._types import Array
from focal_gbm.losses import BinaryFocalLoss


class FocalLossDisplay:
    """Loss, gradient and Hessian against the probability of the true class.

    ``from_losses`` computes and draws the curves; the constructor takes precomputed ones.

    Parameters
    ----------
    probability : ndarray of shape (n_points,)
        Probability p_t that the sigmoid gives the true class.
    curves : ndarray of shape (n_losses, 3, n_points)
        Loss, gradient and Hessian with respect to the margin of the true class.
    labels : sequence of str
        One per loss, for the legend.

    Attributes
    ----------
    axes_ : ndarray of 3 matplotlib Axes
        Axes of the loss, the gradient and the Hessian, once drawn.
    figure_ : matplotlib Figure
        Figure that contains the axes.
    lines_ : ndarray of matplotlib Lines of shape (n_losses, 3)
        One line per curve.

    Raises
    ------
    ValueError
        If the shapes do not match.

    Examples
    --------
    >>> from focal_gbm import BinaryFocalLoss, FocalLossDisplay
    >>> display = FocalLossDisplay.from_losses([BinaryFocalLoss(gamma) for gamma in (0, 1, 2, 5)])
    >>> display.figure_.savefig("focal_loss.png")  # doctest: +SKIP
    """

    def __init__(self, *, probability: Array, curves: Array, labels: Sequence[str]) -> None:
        if np.shape(curves) != (len(labels), 3, len(probability)):
            raise ValueError(
                f"curves: expected shape {(len(labels), 3, len(probability))}, "
                f"got {np.shape(curves)}"
            )
        self.probability = probability
        self.curves = curves
        self.labels = labels

    @classmethod
    def from_losses(
        cls, losses: Sequence[BinaryFocalLoss], *, ax: Any = None, **line_kw: Any
    ) -> Self:
        """Compute and draw the curves of one or more losses.

        Parameters
        ----------
        losses : sequence of BinaryFocalLoss
            Losses to compare, drawn for a positive label; their alpha must not be "balanced".
        ax : sequence of 3 matplotlib Axes, optional
            Which axes to draw on; a new figure by default.
        **line_kw
            Passed to ``matplotlib.axes.Axes.plot``.

        Returns
        -------
        FocalLossDisplay

        Raises
        ------
        TypeError, ValueError
            If there are no losses, or one is not a ``BinaryFocalLoss`` or has alpha "balanced".

        Examples
        --------
        >>> from focal_gbm import BinaryFocalLoss, FocalLossDisplay
        >>> display = FocalLossDisplay.from_losses([BinaryFocalLoss(2.0)], color="black")
        >>> [ax.get_ylabel() for ax in display.axes_]
        ['loss', 'gradient', 'Hessian']
        """
        if isinstance(losses, BinaryFocalLoss):
            raise TypeError(f"losses: expected a sequence of losses, got {losses!r}: use [loss]")
        if not losses:
            raise ValueError("losses: expected one loss or more, got none")
        for loss in losses:
            if not isinstance(loss, BinaryFocalLoss):
                raise TypeError(f"losses: expected only BinaryFocalLoss, got {loss!r}")
            if loss.alpha == "balanced":
                raise ValueError(
                    f"losses: the alpha of {loss!r} depends on labels: use loss.resolve(y)"
                )
        # Beyond probabilities of 0.001 and 0.999 there is nothing more to see.
        margin = np.linspace(-7, 7, 281)
        true = np.ones_like(margin)
        curves = [
            (loss.loss(true, margin), *loss.gradient_hessian(true, margin)) for loss in losses
        ]
        return cls(
            probability=1 / (1 + np.exp(-margin)),
            curves=np.reshape(curves, (-1, 3, margin.size)),
            labels=[_label(loss) for loss in losses],
        ).plot(ax, **line_kw)

    def plot(self, ax: Any = None, **line_kw: Any) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : sequence of 3 matplotlib Axes, optional
            Which axes to draw on; a new figure by default.
        **line_kw
            Passed to ``matplotlib.axes.Axes.plot``.

        Returns
        -------
        FocalLossDisplay

        Raises
        ------
        ValueError
            If there are not three axes.

        Examples
        --------
        >>> import numpy as np
        >>> from focal_gbm import FocalLossDisplay
        >>> display = FocalLossDisplay(
        ...     probability=np.array([0.1, 0.9]), curves=np.ones((1, 3, 2)), labels=["one"]
        ... )
        >>> display.plot().lines_.shape
        (1, 3)
        """
        if ax is None:
            with needed_by("FocalLossDisplay", "matplotlib"):
                import matplotlib.pyplot as plt
            _, ax = plt.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
        if np.size(ax) != 3:
            raise ValueError(f"ax: expected 3 axes, got {np.size(ax)}")
        self.axes_: Array = np.ravel(ax)
        self.figure_: Any = self.axes_[0].figure
        self.lines_: Array = np.array(
            [
                [
                    axes.plot(self.probability, curve, **{"label": label, **line_kw})[0]
                    for axes, curve in zip(self.axes_, curves, strict=True)
                ]
                for label, curves in zip(self.labels, self.curves, strict=True)
            ]
        )
        for axes, name in zip(self.axes_, ("loss", "gradient", "Hessian"), strict=True):
            axes.set(xlabel="probability of the true class", ylabel=name)
        self.axes_[2].axhline(0, color="gray", linewidth=0.5)
        self.axes_[0].legend()
        return self


def _label(loss: BinaryFocalLoss) -> str:
    gamma = f"gamma {loss.gamma:g}" if isinstance(loss.gamma, float) else f"gamma {loss.gamma}"
    return gamma if loss.alpha is None else f"{gamma}, alpha {loss.alpha}"
