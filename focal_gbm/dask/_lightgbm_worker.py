"""What LightGBM's Dask interface runs on a worker."""

import gc
import traceback
from typing import Any, Self

import distributed
import lightgbm as lgb
import numpy as np

from focal_gbm._estimator import Targets, checked_weight
from focal_gbm._intercept import posterior_totals
from focal_gbm._types import Array
from focal_gbm.lightgbm._classifier import FocalLGBMClassifier
from focal_gbm.lightgbm._internals import leave_network
from focal_gbm.objective import Loss, n_classes_of

# By training and worker: margins and weights of the rows there, once they are trained on.
_ROWS: dict[tuple[str, str], tuple[Array, Array | None]] = {}


class OnWorker(FocalLGBMClassifier):
    """The classifier on a worker, which has some of the rows, and evaluation sets whole."""

    _min_rows = 1

    def _take_rows(self, margin: Array, sample_weight: Array | None) -> None:
        address = distributed.get_worker().address
        _ROWS[self._rows_key, address] = margin, sample_weight

    def fit(  # type: ignore[override]
        self,
        X: Any,
        y: Array,
        sample_weight: Array | None = None,
        init_score: Any = None,
        *,
        targets: Targets,
        rows_key: str,
        evaluation: dict[str, Any],
        options: dict[str, Any],
        **_: Any,
    ) -> Self:
        self._of_all_workers = targets
        self._rows_key = rows_key
        try:
            super().fit(X, y, sample_weight, init_score, **evaluation, **options)
        except BaseException as error:
            # LightGBM leaves its network up, which belongs to the process, and all that comes later
            # in it would wait for workers that are gone. A booster that is still in the traceback
            # would take down the network of a later training when it is deleted.
            traceback.clear_frames(error.__traceback__)
            gc.collect()
            leave_network()
            raise
        del self._of_all_workers, self._rows_key
        return self

    def _targets(self, X: Any, y: Any, sample_weight: Any) -> Targets:
        # Labels are integers by now, and weights are those of the classes, too.
        of_all = self._of_all_workers
        y = y.astype(np.intp)
        weight = checked_weight("sample_weight", sample_weight, y, may_be_zero=True)
        return of_all._replace(y=y, sample_weight=weight)


def totals_on(key: str, loss: Loss, shift: Array, dask_worker: Any = None) -> Array:
    """Total posterior of each class over the rows of a worker."""
    none = np.zeros((0,) if n_classes_of(loss) == 2 else (0, n_classes_of(loss)))
    margin, sample_weight = _ROWS.get((key, dask_worker.address), (none, None))
    return posterior_totals(loss, margin, sample_weight, shift)


def forget(key: str, dask_worker: Any = None) -> None:
    _ROWS.pop((key, dask_worker.address), None)


class NameOfTraining:
    """Tells a booster under which name its training data are evaluated."""

    before_iteration = True
    order = 0

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, env: lgb.callback.CallbackEnv) -> None:
        booster: Any = env.model
        if env.iteration == env.begin_iteration:
            booster.set_train_data_name(self.name)
