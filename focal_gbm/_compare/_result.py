"""The result of a comparison, and a plot of its differences."""

import json
import os
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from focal_gbm._compare._report import write_report
from focal_gbm._compare._shown import gain_in
from focal_gbm._files import write_whole


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
    >>> from focal_gbm._compare._result import ComparisonDisplay
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
        >>> from focal_gbm._compare._result import ComparisonDisplay
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


@dataclass(repr=False, eq=False)
class Comparison:
    """Log loss and focal loss on the same folds, with the same search.

    ``focal_gbm.compare`` returns one.

    Attributes
    ----------
    scores : DataFrame
        A row for each library, contender, repeat and outer fold: the scores of the test rows
        (including the chosen metric), ``"log loss of the sigmoid"``, ``trees``, ``trials``,
        ``"search seconds"``, ``"fit seconds"``, and the chosen ``parameters`` as a dictionary.
        With two libraries, rows of the library ``"chosen"`` repeat those of the library that was
        better in the search of the fold.
    trials : DataFrame
        A row for each trial of a search: its ``value`` on the inner validation rows, ``seconds``,
        ``trees``, and a column for each parameter, NaN where a contender does not have it.
    predictions : DataFrame
        A row for each library, contender, repeat and test row: the ``row`` of X, ``y`` (0 or 1),
        ``weight``, ``posterior`` and ``sigmoid`` (of the margin) as float32.
    differences : DataFrame
        A row for each contender that is compared with log loss in the same library: the ``mean``
        of the differences (greater is better), the 95 % interval from ``low`` to ``high``, the
        probabilities ``better``, ``same`` and ``worse``, and the ``verdict``: "better", "same",
        "worse" or "unclear".
    verdict : str
        The answer in one sentence.
    cautions : list of str
        What to know before you trust the answer.
    best : estimator or None
        The recommended model, not fitted; None without a verdict. A classifier, or a pipeline with
        a ``TableEncoder`` if the libraries do not take the table as it is.
    code : str
        Python source that makes ``best``, empty if that is None.
    protocol : dict
        How it was done: metric, folds, repeats, trials, time budget, seed, rope, rows, positives,
        features, positive label, what was subsampled, versions, whether it was finished.
    costs : tuple of float or None
        Costs of a miss and of a false alarm, if given.
    threshold : float
        Threshold of the posterior; a row above it counts as positive.
    threshold_rule : str
        How the threshold was chosen.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from focal_gbm import compare
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> comparison = compare(X, y, library="lightgbm", folds=2, repeats=1, trials=1)
    >>> comparison.differences[["contender", "mean", "low", "high"]]  # doctest: +SKIP
    """

    scores: pd.DataFrame
    trials: pd.DataFrame
    predictions: pd.DataFrame
    differences: pd.DataFrame
    verdict: str
    cautions: list[str]
    best: Any
    code: str
    protocol: dict[str, Any]
    costs: tuple[float, float] | None
    threshold: float
    threshold_rule: str

    def __repr__(self) -> str:
        return self.verdict

    def plot(self, ax: Any = None) -> Any:
        """Draw the differences from log loss with their intervals.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Which axes to draw on; a new figure by default.

        Returns
        -------
        ComparisonDisplay

        Raises
        ------
        ValueError
            If there are no differences yet.

        Examples
        --------
        >>> comparison.plot().figure_.savefig("differences.png")  # doctest: +SKIP
        """
        return ComparisonDisplay.from_comparison(self, ax=ax)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the report, a self-contained HTML file.

        Parameters
        ----------
        path : str or path
            File to write, whole or not at all.

        Raises
        ------
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> comparison.to_html("report.html")  # doctest: +SKIP
        """
        write_report(self, path)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Everything but the predictions as JSON.

        Parameters
        ----------
        path : str or path, optional
            File to write it to as well, whole or not at all.

        Returns
        -------
        str

        Raises
        ------
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> json.loads(comparison.to_json())["verdict"]  # doctest: +SKIP
        """
        text = json.dumps(
            {
                "verdict": self.verdict,
                "cautions": self.cautions,
                "code": self.code,
                "costs": self.costs,
                "threshold": self.threshold,
                "threshold rule": self.threshold_rule,
                "protocol": self.protocol,
                **{
                    name: json.loads(getattr(self, name).to_json(orient="records"))
                    for name in ("differences", "scores", "trials")
                },
            },
            indent=1,
            default=str,  # a label may be a date
        )
        if path is not None:
            write_whole(path, text.encode())
        return text
