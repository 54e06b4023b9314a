"""What is sent to XGBoost's workers if XGBoost itself makes the data sets there.

Labels have been counted by then. Nothing that is sent contains data.
"""

from collections.abc import Sequence
from typing import Any

import xgboost as xgb
from xgboost.callback import TrainingCallback

from focal_gbm._types import Array
from focal_gbm.objective import FocalObjective
from focal_gbm.xgboost._metrics import OfAllWorkers, add_results, take_metrics
from focal_gbm.xgboost._train import attributes_of, set_up


def sent_to_workers(
    objective: FocalObjective,
    params: dict[str, Any],
    totals: Array,
    xgb_model: Any,
    *,
    has_margins: bool,
    n_rounds: int,
    evals: Sequence[str],
    custom_metric: Any,
    callbacks: Sequence[TrainingCallback] | None,
    n_threads: int | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters of the booster, and the other arguments of ``xgboost.train`` on every worker.

    ``totals`` is the total weight of each class in the training rows of all workers, ``evals`` has
    the names of the evaluation sets in their order, and ``n_threads`` is the number of threads of a
    worker, used if neither the objective nor the parameters give one.
    """
    training, params, xgb_model, intercept = set_up(
        objective, params, totals, xgb_model, has_margins=has_margins, n_rounds=n_rounds
    )
    training.booster_threads = training.booster_threads or n_threads
    metrics = take_metrics(params, custom_metric, training, is_evaluated=bool(evals))
    evaluation = EvaluationOnWorkers(evals, metrics)
    return params, {
        "obj": training,
        "xgb_model": xgb_model,
        # They are pickled together with the objective, so they share one on the worker too.
        "callbacks": [attributes_of(training), evaluation, intercept, *(callbacks or [])],
        "custom_metric": evaluation,
    }


class EvaluationOnWorkers(TrainingCallback):
    """Evaluates data sets that XGBoost makes on the workers.

    It is both a metric, which gets data sets and margins but returns no value of its own, and a
    callback, which can add to the results.
    """

    def __init__(self, names: Sequence[str], metrics: Sequence[Any]) -> None:
        self.names = list(names)
        self.metrics = [OfAllWorkers(metric) for metric in metrics]
        self.results: list[list[list[tuple[str, float]]]] = []

    def __call__(self, margin: Array, dataset: xgb.DMatrix) -> list[tuple[str, float]]:
        self.results.append([metric(dataset, margin) for metric in self.metrics])
        return []

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        for name, results in zip(self.names, self.results, strict=True):
            add_results(evals_log, name, results)
        self.results.clear()
        return False
