"""Metrics for LightGBM: its own, of the posterior; the focal loss; and the user's.

Also the metrics, weights and margins of the evaluation sets of ``FocalLGBMClassifier``.
"""

import inspect
import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import lightgbm as lgb
import numpy as np
from numpy.typing import ArrayLike

from focal_gbm._engines import SumOfAll, is_any, mean_of_all, together
from focal_gbm._estimator import (
    EvalSet,
    Targets,
    check_at_most,
    check_start,
    checked_weight,
    item,
    times_class_weight,
)
from focal_gbm._metrics import Area, RowMetric, Rows, means_and_areas
from focal_gbm._training import Training
from focal_gbm._types import Array
from focal_gbm.lightgbm._internals import TWO_ROWS_SUFFICE, is_constructed, set_globals
from focal_gbm.objective import FocalMetric, FocalObjective, check_objective, labels_and_weights

# LightGBM's words for no metric.
_NO_METRIC = {"none", "null", "custom", "na"}

# Parameters that LightGBM's metrics read.
_METRIC_PARAMETERS = (
    *("alpha", "auc_mu_weights", "eval_at", "fair_c", "label_gain", "multi_error_top_k"),
    *("num_threads", "tweedie_variance_power", "verbosity"),
)

# LightGBM's log loss clips posteriors to at least this.
_LOG_LOSS = RowMetric("log loss", 1e-15)

# Metrics that are computed here, for two classes and for several.
_OF_TWO: dict[str, RowMetric | Area] = {
    "binary_logloss": _LOG_LOSS,
    "binary_error": RowMetric("error", 0.5),
    "l2": RowMetric("squared error"),
    "rmse": RowMetric("squared error", is_root=True),
    "auc": Area("ROC"),
    "average_precision": Area("average precision"),
}
_OF_SEVERAL: dict[str, RowMetric | Area] = {
    "multi_logloss": _LOG_LOSS,
    "multi_error": RowMetric("error with ties"),
}

# Names that LightGBM shows for a metric, and whether larger is better.
_Shown = tuple[tuple[str, bool], ...]


def take_metrics(
    params: dict[str, Any], feval: Any, training: Training, valid_sets: list[lgb.Dataset]
) -> list[Any]:
    """The metrics to evaluate the data sets by, in place of LightGBM's evaluation."""
    if not valid_sets:
        return []
    given = feval if isinstance(feval, list | tuple) else [feval] if feval else []
    metrics = [_OfMargin(metric, training) for metric in given]
    if "metric" in params:
        has_queries = all(map(_has_queries, valid_sets))
        return [*_named_metrics(params, training, has_queries), *metrics]
    return metrics or [_OfMargin(focal_metric(training.objective), training)]


class _OfMargin:
    """A metric of margins; those that LightGBM gives lack the starting margin."""

    def __init__(self, metric: Any, training: Training) -> None:
        self.metric = metric
        self.training = training

    def __call__(self, margin: Array, dataset: lgb.Dataset) -> Any:
        return self.training.resolved(self.metric)(self.training.started(margin), dataset)


class OfAllMachines:
    """A metric's results over several machines: means weighted by the weight of their rows."""

    def __init__(self, metric: Any, sum_of_all: SumOfAll) -> None:
        self.metric = metric
        self.sum_of_all = sum_of_all
        self._weights: WeakKeyDictionary[lgb.Dataset, float] = WeakKeyDictionary()

    def __call__(self, margin: Array, dataset: lgb.Dataset) -> list[tuple[str, float, bool]]:
        if dataset not in self._weights:
            self._weights[dataset] = together(partial(_weight_of, dataset), self.sum_of_all)
        found = together(partial(self.metric, margin, dataset), self.sum_of_all)
        names, values, larger = zip(*(found if isinstance(found, list) else [found]), strict=True)
        weight = self._weights[dataset]
        means = mean_of_all(np.array(values, np.float64), weight, self.sum_of_all)
        return list(zip(names, means.tolist(), larger, strict=True))


def _weight_of(dataset: lgb.Dataset) -> float:
    weights: Any = dataset.get_weight()
    weight = float(dataset.num_data() if weights is None else weights.sum(dtype=np.float64))
    if not weight:
        raise ValueError(
            "valid_sets: all weights of an evaluation set are zero on this machine: give each "
            "machine rows with a weight above 0"
        )
    return weight


class _NamedMetrics:
    """Metrics of the posterior by LightGBM's names: some are computed here, others by LightGBM.

    ``names`` maps each given name to what LightGBM shows for it: names, and whether larger is
    better.
    """

    def __init__(
        self, names: dict[str, _Shown], of_library: "_OfLibrary", training: Training
    ) -> None:
        self.names = names
        self.of_library = of_library
        self.training = training
        known = _OF_TWO if training.n_classes == 2 else _OF_SEVERAL
        self.means, self.areas = means_and_areas(
            {name: known.get(shown) for name, ((shown, _), *_) in names.items()}
        )
        self._rows: WeakKeyDictionary[lgb.Dataset, Rows] = WeakKeyDictionary()

    def __call__(self, margin: Array, dataset: lgb.Dataset) -> list[tuple[str, float, bool]]:
        values = {name: [value] for name, value in self._computed_here(margin, dataset).items()}
        others = [name for name in self.names if name not in values]
        if others:
            found = iter(self.of_library(others, self._posterior_margin(margin), dataset))
            for name in others:
                values[name] = [next(found)[1] for _ in self.names[name]]
        return [
            (shown, value, is_larger_better)
            for name, of_name in self.names.items()
            for (shown, is_larger_better), value in zip(of_name, values[name], strict=True)
        ]

    def _computed_here(self, margin: Array, dataset: lgb.Dataset) -> dict[str, float]:
        training = self.training
        if not (self.means or self.areas):  # LightGBM's own may take labels that are not classes
            return {}
        if dataset not in self._rows:
            self._rows[dataset] = self._read(margin, dataset)
        rows = self._rows[dataset]
        if not rows.is_hard:  # LightGBM treats any label above zero as positive
            return {}
        start = 0.0 if training.start is None else training.start
        values = rows.means(self.means, training.loss, margin, training.threads, start=start)
        if self.areas and rows.has_both:
            # Not by the margins: without their start, different rows would be ties.
            values |= rows.areas(self.areas, self._posterior_margin(margin))
        return values

    def _read(self, margin: Array, dataset: lgb.Dataset) -> Rows:
        """Labels and weights; a flag is true only if it is true on all machines.

        Either all machines ask LightGBM or none does: while machines are connected, its data sets
        and boosters wait for each other.
        """
        training = self.training
        rows = together(partial(Rows.read, dataset, margin, training.loss), training.sum_of_all)
        return rows._replace(
            is_hard=not is_any(not rows.is_hard, training.sum_of_all),
            has_both=not is_any(not rows.has_both, training.sum_of_all),
        )

    def _posterior_margin(self, margin: Array) -> Array:
        return self.training.loss.posterior_margin(self.training.started(margin))


class _OfLibrary:
    """LightGBM's metrics of the posterior, by a booster without trees that starts at its margin.

    With a callable objective, LightGBM itself would treat margins as probabilities.
    """

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        # Each construction of a data set sets the threads that LightGBM uses from then on.
        self.threads = {name: params[name] for name in ("num_threads",) if name in params}
        # For each data set, one that has its labels, weights and queries.
        self._posteriors: WeakKeyDictionary[lgb.Dataset, lgb.Dataset] = WeakKeyDictionary()

    def __call__(
        self, names: list[str], margin: Array, dataset: lgb.Dataset
    ) -> list[tuple[str, float, bool]]:
        """Names and values, and whether larger is better."""
        posterior = self._posteriors.get(dataset)
        if posterior is None:
            posterior = self._posteriors[dataset] = self._like(dataset)
        posterior.set_init_score(margin.ravel(order="F"))
        params = {**self.params, "metric": names, "verbosity": -1}
        results = lgb.Booster(params, posterior).eval_train()
        self._restore_verbosity()
        return [(name, float(value), larger) for _, name, value, larger, *_ in results]

    def _like(self, dataset: lgb.Dataset) -> lgb.Dataset:
        y, sample_weight = labels_and_weights(dataset)
        return lgb.Dataset(
            # A feature of two values, because LightGBM warns of data that it could not split.
            np.arange(len(y), dtype=np.float32)[:, None] % 2,
            label=y,
            weight=sample_weight,
            group=dataset.get_group(),
            params={**TWO_ROWS_SUFFICE, **self.threads, "verbosity": -1},
        ).construct()

    def _restore_verbosity(self) -> None:
        """Let LightGBM talk again: the level is global, and any construction sets it."""
        set_globals({**self.threads, "verbosity": self.params.get("verbosity", 1)})


def _has_queries(dataset: lgb.Dataset) -> bool:
    return dataset.group is not None or (
        is_constructed(dataset) and dataset.get_group() is not None
    )


def _named_metrics(
    params: dict[str, Any], training: Training, has_queries: bool
) -> list[_NamedMetrics]:
    """One metric for all that ``params`` name, if any; raises for names LightGBM does not know."""
    names = [name for name in metric_names(params["metric"]) if name.lower() not in _NO_METRIC]
    n_classes = training.n_classes
    given = {name: params[name] for name in _METRIC_PARAMETERS if name in params}
    given["objective"] = "binary" if n_classes == 2 else "multiclass"
    given["force_col_wise"] = True  # avoids a copy of the data by row, and a choice by timing
    if n_classes > 2:
        given["num_class"] = n_classes
    margin = np.zeros(2 if n_classes == 2 else (n_classes, n_classes))
    classes = np.arange(n_classes)
    of_library = _OfLibrary(given)
    one_of_each = lgb.Dataset(
        classes[:, None],
        label=classes,
        group=[n_classes] if has_queries else None,
        params={**of_library.threads, "verbosity": -1},
    ).construct()
    shown: dict[str, _Shown] = {}
    for name in names:
        try:
            results = of_library([name], margin, one_of_each)
        except lgb.basic.LightGBMError as error:
            raise ValueError(
                f"metric: LightGBM cannot evaluate {name!r} for {n_classes} classes: {error}"
            ) from error
        if not results:  # LightGBM leaves out metrics that it does not know
            raise ValueError(f"metric: {name!r} is no metric of LightGBM's")
        of_name = tuple((name_shown, larger) for name_shown, _, larger in results)
        if of_name not in shown.values():  # LightGBM evaluates it once, whatever its aliases
            shown[name] = of_name
    return [_NamedMetrics(shown, of_library, training)] if names else []


def metric_names(metric: Any) -> list[str]:
    """Names of metrics; LightGBM also takes several in one string, separated by commas."""
    given = [metric] if metric is None or isinstance(metric, str) else metric
    names = ",".join(str(name) for name in given if name)
    return [name.strip() for name in names.split(",") if name.strip()]


class _LightGBMMetric(FocalMetric):
    def __call__(
        self, y_true: ArrayLike, y_pred: Any, sample_weight: ArrayLike | None = None
    ) -> tuple[str, float, bool]:
        return self.__name__, self.mean(y_true, y_pred, sample_weight), False


def focal_metric(objective: FocalObjective) -> _LightGBMMetric:
    """Weighted mean focal loss as an evaluation metric for LightGBM; smaller is better.

    Parameters
    ----------
    objective : FocalObjective
        Gamma and alpha of the loss. ``focal_gbm.lightgbm.train`` replaces ``alpha="balanced"`` by
        the value for the training labels; elsewhere it is refused.

    Returns
    -------
    callable
        For ``feval`` of ``train`` (of this module or of LightGBM) and ``eval_metric`` of
        ``LGBMClassifier``. It takes margins, which these pass to metrics when the objective is a
        custom one.

    Raises
    ------
    TypeError
        If ``objective`` is not a ``FocalObjective``.

    Examples
    --------
    >>> import numpy as np
    >>> from focal_gbm import FocalObjective
    >>> name, value, larger_is_better = focal_metric(FocalObjective())([0, 1], np.zeros(2))
    >>> name, round(value, 4), larger_is_better
    ('focal_loss', 0.1733, False)
    """
    return _LightGBMMetric(check_objective("objective", objective))


def metric_names_of(metrics: Sequence[Any], default: Any, n_classes: int) -> list[str]:
    """Names among the metrics of ``fit``, then those of the constructor, as in LightGBM."""
    for metric in metrics:
        if not (metric is None or isinstance(metric, str) or callable(metric)):
            raise TypeError(f"eval_metric: expected names and callables, got {metric!r}")
    kind = "binary" if n_classes == 2 else "multi"
    names = [
        re.sub("^(binary_|multi_)?(?=(logloss|error)$)", f"{kind}_", name)
        for metric in metrics
        if isinstance(metric, str)
        for name in metric_names(metric)
    ]
    defaults = metric_names(default) or [f"{kind}_logloss"]
    return [name for name in names if name not in defaults] + defaults


def posterior_metric(metric: Any, targets: Targets) -> Any:
    """Turn a metric of probabilities, in LightGBM's convention, into one of margins."""
    if isinstance(metric, FocalMetric):
        return metric
    n_arguments = len(inspect.signature(metric).parameters)
    if n_arguments not in (2, 3, 4):
        raise TypeError(
            "eval_metric: expected callables of 2, 3 or 4 arguments, "
            f"got {metric!r} of {n_arguments}"
        )

    def of_margin(margin: Array, dataset: lgb.Dataset) -> Any:
        y, sample_weight = labels_and_weights(dataset)
        arguments = (y, targets.loss.posterior(margin), sample_weight, dataset.get_group())
        return metric(*arguments[:n_arguments])

    return of_margin


def pairs_of(eval_set: Any, eval_X: Any, eval_y: Any) -> Any:
    """Evaluation sets as a list of pairs, from either of LightGBM's two ways to pass them."""
    if (eval_X is None) != (eval_y is None):
        missing = "eval_X" if eval_X is None else "eval_y"
        raise ValueError(f"{missing} is None: give both eval_X and eval_y, or neither")
    if eval_X is None:
        is_pair = isinstance(eval_set, tuple)
        return [eval_set] if is_pair else [] if eval_set is None else eval_set
    if eval_set is not None:
        raise ValueError("eval_set is given together with eval_X and eval_y: give one of them")
    if not isinstance(eval_X, tuple):
        return [(eval_X, eval_y)]
    if not isinstance(eval_y, tuple) or len(eval_X) != len(eval_y):
        raise ValueError(f"eval_y: expected a tuple of {len(eval_X)} as eval_X, got {eval_y!r}")
    return list(zip(eval_X, eval_y, strict=True))


def eval_fields(
    targets: Targets, pairs: EvalSet, weights: Any, class_weights: Any, scores: Any
) -> Iterator[dict[str, Any]]:
    """Weights and margins of the evaluation sets, checked."""
    check_at_most("eval_sample_weight", weights, pairs)
    check_at_most("eval_class_weight", class_weights, pairs)
    check_at_most("eval_init_score", scores, pairs)
    for i, (_, labels) in enumerate(pairs):
        weight = checked_weight("eval_sample_weight", item(weights, i), labels)
        weight = times_class_weight(weight, item(class_weights, i), targets.classes, labels)
        score = item(scores, i)
        check_start("eval_init_score", score, labels, targets.n_classes)
        yield {"weight": weight, "init_score": score}


def is_none_or_equal(fields: dict[str, Any], given: dict[str, Any]) -> bool:
    return all(
        field is None or np.array_equal(field, given[name]) for name, field in fields.items()
    )
