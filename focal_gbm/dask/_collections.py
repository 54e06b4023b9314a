"""Labels and weights that lie in partitions on many workers: counted, encoded, sent."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import dask
import dask.array as da
import dask.dataframe as dd
import distributed
import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import assert_all_finite, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from focal_gbm._arrays import to_host
from focal_gbm._estimator import FocalClassifier, Training, check_start, checked_weight

Array = NDArray[Any]


class Partitions(NamedTuple):
    """What a classifier is fitted to, row by row on the workers, and its labels summed up."""

    X: Any
    y: da.Array  # integers from 0
    sample_weight: da.Array | None
    margin: Any  # to start from, None for none
    training: Training  # one row of each class, with the weight of all of its rows


def check_client(client: Any) -> distributed.Client:
    """The client that is given, or else the current one."""
    client = distributed.get_client() if client is None else client
    if not isinstance(client, distributed.Client):
        raise TypeError(f"client: expected a Dask client, got {client!r}")
    if client.asynchronous:
        raise ValueError(
            "client: expected a synchronous client, got an asynchronous one: call this in a thread"
        )
    return client


def partitioned(
    model: FocalClassifier,
    client: distributed.Client,
    X: Any,
    y: Any,
    sample_weight: Any,
    margin: Any,
) -> Partitions:
    """Count the labels in one pass, and leave partitions without rows behind."""
    fields = {"X": X, "y": y, "sample_weight": sample_weight, model._start_option: margin}
    for name, collection in fields.items():
        check_collection(name, collection, X)
    n_parts = _n_parts(X)
    columns = [
        [None] * n_parts if field is None else parts_of(field)
        for field in (y, sample_weight, margin)
    ]
    count = dask.delayed(_class_counts)
    lazy = [count(*part, model._start_option) for part in zip(*columns, strict=True)]
    counts = client.gather(client.compute(lazy))
    has_rows = [i for i, (labels, _, _) in enumerate(counts) if labels.size]
    if not has_rows:
        raise ValueError("y: expected labels of two or more classes, got none")
    encoder = LabelEncoder().fit(np.concatenate([counts[i][0] for i in has_rows]))
    classes = encoder.classes_
    if classes.size < 2:
        raise ValueError(f"y: expected labels of two or more classes, got one, {classes[0]!r}")
    totals = np.zeros((2, classes.size))
    for i in has_rows:
        labels, *of_part = counts[i]
        totals[:, encoder.transform(labels)] += of_part
    n_rows, weight = totals
    by_class = None
    if model.class_weight is not None:
        by_class = _class_weights(model.class_weight, classes, n_rows)
        weight = weight * by_class
    objective = model._objective_for(classes.size)
    each = np.arange(classes.size)
    objective = objective.resolve(each, weight, n_classes=classes.size)
    training = Training(encoder, each, weight, objective, of_all=(each, weight))
    if len(has_rows) < len(counts):
        X, y, sample_weight, margin = (
            None if collection is None else collection.partitions[has_rows]
            for collection in (X, y, sample_weight, margin)
        )
    y = encoded(y, encoder)
    return Partitions(X, y, _times(sample_weight, by_class, y), margin, training)


def check_collection(name: str, collection: Any, X: Any) -> None:
    """Check that a collection is Dask's and has as many partitions as X."""
    if collection is None and name != "y":
        return
    if not isinstance(collection, da.Array | dd.DataFrame | dd.Series):
        raise TypeError(
            f"{name}: expected a Dask array, dataframe or series, got {type(collection).__name__}"
        )
    expected, found = _n_parts(X), _n_parts(collection)
    if expected != found:
        raise ValueError(
            f"{name}: expected the {expected} partitions of X, got {found}: rechunk or repartition"
        )


def _n_parts(collection: Any) -> int:
    is_array = isinstance(collection, da.Array)
    n_parts: int = collection.numblocks[0] if is_array else collection.npartitions
    return n_parts


def _class_counts(
    y: Any, sample_weight: Any, margin: Any, margin_name: str
) -> tuple[Array, Array, Array]:
    """Labels of a partition, and for each of them the number of rows and their total weight."""
    y = column_or_1d(to_host(y))
    if not y.size:
        return y, np.zeros(0), np.zeros(0)
    assert_all_finite(y, input_name="y")
    check_classification_targets(y)
    labels, codes = np.unique(y, return_inverse=True)
    n_rows = np.bincount(codes)
    if margin is not None:
        check_start(margin_name, margin, y, max(2, np.size(margin) // y.size))
    if sample_weight is None:
        return labels, n_rows, n_rows
    weight = checked_weight("sample_weight", sample_weight, codes, may_be_zero=True)
    return labels, n_rows, np.bincount(codes, weight)


def _class_weights(class_weight: Any, classes: Array, n_rows: Array) -> Array:
    if isinstance(class_weight, str) and class_weight == "balanced":
        # scikit-learn would want the labels themselves.
        return np.asarray(n_rows.sum() / (classes.size * n_rows))
    weights: Array = compute_class_weight(class_weight, classes=classes, y=classes)
    return weights


def encoded(y: Any, encoder: LabelEncoder) -> da.Array:
    """Labels as integers from 0."""
    return _vector(_encode, np.float32, y, (encoder,))


def _encode(y: Any, encoder: LabelEncoder) -> Array:
    y = column_or_1d(to_host(y))
    codes: Array = encoder.transform(y) if y.size else np.zeros(0)
    return codes.astype(np.float32)


def _times(weight: Any, by_class: Array | None, y: da.Array) -> Any:
    """Weights of rows times those of their classes."""
    if by_class is None:
        return weight
    of_rows = _vector(_item_of, np.float64, y, (by_class,))
    return of_rows if weight is None else _vector(_product, np.float64, weight, (), of_rows)


def _item_of(codes: Array, by_class: Array) -> Array:
    return by_class[codes.astype(np.intp)]


def _product(weight: Any, of_rows: Array) -> Array:
    product: Array = np.ravel(to_host(weight)) * of_rows
    return product


def _vector(
    function: Any, dtype: Any, rows: Any, arguments: Sequence[Any], *others: Any
) -> da.Array:
    """A function of the partitions of rows, as an array; it is lazy."""
    n_rows = rows.chunks[0] if isinstance(rows, da.Array) else [np.nan] * rows.npartitions
    blocks = [
        da.from_delayed(dask.delayed(function)(*parts, *arguments), (n,), dtype)
        for n, *parts in zip(n_rows, *map(parts_of, (rows, *others)), strict=True)
    ]
    return da.concatenate(blocks, allow_unknown_chunksizes=True)


def eval_pairs(
    client: distributed.Client, eval_set: Any, training: Training
) -> list[tuple[Any, Any]]:
    """Evaluation sets, once their labels are known to be among those of the training."""
    if not isinstance(eval_set, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in eval_set
    ):
        raise TypeError(f"eval_set: expected a list of pairs (X, y), got {type(eval_set).__name__}")
    for X, y in eval_set:
        check_collection("eval_set", X, X)
        check_collection("eval_set", y, X)
    check = dask.delayed(_check_known)
    lazy = [check(part, training.encoder) for _, y in eval_set for part in parts_of(y)]
    client.gather(client.compute(lazy))
    return list(eval_set)


def _check_known(y: Any, encoder: LabelEncoder) -> None:
    try:
        _encode(y, encoder)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"eval_set: expected labels among those of y, {encoder.classes_}: {error}"
        ) from None


def per_eval_set(name: str, of_each_set: Sequence[Any] | None, pairs: Sequence[Any]) -> list[Any]:
    """What is given for each evaluation set, checked against its partitions; None where nothing."""
    given = list(of_each_set or [])
    for collection, (X, _) in zip(given, pairs, strict=False):
        check_collection(name, collection, X)
    return given + [None] * (len(pairs) - len(given))


def of_partitions(
    model: Any, method: str, dtype: Any, n_columns: int | None, X: Any, **options: Any
) -> da.Array:
    """What a model predicts for the rows of X, partition by partition, when it is asked for.

    Options that are collections go by partition too.
    """
    check_collection("X", X, X)
    collections = {name: value for name, value in options.items() if dask.is_dask_collection(value)}
    for name, collection in collections.items():
        check_collection(name, collection, X)
        del options[name]
    lazy_model = dask.delayed(model, pure=False)  # once, not once in each task
    n_rows = X.chunks[0] if isinstance(X, da.Array) else [np.nan] * X.npartitions
    others = [parts_of(collection) for collection in collections.values()]
    blocks = []
    for rows, part, *of_part in zip(n_rows, parts_of(X), *others, strict=True):
        given = dict(zip(collections, of_part, strict=True))
        shape = (rows,) if n_columns is None else (rows, n_columns)
        predicted = dask.delayed(_predicted)(
            lazy_model, method, shape[1:], dtype, part, given, options
        )
        blocks.append(da.from_delayed(predicted, shape, dtype))
    return da.concatenate(blocks, allow_unknown_chunksizes=True)


def _predicted(
    model: Any,
    method: str,
    columns: tuple[int, ...],
    dtype: Any,
    part: Any,
    given: dict[str, Any],
    options: dict[str, Any],
) -> Array:
    if not part.shape[0]:
        return np.zeros((0, *columns), dtype)
    predicted: Array = to_host(getattr(model, method)(part, **given, **options))
    return predicted


def parts_of(collection: Any) -> list[Any]:
    """Partitions of rows; an array must not be split by columns."""
    if isinstance(collection, da.Array) and collection.ndim == 2:
        collection = collection.rechunk({1: -1})
    parts: list[Any] = np.ravel(collection.to_delayed()).tolist()
    return parts
