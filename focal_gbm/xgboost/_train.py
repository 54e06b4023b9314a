"""Training on XGBoost's native interface."""

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import xgboost as xgb
from numpy.typing import ArrayLike
from xgboost import collective
from xgboost.callback import TrainingCallback

from focal_gbm._arrays import cuda_problem
from focal_gbm._types import Array
from focal_gbm._validation import is_cuda
from focal_gbm.losses import SoftmaxFocalLoss
from focal_gbm.objective import (
    FocalMetric,
    FocalObjective,
    Loss,
    check_objective,
    for_training,
    is_dataset,
    labels_and_weights,
    loss_for,
    warn,
    warn_of_no_split,
    warn_of_other_loss,
)
from focal_gbm.xgboost._resident import CannotStayError, Features, Resident, Rows


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
) -> xgb.Booster:
    """``xgboost.train`` with focal loss as if it were built in.

    Everything is passed on to ``xgboost.train``. Added are the starting margin (the constant that
    minimises the focal loss of the training labels, as ``base_score``), an objective that makes the
    booster predict probabilities wherever it is loaded, ``alpha="balanced"`` from the training
    labels, metrics of the posterior, and the focal loss as the metric where neither
    ``eval_metric`` nor ``custom_metric`` names one.

    Parameters
    ----------
    params : dict
        As for ``xgboost.train``. ``base_score`` (a probability), if given, replaces the
        focal-optimal starting margin; so does a ``base_margin`` of ``dtrain``. ``eval_metric``
        names metrics of the posterior, not of the sigmoid that the booster predicts. With
        ``device="cuda"`` features, labels, margins and gradients stay on the GPU, for which CuPy
        and numba-cuda are needed, and memory for the features in single precision.
    dtrain, num_boost_round, evals, maximize, early_stopping_rounds, evals_result, verbose_eval, \
xgb_model, callbacks
        As for ``xgboost.train``.
    obj : FocalObjective
        The objective. One with ``device="cpu"`` computes on the CPU wherever trees grow.
    custom_metric : callable, optional
        As for ``xgboost.train``; it receives margins. ``focal_metric`` makes one.

    Returns
    -------
    xgboost.Booster
        ``predict`` gives the sigmoid of the margin, and keeps doing so in plain XGBoost after any
        save and load. ``obj.loss.posterior(booster.predict(data, output_margin=True))`` gives the
        probability of the positive class, for an ``alpha`` that is not "balanced". The attribute
        ``focal_loss`` of the booster, which its files keep, has the parameters of the loss.

    Raises
    ------
    TypeError
        If ``obj`` is no ``FocalObjective`` or ``dtrain`` no ``DMatrix``.
    ValueError
        For a parameter that XGBoost ignores next to a custom objective (``scale_pos_weight``) or
        that contradicts the objective, for an ``xgb_model`` of another objective, for labels
        outside [0, 1], and, where a starting margin is chosen, for labels that lack a class.

    Warns
    -----
    UserWarning
        For an ``xgb_model`` of another loss, because the posterior is then right only once the new
        trees outweigh the old, where no tree has a split, and where a training on a GPU cannot stay
        there (DART, external memory, categories in an evaluation set, features larger than half
        the free memory, no CuPy or numba-cuda).

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
    return train_with(
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
    )


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
    **options: Any,
) -> xgb.Booster:
    """``train``, with the features of data sets where they are at hand."""
    objective = check_objective("obj", obj)
    if not isinstance(dtrain, xgb.DMatrix):
        raise TypeError(f"dtrain: expected a DMatrix, got {type(dtrain).__name__}")
    params, n_classes = checked_params(params)
    evals = list(evals or [])
    y, sample_weight = _labels_of_all_workers(dtrain, loss_for(objective, n_classes))
    objective = objective.resolve(y, sample_weight, n_classes=n_classes)
    loss = loss_for(objective, n_classes)
    if xgb_model is not None:
        xgb_model = checked_model(xgb_model, loss, n_classes)
    elif not _is_any(dtrain.get_base_margin().size):
        set_base_score(params, loss, y, sample_weight)
    device = _device(params, objective)
    resident = None
    if device is not None:
        datasets = [dtrain, *(dataset for dataset, _ in evals)]
        resident = _resident(params, datasets, loss, features, xgb_model)
        if resident is None and cuda_problem() is None:
            objective = dataclasses.replace(objective, device=device)
    if isinstance(custom_metric, FocalMetric):
        custom_metric = custom_metric.resolve(y, sample_weight, n_classes=n_classes)
    metrics = take_metrics(params, custom_metric, objective, n_classes, resident is not None)
    booster = xgb.train(
        params,
        dtrain,
        num_boost_round,
        evals=evals,
        obj=ForWorkers(objective, n_classes),
        xgb_model=xgb_model,
        callbacks=[
            attributes_of(objective),
            *([resident] if resident else []),
            _Evaluation(evals, metrics, resident),
            *(callbacks or []),
        ],
        **options,
    )
    if num_boost_round > 0 and not booster.get_score():
        warn_of_no_split("min_child_weight, lambda or min_split_loss")
    return booster


def _labels_of_all_workers(dtrain: xgb.DMatrix, loss: Loss) -> tuple[Array, Array | None]:
    """Labels and weights; where workers train together, one of each class, with its total weight.

    Each worker has some of the rows, and must start where the others do.
    """
    if not collective.is_distributed():
        return labels_and_weights(dtrain)
    none = np.zeros(0), None
    totals = loss._totals(*(labels_and_weights(dtrain) if dtrain.num_row() else none))
    return np.arange(totals.size), collective.allreduce(totals, collective.Op.SUM)


def _is_any(value: Any) -> bool:
    """Whether it is so on any worker."""
    if not collective.is_distributed():
        return bool(value)
    return bool(collective.allreduce(np.array([float(bool(value))]), collective.Op.MAX)[0])


class ForWorkers:
    """An objective for a training, where one of several workers may have no rows to train on."""

    def __init__(self, objective: FocalObjective, n_classes: int) -> None:
        self.objective = for_training(objective)
        self.nothing = np.zeros((0,) if n_classes == 2 else (0, n_classes), np.float32)

    def __call__(self, margin: Array, dataset: xgb.DMatrix) -> tuple[Array, Array]:
        if not dataset.num_row():
            return self.nothing, self.nothing
        return self.objective(margin, dataset)


def take_metrics(
    params: dict[str, Any],
    custom_metric: Any,
    objective: FocalObjective,
    n_classes: int,
    is_resident: bool = False,
) -> list[Any]:
    """What the data sets are evaluated by, taken over from XGBoost."""
    metrics: list[Any] = []
    if "eval_metric" in params:
        names = params.pop("eval_metric")
        shared = {"nthread": params.get("nthread", params.get("n_jobs"))}
        if is_resident:
            shared["device"] = params["device"]
        metrics.append(_named_metrics(names, loss_for(objective, n_classes), n_classes, shared))
    if custom_metric is not None:
        metrics.append(custom_metric)
    if not metrics and not params.get("disable_default_eval_metric"):
        metrics.append(focal_metric(objective))
    params["disable_default_eval_metric"] = True
    return metrics


def _device(params: dict[str, Any], objective: FocalObjective) -> str | None:
    """The GPU that XGBoost trains on and the objective may compute on, None if there is none."""
    device = str(params.get("device", "cpu")).replace("gpu", "cuda")  # XGBoost's other name
    if not is_cuda(device) or objective.device == "cpu":
        return None
    if objective.device not in (None, "cuda", device):
        raise ValueError(
            f"device: expected an objective on the GPU of the trees, {device!r}, "
            f"got {objective.device!r}"
        )
    return device


def _resident(
    params: dict[str, Any],
    datasets: list[xgb.DMatrix],
    loss: Loss,
    features: Features,
    xgb_model: xgb.Booster | None,
) -> Resident | None:
    """What keeps a training on the GPU there, if it can stay."""
    if not all(isinstance(dataset, xgb.DMatrix) for dataset in datasets):
        return None  # XGBoost refuses it
    try:
        return Resident(params, list(dict.fromkeys(datasets)), loss, features, xgb_model)
    except CannotStayError as reason:
        warn(
            f"device: expected a training that can stay on the GPU, got {reason}; margins or "
            "gradients go by way of the host"
        )
        return None


def loss_of(booster: xgb.Booster, n_classes: int) -> Loss | None:
    """The loss of a booster that has been trained here, None if it does not tell."""
    parameters = booster.attr("focal_loss")
    if parameters is None:
        return None
    return loss_for(FocalObjective(**json.loads(parameters)), n_classes)


def library_objective(n_classes: int) -> str:
    """The objective that makes XGBoost predict probabilities."""
    return "binary:logistic" if n_classes == 2 else "multi:softprob"


def set_base_score(
    params: dict[str, Any], loss: Loss, y: ArrayLike, sample_weight: ArrayLike | None
) -> None:
    """Start at the optimum of these labels, unless a start is given.

    XGBoost wants a probability, or a list of margins.
    """
    if "base_score" not in params:
        margin: Any = loss.initial_margin(y, sample_weight)
        is_binary = isinstance(margin, float)
        params["base_score"] = 1 / (1 + math.exp(-margin)) if is_binary else margin.tolist()


class SetAttributes(TrainingCallback):
    """Gives the booster attributes before it is trained, so that checkpoints have them too."""

    def __init__(self, **attributes: str) -> None:
        self.attributes = attributes

    def before_training(self, model: Any) -> Any:
        model.set_attr(**self.attributes)
        return model


def attributes_of(objective: FocalObjective) -> SetAttributes:
    """The parameters of the loss, which ``loss_of`` finds again."""
    parameters = {name: getattr(objective, name) for name in ("gamma", "alpha", "hessian")}
    return SetAttributes(focal_loss=json.dumps(parameters))


class _Evaluation(TrainingCallback):
    """Evaluates the data sets after each iteration, before the callbacks that read the results.

    XGBoost itself would take the sigmoid for the posterior in the metrics it knows by name, keep
    six decimals of a custom one, too few for the focal loss of a rare class, and take its mean over
    workers whatever these have.
    """

    def __init__(
        self,
        evals: Sequence[tuple[xgb.DMatrix, str]],
        metrics: list[Any],
        resident: Resident | None,
    ) -> None:
        self.evals = evals
        self.metrics = [OfAllWorkers(metric) for metric in metrics]
        self.resident = resident

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        for dataset, dataset_name in self.evals:
            add_results(evals_log, dataset_name, self._results(model, dataset))
        return False

    def _results(self, model: Any, dataset: xgb.DMatrix) -> list[list[tuple[str, float]]]:
        if self.resident is None or not self.resident.has_margins_of(model):
            margin = model.predict(dataset, output_margin=True)
            return [metric(dataset, margin) for metric in self.metrics]
        rows = self.resident.rows[dataset]
        with self.resident.place():
            return [metric(dataset, rows.margin, rows) for metric in self.metrics]


def add_results(evals_log: Any, dataset_name: str, results: list[list[tuple[str, float]]]) -> None:
    """Add the results of each metric to what is known of a data set."""
    log = evals_log.setdefault(dataset_name, {})
    for of_metric in results:
        for name, value in of_metric:
            log.setdefault(name, []).append(value)


class OfAllWorkers:
    """Names and values of a metric: of several workers, the mean by the weight of their rows."""

    def __init__(self, metric: Any) -> None:
        self.metric = metric
        self.names: list[str] | None = None

    def __call__(
        self, dataset: xgb.DMatrix, margin: Any, rows: Rows | None = None
    ) -> list[tuple[str, float]]:
        if isinstance(self.metric, NamedMetrics):  # XGBoost's own, which know of all workers
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
                raise ValueError("evals: expected rows with a weight above 0, got none")
            self.names = collective.broadcast([name for name, _ in found], root)
        values = np.array([value for _, value in found] if weight else [0.0] * len(self.names))
        sums = collective.allreduce(np.append(values * weight, weight), collective.Op.SUM)
        return list(zip(self.names, (sums[:-1] / sums[-1]).tolist(), strict=True))

    def _of_this_one(
        self, dataset: xgb.DMatrix, margin: Any, rows: Rows | None
    ) -> list[tuple[str, float]]:
        if rows is None:
            result = self.metric(margin, dataset)
        else:
            result = _evaluated_on_gpu(self.metric, rows, dataset)
        return result if isinstance(result, list) else [result]


def _evaluated_on_gpu(metric: Any, rows: Rows, dataset: xgb.DMatrix) -> Any:
    """Only a user's own metric needs the margins on the host."""
    if type(metric) is _XGBoostMetric:
        y, sample_weight = rows.labels_and_weights
        return metric.__name__, metric.mean(y, rows.margin, sample_weight)
    return metric(rows.host_margin(), dataset)


class NamedMetrics:
    """XGBoost's metrics of the posterior, from a booster that has its margin and no trees."""

    def __init__(
        self, names: list[str], loss: Loss, n_classes: int, params: dict[str, Any]
    ) -> None:
        self._arguments = names, loss, n_classes, params
        self.loss = loss
        self.params: dict[str, Any] = {
            "objective": library_objective(n_classes),
            "eval_metric": names,
            **params,
        }
        if n_classes > 2:
            self.params["num_class"] = n_classes
        # By data set, one without features that has its labels and weights.
        self._posteriors: WeakKeyDictionary[xgb.DMatrix, xgb.DMatrix] = WeakKeyDictionary()

    def __reduce__(self) -> Any:
        return type(self), self._arguments

    def __call__(self, margin: Array, dataset: xgb.DMatrix) -> list[tuple[str, float]]:
        posterior = self._posteriors.get(dataset)
        if posterior is None:
            is_empty = not dataset.num_row()  # as on a machine that has none of an evaluation set
            y, sample_weight = (None, None) if is_empty else labels_and_weights(dataset)
            missing = np.full((len(margin), 1), np.nan, np.float32)
            n_threads = self.params["nthread"]
            posterior = xgb.DMatrix(missing, label=y, weight=sample_weight, nthread=n_threads)
            self._posteriors[dataset] = posterior
        if isinstance(self.loss, SoftmaxFocalLoss):  # XGBoost has a vector for no rows
            margin = margin.reshape(len(margin), self.loss.n_classes)
        posterior.set_base_margin(self.loss.posterior_margin(margin))
        evaluated = xgb.Booster(self.params, cache=[posterior]).eval(posterior, "")
        # "[0]", then a name and a value for each metric, separated by tabs: "-error@0.3:0.25".
        values = [value.removeprefix("-").rsplit(":", 1) for value in evaluated.split("\t")[1:]]
        return [(name, float(value)) for name, value in values]


def _named_metrics(
    metrics: Any, loss: Loss, n_classes: int, params: dict[str, Any]
) -> NamedMetrics:
    """One metric for all that are named, each tried on a row of every class before."""
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    margin = np.zeros(2 if n_classes == 2 else (n_classes, n_classes))
    one_of_each = xgb.DMatrix(np.zeros((n_classes, 1)), label=np.arange(n_classes))
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"eval_metric: expected names of metrics, got {name!r}")
        try:
            NamedMetrics([name], loss, n_classes, params)(margin, one_of_each)
        except xgb.core.XGBoostError as error:
            raise ValueError(
                f"eval_metric: expected metrics for {n_classes} classes, got {name!r}: {error}"
            ) from error
    return NamedMetrics(names, loss, n_classes, params)


class _XGBoostMetric(FocalMetric):
    def __call__(
        self, y_true: ArrayLike, y_pred: Any, sample_weight: ArrayLike | None = None
    ) -> Any:
        value = self.mean(y_true, y_pred, sample_weight)
        return (self.__name__, value) if is_dataset(y_pred) else value


def focal_metric(objective: FocalObjective) -> FocalMetric:
    """Weighted mean focal loss as an evaluation metric for XGBoost; smaller is better.

    Parameters
    ----------
    objective : FocalObjective
        Gamma and alpha of the loss. ``alpha="balanced"`` is replaced by the value for the training
        labels by ``focal_gbm.xgboost.train``, and refused elsewhere.

    Returns
    -------
    callable
        For ``custom_metric`` of ``train`` (of this module or of XGBoost) and ``eval_metric`` of
        ``XGBClassifier``; it takes margins, which is what these give it next to a custom
        objective. ``xgboost.train`` keeps six decimals of its value, too few for a very rare
        class; ``focal_gbm.xgboost.train`` keeps all.

    Raises
    ------
    TypeError
        If ``objective`` is no ``FocalObjective``.

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


def checked_params(params: Any) -> tuple[dict[str, Any], int]:
    """Parameters for XGBoost, once those that it would ignore are refused, and the classes."""
    params = _given(params)
    n_classes = max(2, int(params.get("num_class", 2)))
    _refuse(params, n_classes)
    if n_classes == 2:
        params.pop("num_class", None)
    params["objective"] = library_objective(n_classes)
    return params, n_classes


def _given(params: dict[str, Any] | list[tuple[str, Any]]) -> dict[str, Any]:
    """The parameters that are given, from a dictionary or from pairs, which may repeat a metric."""
    pairs = list(params.items() if isinstance(params, dict) else params)
    given = {name: value for name, value in pairs if value is not None}
    metrics = [value for name, value in pairs if name == "eval_metric" and value is not None]
    if len(metrics) > 1:
        given["eval_metric"] = metrics
    elif given.get("eval_metric") in ([], ()):
        del given["eval_metric"]
    return given


def as_booster(model: Any) -> xgb.Booster:
    """A booster as it is, or from its file."""
    return model if isinstance(model, xgb.Booster) else xgb.Booster(model_file=model)


def checked_model(model: Any, loss: Loss, n_classes: int) -> xgb.Booster:
    """Refuse a model whose margins XGBoost would shift, warn of one of another loss."""
    booster = as_booster(model)
    objective = library_objective(n_classes)
    found = json.loads(booster.save_config())["learner"]["objective"]["name"]
    if found != objective:
        raise ValueError(
            f"xgb_model: expected a model of objective {objective!r}, because XGBoost would read "
            f"its base_score anew, got {found!r}"
        )
    warn_of_other_loss("xgb_model", loss_of(booster, n_classes), loss)
    return booster


def _refuse(params: dict[str, Any], n_classes: int) -> None:
    """Raise for parameters that XGBoost ignores next to a custom objective, or that contradict."""
    expected = library_objective(n_classes)
    if params.get("objective") not in (None, expected):
        raise ValueError(
            f"objective: expected none or {expected!r} in params for {n_classes} classes, "
            f"the focal loss is given by obj, got {params['objective']!r}"
        )
    if float(params.get("scale_pos_weight", 1)) != 1:
        raise ValueError(
            "scale_pos_weight: expected none in params, because XGBoost ignores it next to a "
            "custom objective: weight the classes by alpha (focal_alpha) instead, "
            f"got {params['scale_pos_weight']!r}"
        )
