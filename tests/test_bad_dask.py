"""What a user can get wrong on a cluster, and the error that says so."""

import asyncio

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
import xgboost.dask as dxgb
from clusters import PAIRS, data, make, split
from dask.distributed import Client

from focal_gbm import FocalObjective
from focal_gbm.dask import DaskFocalLGBMClassifier, train
from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier

pytestmark = pytest.mark.filterwarnings("ignore:Sending large graph")


def lazy_text(n):
    """Text that is said to be numbers, as only the workers find out."""
    return da.from_delayed(dask.delayed(np.full)(n, "text"), (n,), np.int64)


BAD = {
    "X of NumPy": (lambda f: f | {"X": np.zeros((4, 2))}, TypeError, "X: expected a Dask"),
    "y of NumPy": (lambda f: f | {"y": np.zeros(4)}, TypeError, "y: expected a Dask"),
    "weights of NumPy": (
        lambda f: f | {"sample_weight": np.ones(3000)},
        TypeError,
        "sample_weight: expected a Dask",
    ),
    "other partitions": (
        lambda f: f | {"y": f["y"].rechunk(500)},
        ValueError,
        "y: it has 6 partitions, but X has 2",
    ),
    "missing label": (
        lambda f: f | {"y": f["y"] * np.nan},
        ValueError,
        "y: 1500 of 1500 labels are missing",
    ),
    "negative weight": (
        lambda f: f | {"sample_weight": f["y"] - 1.0},
        ValueError,
        "sample_weight: expected",
    ),
    "length of weights": (
        lambda f: f | {"sample_weight": da.ones(30, chunks=15)},
        ValueError,
        "sample_weight: expected",
    ),
    "evaluation set of NumPy": (
        lambda f: f | {"eval_set": [(np.zeros((4, 4)), np.zeros(4))]},
        TypeError,
        "eval_set: expected a Dask",
    ),
    "lengths of partitions": (
        lambda f: f | {"y": f["y"].rechunk(((1000, 2000),))},
        ValueError,
        "y: a partition has [12]000 rows, but that of X has 1500",
    ),
    "labels of an empty partition": (
        lambda f: f | {"y": da.concatenate([f["y"][:0], f["y"]]).rechunk(((0, 3000),))},
        ValueError,
        "y: a partition has [0-9]+ rows, but that of X has 1500",
    ),
    "kinds of labels": (
        lambda f: f | {"y": da.concatenate([lazy_text(1500), f["y"][1500:]])},
        ValueError,
        "y: its partitions have labels of several kinds",
    ),
    "missing text": (
        lambda f: f | {"y": dd.from_pandas(pd.Series(["a", None] * 1500), npartitions=2)},
        ValueError,
        "y: 750 of 1500 labels are missing",
    ),
    "empty evaluation set": (
        lambda f: f | {"eval_set": [(f["X"][:0], f["y"][:0])]},
        ValueError,
        "eval_set: it has no rows",
    ),
    "features of an evaluation set": (
        lambda f: f | {"eval_set": [(f["X"][:, :3], f["y"])]},
        ValueError,
        "eval_set: it has 3 features, but X has 4",
    ),
    "no pairs": (lambda f: f | {"eval_set": f["X"]}, TypeError, "eval_set: expected a list"),
    "a pair of one": (
        lambda f: f | {"eval_set": [(f["X"],)]},
        TypeError,
        "eval_set: .*got tuple at place 0",
    ),
    "label of an evaluation set": (
        lambda f: f | {"eval_set": [(f["X"], f["y"] + 5)]},
        ValueError,
        "eval_set: expected labels among",
    ),
}


@pytest.mark.parametrize(("kind", "local"), PAIRS)
@pytest.mark.parametrize("case", BAD)
def test_bad_input(client, kind, local, case):
    change, error, message = BAD[case]
    X, y = data()
    fields = change({"X": split(X, (1500, 1500)), "y": split(y, (1500, 1500))})
    model = make(kind, local)
    with pytest.raises(error, match=message):
        model.fit(**fields)
    assert not model.__sklearn_is_fitted__()


@pytest.mark.parametrize(("kind", "local"), PAIRS)
def test_bad_parameters(client, kind, local):
    X, y = data()
    dX, dy = split(X, (1500, 1500)), split(y, (1500, 1500))
    with pytest.raises(ValueError, match=r"scale_pos_weight: .*ignores it"):
        make(kind, local, scale_pos_weight=3.0).fit(dX, dy)
    with pytest.raises(ValueError, match="focal_gamma: expected"):
        make(kind, local, focal_gamma=-1.0).fit(dX, dy)
    for start, message in (
        (np.full(len(y), np.inf), "expected finite"),
        (np.zeros((len(y), 3)), "a row has 3 margins, but 2 classes take 1"),
    ):
        option = {kind._start_option: split(start, (1500, 1500))}
        with pytest.raises(ValueError, match=f"{kind._start_option}: {message}"):
            make(kind, local).fit(dX, dy, **option)
    with pytest.raises(ValueError, match="class_weight: expected"):
        make(kind, local, class_weight={0: -1.0}).fit(dX, dy)
    weights = "sample_weight_eval_set" if local is FocalXGBClassifier else "eval_sample_weight"
    for sets, given, message in (
        ([], [dy], "got 1, but there are 0"),
        ([(dX, dy)], [dy * 0.0], "all weights are zero"),
        ([(dX, dy)], [dy - 1.0], "expected"),
    ):
        with pytest.raises(ValueError, match=f"{weights}: {message}"):
            make(kind, local).fit(dX, dy, eval_set=sets, **{weights: given})
    if local is FocalLGBMClassifier:
        with pytest.raises(ValueError, match="linear_tree: on Dask"):
            make(kind, local, linear_trees=True).fit(dX, dy)
    else:
        with pytest.raises(
            ValueError, match="feature_weights is given to the constructor and to fit"
        ):
            make(kind, local, feature_weights=np.ones(4)).fit(dX, dy, feature_weights=np.ones(4))
        make(kind, local, feature_weights=np.ones(4)).fit(dX.rechunk((1500, 2)), dy)


def test_bad_arguments_of_train(client):
    X, y = data()
    dtrain = dxgb.DaskDMatrix(client, split(X, (1500, 1500)), split(y, (1500, 1500)))
    objective = FocalObjective()
    with pytest.raises(TypeError, match="obj: expected a FocalObjective"):
        train(client, {}, dtrain, obj="focal")
    with pytest.raises(TypeError, match="dtrain: expected a DaskDMatrix, got DMatrix"):
        train(client, {}, xgb.DMatrix(X, y), obj=objective)
    with pytest.raises(TypeError, match="evals: expected a DaskDMatrix, got DMatrix"):
        train(client, {}, dtrain, obj=objective, evals=[(xgb.DMatrix(X, y), "test")])
    with pytest.raises(TypeError, match="client: expected a Dask client, got 'here'"):
        train("here", {}, dtrain, obj=objective)
    with pytest.raises(ValueError, match="scale_pos_weight"):
        train(client, {"scale_pos_weight": 2}, dtrain, obj=objective)
    with pytest.raises(ValueError, match=r"y: expected labels in \[0, 1\]"):
        train(
            client,
            {},
            dxgb.DaskDMatrix(client, split(X, (1500, 1500)), split(y + 1, (1500, 1500))),
            obj=objective,
        )
    with pytest.raises(ValueError, match="y: the DaskDMatrix has no labels"):
        train(client, {}, dxgb.DaskDMatrix(client, split(X, (1500, 1500))), obj=objective)


def test_asynchronous_clients_are_refused(client):
    async def fit():
        async with Client(client.scheduler.address, asynchronous=True) as other:
            model = DaskFocalLGBMClassifier(client=other)
            with pytest.raises(ValueError, match="client: it is asynchronous"):
                model.fit(da.zeros((4, 2)), da.zeros(4))

    asyncio.run(fit())
