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
from focal_gbm.lightgbm._parameters import (
    advice_on_other_loss,
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
from focal_gbm.lightgbm._training import LightGBMTraining, Network
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

    Everything is passed on to ``lightgbm.train``. This function adds the starting margin (the
    constant that minimises the focal loss of the training labels, folded into the first tree); a
    final shift of the intercept, after which the posteriors of the training rows sum to the weight
    of each class (not with ``keep_training_booster``); an objective that makes the booster predict
    probabilities wherever it is loaded; ``alpha="balanced"`` from the training labels; metrics of
    the posterior; and the focal loss as the metric if neither ``metric`` nor ``feval`` names one.

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
        As for ``lightgbm.train``. Their ``env.model`` saves, dumps, predicts with and is copied as
        the complete model of that iteration. This has the shift of the intercept only in the last
        iteration, and only if training cannot stop early. Used as ``init_model``, it continues as
        if training had not been interrupted, except that LightGBM's bagging and DART draw anew.
    feval : callable or list of callables, optional
        As for ``lightgbm.train``; it gets margins, not probabilities: convert them with
        ``objective.loss.posterior(margin)``. ``focal_metric`` makes such a metric.
    keep_training_booster : bool, default=False
        As for ``lightgbm.train``. Before ``Booster.update(fobj=objective)`` call
        ``Booster.reset_parameter({"objective": "none"})``, which makes the booster predict margins
        again. A file of this booster names log loss as its objective.
    label_totals : array-like of shape (n_classes,), optional
        Total weight of each class in the training rows of all machines: the sum of
        ``focal_gbm.label_totals`` over the parts of the data. It is used as given, and labels are
        not counted. Give it to all machines or to none.

    Returns
    -------
    lightgbm.Booster
        ``predict`` gives the sigmoid of the margin, also in plain LightGBM after saving and
        loading. ``objective.loss.posterior(booster.predict(X, raw_score=True))`` gives the
        probability of the positive class, for an ``alpha`` that is not "balanced". The line
        "focal_gbm" among the parameters in the model's text records the parameters of the loss.
        ``Booster.refit`` raises, because LightGBM does not know focal loss.

    Notes
    -----
    Several machines train together with ``machines``, ``local_listen_port`` and a ``tree_learner``
    of "data" or "voting", as with ``lightgbm.train``: each calls this function with its own rows
    and gets the same model. Labels, posteriors and metrics are those of all rows: a metric is the
    mean over the machines, weighted by the weight of their rows, so that they stop together. If the
    rows of one machine are refused, or a metric fails there, all raise. If one is lost, or a
    callback fails there, the others raise or wait for it, as in ``lightgbm.train``.

    Raises
    ------
    TypeError
        If the objective is not a ``FocalObjective`` or ``train_set`` not a ``Dataset``.
    ValueError
        For a parameter that LightGBM ignores for a callable objective (``scale_pos_weight``,
        ``is_unbalance``, ``pos_bagging_fraction``, ``neg_bagging_fraction``, ``sigmoid``); for
        ``boosting="rf"``; for what makes LightGBM crash or go wrong with one (``bagging_by_query``;
        with ``device_type="cuda"`` several GPUs, GOSS and a ``train_set`` constructed for the CPU);
        for an objective on a GPU; for an unknown metric; for labels outside [0, 1]; for labels that
        lack a class, if a starting margin is chosen; and for ``label_totals`` that are not positive
        weights. With several machines, also for ``linear_tree``, ``keep_training_booster``, another
        ``tree_learner`` and missing addresses, and if the objective, ``label_totals``, the rounds
        or the number of ``valid_sets`` differ between machines.
    RuntimeError
        If another machine raises one of these for its own rows.
    lightgbm.basic.LightGBMError
        If the connection to another machine breaks.

    Warns
    -----
    UserWarning
        For an ``init_model`` trained with another focal loss, because the posterior is then right
        only once the new trees outweigh the old; for ``use_quantized_grad``, because few bins suit
        the long-tailed focal Hessian badly; for several classes with ``hessian="exact"`` and a
        ``min_sum_hessian_in_leaf`` below 1, because curvature may cancel in a leaf; and if no tree
        has a split.

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
        warn_of_other_loss("init_model", before, after, advice_on_other_loss(after))
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
    """``train``, with the total weight of each class if it is known.

    The model records ``classes``, if they are given. A process that is kept for later trainings
    (``is_kept``) leaves the network of its machines after a failure, too.
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
    training.shifts_intercept = needs_shift(training.loss) and not keep_training_booster
    if model is not None:
        set_globals(params)
        training.continue_from(model, before_shift=training.shifts_intercept)
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
                training.shift_in_last_iteration(callbacks),
                *callbacks,
            ],
        )
        training.shift_intercept(booster)
    finish(booster, training, keep_training_booster=keep_training_booster)
    return booster


def checked_params(
    params: dict[str, Any], keep_training_booster: bool = False
) -> tuple[dict[str, Any], FocalObjective, int]:
    """Parameters by LightGBM's main names, the objective taken from them, and ``n_classes``."""
    params = canonical(params)
    objective = check_objective("objective", params.pop("objective", None))
    refuse(params, keep_training_booster)
    n_classes = max(2, number_in(params, "num_class", 1, int))
    if n_classes == 2:
        params.pop("num_class", None)
    warn_of_cancelling_curvature(params, objective, n_classes)
    return params, objective, n_classes


def model_to_continue(init_model: Any, n_classes: int) -> lgb.Booster | None:
    """The model to continue, if any; raises if its number of classes differs."""
    if init_model is None:
        return None
    model = checked_model(init_model, n_classes)
    return model.checkpoint() if isinstance(model, TrainingBooster) else model


def check_splits(booster: lgb.Booster) -> None:
    """Warn if no tree has a split."""
    if not booster.feature_importance().any():
        warn_of_no_split("min_data_in_leaf, min_sum_hessian_in_leaf and lambda_l2")


def check_train_set(train_set: lgb.Dataset, init_model: Any) -> None:
    """Refuse what LightGBM would turn into zeros, while it can still be detected."""
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
    """Refuse arguments that differ between machines: all would wait, or grow different trees."""
    totals = None if training.totals is None else training.totals.tolist()
    given = training.objective, training.n_classes, totals, num_boost_round, n_valid_sets
    # The number is small enough for the sum of squares to be exact.
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
    """A callback that acts on the booster before its first iteration."""

    def before_iteration(env: lgb.callback.CallbackEnv) -> None:
        if env.iteration == env.begin_iteration:
            act(env.model)

    before_iteration.before_iteration = True  # type: ignore[attr-defined]
    return before_iteration


class TrainingBooster(lgb.Booster):
    """LightGBM's booster during training, as callbacks see it.

    Its margins and trees lack the starting margin, and it has no objective. It saves, dumps,
    predicts with and is copied as the complete model of the iteration, without the shift of the
    intercept before the last one.
    """

    training: LightGBMTraining

    def checkpoint(self) -> lgb.Booster:
        """The model of this iteration, as a separate booster."""
        model = lgb.Booster(model_str=super().model_to_string(num_iteration=-1))
        if model.num_trees():  # else there is no tree yet to add a start to
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
        # When asked for margins of its training data, DART drops trees for the next iteration. They
        # are then missing from the margins and negative in the model. Margins of other data are
        # complete.
        if self.train_set not in self.valid_sets:
            self.add_valid(self.train_set, training_data_name(self))
        return []  # the training data are evaluated by eval_valid


def prepare(booster: Any, training: LightGBMTraining) -> None:
    """Bring the booster into a defined state before its first iteration."""
    # LightGBM makes the booster, hands it to callbacks and returns it, so its class is changed.
    booster.__class__, booster.training = TrainingBooster, training
    objective_is_none(booster)
    if is_dart(booster):
        # Whether LightGBM draws trees to drop when first asked for margins depends on uninitialised
        # memory. Once asked, it does not draw again, and a reset renews the seed.
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
    # LightGBM does not know this name, so it refuses to refit; converters go by its beginning.
    name += "_focal_loss"
    model = with_objective(booster.model_to_string(), n_classes, name)
    if start.any():
        model = with_linear_leaves_raised(model, start)
    booster.model_from_string(with_stored(model, training.stored())).free_dataset()
    booster.params["objective"] = name


def raise_first_trees(booster: lgb.Booster, start: Array) -> None:
    """Add the start of each class to the leaves of its first tree, except linear leaves."""
    if not start.any():
        return
    first_trees = booster.dump_model(num_iteration=1)["tree_info"]
    for tree, value in enumerate(start):
        for leaf in range(first_trees[tree]["num_leaves"]):
            booster.set_leaf_output(tree, leaf, booster.get_leaf_output(tree, leaf) + value)
