"""Training on LightGBM's native interface."""

import copy
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

import lightgbm as lgb
import numpy as np
from numpy.typing import ArrayLike

from focal_gbm._autologging import log_loss_parameters, warn_of_autologging
from focal_gbm._engines import checked_totals, together
from focal_gbm._intercept import needs_shift
from focal_gbm._types import Array
from focal_gbm._validation import number_in
from focal_gbm._warnings import warn_of_no_split, warn_of_other_loss
from focal_gbm.lightgbm._attributes import loss_of, with_stored
from focal_gbm.lightgbm._internals import (
    estimators_train,
    is_autologged,
    is_constructed,
    is_dart,
    objective_is_none,
    set_globals,
    training_data_name,
    training_margin,
    was_continued,
    with_linear_leaves_raised,
    with_objective,
)
from focal_gbm.lightgbm._metrics import OfAllMachines, take_metrics
from focal_gbm.lightgbm._network import Network
from focal_gbm.lightgbm._parameters import (
    as_booster,
    canonical,
    checked_model,
    early_stopping,
    is_on,
    refuse,
    refuse_for_machines,
    refuse_on_gpu,
    threads_of,
    warn_of_cancelling_curvature,
)
from focal_gbm.lightgbm._training import LightGBMTraining
from focal_gbm.objective import FocalObjective, check_objective


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
    *,
    label_totals: ArrayLike | None = None,
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
    train_set, num_boost_round, valid_sets, valid_names, init_model
        As for ``lightgbm.train``.
    callbacks : list of callables, optional
        As for ``lightgbm.train``. What their ``env.model`` saves, dumps, predicts and is copied to
        is the complete model of that iteration, before the shift of the intercept, which has been
        made in the last one, unless training may stop early; as ``init_model`` it goes on as if
        there had been no interruption, except that LightGBM's bagging and DART draw anew.
    feval : callable or list of callables, optional
        As for ``lightgbm.train``; it gets margins, not probabilities: convert them by
        ``objective.loss.posterior(margin)``. ``focal_metric`` makes one.
    keep_training_booster : bool, default=False
        As for ``lightgbm.train``. Before ``Booster.update(fobj=objective)`` call
        ``Booster.reset_parameter({"objective": "none"})``, which makes the booster predict margins
        again. A file of this booster says that it is one of log loss.
    label_totals : array-like of shape (n_classes,), optional
        Total weight of each class in the training rows of all machines, as
        ``focal_gbm.label_totals`` has it of each part of them. It is used as it is, and labels are
        not counted. Give it to all machines or to none.

    Returns
    -------
    lightgbm.Booster
        ``predict`` gives the sigmoid of the margin, and keeps doing so in plain LightGBM after any
        save and load. ``objective.loss.posterior(booster.predict(X, raw_score=True))`` gives the
        probability of the positive class, for an ``alpha`` that is not "balanced". A line among
        the parameters in the model's text, "focal_gbm", has the parameters of the loss.
        ``Booster.refit`` raises, as LightGBM knows no focal loss.

    Notes
    -----
    Several machines train together with ``machines``, ``local_listen_port`` and a ``tree_learner``
    of "data" or "voting", as with ``lightgbm.train``, of which every one calls this function with
    rows of its own, and gets the same model. Labels, posteriors and metrics are those of all
    rows: a metric is the mean of the machines' by the weight of their rows, so that they stop
    together. Where the rows of one machine are refused, or a metric fails there, all raise. Where
    one is lost, or a callback fails there, others raise or wait for it, as in ``lightgbm.train``.

    Raises
    ------
    TypeError
        If the objective is no ``FocalObjective`` or ``train_set`` no ``Dataset``.
    ValueError
        For a parameter that LightGBM ignores for a callable objective (``scale_pos_weight``,
        ``is_unbalance``, ``pos_bagging_fraction``, ``neg_bagging_fraction``, ``sigmoid``), for
        ``boosting="rf"``, for what crashes or misleads LightGBM with one (``bagging_by_query``;
        with ``device_type="cuda"`` several GPUs, GOSS and a ``train_set`` constructed for the CPU),
        for an objective on a GPU, for an unknown metric, for labels outside [0, 1], where a
        starting margin is chosen, for labels that lack a class, and for ``label_totals`` that are
        no positive weights. With several machines for ``linear_tree``, ``keep_training_booster``,
        another ``tree_learner``, addresses that are missing, and where the objective,
        ``label_totals``, rounds or number of ``valid_sets`` of another machine differ.
    RuntimeError
        Where another machine raises one of these for its own rows.
    lightgbm.basic.LightGBMError
        Where the connection to another machine breaks.

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
        label_totals,
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
    totals: ArrayLike | None,
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
    classes: Array | None = None,
    is_kept: bool = False,
) -> lgb.Booster:
    """``train``, with the total weight of each class where it is known.

    The model tells the labels of its ``classes``, if there are any. A process that ``is_kept`` for
    later trainings leaves the network of its machines after a failure, too.
    """
    params, objective, n_classes = checked_params(params, keep_training_booster)
    model = model_to_continue(init_model, n_classes)
    valid_sets = [valid_sets] if isinstance(valid_sets, lgb.Dataset) else list(valid_sets or [])
    for name, dataset in (("train_set", train_set), *(("valid_sets", ds) for ds in valid_sets)):
        if not isinstance(dataset, lgb.Dataset):
            raise TypeError(f"{name}: expected a Dataset, got {type(dataset).__name__}")
    refuse_on_gpu(params, objective, train_set)
    refuse_for_machines(params, keep_training_booster)
    network = Network(params, is_kept=is_kept)
    has_start = model is None and is_on(params.get("boost_from_average", True))
    threads = threads_of(params)
    training = LightGBMTraining(
        objective,
        n_classes,
        checked_totals(totals, n_classes),
        n_threads=threads,
        has_start=has_start,
        classes=classes,
    )
    training.keeps_margins = needs_shift(training.loss) and not keep_training_booster
    if model is not None:
        set_globals(params)
        training.continue_from(model, before_shift=training.keeps_margins)
    metrics = take_metrics(params, feval, training, valid_sets)
    callbacks = [*early_stopping(params), *(callbacks or [])]
    if is_autologged():
        callbacks.insert(0, before_first_iteration(lambda _: log_loss_parameters(training.loss)))
    params = network.of_connected({**params, "objective": training, "metric": "None"})
    with network:
        training.sum_of_all = network.sum_of_all
        together(partial(check_train_set, train_set, init_model), network.sum_of_all)
        if network.n_machines > 1:
            check_equal_arguments(training, num_boost_round, len(valid_sets), network)
            metrics = [OfAllMachines(metric, network.sum_of_all) for metric in metrics]
        if keep_training_booster and has_start:
            train_set, valid_sets = training.with_start(params, train_set, valid_sets)
        booster = estimators_train(
            params,
            train_set,
            num_boost_round,
            valid_sets=valid_sets or None,
            valid_names=valid_names,
            feval=metrics,
            init_model=model,
            keep_training_booster=True,
            callbacks=[
                before_first_iteration(lambda booster: prepare(booster, training)),
                training.keep_margins(callbacks),
                training.shift_in_last_iteration(callbacks),
                *callbacks,
            ],
        )
        if training.keeps_margins:
            training.shift_intercept(*training.rows_used(booster))
    finish(booster, training, keep_training_booster=keep_training_booster)
    return booster


def checked_params(
    params: dict[str, Any], keep_training_booster: bool = False
) -> tuple[dict[str, Any], FocalObjective, int]:
    """Parameters by LightGBM's main names, the objective that was among them, and the classes."""
    params = canonical(params)
    objective = check_objective("objective", params.pop("objective", None))
    refuse(params, keep_training_booster)
    n_classes = max(2, number_in(params, "num_class", 1, int))
    if n_classes == 2:
        params.pop("num_class", None)
    warn_of_cancelling_curvature(params, objective, n_classes)
    return params, objective, n_classes


def model_to_continue(init_model: Any, n_classes: int) -> lgb.Booster | None:
    """The model, if there is one, once it is known to have as many classes."""
    if init_model is None:
        return None
    model = checked_model(init_model, n_classes)
    return model.checkpoint() if isinstance(model, TrainingBooster) else model


def check_splits(booster: lgb.Booster) -> None:
    """Warn where no tree has a split."""
    if not booster.feature_importance().any():
        warn_of_no_split("min_data_in_leaf, min_sum_hessian_in_leaf and lambda_l2")


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
    if y is not None and not y.size:
        raise ValueError("train_set: it has no rows: LightGBM needs some on each machine")
    if y is not None and y.dtype.kind == "f" and np.isnan(y).any():
        raise ValueError("train_set: a label is NaN, which LightGBM takes for 0: remove its row")


def check_equal_arguments(
    training: LightGBMTraining, num_boost_round: int, n_valid_sets: int, network: Network
) -> None:
    """Refuse arguments that another machine has otherwise: all would wait, or grow other trees."""
    totals = None if training.totals is None else training.totals.tolist()
    given = training.objective, training.n_classes, totals, num_boost_round, n_valid_sets
    # Sums of squares of so small a number are exact.
    number = zlib.crc32(repr(given).encode()) % 2**20
    of_all, of_squares = network.sum_of_all(np.array([number, number**2], np.float64)).tolist()
    if of_squares * network.n_machines != of_all**2:
        raise ValueError(
            "the machines have different arguments: objective, num_class, label_totals, "
            "num_boost_round and the number of valid_sets must be the same on all; "
            f"here they are {training.objective}, {training.n_classes}, {totals}, "
            f"{num_boost_round} and {n_valid_sets}"
        )


def before_first_iteration(act: Callable[[Any], None]) -> Callable[..., None]:
    """A callback that does something to the booster before it is trained."""

    def before_iteration(env: lgb.callback.CallbackEnv) -> None:
        if env.iteration == env.begin_iteration:
            act(env.model)

    before_iteration.before_iteration = True  # type: ignore[attr-defined]
    return before_iteration


class TrainingBooster(lgb.Booster):
    """The booster of LightGBM's while it is trained, as callbacks see it.

    It has margins and trees that lack their start, and no objective. What it saves, dumps, predicts
    and is copied to is the complete model of the iteration, but for the shift of the intercept
    before the last one.
    """

    training: LightGBMTraining

    def checkpoint(self) -> lgb.Booster:
        """The model of this iteration, a booster of its own."""
        model = lgb.Booster(model_str=super().model_to_string(num_iteration=-1))
        if model.num_trees():  # else there is nothing yet to have a start
            finish(model, self.training)
        return model

    def model_to_string(self, *arguments: Any, **options: Any) -> str:
        text: str = self.checkpoint().model_to_string(*arguments, **options)
        return text

    def save_model(self, *arguments: Any, **options: Any) -> Self:
        self.checkpoint().save_model(*arguments, **options)
        return self

    def dump_model(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        model: dict[str, Any] = self.checkpoint().dump_model(*arguments, **options)
        return model

    def predict(self, *arguments: Any, **options: Any) -> Any:
        return self.checkpoint().predict(*arguments, **options)

    def __reduce__(self) -> Any:
        return copy.copy, (self.checkpoint(),)

    def eval_train(self, feval: Any = None) -> Any:
        if not is_dart(self):
            return super().eval_train(feval)
        # Asked for margins of its training data, DART drops trees for the next iteration, which are
        # then missing in the margins and negative in the model. Those of other data are complete.
        if self.train_set not in self.valid_sets:
            self.add_valid(self.train_set, training_data_name(self))
        return []  # they are evaluated by eval_valid


def prepare(booster: Any, training: LightGBMTraining) -> None:
    """Bring the booster into a defined state before its first iteration."""
    # LightGBM makes the booster itself, hands it to callbacks, and returns it: it is not replaced.
    booster.__class__, booster.training = TrainingBooster, training
    objective_is_none(booster)
    if is_dart(booster):
        # Whether LightGBM draws trees to drop, when first asked for margins, depends on memory that
        # it does not initialise. Once asked it will not draw again, and a reset renews the seed.
        training_margin(booster)
        booster.reset_parameter({"verbosity": booster.params.get("verbosity", 1)})


def finish(
    booster: lgb.Booster, training: LightGBMTraining, *, keep_training_booster: bool = False
) -> None:
    """Fold starting margins into the first trees, and let the booster predict probabilities."""
    booster.__class__ = lgb.Booster
    vars(booster).pop("training", None)
    start, n_classes = training.folded, training.n_classes
    raise_first_trees(booster, start)
    name = "binary" if n_classes == 2 else "multiclass"
    if keep_training_booster:
        booster.reset_parameter({"objective": name, "num_class": start.size})
        return
    # LightGBM does not know it, and refuses to refit to it; converters go by how it begins.
    name += "_focal_loss"
    model = with_objective(booster.model_to_string(), n_classes, name)
    if start.any():
        model = with_linear_leaves_raised(model, start)
    booster.model_from_string(with_stored(model, training.stored())).free_dataset()
    booster.params["objective"] = name


def raise_first_trees(booster: lgb.Booster, start: Array) -> None:
    """Add to the margin of each class what its first tree says, but for linear leaves."""
    if not start.any():
        return
    first_trees = booster.dump_model(num_iteration=1)["tree_info"]
    for tree, value in enumerate(start):
        for leaf in range(first_trees[tree]["num_leaves"]):
            booster.set_leaf_output(tree, leaf, booster.get_leaf_output(tree, leaf) + value)
