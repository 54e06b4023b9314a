"""Training on XGBoost's native interface, by ``train`` or on workers.

If XGBoost itself makes the data sets on workers, labels have been counted by then, and nothing that
is sent to them contains data.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import xgboost as xgb
from numpy.typing import ArrayLike
from xgboost.callback import TrainingCallback

from focal_gbm._arrays import cuda_problem
from focal_gbm._autologging import log_loss_parameters
from focal_gbm._engines import checked_totals, is_any
from focal_gbm._intercept import needs_shift
from focal_gbm._training import Training
from focal_gbm._types import Array
from focal_gbm._warnings import warn, warn_of_no_split
from focal_gbm.objective import FocalObjective, check_objective, loss_for
from focal_gbm.xgboost._attributes import intercept_of, text_of_class_prior, text_of_loss
from focal_gbm.xgboost._internals import is_autologged, raise_first_trees, warn_of_places
from focal_gbm.xgboost._metrics import OfAllWorkers, add_results, take_metrics
from focal_gbm.xgboost._parameters import (
    base_score,
    checked_model,
    checked_params,
    gpu_of,
    threads_of,
    with_start,
)
from focal_gbm.xgboost._resident import CannotStayError, Features, Resident
from focal_gbm.xgboost._training import (
    Intercept,
    XGBoostTraining,
    sum_of_all_workers,
    totals_of_all_workers,
)


@warn_of_places
def train(
    params: dict[str, Any],
    dtrain: xgb.DMatrix,
    num_boost_round: int = 10,
    *,
    evals: Sequence[tuple[xgb.DMatrix, str]] | None = None,
    obj: FocalObjective | None = None,
    maximize: bool | None = None,
    early_stopping_rounds: int | None = None,
    evals_result: dict[str, dict[str, Any]] | None = None,
    verbose_eval: bool | int | None = True,
    xgb_model: str | os.PathLike[str] | xgb.Booster | bytearray | None = None,
    callbacks: Sequence[TrainingCallback] | None = None,
    custom_metric: Any = None,
    label_totals: ArrayLike | None = None,
) -> xgb.Booster:
    """``xgboost.train`` with focal loss as if it were built in.

    Everything is passed on to ``xgboost.train``. This function adds the starting margin (the
    constant that minimises the focal loss of the training labels, as ``base_score``); a final shift
    of the intercept, after which the posteriors of the training rows sum to the weight of each
    class (up to the best iteration if training stops early); an objective that makes the booster
    predict probabilities wherever it is loaded; ``alpha="balanced"`` from the training labels;
    metrics of the posterior; and the focal loss as the metric if neither ``eval_metric`` nor
    ``custom_metric`` names one.

    Parameters
    ----------
    params : dict
        As for ``xgboost.train``. ``base_score`` (a probability), if given, replaces the
        focal-optimal starting margin; so does a ``base_margin`` of ``dtrain``. ``eval_metric``
        names metrics of the posterior, not of the sigmoid that the booster predicts. With
        ``device="cuda"`` features, labels, margins and gradients stay on the GPU. This needs CuPy,
        numba-cuda and memory for the features in single precision.
    dtrain, num_boost_round, evals, maximize, early_stopping_rounds, evals_result, verbose_eval, \
xgb_model, callbacks
        As for ``xgboost.train``.
    obj : FocalObjective
        The objective. One with ``device="cpu"`` computes on the CPU wherever trees grow.
    custom_metric : callable, optional
        As for ``xgboost.train``; it gets margins, not probabilities: convert them with
        ``obj.loss.posterior(margin)``. ``focal_metric`` makes such a metric.
    label_totals : array-like of shape (n_classes,), optional
        Total weight of each class in the training rows of all workers: the sum of
        ``focal_gbm.label_totals`` over the parts of the data. It is used as given, and labels are
        not counted. Give it to all workers or to none.

    Returns
    -------
    xgboost.Booster
        ``predict`` gives the sigmoid of the margin, also in plain XGBoost after saving and loading.
        ``obj.loss.posterior(booster.predict(data, output_margin=True))`` gives the probability of
        the positive class, for an ``alpha`` that is not "balanced". The booster's attribute
        ``focal_loss``, which is saved with it, records the parameters of the loss.

    Raises
    ------
    TypeError
        If ``obj`` is not a ``FocalObjective`` or ``dtrain`` not a ``DMatrix``.
    ValueError
        For a parameter that XGBoost ignores for a custom objective (``scale_pos_weight``) or that
        contradicts the objective; for an ``xgb_model`` with another objective; for labels outside
        [0, 1]; for labels that lack a class, if a starting margin is chosen; and for
        ``label_totals`` that are not weights.

    Warns
    -----
    UserWarning
        For an ``xgb_model`` trained with another loss, because the posterior is then right only
        once the new trees outweigh the old; if no tree has a split; and if training on a GPU cannot
        stay there (DART, external memory, categories in an evaluation set, features larger than
        half the free memory, no CuPy or numba-cuda).

    Examples
    --------
    >>> import numpy as np, xgboost as xgb
    >>> from focal_gbm import FocalObjective
    >>> from focal_gbm.xgboost import train
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> dtrain = xgb.DMatrix(X, label=X[:, 0] > 1)
    >>> booster = train({"max_depth": 3}, dtrain, 20, obj=FocalObjective(gamma=2.0))
    >>> booster.predict(dtrain).max() <= 1
    np.True_
    """
    booster = train_with(
        {},
        params,
        dtrain,
        num_boost_round,
        evals=evals,
        obj=obj,
        maximize=maximize,
        early_stopping_rounds=early_stopping_rounds,
        evals_result=evals_result,
        verbose_eval=verbose_eval,
        xgb_model=xgb_model,
        callbacks=callbacks,
        custom_metric=custom_metric,
        totals=label_totals,
    )
    check_splits(booster, num_boost_round)
    return booster


class Setup(NamedTuple):
    """What training starts with, on one machine or on a cluster."""

    training: XGBoostTraining
    params: dict[str, Any]
    xgb_model: xgb.Booster | None
    intercept: Intercept


def set_up(
    objective: FocalObjective,
    params: dict[str, Any],
    totals: Array,
    xgb_model: Any,
    *,
    has_margins: bool,
    n_rounds: int | None = None,
) -> Setup:
    """Set up training and its starting margin from the total weight of each class."""
    training = XGBoostTraining(
        objective,
        len(totals),
        totals,
        n_threads=threads_of(params),
        sum_of_all=sum_of_all_workers,
    )
    if xgb_model is not None:
        xgb_model = checked_model(xgb_model, training.loss)
        if needs_shift(training.loss):
            xgb_model = before_shift(xgb_model, 1 if len(totals) == 2 else len(totals))
    elif not has_margins:
        params = with_start(params, training)
    intercept = Intercept(training, has_margins=has_margins, n_rounds=n_rounds)
    return Setup(training, params, xgb_model, intercept)


def before_shift(model: xgb.Booster, n_margins: int) -> xgb.Booster:
    """A model with its intercept from before the shift, so that training can continue."""
    intercept = intercept_of(model, n_margins)
    if intercept is None:
        return model
    name, margin = intercept
    model = model.copy()
    if name == "base_margin":
        model.set_param({"base_score": base_score(margin)})
    else:
        raise_first_trees(model, -margin)
    return model


def train_with(
    features: Features,
    params: dict[str, Any],
    dtrain: xgb.DMatrix,
    num_boost_round: int,
    *,
    evals: Sequence[tuple[xgb.DMatrix, str]] | None,
    obj: FocalObjective | None,
    xgb_model: Any,
    callbacks: Sequence[TrainingCallback] | None,
    custom_metric: Any,
    totals: ArrayLike | None = None,
    library_train: Callable[..., xgb.Booster] | None = None,
    **options: Any,
) -> xgb.Booster:
    """``train``, with the features of the data sets that are available as arrays.

    The total weight of each class is counted unless given. ``library_train`` trains, by default
    ``xgboost.train``.
    """
    objective = check_objective("obj", obj)
    if not isinstance(dtrain, xgb.DMatrix):
        raise TypeError(f"dtrain: expected a DMatrix, got {type(dtrain).__name__}")
    params, n_classes = checked_params(params)
    totals = checked_totals(totals, n_classes)
    evals = list(evals or [])
    training, params, xgb_model, intercept = set_up(
        objective,
        params,
        totals_of_all_workers(dtrain, loss_for(objective, n_classes)) if totals is None else totals,
        xgb_model,
        has_margins=is_any(dtrain.get_base_margin().size > 0, sum_of_all_workers),
        n_rounds=num_boost_round,
    )
    training.dataset = dtrain
    device = gpu_of(params, objective)
    resident = None
    if device is not None:
        datasets = [dtrain, *(dataset for dataset, _ in evals)]
        resident = intercept.resident = _resident(params, datasets, training, features, xgb_model)
        if resident is None and cuda_problem() is None:
            training.device = device
    metrics = take_metrics(
        params,
        custom_metric,
        training,
        is_evaluated=bool(evals),
        device=device if resident else None,
    )
    return (library_train or xgb.train)(
        params,
        dtrain,
        num_boost_round,
        evals=evals,
        obj=training,
        xgb_model=xgb_model,
        callbacks=[
            attributes_of(training),
            *([_Autologging(training)] if is_autologged() else []),
            Evaluation(evals, metrics, resident),
            intercept,
            *([resident] if resident else []),
            *(callbacks or []),
        ],
        **options,
    )


class _Autologging(TrainingCallback):
    """Logs gamma and alpha, which XGBoost's own parameters lack."""

    def __init__(self, training: Training) -> None:
        self.training = training

    def before_training(self, model: Any) -> Any:
        log_loss_parameters(self.training.loss)
        return model


def check_splits(booster: xgb.Booster, num_boost_round: int) -> None:
    """Warn if no tree has a split."""
    if num_boost_round > 0 and not booster.get_score():
        warn_of_no_split("min_child_weight, lambda and min_split_loss")


def _resident(
    params: dict[str, Any],
    datasets: list[xgb.DMatrix],
    training: Training,
    features: Features,
    xgb_model: xgb.Booster | None,
) -> Resident | None:
    """The callback that keeps training on the GPU, or None if it cannot stay there."""
    if not all(isinstance(dataset, xgb.DMatrix) for dataset in datasets):
        return None  # XGBoost itself refuses such data
    try:
        return Resident(params, list(dict.fromkeys(datasets)), training, features, xgb_model)
    except CannotStayError as reason:
        warn(
            f"training cannot stay on the GPU ({reason}): margins and gradients are copied "
            "through the host"
        )
        return None


class SetAttributes(TrainingCallback):
    """Gives the booster attributes before it is trained, so that checkpoints have them too."""

    def __init__(self, **attributes: str | None) -> None:
        self.attributes = attributes

    def before_training(self, model: Any) -> Any:
        model.set_attr(**self.attributes)
        return model


def attributes_of(training: Training) -> SetAttributes:
    """Sets what ``loss_of`` and ``class_prior_of`` read, and clears what a continued model had."""
    totals: Any = training.totals
    return SetAttributes(
        focal_loss=text_of_loss(training.loss),
        class_prior=text_of_class_prior(totals),
        focal_intercept=None,
        # XGBoost would keep these, and predict without the new trees.
        best_iteration=None,
        best_score=None,
    )


class Evaluation(TrainingCallback):
    """Evaluates the data sets after each iteration, before the callbacks that read the results.

    XGBoost itself would use the sigmoid instead of the posterior in its named metrics. It would
    round a custom metric to six decimals, too few for the focal loss of a rare class, and average
    it over workers regardless of their rows.
    """

    def __init__(
        self,
        evals: Sequence[tuple[xgb.DMatrix, str]],
        metrics: list[Any],
        resident: Resident | None = None,
    ) -> None:
        self.evals = evals
        self.metrics = [OfAllWorkers(metric) for metric in metrics]
        self.resident = resident

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        for dataset, dataset_name in self.evals:
            add_results(evals_log, dataset_name, self._results(model, dataset))
        return False

    def named_results(self, model: Any) -> list[tuple[str, float]]:
        """All results of an iteration, under names that include the data set."""
        return [
            (f"{dataset_name}-{name}", value)
            for dataset, dataset_name in self.evals
            for of_metric in self._results(model, dataset)
            for name, value in of_metric
        ]

    def _results(self, model: Any, dataset: xgb.DMatrix) -> list[list[tuple[str, float]]]:
        if self.resident is None or not self.resident.has_margins_of(model):
            margin = model.predict(dataset, output_margin=True)
            return [metric(dataset, margin) for metric in self.metrics]
        rows = self.resident.rows[dataset]
        with self.resident.place():
            return [metric(dataset, rows.margin, rows) for metric in self.metrics]


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
