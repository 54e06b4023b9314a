"""Cross-validation on LightGBM's native interface."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import lightgbm as lgb

from focal_gbm._intercept import needs_shift
from focal_gbm._types import Array
from focal_gbm.lightgbm._metrics import take_metrics
from focal_gbm.lightgbm._parameters import (
    early_stopping,
    is_on,
    refuse_machines,
    refuse_on_gpu,
    threads_of,
)
from focal_gbm.lightgbm._train import (
    before_first_iteration,
    check_splits,
    check_train_set,
    checked_params,
    finish,
    model_to_continue,
    prepare,
)
from focal_gbm.lightgbm._training import LightGBMTraining


def cv(
    params: dict[str, Any],
    train_set: lgb.Dataset,
    num_boost_round: int = 100,
    folds: Any = None,
    nfold: int = 5,
    stratified: bool = True,
    shuffle: bool = True,
    metrics: str | list[str] | None = None,
    feval: Any = None,
    init_model: str | Path | lgb.Booster | None = None,
    fpreproc: Callable[..., Any] | None = None,
    seed: int = 0,
    callbacks: list[Callable[..., Any]] | None = None,
    eval_train_metric: bool = False,
    return_cvbooster: bool = False,
) -> dict[str, Any]:
    """``lightgbm.cv`` with focal loss as if it were built in.

    Everything is passed on to ``lightgbm.cv``. Each fold is trained as by
    ``focal_gbm.lightgbm.train``: the starting margin, an alpha that is "balanced" and the final
    shift of the intercept come from its own training rows. Metrics are those of the posterior, by
    default the focal loss.

    Parameters
    ----------
    params : dict
        As for ``focal_gbm.lightgbm.train``, with a ``FocalObjective`` as ``objective``.
    train_set, num_boost_round, folds, nfold, stratified, shuffle, init_model, seed, callbacks, \
eval_train_metric
        As for ``lightgbm.cv``.
    metrics : str or list of str, optional
        Names of metrics of the posterior, instead of the ``metric`` of ``params``.
    feval : callable or list of callables, optional
        As for ``lightgbm.cv``; it gets margins, not probabilities.
    fpreproc : callable, optional
        As for ``lightgbm.cv``; the parameters it returns are checked like those of ``train``.
    return_cvbooster : bool, default=False
        As for ``lightgbm.cv``. The boosters are those that ``train`` would return: they predict
        probabilities wherever they are loaded, and have the trees up to the best iteration.

    Returns
    -------
    dict
        As from ``lightgbm.cv``.

    Raises
    ------
    TypeError, ValueError
        As for ``focal_gbm.lightgbm.train``, and for folds whose training rows lack a class.

    Warns
    -----
    UserWarning
        As for ``focal_gbm.lightgbm.train``.

    Examples
    --------
    >>> import lightgbm as lgb, numpy as np
    >>> from focal_gbm import FocalObjective
    >>> from focal_gbm.lightgbm import cv
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> train_set = lgb.Dataset(X, label=X[:, 0] > 1)
    >>> results = cv({"objective": FocalObjective(gamma=2.0), "verbose": -1}, train_set, 20)
    >>> list(results), len(results["valid focal_loss-mean"])
    (['valid focal_loss-mean', 'valid focal_loss-stdv'], 20)
    """
    params, objective, n_classes = checked_params(params)
    if not isinstance(train_set, lgb.Dataset):
        raise TypeError(f"train_set: expected a Dataset, got {type(train_set).__name__}")
    refuse_on_gpu(params, objective, train_set)
    refuse_machines(params, "cv")
    check_train_set(train_set, init_model)
    model = model_to_continue(init_model, n_classes)
    if metrics is not None:
        params["metric"] = metrics
    callbacks = [*early_stopping(params), *(callbacks or [])]
    of_folds = _Folds(
        {**params, "objective": objective},
        feval,
        fpreproc,
        has_start=model is None and is_on(params.get("boost_from_average", True)),
        model=model,
        shifts_intercept=return_cvbooster,
    )
    results = lgb.cv(
        {**params, "objective": of_folds.objective, "metric": "None"},
        train_set,
        num_boost_round,
        folds=folds,
        nfold=nfold,
        stratified=stratified,
        shuffle=shuffle,
        feval=of_folds.evaluated,
        init_model=model,
        fpreproc=of_folds.prepare,
        seed=seed,
        callbacks=[of_folds.callback(), *callbacks],
        eval_train_metric=eval_train_metric,
        return_cvbooster=True,
    )
    cvbooster: Any = results["cvbooster"]
    for booster in cvbooster.boosters:
        check_splits(booster)
    if not return_cvbooster:
        del results["cvbooster"]
        return results
    for booster in cvbooster.boosters:
        of_folds.finish(booster)
    return results


class _Fold(NamedTuple):
    training: LightGBMTraining
    metrics: list[Any]


class _Folds:
    """Folds, each a separate training; ``lightgbm.cv`` refers to them by their data sets."""

    def __init__(
        self,
        params: dict[str, Any],
        feval: Any,
        fpreproc: Any,
        *,
        has_start: bool,
        model: lgb.Booster | None,
        shifts_intercept: bool,
    ) -> None:
        self.params = params
        self.feval = feval
        self.fpreproc = fpreproc
        self.has_start = has_start
        self.model = model  # to continue, if any
        self.shifts_intercept = shifts_intercept
        self.by_dataset: dict[lgb.Dataset, _Fold] = {}

    def __deepcopy__(self, memo: Any) -> Self:
        return self  # LightGBM copies its parameters, including the objective

    def prepare(
        self, train_set: lgb.Dataset, valid_set: lgb.Dataset, library_params: dict[str, Any]
    ) -> tuple[lgb.Dataset, lgb.Dataset, dict[str, Any]]:
        """What a fold is trained with, after the user's own ``fpreproc``."""
        params = dict(self.params)
        if self.fpreproc is not None:
            train_set, valid_set, params = self.fpreproc(train_set, valid_set, params)
        params, objective, n_classes = checked_params(params)
        training = LightGBMTraining(
            objective, n_classes, n_threads=threads_of(params), has_start=self.has_start
        )
        is_shifted = needs_shift(training.loss)
        training.shifts_intercept = is_shifted and self.shifts_intercept
        if self.model is not None:
            training.continue_from(self.model, before_shift=is_shifted)
        metrics = take_metrics(params, self.feval, training, [valid_set])
        fold = _Fold(training, metrics)
        self.by_dataset[train_set] = self.by_dataset[valid_set] = fold
        return train_set, valid_set, {**params, "objective": "none", "metric": "None"}

    def objective(self, margin: Array, train_set: lgb.Dataset) -> tuple[Array, Array]:
        """Gradient and Hessian of the fold that has this data set."""
        return self.by_dataset[train_set].training(margin, train_set)

    def evaluated(self, margin: Array, dataset: lgb.Dataset) -> list[tuple[str, float, bool]]:
        """Names and values of all metrics, and whether larger is better."""
        found = [metric(margin, dataset) for metric in self.by_dataset[dataset].metrics]
        return [
            result
            for of_metric in found
            for result in (of_metric if isinstance(of_metric, list) else [of_metric])
        ]

    def callback(self) -> Callable[..., None]:
        """What ``train`` does before the first iteration, for the booster of each fold."""

        def prepare_all(cvbooster: lgb.CVBooster) -> None:
            for booster in cvbooster.boosters:
                prepare(booster, self.by_dataset[booster.train_set].training)

        return before_first_iteration(prepare_all)

    def finish(self, booster: lgb.Booster) -> None:
        """Make the booster of a fold what ``train`` returns."""
        training = self.by_dataset[booster.train_set].training
        if booster.best_iteration > 0 and self.model is not None:
            # lightgbm.cv does not count the iterations of init_model.
            booster.best_iteration += self.model.current_iteration()
        training.shift_intercept(booster)
        finish(booster, training)
