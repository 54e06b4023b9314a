"""Training that stays on the GPU: features, labels, margins and gradients.

With a custom objective XGBoost copies the margins to the host in every iteration. Here it is given
the gradients, and the margins are updated by predicting with the new trees alone.
"""

import copy
import functools
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import xgboost as xgb
from xgboost.callback import TrainingCallback

from focal_gbm._arrays import cuda_problem, is_on_device
from focal_gbm._training import Training
from focal_gbm._validation import device_ordinal
from focal_gbm.objective import labels_and_weights, single_precision_pair
from focal_gbm.xgboost._internals import tree_booster_of

# For each data set, an array of features and the value that stands for a missing one.
Features = Mapping[xgb.DMatrix, tuple[Any, float]]

# The share of the free memory that features may take. The tree method's own copy, quantised to a
# byte or two, takes less than that.
_SHARE_OF_MEMORY = 0.5

# Rows that are copied to the GPU at a time.
_PART = 2**20


class CannotStayError(Exception):
    """Why a training cannot stay on the GPU."""


class Resident(TrainingCallback):
    """Keeps training on the GPU; raises ``CannotStayError`` if that is impossible.

    For each data set it holds the features in single precision, labels, weights and margins. The
    first data set is the one that is trained on.
    """

    def __init__(
        self,
        params: dict[str, Any],
        datasets: Sequence[xgb.DMatrix],
        training: Training,
        features: Features,
        xgb_model: xgb.Booster | None = None,
    ) -> None:
        _check_can_stay(params, datasets, xgb_model)
        self.params = params
        self.training = training
        self.ordinal = device_ordinal(params["device"])
        self.n_rounds = -1  # of the booster that the margins here belong to
        n_features = datasets[0].num_col()
        try:
            with self.place():
                _check_memory(datasets, features)
                self.rows = {
                    dataset: DeviceRows(dataset, n_features, *features.get(dataset, (None, np.nan)))
                    for dataset in datasets
                }
        except MemoryError as error:  # CuPy's error is one
            raise CannotStayError("too little memory for the features") from error

    @contextmanager
    def place(self) -> Iterator[None]:
        """The device and the stream that XGBoost works on."""
        import cupy

        with cupy.cuda.Device(self.ordinal), cupy.cuda.Stream.ptds:
            yield

    def before_training(self, model: Any) -> xgb.Booster:
        booster = _ResidentBooster(self.params, list(self.rows), model_file=model)
        booster.resident = self
        return booster

    def after_training(self, model: Any) -> xgb.Booster:
        self.rows.clear()
        with self.place():
            _free_pools()
        return xgb.Booster(model_file=model)

    def has_margins_of(self, booster: xgb.Booster) -> bool:
        """Whether the margins are this booster's; callbacks may replace it or its trees."""
        return booster.num_boosted_rounds() == self.n_rounds

    def update(self, booster: xgb.Booster, dtrain: xgb.DMatrix, iteration: int) -> None:
        """Add the trees of an iteration."""
        with self.place():
            if not self.has_margins_of(booster):
                for dataset, rows in self.rows.items():
                    # XGBoost takes the starting margin from the data that it first trains on.
                    is_trained_on = dataset is dtrain
                    rows.start(booster.predict(dataset, output_margin=True, training=is_trained_on))
            self._boost(booster, dtrain, iteration)
            self.n_rounds = booster.num_boosted_rounds()
            for rows in self.rows.values():
                rows.advance(booster)

    def _boost(self, booster: xgb.Booster, dtrain: xgb.DMatrix, iteration: int) -> None:
        # Gradient and Hessian are freed before the update of the margins needs memory.
        rows = self.rows[dtrain]
        y, sample_weight = rows.labels_and_weights
        grad, hess = self.training.gradient_hessian(
            y, rows.margin, sample_weight, single_precision_pair(rows.margin)
        )
        booster.boost(dtrain, iteration, grad=grad, hess=hess)


class _ResidentBooster(xgb.Booster):
    """The booster during training. Copies and pickles of it are plain ``xgb.Booster``."""

    __slots__ = ("resident",)  # copies would take it along in __dict__

    resident: Resident

    def update(self, dtrain: xgb.DMatrix, iteration: int, fobj: Any = None) -> None:
        self.resident.update(self, dtrain, iteration)

    def __reduce__(self) -> Any:
        return copy.copy, (xgb.Booster(model_file=self),)


class DeviceRows:
    """A data set on the GPU, from its features where they are given, else from itself."""

    def __init__(self, dataset: xgb.DMatrix, n_features: int, given: Any, missing: Any) -> None:
        import cupy

        self.dataset = dataset
        self.missing = np.nan if missing is None else float(missing)
        if is_on_device(given):
            self.features = cupy.asarray(given, np.float32)
        elif _is_plain(given):
            self.features = _uploaded(given, n_features, lambda part: part)
        else:
            self.features, self.missing = _uploaded(_data_of(dataset), n_features, _dense), np.nan

    @functools.cached_property
    def labels_and_weights(self) -> tuple[Any, Any]:
        """Labels and weights, read when first needed, as callbacks may set them before."""
        import cupy

        y, sample_weight = labels_and_weights(self.dataset)
        if sample_weight is not None:
            sample_weight = cupy.asarray(sample_weight, np.float32)
        return cupy.asarray(y, np.float32), sample_weight

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


def _check_can_stay(
    params: Mapping[str, Any], datasets: Sequence[xgb.DMatrix], xgb_model: xgb.Booster | None
) -> None:
    """Check what can be known before anything is copied to the GPU."""
    if importlib.util.find_spec("cupy") is None:
        raise CannotStayError("no CuPy (pip install 'focal_gbm[cuda]')")
    problem = cuda_problem()
    if problem:
        raise CannotStayError(problem)
    settings = {**(tree_booster_of(xgb_model) if xgb_model else {}), **params}
    for name, expected in (("booster", "gbtree"), ("process_type", "default")):
        if settings.get(name, expected) != expected:
            raise CannotStayError(f"{name}={settings[name]!r}")
    for name in ("rate_drop", "one_drop"):  # dropout changes trees that the margins include
        if str(settings.get(name, 0)).lower() not in ("0", "0.0", "false"):
            raise CannotStayError(f"{name}={settings[name]!r}")
    for dataset in datasets:
        if isinstance(dataset, xgb.ExtMemQuantileDMatrix):
            raise CannotStayError("external memory")
        # XGBoost would map their codes to those of the training data.
        if dataset is not datasets[0] and "c" in (dataset.feature_types or []):
            raise CannotStayError("categories in an evaluation set")


def _check_memory(datasets: Sequence[xgb.DMatrix], features: Features) -> None:
    import cupy

    def is_there(dataset: xgb.DMatrix) -> bool:
        given: Any = features.get(dataset, (None,))[0]
        return is_on_device(given) and str(given.dtype) in ("float32", "torch.float32")

    size = sum(4 * d.num_row() * d.num_col() for d in datasets if not is_there(d))
    _free_pools()
    free, _ = cupy.cuda.runtime.memGetInfo()
    if size > _SHARE_OF_MEMORY * free:
        raise CannotStayError(f"{size / 1e9:.1f} GB of features and {free / 1e9:.1f} GB free")


def _free_pools() -> None:
    """Free memory that CuPy keeps in its pools, where XGBoost could not use it."""
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()
    cupy.get_default_pinned_memory_pool().free_all_blocks()


def _data_of(dataset: xgb.DMatrix) -> Any:
    """Features of a data set, sparse.

    For a quantised one they are the lower bounds of the bins, which each split sends the same way
    as the bin.
    """
    try:
        return dataset.get_data()
    except xgb.core.XGBoostError as error:
        raise CannotStayError("external memory") from error


def _dense(part: Any) -> Any:
    """Rows of a sparse matrix as a dense one, with NaN for absent entries."""
    if part.nnz == part.shape[0] * part.shape[1]:
        return part.toarray()
    dense = np.full(part.shape, np.nan, np.float32)
    dense[np.repeat(np.arange(part.shape[0]), np.diff(part.indptr)), part.indices] = part.data
    return dense


def _uploaded(rows: Any, n_features: int, dense: Callable[[Any], Any]) -> Any:
    """Rows in single precision on the GPU, with little memory on the host.

    Features that rows lack are missing values, as in XGBoost.
    """
    import cupy

    n_rows, n_given = rows.shape
    features = cupy.full((n_rows, n_features), np.nan, np.float32)
    for start in range(0, n_rows, _PART):
        part = dense(rows[start : start + _PART])
        features[start : start + _PART, :n_given] = cupy.asarray(part, np.float32)
    return features


def _is_plain(features: Any) -> bool:
    """Whether XGBoost reads an array as NumPy does."""
    return type(features) is np.ndarray and features.ndim == 2 and features.dtype.isnative
