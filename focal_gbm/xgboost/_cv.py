"""Cross-validation on XGBoost's native interface."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import xgboost as xgb
from xgboost.callback import TrainingCallback

from focal_gbm._arrays import cuda_problem
from focal_gbm._types import Array
from focal_gbm.objective import FocalObjective, check_objective, labels_and_weights, loss_for
from focal_gbm.xgboost._internals import evaluate_fold_by, warn_of_places
from focal_gbm.xgboost._metrics import take_metrics
from focal_gbm.xgboost._parameters import checked_params, gpu_of
from focal_gbm.xgboost._train import Evaluation, SetAttributes, attributes_of, check_splits, set_up
from focal_gbm.xgboost._training import Intercept, XGBoostTraining


@warn_of_places
def cv(
    params: dict[str, Any],
    dtrain: xgb.DMatrix,
    num_boost_round: int = 10,
    *,
    nfold: int = 3,
    stratified: bool = False,
    folds: Any = None,
    metrics: str | Sequence[str] = (),
    obj: FocalObjective | None = None,
    maximize: bool | None = None,
    early_stopping_rounds: int | None = None,
    fpreproc: Callable[..., Any] | None = None,
    as_pandas: bool = True,
    verbose_eval: bool | int | None = None,
    show_stdv: bool = True,
    seed: int = 0,
    callbacks: Sequence[TrainingCallback] | None = None,
    shuffle: bool = True,
    custom_metric: Any = None,
) -> Any:
    """``xgboost.cv`` with focal loss as if it were built in.

    Everything is passed on to ``xgboost.cv``. Each fold is trained as by
    ``focal_gbm.xgboost.train``: the starting margin, an alpha that is "balanced" and the final
    shift of the intercept come from its own training rows. Metrics are those of the posterior, by
    default the focal loss.

    Parameters
    ----------
    params : dict
        As for ``focal_gbm.xgboost.train``. With ``device="cuda"`` gradients are computed on the
        GPU, but margins and gradients are copied through the host in each iteration.
    dtrain, num_boost_round, nfold, stratified, folds, maximize, early_stopping_rounds, as_pandas, \
verbose_eval, show_stdv, seed, shuffle
        As for ``xgboost.cv``. Use ``stratified=True`` to give every fold some rows of a rare class.
    metrics : str or sequence of str, optional
        Names of metrics of the posterior, instead of the ``eval_metric`` of ``params``.
    obj : FocalObjective
        The objective.
    fpreproc : callable, optional
        As for ``xgboost.cv``; the parameters it returns are checked like those of ``train``.
    callbacks : sequence of TrainingCallback, optional
        As for ``xgboost.cv``. Once training has ended, the boosters ``fold.bst`` of
        ``model.cvfolds`` are those that ``train`` would return.
    custom_metric : callable, optional
        As for ``xgboost.cv``; it gets margins, not probabilities.

    Returns
    -------
    pandas.DataFrame or dict
        As from ``xgboost.cv``, but with all digits rather than six decimals.

    Raises
    ------
    TypeError, ValueError
        As for ``focal_gbm.xgboost.train``, and for folds whose training rows lack a class.

    Warns
    -----
    UserWarning
        If the trees of a fold have no split.

    Examples
    --------
    >>> import numpy as np, xgboost as xgb
    >>> from focal_gbm import FocalObjective
    >>> from focal_gbm.xgboost import cv
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> dtrain = xgb.DMatrix(X, label=X[:, 0] > 1)
    >>> table = cv({"max_depth": 3}, dtrain, 20, stratified=True, obj=FocalObjective(gamma=2.0))
    >>> list(table), len(table)
    (['train-focal_loss-mean', 'train-focal_loss-std', 'test-focal_loss-mean', \
'test-focal_loss-std'], 20)
    """
    objective = check_objective("obj", obj)
    if not isinstance(dtrain, xgb.DMatrix):
        raise TypeError(f"dtrain: expected a DMatrix, got {type(dtrain).__name__}")
    params, _ = checked_params(params)
    names = params.pop("eval_metric", None)  # or xgboost.cv would evaluate them itself
    of_folds = _Folds(objective, fpreproc, metrics or names, custom_metric)
    return xgb.cv(
        params,
        dtrain,
        num_boost_round,
        nfold=nfold,
        stratified=stratified,
        folds=folds,
        obj=of_folds.objective,
        maximize=maximize,
        early_stopping_rounds=early_stopping_rounds,
        fpreproc=of_folds.prepare,
        as_pandas=as_pandas,
        verbose_eval=verbose_eval,
        show_stdv=show_stdv,
        seed=seed,
        callbacks=[of_folds, *(callbacks or [])],
        shuffle=shuffle,
    )


class _Fold(NamedTuple):
    training: XGBoostTraining
    attributes: SetAttributes
    intercept: Intercept
    evaluation: Evaluation


class _Folds(TrainingCallback):
    """Folds, each a separate training; ``xgboost.cv`` refers to them by their data sets."""

    def __init__(
        self, focal: FocalObjective, fpreproc: Any, metrics: Any, custom_metric: Any
    ) -> None:
        self.focal = focal
        self.fpreproc = fpreproc
        self.metrics = metrics
        self.custom_metric = custom_metric
        self.by_dataset: dict[xgb.DMatrix, _Fold] = {}

    def prepare(
        self, dtrain: xgb.DMatrix, dtest: xgb.DMatrix, params: dict[str, Any]
    ) -> tuple[xgb.DMatrix, xgb.DMatrix, dict[str, Any]]:
        """What a fold is trained with, after the user's own ``fpreproc``."""
        if self.fpreproc is not None:
            dtrain, dtest, params = self.fpreproc(dtrain, dtest, params)
        params, n_classes = checked_params(params)
        totals = loss_for(self.focal, n_classes)._totals(*labels_and_weights(dtrain))
        has_margins = bool(dtrain.get_base_margin().size)
        try:
            training, params, _, intercept = set_up(
                self.focal, params, totals, None, has_margins=has_margins
            )
        except ValueError as error:
            raise ValueError(
                f"{error}. These are the training rows of fold {len(self.by_dataset)}: with "
                "stratified=True all folds have all classes"
            ) from None
        training.dataset = dtrain
        device = gpu_of(params, self.focal)
        if device is not None and cuda_problem() is None:
            training.device = device
        if self.metrics:
            params["eval_metric"] = self.metrics
        metrics = take_metrics(params, self.custom_metric, training, is_evaluated=True)
        evaluation = Evaluation([(dtrain, "train"), (dtest, "test")], metrics)
        fold = _Fold(training, attributes_of(training), intercept, evaluation)
        self.by_dataset[dtrain] = fold
        return dtrain, dtest, params

    def objective(self, margin: Array, dtrain: xgb.DMatrix) -> tuple[Array, Array]:
        """Gradient and Hessian of the fold that has this data set."""
        return self.by_dataset[dtrain].training(margin, dtrain)

    def before_training(self, model: Any) -> Any:
        for pack in model.cvfolds:
            fold = self.by_dataset[pack.dtrain]
            fold.attributes.before_training(pack.bst)
            evaluate_fold_by(pack, fold.evaluation.named_results)
        return model

    def after_training(self, model: Any) -> Any:
        for pack in model.cvfolds:
            self.by_dataset[pack.dtrain].intercept.after_training(pack.bst)
            check_splits(pack.bst, pack.bst.num_boosted_rounds())
        return model
