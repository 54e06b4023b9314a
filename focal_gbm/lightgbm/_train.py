"""Training on LightGBM's native interface."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import lightgbm as lgb
import numpy as np
from numpy.typing import ArrayLike

from focal_gbm._types import Array
from focal_gbm.objective import (
    FocalMetric,
    FocalObjective,
    Loss,
    check_objective,
    for_training,
    labels_and_weights,
    loss_for,
    warn,
    warn_of_no_split,
)

# The parameters that matter here, by LightGBM's names and their aliases.
_ALIASES = {
    "objective": ("objective_type", "app", "application", "loss"),
    "metric": ("metrics", "metric_types"),
    "num_class": ("num_classes",),
    "boosting": ("boosting_type", "boost"),
    "data_sample_strategy": (),
    "bagging_by_query": (),
    "device_type": ("device",),
    "num_gpu": (),
    "num_machines": ("num_machine",),
    "machines": ("workers", "nodes"),
    "linear_tree": ("linear_trees",),
    "num_threads": ("num_thread", "nthread", "nthreads", "n_jobs"),
    "verbosity": ("verbose",),
    "scale_pos_weight": (),
    "is_unbalance": ("unbalance", "unbalanced_sets"),
    "pos_bagging_fraction": ("pos_sub_row", "pos_subsample", "pos_bagging"),
    "neg_bagging_fraction": ("neg_sub_row", "neg_subsample", "neg_bagging"),
}

# What LightGBM ignores next to a callable, with the value that changes nothing.
_IGNORED = {
    "scale_pos_weight": 1.0,
    "is_unbalance": 0.0,
    "pos_bagging_fraction": 1.0,
    "neg_bagging_fraction": 1.0,
    "sigmoid": 1.0,
}

# LightGBM's words for no metric.
_NO_METRIC = {"none", "null", "custom", "na"}

# Parameters that LightGBM's metrics read.
_METRIC_PARAMETERS = ("auc_mu_weights", "multi_error_top_k", "num_threads", "verbosity")

# Parameters of data that has a row or two, and still a feature to split.
_TWO_ROWS_SUFFICE = {"feature_pre_filter": False, "min_data_in_bin": 1}


def train(
    params: dict[str, Any],
    train_set: lgb.Dataset,
    num_boost_round: int = 100,
    valid_sets: list[lgb.Dataset] | None = None,
    valid_names: list[str] | None = None,
    feval: Any = None,
    init_model: str | Path | lgb.Booster | None = None,
    keep_training_booster: bool = False,
    callbacks: list[Callable[..., Any]] | None = None,
) -> lgb.Booster:
    """``lightgbm.train`` with focal loss as if it were built in.

    Everything is passed on to ``lightgbm.train``. Added are the starting margin (the constant that
    minimises the focal loss of the training labels, folded into the first tree), an objective that
    makes the booster predict probabilities wherever it is loaded, ``alpha="balanced"`` from the
    training labels, metrics of the posterior, and the focal loss as the metric where neither
    ``metric`` nor ``feval`` names one.

    Parameters
    ----------
    params : dict
        As for ``lightgbm.train``, with a ``FocalObjective`` as ``objective``. There is no starting
        margin with ``boost_from_average=False``, with an ``init_score`` in ``train_set``, and when
        ``init_model`` is continued. ``metric`` names metrics of the posterior, not of the sigmoid
        that the booster predicts.
    train_set, num_boost_round, valid_sets, valid_names, init_model, callbacks
        As for ``lightgbm.train``.
    feval : callable or list of callables, optional
        As for ``lightgbm.train``; it receives margins. ``focal_metric`` makes one.
    keep_training_booster : bool, default=False
        As for ``lightgbm.train``. Before ``Booster.update(fobj=objective)`` call
        ``Booster.reset_parameter({"objective": "none"})``, which makes the booster predict margins
        again.

    Returns
    -------
    lightgbm.Booster
        ``predict`` gives the sigmoid of the margin, and keeps doing so in plain LightGBM after any
        save and load. ``objective.loss.posterior(booster.predict(X, raw_score=True))`` gives the
        probability of the positive class, for an ``alpha`` that is not "balanced".
        ``Booster.refit`` would fit its leaves to log loss.

    Raises
    ------
    TypeError
        If the objective is no ``FocalObjective`` or ``train_set`` no ``Dataset``.
    ValueError
        For a parameter that LightGBM ignores next to a callable objective (``scale_pos_weight``,
        ``is_unbalance``, ``pos_bagging_fraction``, ``neg_bagging_fraction``, ``sigmoid``), for
        ``boosting="rf"``, for what crashes or misleads LightGBM next to one (``bagging_by_query``;
        with ``device_type="cuda"`` several GPUs, GOSS and a ``train_set`` constructed for the CPU),
        for several machines outside of ``focal_gbm.dask``, for an objective on a GPU, for an
        unknown metric, for labels outside [0, 1], and, where a
        starting margin is chosen, for labels that lack a class.

    Warns
    -----
    UserWarning
        For ``use_quantized_grad``, because few bins suit the long-tailed focal Hessian badly, and
        where no tree has a split.

    Examples
    --------
    >>> import lightgbm as lgb, numpy as np
    >>> from focal_gbm import FocalObjective
    >>> from focal_gbm.lightgbm import train
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> train_set = lgb.Dataset(X, label=X[:, 0] > 1)
    >>> booster = train({"objective": FocalObjective(gamma=2.0), "verbose": -1}, train_set, 20)
    >>> booster.predict(X).max() <= 1
    np.True_
    """
    return train_with(
        None,
        params,
        train_set,
        num_boost_round,
        valid_sets=valid_sets,
        valid_names=valid_names,
        feval=feval,
        init_model=init_model,
        keep_training_booster=keep_training_booster,
        callbacks=callbacks,
    )


def train_with(
    labels: tuple[Array, Array] | None,
    params: dict[str, Any],
    train_set: lgb.Dataset,
    num_boost_round: int,
    *,
    valid_sets: Any,
    valid_names: list[str] | None,
    feval: Any,
    init_model: Any,
    keep_training_booster: bool = False,
    callbacks: list[Callable[..., Any]] | None,
) -> lgb.Booster:
    """``train``, with labels and weights to start from where they are more than ``train_set`` has.

    Those are of all machines, on which the data sets must be constructed by ``lightgbm.train``.
    """
    params = canonical(params)
    objective = check_objective("objective", params.pop("objective", None))
    _refuse(params, keep_training_booster)
    n_classes = max(2, int(params.get("num_class", 1)))
    if n_classes == 2:
        params.pop("num_class", None)
    if init_model is not None:
        _check_model(init_model, n_classes)
    valid_sets = [valid_sets] if isinstance(valid_sets, lgb.Dataset) else list(valid_sets or [])
    for name, dataset in (("train_set", train_set), *(("valid_sets", ds) for ds in valid_sets)):
        if not isinstance(dataset, lgb.Dataset):
            raise TypeError(f"{name}: expected a Dataset, got {type(dataset).__name__}")
    _refuse_on_gpu(params, objective, train_set)
    y: Any
    sample_weight: Any
    if labels is not None:
        y, sample_weight = labels
    elif params.get("machines") or int(params.get("num_machines", 1)) > 1:
        raise ValueError(
            "num_machines: expected 1, because a callable objective sees the rows of this machine "
            "only, and LightGBM cannot count those of all: use focal_gbm.dask, "
            f"got {params.get('num_machines', params.get('machines'))!r}"
        )
    elif init_model is None:
        _construct(params, train_set, valid_sets)
        y, sample_weight = labels_and_weights(train_set)
    else:  # A data set constructed by now could not take the model's margins any more.
        y, sample_weight = _labels_before_construction(train_set, objective), train_set.weight
    objective = objective.resolve(y, sample_weight, n_classes=n_classes)
    loss = loss_for(objective, n_classes)
    margin = np.zeros(n_classes if n_classes > 2 else 1)
    starts_elsewhere = init_model is not None or _init_score(train_set) is not None
    if not starts_elsewhere and is_on(params.get("boost_from_average", True)):
        margin[:] = loss.initial_margin(y, sample_weight)
    metrics: list[Any] = [
        metric.resolve(y, sample_weight, n_classes=n_classes)
        if isinstance(metric, FocalMetric)
        else metric
        for metric in (feval if isinstance(feval, list | tuple) else [feval] if feval else [])
    ]
    if "metric" in params:
        metrics = [*_named_metrics(params, loss, n_classes), *metrics]
    elif not metrics:
        metrics = [focal_metric(objective)]
    with _init_score_raised(margin, [train_set, *valid_sets]):
        booster = lgb.train(
            {**params, "objective": for_training(objective), "metric": "None"},
            train_set,
            num_boost_round,
            valid_sets=valid_sets or None,
            valid_names=valid_names,
            feval=metrics,
            init_model=init_model,
            keep_training_booster=True,
            callbacks=[_before_first_iteration, *(callbacks or [])],
        )
    _finish(booster, margin, keep_training_booster)
    if not booster.feature_importance().any():
        warn_of_no_split("min_data_in_leaf, min_sum_hessian_in_leaf or lambda_l2")
    return booster


class _NamedMetrics:
    """LightGBM's metrics of the posterior, from a booster that has its margin and no trees.

    Next to a callable objective, LightGBM itself would take margins for probabilities.
    """

    def __init__(self, params: dict[str, Any], loss: Loss) -> None:
        self.params = params
        self.loss = loss
        # By data set, one that has its labels and weights.
        self._posteriors: WeakKeyDictionary[lgb.Dataset, lgb.Dataset] = WeakKeyDictionary()

    def __call__(self, margin: Array, dataset: lgb.Dataset) -> list[tuple[str, float, bool]]:
        posterior = self._posteriors.get(dataset)
        if posterior is None:
            y, sample_weight = labels_and_weights(dataset)
            # A feature of two values, because LightGBM warns of data that it could not split.
            feature = np.arange(len(margin), dtype=np.float32)[:, None] % 2
            params = {**_TWO_ROWS_SUFFICE, "verbosity": -1}
            posterior = lgb.Dataset(feature, label=y, weight=sample_weight, params=params)
            self._posteriors[dataset] = posterior.construct()
        posterior.set_init_score(self.loss.posterior_margin(margin).ravel(order="F"))
        results = lgb.Booster({**self.params, "verbosity": -1}, posterior).eval_train()
        self._restore_verbosity()
        return [(name, float(value), larger) for _, name, value, larger, *_ in results]

    def _restore_verbosity(self) -> None:
        """Let LightGBM talk again: the level is global, and any construction sets it."""
        params = {**_TWO_ROWS_SUFFICE, "verbosity": self.params.get("verbosity", 1)}
        lgb.Dataset(np.arange(2.0)[:, None], params=params).construct()


def _named_metrics(params: dict[str, Any], loss: Loss, n_classes: int) -> list[_NamedMetrics]:
    """One metric for all that ``params`` name, if they name any, once each is known to be one."""
    names = [name for name in metric_names(params["metric"]) if name.lower() not in _NO_METRIC]
    given = {name: params[name] for name in _METRIC_PARAMETERS if name in params}
    given["objective"] = "binary" if n_classes == 2 else "multiclass"
    given["force_col_wise"] = True  # spares a copy of the data by row, and a choice by timing
    if n_classes > 2:
        given["num_class"] = n_classes
    margin = np.zeros(2 if n_classes == 2 else (n_classes, n_classes))
    classes = np.arange(n_classes)
    one_of_each = lgb.Dataset(classes[:, None], label=classes, params={"verbosity": -1}).construct()
    for name in names:
        try:
            values = _NamedMetrics({**given, "metric": name}, loss)(margin, one_of_each)
        except lgb.basic.LightGBMError as error:
            raise ValueError(
                f"metric: expected metrics for {n_classes} classes, got {name!r}: {error}"
            ) from error
        if not values:  # LightGBM leaves out what it does not know
            raise ValueError(f"metric: expected names of LightGBM's metrics, got {name!r}")
    return [_NamedMetrics({**given, "metric": names}, loss)] if names else []


def metric_names(metric: Any) -> list[str]:
    """Names of metrics, of which LightGBM takes several in one, separated by commas."""
    names = [metric] if isinstance(metric, str) else [str(name) for name in metric or [] if name]
    return [name.strip() for name in ",".join(names).split(",") if name.strip()]


class _LightGBMMetric(FocalMetric):
    def __call__(
        self, y_true: ArrayLike, y_pred: Any, sample_weight: ArrayLike | None = None
    ) -> tuple[str, float, bool]:
        return self.__name__, self.mean(y_true, y_pred, sample_weight), False


def focal_metric(objective: FocalObjective) -> FocalMetric:
    """Weighted mean focal loss as an evaluation metric for LightGBM; smaller is better.

    Parameters
    ----------
    objective : FocalObjective
        Gamma and alpha of the loss. ``alpha="balanced"`` is replaced by the value for the training
        labels by ``focal_gbm.lightgbm.train``, and refused elsewhere.

    Returns
    -------
    callable
        For ``feval`` of ``train`` (of this module or of LightGBM) and ``eval_metric`` of
        ``LGBMClassifier``; it takes margins, which is what these give it next to a custom
        objective.

    Raises
    ------
    TypeError
        If ``objective`` is no ``FocalObjective``.

    Examples
    --------
    >>> import numpy as np
    >>> from focal_gbm import FocalObjective
    >>> name, value, larger_is_better = focal_metric(FocalObjective())([0, 1], np.zeros(2))
    >>> name, round(value, 4), larger_is_better
    ('focal_loss', 0.1733, False)
    """
    return _LightGBMMetric(check_objective("objective", objective))


def canonical(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters that are given, under LightGBM's main names, which win over aliases."""
    params = {name: value for name, value in params.items() if value is not None}
    for name, aliases in _ALIASES.items():
        values = [params.pop(alias) for alias in (name, *aliases) if alias in params]
        if values and not _is_empty(values[0]):
            params[name] = values[0]
    return params


def _is_empty(value: Any) -> bool:
    return isinstance(value, str | list | tuple) and not value


def is_on(value: Any) -> bool:
    """Whether a switch is on; LightGBM takes words and signs too."""
    return str(value).lower() in ("true", "+", "1", "1.0")


def _refuse(params: dict[str, Any], keep_training_booster: bool) -> None:
    """Raise for what LightGBM ignores, or gets wrong, next to a callable objective."""
    for name, neutral in _IGNORED.items():
        value = params.get(name, neutral)
        number = float(is_on(value)) if name == "is_unbalance" else float(value)
        if number != neutral:
            raise ValueError(
                f"{name}: expected none in params, because LightGBM ignores it next to a "
                "callable objective: weight the classes by alpha (focal_alpha) instead, "
                f"got {value!r}"
            )
    if str(params.get("boosting")).lower() in ("rf", "random_forest"):
        raise ValueError(
            "boosting: expected 'gbdt' or 'dart', because LightGBM's random forest takes no "
            f"callable objective, got {params['boosting']!r}"
        )
    if is_on(params.get("bagging_by_query")):
        raise ValueError(
            "bagging_by_query: expected False, because LightGBM draws no queries for a callable "
            "objective, and trains on the first row alone, got True"
        )
    if keep_training_booster and is_on(params.get("linear_tree")):
        raise ValueError(
            "keep_training_booster: expected False with linear_tree, because a starting margin can "
            "be folded into linear leaves only when the booster is reloaded, got True"
        )
    if is_on(params.get("use_quantized_grad")):
        warn("use_quantized_grad: few bins suit the long-tailed focal Hessian badly")


def _refuse_on_gpu(
    params: dict[str, Any], objective: FocalObjective, train_set: lgb.Dataset
) -> None:
    """Raise for what crashes LightGBM, or fails late, next to gradients from the host."""
    if objective.device not in (None, "cpu"):
        raise ValueError(
            "device: expected an objective on the CPU, because LightGBM takes gradients from the "
            f"host whatever its device_type, got {objective.device!r}"
        )
    if str(params.get("device_type")).lower() != "cuda":
        return
    n_gpus = int(params.get("num_gpu", 1))
    if n_gpus > 1:
        raise ValueError(
            "num_gpu: expected 1 with device_type='cuda', because on several GPUs LightGBM ends "
            f"the process where the objective is a callable, got {n_gpus}"
        )
    for name in ("data_sample_strategy", "boosting"):
        if str(params.get(name)).lower() == "goss":
            raise ValueError(
                f"{name}: expected no 'goss' with device_type='cuda', because LightGBM fails there "
                "once it begins to sample, got 'goss'"
            )
    is_for_cpu = str(canonical(train_set.params or {}).get("device_type")).lower() != "cuda"
    if train_set._handle is not None and is_for_cpu:
        raise ValueError(
            "train_set: expected a Dataset that is not constructed yet, or for device_type='cuda', "
            "because LightGBM looks for its features on the GPU, got one constructed for the CPU"
        )


def _labels_before_construction(train_set: lgb.Dataset, objective: FocalObjective) -> Any:
    y: Any = train_set.label
    if y is None and objective.alpha == "balanced":
        raise ValueError(
            "train_set: expected labels in an array next to init_model and alpha='balanced', got "
            "none before it is constructed: give alpha a value instead"
        )
    return np.ravel(y) if np.ndim(y) == 2 else y


def _check_model(model: Any, n_classes: int) -> None:
    booster = model if isinstance(model, lgb.Booster) else lgb.Booster(model_file=model)
    expected = 1 if n_classes == 2 else n_classes
    if booster.num_model_per_iteration() != expected:
        raise ValueError(
            f"init_model: expected a model of {expected} trees per iteration, "
            f"got {booster.num_model_per_iteration()}"
        )


def _construct(
    params: dict[str, Any], train_set: lgb.Dataset, valid_sets: list[lgb.Dataset]
) -> None:
    """Construct the data sets as ``lightgbm.train`` would, to know their labels and lengths."""
    params = {**params, "objective": "none", "metric": "None"}
    for dataset in (train_set, *(ds for ds in valid_sets if ds is not train_set)):
        try:
            dataset._update_params(params)
            if dataset is train_set:
                dataset._set_predictor(None)
            else:
                dataset.set_reference(train_set)
            dataset.construct()
        finally:
            dataset._reverse_update_params()  # which does nothing once it is constructed


@contextmanager
def _init_score_raised(margin: Array, datasets: list[lgb.Dataset]) -> Iterator[None]:
    """Add starting margins, one per class, to the scores of data sets, and take them away again."""
    before: dict[lgb.Dataset, Any] = {ds: _init_score(ds) for ds in datasets if margin.any()}
    try:
        for dataset, score in before.items():
            shape = (_n_rows(dataset), margin.size)
            raised = np.zeros(shape) if score is None else np.reshape(score, shape, order="F")
            dataset.set_init_score((raised + margin).ravel(order="F"))
        yield
    finally:
        for dataset, score in before.items():
            if dataset._handle is not None:
                dataset.set_field("init_score", score)
            dataset.init_score = score


def _init_score(dataset: lgb.Dataset) -> Any:
    return dataset.init_score if dataset._handle is None else dataset.get_init_score()


def _n_rows(dataset: lgb.Dataset) -> int:
    """Data sets of several machines are constructed by ``lightgbm.train`` only."""
    return np.size(dataset.label) if dataset._handle is None else dataset.num_data()  # type: ignore[arg-type]


def _before_first_iteration(env: lgb.callback.CallbackEnv) -> None:
    """Bring the booster into a defined state."""
    booster: Any = env.model
    if env.iteration != env.begin_iteration:
        return
    # In its first iteration LightGBM would set the objective to "none", where it is so, and fail on
    # data without a feature to split, of which built-in losses make a constant.
    booster._Booster__set_objective_to_none = True
    if booster.params.get("boosting") == "dart":
        # Whether LightGBM draws trees to drop, when first asked for margins, depends on memory that
        # it does not initialise. Once asked it will not draw again, and a reset renews the seed.
        booster._Booster__inner_predict(data_idx=0)
        booster.reset_parameter({"verbosity": booster.params.get("verbosity", 1)})


_before_first_iteration.before_iteration = True  # type: ignore[attr-defined]


def _finish(booster: lgb.Booster, margin: Array, keep_training_booster: bool) -> None:
    """Fold starting margins into the first trees, and let the booster predict probabilities."""
    first_trees = booster.dump_model(num_iteration=1)["tree_info"]
    for tree, start in enumerate(margin):
        for leaf in range(first_trees[tree]["num_leaves"]):
            booster.set_leaf_output(tree, leaf, booster.get_leaf_output(tree, leaf) + start)
    name = "binary" if margin.size == 1 else "multiclass"
    if keep_training_booster:
        booster.reset_parameter({"objective": name, "num_class": margin.size})
        return
    details = "sigmoid:1" if margin.size == 1 else f"num_class:{margin.size}"
    model = _raise_linear_leaves(booster.model_to_string(), margin)
    model = re.sub(
        "^max_feature_idx=.*$", rf"\g<0>\nobjective={name} {details}", model, count=1, flags=re.M
    )
    model = model.replace("\n[objective: custom]\n", f"\n[objective: {name}]\n")
    booster.model_from_string(model).free_dataset()
    booster.params["objective"] = name  # which converters of models read


def _raise_linear_leaves(model: str, margin: Array) -> str:
    """Add to the constants of the first trees' linear leaves, which set_leaf_output leaves out."""
    starts = iter(margin.tolist())

    def raised(line: re.Match[str]) -> str:
        start = next(starts)
        return "leaf_const=" + " ".join(repr(float(const) + start) for const in line[1].split())

    pattern = re.compile(r"^leaf_const=(.*)$", re.MULTILINE)
    model, n_linear = pattern.subn(raised, model, count=margin.size)
    # The sizes of the trees' texts only speed up loading; now they are wrong.
    return re.sub(r"^tree_sizes=.*\n", "", model, flags=re.MULTILINE) if n_linear else model
