"""A plot of the differences of a comparison."""

from typing import Any, Self

import numpy as np
import pandas as pd

from focal_gbm._compare._shown import gain_in


class ComparisonDisplay:
    """Differences from log loss, with 95 % intervals.

    ``from_comparison`` makes and draws one; ``Comparison.plot`` calls it.

    Parameters
    ----------
    differences : DataFrame
        ``Comparison.differences``.
    metric : str
        Metric of the differences, for the label.
    rope : float
        Half the width of the region of practical equivalence, in the unit of the metric.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the plot, once drawn.
    figure_ : matplotlib Figure
        Figure of the axes.
    lines_ : list of matplotlib ErrorbarContainer
        One per library.

    Raises
    ------
    ValueError
        If there are no differences.

    Examples
    --------
    >>> import pandas as pd
    >>> from focal_gbm._compare._display import ComparisonDisplay
    >>> row = {"library": "XGBoost", "contender": "focal loss"}
    >>> row |= {"mean": 0.021, "low": 0.008, "high": 0.034}
    >>> display = ComparisonDisplay(
    ...     differences=pd.DataFrame([row]), metric="average precision", rope=0.005
    ... )
    >>> display.plot().ax_.get_xlabel()
    'gain in average precision over log loss'
    """

    def __init__(self, *, differences: pd.DataFrame, metric: str, rope: float) -> None:
        if differences.empty:
            raise ValueError("differences: there is none yet, as no fold has all contenders")
        self.differences = differences
        self.metric = metric
        self.rope = rope

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.differences)} differences in {self.metric})"

    @classmethod
    def from_comparison(cls, comparison: Any, *, ax: Any = None, **line_kw: Any) -> Self:
        """Draw the differences of a comparison.

        Parameters
        ----------
        comparison : Comparison
            From ``focal_gbm.compare``.
        ax : matplotlib Axes, optional
            Which axes to draw on; a new figure by default.
        **line_kw
            Arguments of ``matplotlib.axes.Axes.errorbar``.

        Returns
        -------
        ComparisonDisplay

        Raises
        ------
        ValueError
            If there are no differences yet.

        Examples
        --------
        >>> from focal_gbm import compare
        >>> from focal_gbm._compare._display import ComparisonDisplay
        >>> comparison = compare(X, y)  # doctest: +SKIP
        >>> display = ComparisonDisplay.from_comparison(comparison)  # doctest: +SKIP
        """
        return cls(
            differences=comparison.differences,
            metric=comparison.protocol["metric"],
            rope=comparison.protocol["rope"],
        ).plot(ax, **line_kw)

    def plot(self, ax: Any = None, **line_kw: Any) -> Self:
        """Draw a line for each contender, in a colour for each library.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Which axes to draw on; a new figure by default.
        **line_kw
            Arguments of ``matplotlib.axes.Axes.errorbar``.

        Returns
        -------
        ComparisonDisplay

        Examples
        --------
        >>> display.plot().figure_.savefig("differences.png")  # doctest: +SKIP
        """
        if ax is None:
            import matplotlib.pyplot as plt

            height = 1.2 + 0.4 * len(self.differences)
            _, ax = plt.subplots(figsize=(7, height), layout="constrained")
        self.ax_ = ax
        self.figure_ = ax.figure
        ax.axvspan(-self.rope, self.rope, color="0.9", label="practically the same")
        ax.axvline(0, color="gray", linewidth=0.5)
        height_of = np.arange(len(self.differences))
        self.lines_ = []
        for library, rows in self.differences.groupby("library", sort=False):
            mean = rows["mean"]
            ends = np.abs(rows[["low", "high"]].to_numpy().T - mean.to_numpy())
            at = height_of[self.differences["library"].to_numpy() == library]
            line = {"fmt": "o", "label": library, **line_kw}
            self.lines_.append(ax.errorbar(mean, at, xerr=ends, **line))
        ax.set_yticks(height_of, self.differences["contender"])
        ax.invert_yaxis()
        ax.set_xlabel(f"{gain_in(self.metric)} over log loss")
        ax.legend()
        return self
