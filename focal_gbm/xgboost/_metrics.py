"""Metrics for XGBoost: its own, of the posterior; the focal loss; and the user's.

Also the metrics, weights and margins of the evaluation sets of ``FocalXGBClassifier``.
"""

import re
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import xgboost as xgb
from numpy.typing import ArrayLike
from xgboost import collective

from focal_gbm._arrays import is_on_device
from focal_gbm._engines import is_any, mean_of_all
from focal_gbm._estimator import EvalSet, Targets, check_at_most, check_start, checked_weight
from focal_gbm._metrics import NO_ROWS, Area, RowMetric, Rows, means_and_areas
from focal_gbm._training import Training
from focal_gbm._types import Array
from focal_gbm.losses import SoftmaxFocalLoss
from focal_gbm.objective import (
    FocalMetric,
    FocalObjective,
    Loss,
    check_objective,
    is_dataset,
    labels_and_weights,
    n_classes_of,
)
from focal_gbm.xgboost._internals import evaluated
from focal_gbm.xgboost._parameters import library_objective, threads_of
from focal_gbm.xgboost._resident import DeviceRows
from focal_gbm.xgboost._training import sum_of_all_workers

# Parameters that XGBoost's metrics read.
_METRIC_PARAMETERS = ("huber_slope", "quantile_alpha", "ndcg_exp_gain")

# XGBoost's log loss clips posteriors to at least this.
_LOG_LOSS = RowMetric("log loss", 1e-16)

# Metrics that are computed here, for two classes and for several. Like XGBoost's own they see
# float32: near one, the digits of a posterior decide the log loss, and which rows are ties.
_OF_TWO: dict[str, RowMetric | Area] = {
    "logloss": _LOG_LOSS,
    "error": RowMetric("error", 0.5),
    "rmse": RowMetric("squared error", is_root=True),
    "auc": Area("ROC"),
    "aucpr": Area("interpolated precision"),
}
_OF_SEVERAL = {"mlogloss": _LOG_LOSS, "merror": RowMetric("error")}


class _XGBoostMetric(FocalMetric):
    def __call__(
        self, y_true: ArrayLike, y_pred: Any, sample_weight: ArrayLike | None = None
    ) -> Any:
        value = self.mean(y_true, y_pred, sample_weight)
        return (self.__name__, value) if is_dataset(y_pred) else value


def focal_metric(objective: FocalObjective) -> _XGBoostMetric:
    """Weighted mean focal loss as an evaluation metric for XGBoost; smaller is better.

    Parameters
    ----------
    objective : FocalObjective
        Gamma and alpha of the loss. ``focal_gbm.xgboost.train`` replaces ``alpha="balanced"`` by
        the value for the training labels; elsewhere it is refused.

    Returns
    -------
    callable
        For ``custom_metric`` of ``train`` (of this module or of XGBoost) and ``eval_metric`` of
        ``XGBClassifier``. It takes margins, which these pass to metrics when the objective is a
        custom one. ``xgboost.train`` keeps six decimals of its value, too few for a very rare
        class; ``focal_gbm.xgboost.train`` keeps all.

    Raises
    ------
    TypeError
        If ``objective`` is not a ``FocalObjective``.

    Examples
    --------
    >>> import numpy as np, xgboost as xgb
    >>> from focal_gbm import FocalObjective
    >>> metric = focal_metric(FocalObjective(gamma=2.0))
    >>> name, value = metric(np.zeros(2), xgb.DMatrix(np.zeros((2, 1)), label=[0, 1]))
    >>> name, round(value, 4)
    ('focal_loss', 0.1733)
    """
    return _XGBoostMetric(check_objective("objective", objective))


def take_metrics(
    params: dict[str, Any],
    custom_metric: Any,
    training: Training,
    *,
    is_evaluated: bool,
    device: str | None = None,
) -> list[Any]:
    """The metrics to evaluate the data sets by, in place of XGBoost's evaluation."""
    names = params.pop("eval_metric", None)
    takes_default = not is_default_disabled(params.get("disable_default_eval_metric"))
    params["disable_default_eval_metric"] = True
    if not is_evaluated:
        return []
    metrics: list[Any] = []
    if names is not None:
        options = {name: params.pop(name) for name in _METRIC_PARAMETERS if name in params}
        options |= {"nthread": threads_of(params), "device": device}
        metrics.append(_named_metrics(names, training, options))
    given = custom_metric if isinstance(custom_metric, list) else [custom_metric]
    metrics += [training.resolved(metric) for metric in given if metric is not None]
    if not metrics and takes_default:
        metrics.append(training.resolved(focal_metric(training.objective)))
    return metrics


def is_default_disabled(disable_default_eval_metric: Any) -> bool:
    """Whether the switch is on; XGBoost also accepts text."""
    text = str(disable_default_eval_metric).lower()
    if text not in ("true", "1", "false", "0", "none"):
        raise ValueError(
            "disable_default_eval_metric: expected True or False, got "
            f"{disable_default_eval_metric!r}"
        )
    return text in ("true", "1")


class NamedMetrics:
    """Metrics of the posterior by XGBoost's names: some are computed here, all others by XGBoost.

    ``names`` maps each given name to the one that XGBoost shows for it.
    """

    def __init__(self, names: dict[str, str], of_library: "_OfLibrary", training: Training) -> None:
        self._arguments = names, of_library, training
        self.names = names
        self.of_library = of_library
        self.training = training
        self.loss = training.loss
        n_classes = n_classes_of(self.loss)
        self.means, self.areas = means_and_areas(
            {name: _metric_here(name, n_classes) for name in names}
        )
        self._rows: WeakKeyDictionary[xgb.DMatrix, Rows | None] = WeakKeyDictionary()

    def __reduce__(self) -> Any:
        return type(self), self._arguments

    def __call__(self, margin: Array, dataset: xgb.DMatrix) -> list[tuple[str, float]]:
        if isinstance(self.loss, SoftmaxFocalLoss):  # XGBoost gives a vector if there are no rows
            margin = margin.reshape(len(margin), self.loss.n_classes)
        rows = self._rows_of(dataset, margin)
        values = {} if rows is None else self._computed_here(rows, margin)
        others = [name for name in self.names if name not in values]
        if others:
            found = self.of_library(others, margin, dataset)
            values |= {name: value for name, (_, value) in zip(others, found, strict=True)}
        return [(shown, values[name]) for name, shown in self.names.items()]

    def _rows_of(self, dataset: xgb.DMatrix, margin: Array) -> Rows | None:
        """Labels and weights, or None if only XGBoost can evaluate them.

        That is the case for margins on a GPU, and for groups, which have one weight each.
        """
        if is_on_device(margin) or not (self.means or self.areas):
            return None
        if dataset not in self._rows:
            self._rows[dataset] = self._read(dataset, margin)
        return self._rows[dataset]

    def _read(self, dataset: xgb.DMatrix, margin: Array) -> Rows | None:
        # A worker may have no rows, and so no groups.
        if is_any(dataset.get_group().size > 0, sum_of_all_workers):
            return None
        return Rows.read(dataset, margin, self.loss) if dataset.num_row() else NO_ROWS

    def _computed_here(self, rows: Rows, margin: Array) -> dict[str, float]:
        threads = self.training.threads
        values = rows.means(self.means, self.loss, margin, threads, sum_of_all=sum_of_all_workers)
        # An area needs the order of all rows, and a worker has only its own.
        if self.areas and rows.has_both and not collective.is_distributed():
            values |= rows.areas(self.areas, self.loss.posterior(margin))
        return values


def _metric_here(name: str, n_classes: int) -> RowMetric | Area | None:
    """The metric if it is computed here, else None."""
    if n_classes > 2:
        return _OF_SEVERAL.get(name)
    kind, _, threshold = name.partition("@")
    if kind == "error" and re.fullmatch(r"0?\.\d+", threshold):
        return RowMetric("error", float(threshold))
    return _OF_TWO.get(name)


class _OfLibrary:
    """XGBoost's metrics of the posterior, by a booster without trees that starts at its margin."""

    def __init__(self, loss: Loss, params: dict[str, Any]) -> None:
        self._arguments = loss, params
        self.loss = loss
        n_classes = n_classes_of(loss)
        self.params: dict[str, Any] = {"objective": library_objective(n_classes), **params}
        if n_classes > 2:
            self.params["num_class"] = n_classes
        # For each data set, one without features that has its labels and weights.
        self._posteriors: WeakKeyDictionary[xgb.DMatrix, xgb.DMatrix] = WeakKeyDictionary()

    def __reduce__(self) -> Any:
        return type(self), self._arguments

    def __call__(
        self, names: list[str], margin: Array, dataset: xgb.DMatrix
    ) -> list[tuple[str, float]]:
        posterior = self._posteriors.get(dataset)
        if posterior is None:
            is_empty = not dataset.num_row()  # a machine may have no rows of an evaluation set
            y, sample_weight = (None, None) if is_empty else labels_and_weights(dataset)
            missing = np.full((len(margin), 1), np.nan, np.float32)
            n_threads = self.params["nthread"]
            posterior = xgb.DMatrix(missing, label=y, weight=sample_weight, nthread=n_threads)
            groups = dataset.get_group()  # "ndcg", "map" and "auc" are means over groups
            if groups.size:
                posterior.set_group(groups)
            self._posteriors[dataset] = posterior
        posterior.set_base_margin(self.loss.posterior_margin(margin))
        params = {**self.params, "eval_metric": names}
        return evaluated(xgb.Booster(params, cache=[posterior]), posterior)


def _named_metrics(metrics: Any, training: Training, params: dict[str, Any]) -> NamedMetrics:
    """One metric for all names, each first tried on a row of every class."""
    n_classes = training.n_classes
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    margin = np.zeros(2 if n_classes == 2 else (n_classes, n_classes))
    classes, n_threads = np.arange(n_classes), params["nthread"]
    one_of_each = xgb.DMatrix(classes[:, None], label=classes, nthread=n_threads)
    of_library = _OfLibrary(training.loss, params)
    shown = {}
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"eval_metric: expected names of metrics, got {name!r}")
        try:
            ((shown[name], _),) = of_library([name], margin, one_of_each)
        except xgb.core.XGBoostError as error:
            raise ValueError(
                f"eval_metric: expected metrics for {n_classes} classes, got {name!r}: {error}"
            ) from error
    return NamedMetrics(shown, of_library, training)


class OfAllWorkers:
    """Names and values of a metric; over several workers, means weighted by their rows' weight."""

    def __init__(self, metric: Any) -> None:
        self.metric = metric
        self.names: list[str] | None = None

    def __call__(
        self, dataset: xgb.DMatrix, margin: Any, rows: DeviceRows | None = None
    ) -> list[tuple[str, float]]:
        if isinstance(self.metric, NamedMetrics):  # these sum over all workers themselves
            return self.metric(margin, dataset)
        if not collective.is_distributed():
            return self._of_this_one(dataset, margin, rows)
        weights = dataset.get_weight()
        weight = weights.sum(dtype=np.float64) if weights.size else float(dataset.num_row())
        found = self._of_this_one(dataset, margin, rows) if weight else []
        if self.names is None:  # a worker may have no rows, and know no names
            ranks = np.array([collective.get_rank() if weight else -1])
            root = int(collective.allreduce(ranks, collective.Op.MAX)[0])
            if root < 0:
                raise ValueError("evals: no row has a weight above 0")
            self.names = collective.broadcast([name for name, _ in found], root)
        values = np.array([value for _, value in found] if weight else [0.0] * len(self.names))
        means = mean_of_all(values, weight, sum_of_all_workers)
        return list(zip(self.names, means.tolist(), strict=True))

    def _of_this_one(
        self, dataset: xgb.DMatrix, margin: Any, rows: DeviceRows | None
    ) -> list[tuple[str, float]]:
        if rows is None:
            result = self.metric(margin, dataset)
        else:
            result = _evaluated_on_gpu(self.metric, rows, dataset)
        return result if isinstance(result, list) else [result]


def _evaluated_on_gpu(metric: Any, rows: DeviceRows, dataset: xgb.DMatrix) -> Any:
    """Evaluate on the GPU; only a user's own metric needs the margins on the host."""
    if type(metric) is _XGBoostMetric:
        y, sample_weight = rows.labels_and_weights
        return metric.__name__, metric.mean(y, rows.margin, sample_weight)
    return metric(rows.host_margin(), dataset)


def add_results(evals_log: Any, dataset_name: str, results: list[list[tuple[str, float]]]) -> None:
    """Add the results of each metric to the log of a data set."""
    log = evals_log.setdefault(dataset_name, {})
    for of_metric in results:
        for name, value in of_metric:
            log.setdefault(name, []).append(value)


def check_evaluation(
    targets: Targets, eval_set: EvalSet, weights: Sequence[Any] | None, margins: Any
) -> None:
    """Check weights and margins of the evaluation sets."""
    check_at_most("sample_weight_eval_set", weights, eval_set)
    check_at_most("base_margin_eval_set", margins, eval_set)
    for weight, (_, y) in zip([] if weights is None else weights, eval_set, strict=False):
        checked_weight("sample_weight_eval_set", weight, y)
    for margin, (_, y) in zip([] if margins is None else margins, eval_set, strict=False):
        check_start("base_margin_eval_set", margin, y, targets.n_classes)


def split_metrics(eval_metric: Any) -> tuple[list[str], list[Any]]:
    """Names and callables among the metrics of a classifier."""
    if eval_metric is None:
        return [], []
    metrics = eval_metric if isinstance(eval_metric, list | tuple) else [eval_metric]
    for metric in metrics:
        if not isinstance(metric, str) and not callable(metric):
            raise TypeError(f"eval_metric: expected names and callables, got {metric!r}")
    names = [metric for metric in metrics if isinstance(metric, str)]
    callables = [metric for metric in metrics if not isinstance(metric, str)]
    their_names = [_name(metric) for metric in callables]
    if len(set(their_names)) < len(their_names):
        raise ValueError(f"eval_metric: expected callables of different names, got {their_names}")
    return names, callables


def posterior_metric(metric: Any, targets: Targets) -> Any:
    """Turn a metric of probabilities, in scikit-learn's convention, into one of margins."""
    if isinstance(metric, FocalMetric):
        return metric

    def of_margin(margin: Array, dataset: xgb.DMatrix) -> tuple[str, float]:
        y, sample_weight = labels_and_weights(dataset)
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        return _name(metric), float(metric(y, targets.loss.posterior(margin), **weights))

    return of_margin


def _name(metric: Any) -> str:
    return str(getattr(metric, "__name__", repr(metric)))
