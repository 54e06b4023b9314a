"""What takes the place of a library's function takes its arguments, in their places."""

import inspect

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
import xgboost.dask as dxgb
from numpy.testing import assert_array_equal

from focal_gbm import FocalObjective
from focal_gbm import lightgbm as focal_lightgbm
from focal_gbm import xgboost as focal_xgboost
from focal_gbm.dask import DaskFocalLGBMClassifier, DaskFocalXGBClassifier
from focal_gbm.dask import train as dask_train
from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier

# Classification has no queries.
LEFT_OUT = {"group", "eval_group", "eval_at", "kwargs"}

PAIRS = [
    (focal_xgboost.train, xgb.train, {"label_totals"}),
    (focal_lightgbm.train, lgb.train, {"label_totals"}),
    (focal_xgboost.cv, xgb.cv, set()),
    (focal_lightgbm.cv, lgb.cv, set()),
    (dask_train, dxgb.train, set()),
    (FocalXGBClassifier.fit, xgb.XGBClassifier.fit, set()),
    (FocalXGBClassifier.predict, xgb.XGBClassifier.predict, {"prior"}),
    (FocalXGBClassifier.predict_proba, xgb.XGBClassifier.predict_proba, {"posterior", "prior"}),
    (FocalLGBMClassifier.fit, lgb.LGBMClassifier.fit, {"eval_X", "eval_y"}),
    (FocalLGBMClassifier.predict, lgb.LGBMClassifier.predict, {"prior"}),
    (FocalLGBMClassifier.predict_proba, lgb.LGBMClassifier.predict_proba, {"posterior", "prior"}),
    (DaskFocalXGBClassifier.fit, dxgb.DaskXGBClassifier.fit, set()),
    (DaskFocalXGBClassifier.predict, dxgb.DaskXGBClassifier.predict, {"prior"}),
]


def arguments(function):
    """Names of arguments by position, and all names."""
    parameters = inspect.signature(function).parameters.values()
    of_place = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return of_place, {p.name for p in parameters}


@pytest.mark.parametrize(
    ("ours", "theirs", "added"), PAIRS, ids=[pair[0].__qualname__ for pair in PAIRS]
)
def test_arguments_and_their_places(ours, theirs, added):
    places, names = arguments(ours)
    their_places, their_names = arguments(theirs)
    assert places == [name for name in their_places if name in names]
    assert their_names - LEFT_OUT <= names | LEFT_OUT
    assert names - their_names <= added
    # Where XGBoost has a wrapper, it takes more arguments by position, with a warning.
    assert hasattr(ours, "__wrapped__") == hasattr(theirs, "__wrapped__")


def test_arguments_that_xgboost_takes_by_their_places_with_a_warning():
    X = np.random.default_rng(0).normal(size=(200, 3))
    y, weight, objective = X[:, 0] > 0, np.arange(200) % 3 + 1.0, FocalObjective(2.0)
    dtrain, log = xgb.DMatrix(X, y), {}
    with pytest.warns(FutureWarning, match="Pass `evals, obj` as keyword args"):
        by_places = focal_xgboost.train(
            {}, dtrain, 2, [(dtrain, "train")], objective, evals_result=log, verbose_eval=False
        )
    by_names = focal_xgboost.train({}, dtrain, 2, obj=objective)
    assert list(log) == ["train"]
    assert by_places.save_raw() == by_names.save_raw()
    with pytest.warns(FutureWarning, match="Pass `sample_weight` as keyword args"):
        by_places = FocalXGBClassifier(n_estimators=2).fit(X, y, weight)
    by_names = FocalXGBClassifier(n_estimators=2).fit(X, y, sample_weight=weight)
    with pytest.warns(FutureWarning, match="Pass `output_margin` as keyword args"):
        margin = by_places.predict(X, True)
    assert_array_equal(margin, by_names.predict(X, output_margin=True))


@pytest.mark.parametrize("library", [(focal_xgboost, xgb), (focal_lightgbm, lgb)])
def test_defaults_of_cv(library):
    ours, theirs = (
        {name: p.default for name, p in inspect.signature(module.cv).parameters.items()}
        for module in library
    )
    assert ours == theirs


def test_lightgbm_on_dask():
    places, names = arguments(DaskFocalLGBMClassifier.fit)
    assert places == arguments(lgb.DaskLGBMClassifier.fit)[0][: len(places)]
    _, of_one_machine = arguments(FocalLGBMClassifier.fit)
    assert of_one_machine <= names
    places, _ = arguments(DaskFocalLGBMClassifier.predict_proba)
    assert places == arguments(lgb.DaskLGBMClassifier.predict_proba)[0]
