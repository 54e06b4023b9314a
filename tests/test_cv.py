"""Cross-validation: the library's own, of which each fold is what train makes of its rows."""

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import GroupKFold, StratifiedKFold

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import FocalObjective
from focal_gbm.xgboost import _cv as xgboost_cv

# Larger leaves: rounding of gradients decides between splits of almost equal gain.
XGBOOST = {"max_depth": 3, "eta": 0.2, "nthread": 1, "min_child_weight": 10}
LIGHTGBM = {"num_leaves": 6, "learning_rate": 0.2, "num_threads": 1, "verbosity": -1}

rng = np.random.default_rng(0)
N = 1500
X = rng.normal(size=(N, 4))
SCORE = X[:, 0] + X[:, 1] ** 2 / 2 + rng.normal(size=N)
LABELS = {2: (SCORE > 2).astype(int), 3: np.digitize(SCORE, [0.0, 2.0])}
WEIGHT = rng.gamma(2.0, size=N)
GROUPS = np.arange(N) % 7
FOLDS = list(StratifiedKFold(3, shuffle=True, random_state=1).split(X, LABELS[3]))
OBJECTIVES = [FocalObjective(2.0), FocalObjective((1.0, 3.0), "balanced")]


def several(n_classes):
    return {"num_class": n_classes} if n_classes > 2 else {}


def matrix(rows=slice(None), n_classes=2, X=X):
    return xgb.DMatrix(X[rows], LABELS[n_classes][rows], weight=WEIGHT[rows], nthread=1)


def dataset(rows=slice(None), n_classes=2, **options):
    return lgb.Dataset(X[rows], LABELS[n_classes][rows], weight=WEIGHT[rows], **options)


class Boosters(xgb.callback.TrainingCallback):
    """Takes the boosters of the folds once they are complete."""

    def after_training(self, model):
        self.boosters = [fold.bst for fold in model.cvfolds]
        return model


# Each is given to the library and to this package.
SPLITS = {
    "stratified": {"stratified": True},
    "by number": {"stratified": False, "nfold": 4},
    "in order": {"stratified": False, "shuffle": False},
    "seed": {"seed": 7, "stratified": True},
    "list": {"folds": FOLDS},
    "splitter": {"folds": StratifiedKFold(3)},
}


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_gamma_zero_is_the_cv_of_log_loss_in_xgboost(n_classes, split):
    log_loss, objective = (
        ("logloss", "binary:logistic") if n_classes == 2 else ("mlogloss", "multi:softprob")
    )
    params = {**XGBOOST, **several(n_classes)}
    options = {**split, "metrics": ["auc", log_loss]}
    theirs = xgb.cv({**params, "objective": objective}, matrix(n_classes=n_classes), **options)
    ours = focal_gbm.xgboost.cv(
        params, matrix(n_classes=n_classes), obj=FocalObjective(0.0), **options
    )
    assert list(ours) == list(theirs)
    assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The groups parameter is ignored")
@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_gamma_zero_is_the_cv_of_log_loss_in_lightgbm(n_classes, split):
    objective = "binary" if n_classes == 2 else "multiclass"
    metrics = {2: ["auc", "binary_logloss"], 3: ["multi_error", "multi_logloss"]}[n_classes]
    params = {**LIGHTGBM, **several(n_classes)}
    options = {**split, "metrics": metrics, "eval_train_metric": True}
    train_set = dataset(n_classes=n_classes)
    theirs = lgb.cv({**params, "objective": objective}, train_set, 20, **options)
    train_set = dataset(n_classes=n_classes)
    ours = focal_gbm.lightgbm.cv(
        {**params, "objective": FocalObjective(0.0)}, train_set, 20, **options
    )
    assert list(ours) == list(theirs)
    for name, values in theirs.items():
        assert_allclose(ours[name], values, rtol=1e-12, atol=1e-15)


def mean_and_std(curves):
    return np.mean(curves, axis=0), np.std(curves, axis=0)


def share_of_negative(margin, data):
    return [("negative", float(np.mean(margin < 0))), ("mean", float(np.mean(margin)))]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("names", [[], ["aucpr", "logloss"]])
def test_each_fold_is_a_training_of_xgboost(objective, names):
    params = {**XGBOOST, **({"eval_metric": names} if names else {})}
    taken = Boosters()
    table = focal_gbm.xgboost.cv(
        params,
        matrix(),
        8,
        folds=FOLDS,
        obj=objective,
        custom_metric=share_of_negative if names else None,
        callbacks=[taken],
    )
    curves = {}
    for (rows, others), booster in zip(FOLDS, taken.boosters, strict=True):
        dtrain, history = matrix(rows), {}
        expected = focal_gbm.xgboost.train(
            params,
            dtrain,
            8,
            obj=objective,
            evals=[(dtrain, "train"), (matrix(others), "test")],
            evals_result=history,
            verbose_eval=False,
            custom_metric=share_of_negative if names else None,
        )
        for data_name, metrics in history.items():
            for name, curve in metrics.items():
                curves.setdefault(f"{data_name}-{name}", []).append(curve)
        assert_allclose(booster.predict(matrix()), expected.predict(matrix()), rtol=1e-6)
        assert booster.attr("focal_loss") == expected.attr("focal_loss")
    if not names:
        assert set(curves) == {"train-focal_loss", "test-focal_loss"}
    for name, of_folds in curves.items():
        mean, std = mean_and_std(of_folds)
        assert_allclose(table[f"{name}-mean"], mean, rtol=1e-12)
        assert_allclose(table[f"{name}-std"], std, rtol=1e-9, atol=1e-15)
    assert table.shape == (8, 2 * len(curves))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    "boosting", [{}, {"boosting": "dart", "drop_seed": 3}, {"boost_from_average": False}], ids=str
)
@pytest.mark.parametrize("names", [[], ["auc", "binary_logloss"]])
def test_each_fold_is_a_training_of_lightgbm(objective, boosting, names):
    params = {**LIGHTGBM, "objective": objective, **boosting}
    params |= {"metric": names} if names else {}

    def mean_margin(margin, data):
        return "mean", float(np.mean(margin)), True

    feval = [mean_margin] if names else None
    # When asked for margins of the training rows, DART drops trees for the next iteration.
    is_dart = "boosting" in boosting
    data_names = ["valid"] if is_dart else ["train", "valid"]
    train_set = dataset(free_raw_data=False)
    results = focal_gbm.lightgbm.cv(
        params,
        train_set,
        8,
        folds=FOLDS,
        feval=feval,
        eval_train_metric=not is_dart,
        return_cvbooster=True,
    )
    boosters = results.pop("cvbooster").boosters
    curves = {}
    for (rows, others), booster in zip(FOLDS, boosters, strict=True):
        history, of_fold = {}, train_set.subset(np.sort(rows))
        expected = focal_gbm.lightgbm.train(
            params,
            of_fold,
            8,
            [of_fold, train_set.subset(np.sort(others))][-len(data_names) :],
            data_names,
            feval,
            callbacks=[lgb.record_evaluation(history)],
        )
        for data_name, metrics in history.items():
            for name, curve in metrics.items():
                curves.setdefault(f"{data_name} {name}", []).append(curve)
        assert_array_equal(booster.predict(X), expected.predict(X))
        assert booster.params["objective"] == "binary_focal_loss"
    if not names:
        assert set(curves) == {f"{name} focal_loss" for name in data_names}
    for name, of_folds in curves.items():
        mean, std = mean_and_std(of_folds)
        assert_allclose(results.pop(f"{name}-mean"), mean, rtol=1e-12)
        assert_allclose(results.pop(f"{name}-stdv"), std, rtol=1e-9, atol=1e-15)
    assert not results


def posterior_totals(objective, rows, margin):
    loss = objective.resolve(LABELS[2][rows], WEIGHT[rows]).loss
    return WEIGHT[rows] @ loss.posterior(margin.astype(float)), WEIGHT[rows] @ LABELS[2][rows]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_early_stopping_in_xgboost(objective):
    taken = Boosters()
    table = focal_gbm.xgboost.cv(
        {**XGBOOST, "eta": 1.0},
        matrix(),
        100,
        folds=FOLDS,
        obj=objective,
        early_stopping_rounds=3,
        callbacks=[taken],
        as_pandas=False,
    )
    curve = table["test-focal_loss-mean"]
    assert len(curve) < 97
    assert np.argmin(curve) == len(curve) - 1
    for (rows, _), booster in zip(FOLDS, taken.boosters, strict=True):
        assert booster.best_iteration == len(curve) - 1
        used = (0, booster.best_iteration + 1)
        margin = booster.predict(matrix(rows), output_margin=True, iteration_range=used)
        found, expected = posterior_totals(objective, rows, margin)
        assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("by", ["parameter", "callback"])
def test_early_stopping_in_lightgbm(objective, by):
    params = {**LIGHTGBM, "learning_rate": 1.0, "objective": objective}
    results = focal_gbm.lightgbm.cv(
        params | ({"early_stopping_round": 3} if by == "parameter" else {}),
        dataset(),
        100,
        folds=FOLDS,
        callbacks=[lgb.early_stopping(3, verbose=False)] if by == "callback" else None,
        return_cvbooster=True,
    )
    curve, cvbooster = results["valid focal_loss-mean"], results["cvbooster"]
    assert np.argmin(curve) == len(curve) - 1 == cvbooster.best_iteration - 1 < 96
    for (rows, _), booster in zip(FOLDS, cvbooster.boosters, strict=True):
        assert booster.best_iteration == booster.num_trees() == len(curve)
        found, expected = posterior_totals(
            objective, rows, booster.predict(X[rows], raw_score=True)
        )
        assert_allclose(found, expected, rtol=1e-5)


def test_continued_folds_of_lightgbm_keep_the_model_before():
    params = {**LIGHTGBM, "learning_rate": 1.0, "objective": FocalObjective(2.0)}
    first = focal_gbm.lightgbm.train({**params, "learning_rate": 0.1}, dataset(), 5)
    results = focal_gbm.lightgbm.cv(
        params,
        dataset(free_raw_data=False),
        50,
        init_model=first,
        callbacks=[lgb.early_stopping(2, verbose=False)],
        return_cvbooster=True,
    )
    n_rounds = len(results["valid focal_loss-mean"])
    for booster in results["cvbooster"].boosters:
        assert booster.best_iteration == booster.num_trees() == 5 + n_rounds


def test_groups_of_lightgbm_are_kept_together():
    order = np.argsort(GROUPS, kind="stable")
    sizes = np.bincount(GROUPS)
    params = {**LIGHTGBM, "objective": FocalObjective(2.0), "metric": "binary_logloss"}
    train_set = dataset(order, group=sizes)
    grouped = focal_gbm.lightgbm.cv(params, train_set, 5, folds=GroupKFold(3))
    splits = GroupKFold(3).split(X[order], groups=GROUPS[order])
    train_set = dataset(order, group=sizes)
    assert grouped == focal_gbm.lightgbm.cv(params, train_set, 5, folds=splits)


def test_queries_of_xgboost_are_kept_together():
    order = np.argsort(GROUPS, kind="stable")
    params = {**XGBOOST, "eval_metric": ["auc", "logloss"]}

    def queries():  # without weights of rows
        dtrain = xgb.DMatrix(X[order], LABELS[2][order], nthread=1)
        dtrain.set_group(np.bincount(GROUPS))
        return dtrain

    theirs = xgb.cv({**params, "objective": "binary:logistic"}, queries())
    ours = focal_gbm.xgboost.cv(params, queries(), obj=FocalObjective(0.0))
    assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_preprocessing_of_a_fold():
    """It gets the user's parameters, and what it returns counts."""
    seen = []

    def one_level(train_set, valid_set, params):
        seen.append(params)
        return train_set, valid_set, {**params, "max_depth": 1}

    objective = FocalObjective(2.0)
    deep = {**XGBOOST, "eval_metric": "logloss"}
    found = focal_gbm.xgboost.cv(deep, matrix(), folds=FOLDS, obj=objective, fpreproc=one_level)
    flat = {**deep, "max_depth": 1}
    assert_array_equal(found, focal_gbm.xgboost.cv(flat, matrix(), folds=FOLDS, obj=objective))

    deep = {**LIGHTGBM, "objective": objective, "metric": "auc"}
    found = focal_gbm.lightgbm.cv(deep, dataset(), 9, folds=FOLDS, fpreproc=one_level)
    assert found == focal_gbm.lightgbm.cv({**deep, "max_depth": 1}, dataset(), 9, folds=FOLDS)
    assert len(seen) == 6
    assert seen[0]["max_depth"] == 3
    assert seen[-1] == deep


def test_what_is_given_stays_as_it_is():
    objective = FocalObjective(2.0, "balanced")
    params = {**XGBOOST, "eval_metric": ["auc"]}
    before = {**params, "eval_metric": ["auc"]}
    focal_gbm.xgboost.cv(params, matrix(), 2, obj=objective)
    assert params == before
    params = {**LIGHTGBM, "objective": objective, "early_stopping_round": 5, "metrics": "auc"}
    before, train_set = dict(params), dataset()
    first = focal_gbm.lightgbm.cv(params, train_set, 3)
    assert params == before
    assert train_set.get_init_score() is None
    assert focal_gbm.lightgbm.cv(params, train_set, 3) == first  # the Dataset can be used again
    assert list(first) == ["valid auc-mean", "valid auc-stdv"]


def test_forms_of_the_result(capsys):
    def run(**options):
        return focal_gbm.xgboost.cv(
            list(XGBOOST.items()), matrix(), 3, obj=FocalObjective(2.0), **options
        )

    table, columns = run(verbose_eval=True, show_stdv=False), run(as_pandas=False)
    printed = capsys.readouterr().out
    assert printed.startswith("[0]\ttrain-focal_loss:0.")
    assert "+" not in printed
    assert isinstance(table, pd.DataFrame)
    assert table.to_dict("list") == columns


def test_no_metric_and_no_split():
    with pytest.warns(UserWarning, match="no tree has a split"):
        table = focal_gbm.xgboost.cv(
            {"min_child_weight": 1e9, "disable_default_eval_metric": True},
            matrix(),
            obj=FocalObjective(2.0),
        )
    assert table.empty
    params = {**LIGHTGBM, "min_data_in_leaf": N, "metric": "None"}
    with pytest.warns(UserWarning, match="no tree has a split"):
        results = focal_gbm.lightgbm.cv({**params, "objective": FocalObjective(2.0)}, dataset(), 2)
    assert results == {}


@pytest.mark.filterwarnings("ignore:.*No visible GPU is found")
@pytest.mark.filterwarnings("ignore:.*Device is changed from GPU to CPU")
@pytest.mark.filterwarnings("ignore:(.|\\n)*are not used")
def test_gradients_are_computed_where_trees_grow(monkeypatch):
    devices = []

    class Training(focal_gbm.xgboost._train.XGBoostTraining):
        def __call__(self, margin, dtrain):
            devices.append(self.device)
            self.device = None
            return super().__call__(margin, dtrain)

    monkeypatch.setattr(focal_gbm.xgboost._train, "XGBoostTraining", Training)
    monkeypatch.setattr(xgboost_cv, "cuda_problem", lambda: None)
    params = {**XGBOOST, "device": "cuda"}
    focal_gbm.xgboost.cv(params, matrix(), 1, nfold=2, obj=FocalObjective(2.0))
    monkeypatch.setattr(xgboost_cv, "cuda_problem", lambda: "no GPU")
    focal_gbm.xgboost.cv(params, matrix(), 1, nfold=2, obj=FocalObjective(2.0))
    assert devices == ["cuda", "cuda", None, None]


def cv_of_xgboost(params=None, obj=OBJECTIVES[0], dtrain=None, **options):
    return focal_gbm.xgboost.cv(params or {}, dtrain or matrix(), 1, obj=obj, **options)


def cv_of_lightgbm(params=None, train_set=None, **options):
    params = {"objective": OBJECTIVES[0], "verbose": -1, **(params or {})}
    return focal_gbm.lightgbm.cv(params, train_set or dataset(), 1, **options)


def with_weighted_positives(train_set, valid_set, params):
    return train_set, valid_set, {**params, "scale_pos_weight": 9}


def of_three_classes():
    params = {**LIGHTGBM, "objective": "multiclass", "num_class": 3}
    return lgb.train(params, dataset(n_classes=3), 1)


ONE_POSITIVE = np.eye(1, N)[0]
BAD = {
    "obj": (TypeError, "obj: .*None", lambda: cv_of_xgboost(obj=None)),
    "dtrain": (TypeError, "dtrain: .*dict", lambda: cv_of_xgboost(dtrain=LABELS)),
    "metric": (ValueError, "eval_metric: .*'accuracy'", lambda: cv_of_xgboost(metrics="accuracy")),
    "fpreproc": (
        ValueError,
        "scale_pos_weight: .*9",
        lambda: cv_of_xgboost(fpreproc=with_weighted_positives),
    ),
    "class lacking in a fold": (
        ValueError,
        "y: a class has no rows .* fold 0: with stratified=True all folds",
        lambda: cv_of_xgboost(dtrain=xgb.DMatrix(X, ONE_POSITIVE), shuffle=False),
    ),
    "objective": (
        TypeError,
        "objective: .*'binary'",
        lambda: cv_of_lightgbm({"objective": "binary"}),
    ),
    "train_set": (TypeError, "train_set: .*dict", lambda: cv_of_lightgbm(train_set=LABELS)),
    "lightgbm metric": (ValueError, "metric: 'what'", lambda: cv_of_lightgbm(metrics=["what"])),
    "lightgbm fpreproc": (
        ValueError,
        "scale_pos_weight: .*9",
        lambda: cv_of_lightgbm(fpreproc=with_weighted_positives),
    ),
    "lightgbm class lacking in a fold": (
        ValueError,
        "y: a class has no rows",
        lambda: cv_of_lightgbm(train_set=lgb.Dataset(X, ONE_POSITIVE), stratified=False),
    ),
    "lightgbm machines": (
        ValueError,
        "num_machines: 2",
        lambda: cv_of_lightgbm({"num_machines": 2}),
    ),
    "lightgbm label": (
        ValueError,
        "train_set: a label is NaN",
        lambda: cv_of_lightgbm(train_set=lgb.Dataset(X, np.full(N, np.nan))),
    ),
    "lightgbm init_model": (
        ValueError,
        "init_model: the model has 3 trees per iteration",
        lambda: cv_of_lightgbm(
            init_model=lgb.train(
                {"num_class": 3, **LIGHTGBM, "objective": "multiclass"}, dataset(n_classes=3), 1
            )
        ),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    error, message, call = BAD[name]
    with pytest.raises(error, match=f"^{message}"):
        call()


def test_what_the_libraries_make_of_a_callable():
    """The manual says so."""
    objective = FocalObjective(2.0)
    params = {"objective": objective, "verbose": -1}
    assert lgb.cv(params, dataset(), 5) == {}
    clear = lgb.Dataset(X, X[:, 0] > 0)
    results = lgb.cv({**params, "metric": "binary_logloss"}, clear, 100)
    assert min(results["valid binary_logloss-mean"]) < 0
    taken, rare = Boosters(), xgb.DMatrix(X, np.quantile(SCORE, 0.997) < SCORE)
    start = {"objective": "binary:logistic", "base_score": 0.003}
    xgb.cv(start, rare, 20, obj=objective, stratified=True, callbacks=[taken])
    assert [booster.get_score() for booster in taken.boosters] == [{}] * 3
    focal_gbm.xgboost.cv({}, rare, 20, obj=objective, stratified=True, callbacks=[taken])
    assert all(booster.get_score() for booster in taken.boosters)
