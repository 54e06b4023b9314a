"""Training on LightGBM's native interface."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np

from focal_gbm._autologging import log_loss_parameters, warn_of_autologging
from focal_gbm._intercept import needs_shift
from focal_gbm._training import Training
from focal_gbm._types import Array
from focal_gbm._warnings import warn_of_no_split, warn_of_other_loss
from focal_gbm.lightgbm._attributes import loss_of, margins_of, to_store, with_stored
from focal_gbm.lightgbm._internals import (
    best_iterations,
    constructed,
    estimators_train,
    final_margin,
    is_autologged,
    is_constructed,
    objective_is_none,
    training_margin,
    was_continued,
    with_linear_leaves_raised,
    with_objective,
)
from focal_gbm.lightgbm._metrics import take_metrics
from focal_gbm.lightgbm._parameters import (
    as_booster,
    canonical,
    checked_model,
    early_stopping,
    is_on,
    refuse,
    refuse_machines,
    refuse_on_gpu,
    warn_of_cancelling_curvature,
)
from focal_gbm.objective import FocalObjective, check_objective, labels_and_weights


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
    minimises the focal loss of the training labels, folded into the first tree), a shift of the
    intercept in the end, after which the posteriors of the training rows sum to the weight of each
    class (not with ``keep_training_booster``), an objective that makes the booster predict
    probabilities wherever it is loaded, ``alpha="balanced"`` from the training labels, metrics of
    the posterior, and the focal loss as the metric where neither ``metric`` nor ``feval`` names
    one.

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
        As for ``lightgbm.train``; it gets margins, not probabilities: convert them by
        ``objective.loss.posterior(margin)``. ``focal_metric`` makes one.
    keep_training_booster : bool, default=False
        As for ``lightgbm.train``. Before ``Booster.update(fobj=objective)`` call
        ``Booster.reset_parameter({"objective": "none"})``, which makes the booster predict margins
        again. A file of this booster says that it is one of log loss.

    Returns
    -------
    lightgbm.Booster
        ``predict`` gives the sigmoid of the margin, and keeps doing so in plain LightGBM after any
        save and load. ``objective.loss.posterior(booster.predict(X, raw_score=True))`` gives the
        probability of the positive class, for an ``alpha`` that is not "balanced". A line among
        the parameters in the model's text, "focal_gbm", has the parameters of the loss.
        ``Booster.refit`` raises, as LightGBM knows no focal loss.

    Raises
    ------
    TypeError
        If the objective is no ``FocalObjective`` or ``train_set`` no ``Dataset``.
    ValueError
        For a parameter that LightGBM ignores for a callable objective (``scale_pos_weight``,
        ``is_unbalance``, ``pos_bagging_fraction``, ``neg_bagging_fraction``, ``sigmoid``), for
        ``boosting="rf"``, for what crashes or misleads LightGBM with one (``bagging_by_query``;
        with ``device_type="cuda"`` several GPUs, GOSS and a ``train_set`` constructed for the CPU),
        for several machines outside of ``focal_gbm.dask``, for an objective on a GPU, for an
        unknown metric, for labels outside [0, 1], and, where a
        starting margin is chosen, for labels that lack a class.

    Warns
    -----
    UserWarning
        For an ``init_model`` of another focal loss, because the posterior is then right only once
        the new trees outweigh the old, for ``use_quantized_grad``, because few bins suit the
        long-tailed focal Hessian badly, for several classes with ``hessian="exact"`` and a
        ``min_sum_hessian_in_leaf`` below 1, because curvature may cancel in a leaf, and where no
        tree has a split.

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
    if init_model is not None:
        init_model = as_booster(init_model)
    booster = train_with(
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
    before = None if init_model is None else loss_of(init_model)
    after = loss_of(booster)
    if before is not None and after is not None:
        warn_of_other_loss("init_model", before, after)
    check_splits(booster)
    if is_autologged():
        warn_of_autologging("mlflow.lightgbm.log_model(booster, name='model')")
    return booster


def train_with(
    totals: Array | None,
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
    take_rows: Callable[[Array, Array | None], None] | None = None,
    classes: Array | None = None,
) -> lgb.Booster:
    """``train``, with the total weight of each class where ``train_set`` does not have all.

    ``take_rows`` gets the margins and weights of the rows here, where other machines have rows too:
    the shift of the intercept needs all. The model tells the labels of its ``classes``, if there
    are any.
    """
    params, objective, n_classes = checked_params(params, keep_training_booster)
    model = None if init_model is None else checked_model(init_model, n_classes)
    valid_sets = [valid_sets] if isinstance(valid_sets, lgb.Dataset) else list(valid_sets or [])
    for name, dataset in (("train_set", train_set), *(("valid_sets", ds) for ds in valid_sets)):
        if not isinstance(dataset, lgb.Dataset):
            raise TypeError(f"{name}: expected a Dataset, got {type(dataset).__name__}")
    refuse_on_gpu(params, objective, train_set)
    if take_rows is None:
        refuse_machines(params)
    check_train_set(train_set, init_model)
    has_start = init_model is None and is_on(params.get("boost_from_average", True))
    threads = params.get("num_threads")
    training = LightGBMTraining(
        objective, n_classes, totals, n_threads=threads, has_start=has_start
    )
    training.keeps_margins = needs_shift(training.loss) and not keep_training_booster
    if model is not None:
        training.continue_from(model, before_shift=training.keeps_margins)
    metrics = take_metrics(params, feval, training, valid_sets)
    callbacks = [*early_stopping(params), *(callbacks or [])]
    if is_autologged():
        callbacks.insert(0, _autologging(training))
    params = {**params, "objective": training, "metric": "None"}
    if keep_training_booster and has_start:
        train_set, valid_sets = training.with_start(params, train_set, valid_sets)
    booster = estimators_train(
        params,
        train_set,
        num_boost_round,
        valid_sets=valid_sets or None,
        valid_names=valid_names,
        feval=metrics,
        init_model=init_model,
        keep_training_booster=True,
        callbacks=[_before_first_iteration, training.keep_margins(callbacks), *callbacks],
    )
    if training.keeps_margins:
        rows = training.rows_used(booster)
        if take_rows is not None:
            take_rows(*rows)
        else:
            training.shift_intercept(*rows)
    finish(booster, training, classes, keep_training_booster=keep_training_booster)
    return booster


def checked_params(
    params: dict[str, Any], keep_training_booster: bool = False
) -> tuple[dict[str, Any], FocalObjective, int]:
    """Parameters by LightGBM's main names, the objective that was among them, and the classes."""
    params = canonical(params)
    objective = check_objective("objective", params.pop("objective", None))
    refuse(params, keep_training_booster)
    n_classes = max(2, int(params.get("num_class", 1)))
    if n_classes == 2:
        params.pop("num_class", None)
    warn_of_cancelling_curvature(params, objective, n_classes)
    return params, objective, n_classes


def _autologging(training: Training) -> Callable[..., None]:
    """A callback that logs gamma and alpha, which LightGBM's own parameters lack."""

    def before_iteration(env: lgb.callback.CallbackEnv) -> None:
        if env.iteration == env.begin_iteration:
            log_loss_parameters(training.loss)

    before_iteration.before_iteration = True  # type: ignore[attr-defined]
    return before_iteration


def check_splits(booster: lgb.Booster) -> None:
    """Warn where no tree has a split."""
    if not booster.feature_importance().any():
        warn_of_no_split("min_data_in_leaf, min_sum_hessian_in_leaf and lambda_l2")


class LightGBMTraining(Training):
    """A training that starts where the loss of the training labels is least.

    LightGBM takes a starting margin from the data set only, which belongs to the user, and which
    other trainings may use at the same time. So its margins start at zero, and the starting margin
    is added wherever they are read; in the end it is folded into the first trees.
    """

    library = "lightgbm"
    keeps_margins = False  # of the training rows, for the shift of the intercept

    def __init__(self, *arguments: Any, has_start: bool, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.has_start = has_start
        # What is folded into the first trees, one for each class.
        self.folded = np.zeros(1 if self.n_classes == 2 else self.n_classes)
        # What the model tells: a training that is continued knows its start from there.
        self.first_start: Array | None = None
        self.shift_made = self.folded
        self.n_rounds = -1  # the last that is complete
        self.best_rounds: set[int] = set()
        self.margins: dict[int, Array] = {}

    def __call__(self, margin: Array, dataset: Any) -> tuple[Array, Array]:
        if self.n_rounds in self.best_rounds:
            self.margins[self.n_rounds] = margin.astype(np.float32)
        return super().__call__(margin, dataset)

    def continue_from(self, model: lgb.Booster, *, before_shift: bool) -> None:
        """Go on from the margins of a model, or from those before its shift, if it has one."""
        self.first_start = margins_of(model, "start")
        shift = margins_of(model, "shift")
        if before_shift and shift is not None:
            self.start = self.folded = -shift

    def shift_intercept(self, margin: Array, sample_weight: Array | None) -> None:
        """Make the probabilities of the training rows sum to the weights of the classes."""
        self.shift_made = self.shift(margin, sample_weight)
        self.folded = self.folded + self.shift_made

    def keep_margins(self, callbacks: list[Any]) -> Callable[..., None]:
        """A callback after which the margins of the best iterations are kept, one for each metric.

        LightGBM tells which of them is the best only once it has stopped.
        """

        def after_iteration(env: lgb.callback.CallbackEnv) -> None:
            self.n_rounds = env.iteration
            if self.keeps_margins:
                self.best_rounds = {i for callback in callbacks for i in best_iterations(callback)}
            for i in self.margins.keys() - self.best_rounds:
                del self.margins[i]

        after_iteration.order = 40  # type: ignore[attr-defined]  # early stopping has 30
        return after_iteration

    def rows_used(self, booster: lgb.Booster) -> tuple[Array, Array | None]:
        """Margins of the training rows, up to the best iteration, and their weights."""
        margin = self.margins.get(booster.best_iteration - 1)
        if margin is None:
            margin = final_margin(booster)
        weight: Any = self.dataset.get_weight()
        return self.started(margin.astype(np.float32, order="C", copy=False)), weight

    def _read(self, margin: Array, dataset: Any) -> tuple[Array, Array | None]:
        rows = super()._read(margin, dataset)
        if self.has_start and dataset.get_init_score() is None:
            self.start = self.initial_margin()
            self.first_start = self.folded = np.array(self.start, ndmin=1)
        return rows

    def with_start(
        self, params: dict[str, Any], train_set: lgb.Dataset, valid_sets: list[lgb.Dataset]
    ) -> tuple[lgb.Dataset, list[lgb.Dataset]]:
        """Copies of data sets that start at the starting margin.

        A booster that goes on training without this object must have it in its margins.
        """
        constructed(params, train_set)
        if train_set.get_init_score() is not None:
            return train_set, valid_sets
        if self.totals is None:
            self._resolve(self.loss._totals(*labels_and_weights(train_set)))
        self.first_start = self.folded = np.array(self.initial_margin(), ndmin=1)
        copies = {train_set: self._copy(train_set)}
        for dataset in valid_sets:
            if dataset not in copies:
                constructed(params, dataset.set_reference(train_set))
                copies[dataset] = self._copy(dataset)
        return copies[train_set], [copies[dataset] for dataset in valid_sets]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "margins": {}}

    def _copy(self, dataset: lgb.Dataset) -> lgb.Dataset:
        n_rows = dataset.num_data()
        copy = dataset.subset(list(range(n_rows))).construct()
        score = dataset.get_init_score()
        score = np.zeros((n_rows, self.folded.size)) if score is None else np.asarray(score)
        score = score.reshape(n_rows, -1) + self.folded
        return copy.set_init_score(score.ravel(order="F"))


def check_train_set(train_set: lgb.Dataset, init_model: Any) -> None:
    """Refuse what LightGBM would make zeros of, while it can still be seen."""
    if is_constructed(train_set):
        if init_model is None and was_continued(train_set):
            raise ValueError(
                "train_set: it has been used with init_model, and LightGBM would leave a starting "
                "margin of zero in it: make a new Dataset"
            )
        return
    y: Any = None if train_set.label is None else np.asarray(train_set.label)
    if y is not None and y.dtype.kind == "f" and np.isnan(y).any():
        raise ValueError("train_set: a label is NaN, which LightGBM takes for 0: remove its row")


def _before_first_iteration(env: lgb.callback.CallbackEnv) -> None:
    if env.iteration == env.begin_iteration:
        prepare(env.model)


_before_first_iteration.before_iteration = True  # type: ignore[attr-defined]


def prepare(booster: Any) -> None:
    """Bring the booster into a defined state before its first iteration."""
    objective_is_none(booster)
    if booster.params.get("boosting") == "dart":
        # Whether LightGBM draws trees to drop, when first asked for margins, depends on memory that
        # it does not initialise. Once asked it will not draw again, and a reset renews the seed.
        training_margin(booster)
        booster.reset_parameter({"verbosity": booster.params.get("verbosity", 1)})


def finish(
    booster: lgb.Booster,
    training: LightGBMTraining,
    classes: Array | None = None,
    *,
    keep_training_booster: bool = False,
) -> None:
    """Fold starting margins into the first trees, and let the booster predict probabilities."""
    start, n_classes = training.folded, training.n_classes
    raise_first_trees(booster, start)
    name = "binary" if n_classes == 2 else "multiclass"
    if keep_training_booster:
        booster.reset_parameter({"objective": name, "num_class": start.size})
        return
    # LightGBM does not know it, and refuses to refit to it; converters go by how it begins.
    name += "_focal_loss"
    model = booster.model_to_string()
    if start.any() and is_on(booster.params.get("linear_tree")):
        model = with_linear_leaves_raised(model, start)
    model = with_objective(model, n_classes, name)
    stored = to_store(
        training.loss, training.first_start, training.shift_made, training.totals, classes
    )
    booster.model_from_string(with_stored(model, stored)).free_dataset()
    booster.params["objective"] = name


def raise_first_trees(booster: lgb.Booster, start: Array) -> None:
    """Add to the margin of each class what its first tree says, but for linear leaves."""
    if not start.any():
        return
    first_trees = booster.dump_model(num_iteration=1)["tree_info"]
    for tree, value in enumerate(start):
        for leaf in range(first_trees[tree]["num_leaves"]):
            booster.set_leaf_output(tree, leaf, booster.get_leaf_output(tree, leaf) + value)
