"""Labels and weights in partitions on many workers: counted, encoded, sent."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import dask
import dask.array as da
import dask.dataframe as dd
import distributed
import numpy as np
from sklearn.utils.validation import check_is_fitted

from focal_gbm._arrays import to_host
from focal_gbm._estimator import (
    FocalClassifier,
    Targets,
    as_pairs,
    check_at_most,
    checked_weight,
    item,
    of_every_class,
)
from focal_gbm._labels import as_labels, check_discrete, class_weights, encoded_by
from focal_gbm._types import Array
from focal_gbm._validation import as_real


class Names(NamedTuple):
    """What errors call the fields of rows."""

    X: str
    y: str
    weight: str
    margin: str


class Rows(NamedTuple):
    """Rows in partitions on the workers, none of them empty."""

    X: Any
    y: Any
    weight: Any = None
    margin: Any = None  # starting margins


class Summary(NamedTuple):
    """The labels of a partition, each with its number of rows and their total weight."""

    labels: Array
    n_rows: Array
    weight: Array
    n_margins: int | None  # per row, None without margins


def check_client(client: Any) -> distributed.Client:
    """The given client, or else the current one."""
    client = distributed.get_client() if client is None else client
    if not isinstance(client, distributed.Client):
        raise TypeError(f"client: expected a Dask client, got {client!r}")
    if client.asynchronous:
        raise ValueError(
            "client: it is asynchronous: use a synchronous one, or call this in a thread"
        )
    return client


def partitioned(
    model: FocalClassifier, client: distributed.Client, rows: Rows
) -> tuple[Rows, Targets]:
    """Rows with labels as integers and weights times class weights, and their totals.

    The targets that are returned have one label per class, with the total weight of its rows.
    """
    names = Names("X", "y", "sample_weight", model._start_option)
    rows, summaries = _checked(client, rows, names)
    if not summaries:
        raise ValueError("y: it has no labels")
    if len({summary.labels.dtype.kind in "OSTU" for summary in summaries}) > 1:
        kinds = sorted({str(summary.labels.dtype) for summary in summaries})
        raise ValueError(
            f"y: its partitions have labels of several kinds, {kinds}: convert them to one"
        )
    classes = np.unique(np.concatenate([summary.labels for summary in summaries]))
    n_rows, weight = _totals(classes, "y", summaries)
    _check_margins(names, summaries, max(2, classes.size))
    by_class = None
    if model.class_weight is not None:
        by_class = class_weights(model.class_weight, classes, n_rows)
        weight = weight * by_class
    if not weight.any():
        raise ValueError("sample_weight: all weights are zero")
    totals = of_every_class(np.append(weight, 0.0) if classes.size == 1 else weight)
    targets = Targets(
        classes,
        np.arange(totals.size),
        totals,
        model._objective_for(classes, totals),
        totals=totals,
        is_one_class=np.count_nonzero(weight) == 1,
    )
    rows = encoded(client, rows, classes)
    return _times_class_weight(client, rows, by_class), targets


def eval_rows(
    client: distributed.Client,
    eval_set: Any,
    weights: Any,
    margins: Any,
    names: Names,
    X: Any,
    targets: Targets,
) -> list[Rows]:
    """Evaluation sets; raises for labels that the training rows do not have."""
    pairs = as_pairs([] if eval_set is None else eval_set)
    check_at_most(names.weight, weights, pairs)
    check_at_most(names.margin, margins, pairs)
    sets = []
    for i, (X_eval, y_eval) in enumerate(pairs):
        rows = Rows(X_eval, y_eval, item(weights, i), item(margins, i))
        rows, summaries = _checked(client, rows, names)
        if not summaries:
            raise ValueError("eval_set: it has no rows")
        if X_eval.shape[1] != X.shape[1]:
            raise ValueError(f"eval_set: it has {X_eval.shape[1]} features, but X has {X.shape[1]}")
        _, weight = _totals(targets.classes, "eval_set", summaries)
        if not weight.any():
            raise ValueError(f"{names.weight}: all weights are zero")
        _check_margins(names, summaries, targets.n_classes)
        sets.append(rows)
    return sets


def _checked(client: distributed.Client, rows: Rows, names: Names) -> tuple[Rows, list[Summary]]:
    """Rows in the memory of the workers, without empty partitions, and a summary of each partition.

    Everything is computed once, in one pass: the rows counted here are trained on later.
    """
    for name, collection, is_optional in zip(names, rows, (False, False, True, True), strict=True):
        if collection is not None or not is_optional:
            check_collection(name, collection, rows.X)
    given = [None if field is None else by_rows(field) for field in rows]
    given = _persisted(client, given)
    columns = [[None] * _n_parts(rows.X) if field is None else parts_of(field) for field in given]
    summary = dask.delayed(_summary)
    lazy = [summary(names, *part) for part in zip(*columns, strict=True)]
    found = client.gather(client.compute(lazy))
    has_rows = [i for i, summary in enumerate(found) if summary.labels.size]
    if 0 < len(has_rows) < len(found):
        given = [None if field is None else field.partitions[has_rows] for field in given]
        given = _persisted(client, given)
    return Rows(*given), [found[i] for i in has_rows]


def _persisted(client: distributed.Client, collections: list[Any]) -> list[Any]:
    """Collections in workers' memory; arrays and dataframes separately, as they do not mix."""
    persisted = list(collections)
    for kind in (da.Array, dd.DataFrame | dd.Series):
        places = [i for i, collection in enumerate(collections) if isinstance(collection, kind)]
        if places:
            found = client.persist([collections[i] for i in places])
            for i, collection in zip(places, found, strict=True):
                persisted[i] = collection
    return persisted


def _summary(names: Names, X: Any, y: Any, weight: Any, margin: Any) -> Summary:
    y = as_labels(names.y, y)
    if y.size != X.shape[0]:
        raise ValueError(
            f"{names.y}: a partition has {y.size} rows, but that of X has {X.shape[0]}"
        )
    if weight is not None:
        weight = checked_weight(names.weight, weight, y, may_be_zero=True)
    n_margins = None
    if margin is not None:
        margin = as_real(names.margin, to_host(margin))
        n_margins = margin.shape[1] if margin.ndim == 2 else 1
        if margin.shape[0] != y.size:
            raise ValueError(
                f"{names.margin}: a partition has {len(margin)} rows, but that of X has {y.size}"
            )
        if not np.isfinite(margin).all():
            raise ValueError(
                f"{names.margin}: expected finite margins, got {margin[~np.isfinite(margin)][0]}"
            )
    if not y.size:
        return Summary(y, np.zeros(0), np.zeros(0), n_margins)
    check_discrete(names.y, y)
    labels, codes = np.unique(y, return_inverse=True)
    return Summary(labels, np.bincount(codes), np.bincount(codes, weight), n_margins)


def _totals(classes: Array, name: str, summaries: list[Summary]) -> Array:
    """Rows and total weight of each class."""
    totals = np.zeros((2, classes.size))
    for summary in summaries:
        codes = encoded_by(classes, name, summary.labels)
        totals[:, codes] += summary.n_rows, summary.weight
    return totals


def _check_margins(names: Names, summaries: list[Summary], n_classes: int) -> None:
    expected = 1 if n_classes == 2 else n_classes
    for summary in summaries:
        if summary.n_margins not in (None, expected):
            raise ValueError(
                f"{names.margin}: a row has {summary.n_margins} margins, but {n_classes} classes "
                f"take {expected}"
            )


def check_collection(name: str, collection: Any, X: Any) -> None:
    """Check that a collection is Dask's and has as many partitions as X."""
    if not isinstance(collection, da.Array | dd.DataFrame | dd.Series):
        raise TypeError(
            f"{name}: expected a Dask array, dataframe or series, got {type(collection).__name__}"
        )
    expected, found = _n_parts(X), _n_parts(collection)
    if expected != found:
        raise ValueError(
            f"{name}: it has {found} partitions, but X has {expected}: rechunk or repartition it"
        )


def _n_parts(collection: Any) -> int:
    is_array = isinstance(collection, da.Array)
    n_parts: int = collection.numblocks[0] if is_array else collection.npartitions
    return n_parts


def _lengths(collection: Any) -> Sequence[float]:
    """Number of rows of each partition, NaN where it is not known."""
    is_array = isinstance(collection, da.Array)
    return collection.chunks[0] if is_array else [np.nan] * collection.npartitions


def encoded(client: distributed.Client, rows: Rows, classes: Array) -> Rows:
    """Rows with labels as integers from 0."""
    # Computed on the workers before the original labels may be released.
    y = client.persist(_vector(_encode, np.float32, rows.y, (classes,)))
    return rows._replace(y=y)


def _encode(y: Any, classes: Array) -> Array:
    return encoded_by(classes, "y", as_labels("y", y)).astype(np.float32)


def _times_class_weight(client: distributed.Client, rows: Rows, by_class: Array | None) -> Rows:
    """Rows with their weights times their class weights."""
    if by_class is None:
        return rows
    weight = _vector(_item_of, np.float64, rows.y, (by_class,))
    if rows.weight is not None:
        weight = _vector(_product, np.float64, rows.weight, (), weight)
    return rows._replace(weight=client.persist(weight))


def _item_of(codes: Array, by_class: Array) -> Array:
    return by_class[codes.astype(np.intp)]


def _product(weight: Any, of_rows: Array) -> Array:
    product: Array = np.ravel(to_host(weight)) * of_rows
    return product


def _vector(
    function: Any, dtype: Any, rows: Any, arguments: Sequence[Any], *others: Any
) -> da.Array:
    """A function of the partitions of rows, as a lazy array."""
    blocks = [
        da.from_delayed(dask.delayed(function)(*parts, *arguments), (n,), dtype)
        for n, *parts in zip(_lengths(rows), *map(parts_of, (rows, *others)), strict=True)
    ]
    return da.concatenate(blocks, allow_unknown_chunksizes=True)


class DaskFocalClassifier(FocalClassifier):
    """What the two Dask classifiers share."""

    classes_: Array
    n_classes_: int
    _margin_dtype: ClassVar[type]

    def decision_function(self, X: Any, *, prior: Any = None, **predict_params: Any) -> Any:
        """Log-odds of the posterior for two classes, log posteriors for more.

        Parameters
        ----------
        X : dask array or dataframe of shape (n, n_features)
            Features.
        prior : float, dict or sequence of floats, optional
            As for ``predict_proba``.
        **predict_params
            As for ``predict``.

        Returns
        -------
        dask array of shape (n,) or (n, n_classes)

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.

        Examples
        --------
        >>> import dask.array as da
        >>> from dask.distributed import Client
        >>> from focal_gbm.dask import DaskFocalXGBClassifier
        >>> with Client(processes=False, n_workers=1, dashboard_address=":0"):
        ...     X = da.random.default_rng(0).normal(size=(500, 3), chunks=(250, 3)).persist()
        ...     model = DaskFocalXGBClassifier(n_estimators=5).fit(X, X[:, 0] > 1)
        ...     model.decision_function(X).compute().shape
        (500,)
        """
        self._loss_at(prior)  # which checks it
        n_columns = self._n_margins
        local = self.to_local()  # type: ignore[attr-defined]
        return of_partitions(
            local,
            "decision_function",
            self._margin_dtype,
            n_columns,
            X,
            prior=prior,
            **predict_params,
        )

    @property
    def _n_margins(self) -> int | None:
        """Columns of the margins, None for a vector."""
        check_is_fitted(self)
        return self.n_classes_ if self.n_classes_ > 2 else None


def of_partitions(
    model: Any, method: str, dtype: Any, n_columns: int | None, X: Any, **options: Any
) -> da.Array:
    """Lazy predictions of a model for the rows of X, partition by partition.

    Options that are collections are split by partition too.
    """
    check_collection("X", X, X)
    collections = {name: value for name, value in options.items() if dask.is_dask_collection(value)}
    for name, collection in collections.items():
        check_collection(name, collection, X)
        del options[name]
    lazy_model = dask.delayed(model, pure=False)  # once, not once in each task
    others = [parts_of(collection) for collection in collections.values()]
    blocks = []
    for rows, part, *of_part in zip(_lengths(X), parts_of(X), *others, strict=True):
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


def by_rows(collection: Any) -> Any:
    """An array that is split by rows only."""
    is_matrix = isinstance(collection, da.Array) and collection.ndim == 2
    return collection.rechunk({1: -1}) if is_matrix else collection


def parts_of(collection: Any) -> list[Any]:
    """Partitions of rows."""
    parts: list[Any] = np.ravel(by_rows(collection).to_delayed()).tolist()
    return parts
