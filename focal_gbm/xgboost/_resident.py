"""Training that stays on the GPU: features, labels, margins and gradients.

For a custom objective XGBoost brings the margins to the host in every iteration. Here it boosts
gradients that are given to it, and the margins follow by predicting with the new trees alone.
"""

import copy
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import xgboost as xgb
from xgboost.callback import TrainingCallback

from focal_gbm._arrays import cuda_problem, is_on_device
from focal_gbm._validation import device_ordinal
from focal_gbm.objective import Loss, labels_and_weights

# Of data sets, an array of features and the value that stands for a missing one.
Features = Mapping[xgb.DMatrix, tuple[Any, float]]

# Of the memory that is free, what features may take. The tree method's own, quantised to a byte or
# two, take less than these.
_SHARE_OF_MEMORY = 0.5

# Rows that are made dense at a time, on the host.
_PART = 2**20


class CannotStayError(Exception):
    """Why a training cannot stay on the GPU."""


class Resident(TrainingCallback):
    """Keeps a training on the GPU; raises ``CannotStayError`` where that cannot be.

    Of each data set it holds the features in single precision, labels, weights and margins.
    """

    def __init__(
        self,
        params: dict[str, Any],
        datasets: Sequence[xgb.DMatrix],
        loss: Loss,
        features: Features,
    ) -> None:
        _check_can_stay(params, datasets)
        self.params = params
        self.loss = loss
        self.ordinal = device_ordinal(params["device"])
        with self.place():
            _check_memory(datasets, features)
            self.rows = {dataset: Rows(dataset, features) for dataset in datasets}

    @contextmanager
    def place(self) -> Iterator[None]:
        """The device and the stream that XGBoost works on."""
        import cupy

        with cupy.cuda.Device(self.ordinal), cupy.cuda.Stream.ptds:
            yield

    def before_training(self, model: Any) -> xgb.Booster:
        booster = _ResidentBooster(self.params, list(self.rows), model_file=model)
        booster.resident = self
        with self.place():
            for dataset, rows in self.rows.items():
                rows.start(booster.predict(dataset, output_margin=True))
        return booster

    def after_training(self, model: Any) -> xgb.Booster:
        return xgb.Booster(model_file=model)

    def update(self, booster: xgb.Booster, dtrain: xgb.DMatrix, iteration: int) -> None:
        """Add the trees of an iteration."""
        with self.place():
            self._boost(booster, dtrain, iteration)
            for rows in self.rows.values():
                rows.advance(booster)

    def _boost(self, booster: xgb.Booster, dtrain: xgb.DMatrix, iteration: int) -> None:
        # The memory of gradient and Hessian is free again when margins need some to advance.
        rows = self.rows[dtrain]
        grad, hess = self.loss.gradient_hessian(rows.y, rows.margin, rows.sample_weight)
        booster.boost(dtrain, iteration, grad=grad, hess=hess)


class _ResidentBooster(xgb.Booster):
    """The booster while it is trained. Copies and pickles of it are XGBoost's own."""

    __slots__ = ("resident",)  # which copies would take along in __dict__

    resident: Resident

    def update(self, dtrain: xgb.DMatrix, iteration: int, fobj: Any = None) -> None:
        self.resident.update(self, dtrain, iteration)

    def __reduce__(self) -> Any:
        return copy.copy, (xgb.Booster(model_file=self),)


class Rows:
    """A data set on the GPU."""

    def __init__(self, dataset: xgb.DMatrix, features: Features) -> None:
        import cupy

        given, self.missing = features.get(dataset, (None, np.nan))
        if is_on_device(given) or type(given) is np.ndarray:
            self.features = cupy.asarray(given, np.float32)
        else:
            self.features, self.missing = _features_of(dataset), np.nan
        y, sample_weight = labels_and_weights(dataset)
        self.y = cupy.asarray(y, np.float32)
        self.sample_weight = sample_weight
        if sample_weight is not None:
            self.sample_weight = cupy.asarray(sample_weight, np.float32)

    def start(self, margin: Any) -> None:
        import cupy

        self.margin = cupy.asarray(margin)

    def advance(self, booster: xgb.Booster) -> None:
        """Add what the trees of the last iteration predict."""
        end = booster.num_boosted_rounds()
        self.margin = booster.inplace_predict(
            self.features,
            iteration_range=(end - 1, end),
            predict_type="margin",
            missing=self.missing,
            validate_features=False,
            base_margin=self.margin,
        )

    def host_margin(self) -> Any:
        import cupy

        return cupy.asnumpy(self.margin)


def _check_can_stay(params: Mapping[str, Any], datasets: Sequence[xgb.DMatrix]) -> None:
    """Check what can be told before anything is brought to the GPU."""
    if importlib.util.find_spec("cupy") is None:
        raise CannotStayError("no CuPy (pip install 'focal_gbm[cuda]')")
    problem = cuda_problem()
    if problem:
        raise CannotStayError(problem)
    for name, expected in (("booster", "gbtree"), ("process_type", "default")):
        if params.get(name, expected) != expected:
            raise CannotStayError(f"{name}={params[name]!r}")
    for name in ("rate_drop", "one_drop"):  # dropout changes trees that the margins come from
        if float(params.get(name, 0)):
            raise CannotStayError(f"{name}={params[name]!r}")
    for dataset in datasets:
        if isinstance(dataset, xgb.ExtMemQuantileDMatrix):
            raise CannotStayError("external memory")
        # XGBoost would translate their codes to those of the training data.
        if dataset is not datasets[0] and "c" in (dataset.feature_types or []):
            raise CannotStayError("categories in an evaluation set")


def _check_memory(datasets: Sequence[xgb.DMatrix], features: Features) -> None:
    import cupy

    size = sum(
        4 * dataset.num_row() * dataset.num_col()
        for dataset in datasets
        if not is_on_device(features.get(dataset, (None,))[0])
    )
    free, _ = cupy.cuda.runtime.memGetInfo()
    if size > _SHARE_OF_MEMORY * free:
        raise CannotStayError(f"{size / 1e9:.1f} GB of features and {free / 1e9:.1f} GB free")


def _features_of(dataset: xgb.DMatrix) -> Any:
    """Features of a data set, NaN where they are missing.

    Of a quantised one they are the lower bounds of bins, which go the way of the bin at each split.
    """
    import cupy

    try:
        rows = dataset.get_data()
    except xgb.core.XGBoostError as error:
        raise CannotStayError("external memory") from error
    features = cupy.empty(rows.shape, np.float32)
    for start in range(0, rows.shape[0], _PART):
        part = rows[start : start + _PART]
        if part.nnz == part.shape[0] * part.shape[1]:
            dense = part.toarray()
        else:
            dense = np.full(part.shape, np.nan, np.float32)
            dense[np.repeat(np.arange(part.shape[0]), np.diff(part.indptr)), part.indices] = (
                part.data
            )
        features[start : start + _PART] = cupy.asarray(dense)
    return features
