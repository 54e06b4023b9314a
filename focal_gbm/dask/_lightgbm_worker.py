"""What LightGBM's Dask interface runs on a worker."""

from typing import Any, Self

import lightgbm as lgb
import numpy as np

from focal_gbm._estimator import Targets, checked_weight
from focal_gbm._types import Array
from focal_gbm.lightgbm._classifier import FocalLGBMClassifier


class OnWorker(FocalLGBMClassifier):
    """The classifier on a worker, which has some of the rows and the whole evaluation sets."""

    _min_rows = 1
    _is_on_worker = True

    def fit(  # type: ignore[override]
        self,
        X: Any,
        y: Array,
        sample_weight: Array | None = None,
        init_score: Any = None,
        *,
        targets: Targets,
        evaluation: dict[str, Any],
        options: dict[str, Any],
        **_: Any,
    ) -> Self:
        self._of_all_workers = targets
        super().fit(X, y, sample_weight, init_score, **evaluation, **options)
        del self._of_all_workers
        return self

    def _targets(self, X: Any, y: Any, sample_weight: Any) -> Targets:
        # Labels are integers by now, and weights include class weights.
        of_all = self._of_all_workers
        y = y.astype(np.intp)
        weight = checked_weight("sample_weight", sample_weight, y, may_be_zero=True)
        return of_all._replace(y=y, sample_weight=weight)


class NameOfTraining:
    """Sets the name under which a booster evaluates its training data."""

    before_iteration = True
    order = 0

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, env: lgb.callback.CallbackEnv) -> None:
        booster: Any = env.model
        if env.iteration == env.begin_iteration:
            booster.set_train_data_name(self.name)
