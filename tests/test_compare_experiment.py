"""The experiment of ``focal_gbm.compare``: fair, repeatable, and summed up as its tables say."""

import json
import re
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import lightgbm as lgb
import numpy as np
import optuna
import pandas as pd
import pytest
import xgboost as xgb
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal
from sklearn.base import clone

from focal_gbm import compare
from focal_gbm._compare import _api, _experiment, _folds, _search, _setup
from focal_gbm._compare._contenders import (
    CONTENDERS,
    FOCAL,
    FOCAL_DEFAULTS,
    LIBRARIES,
    LIGHTGBM,
    LOG_LOSS,
    WEIGHTED,
    XGBOOST,
    Rows,
    first_trial,
    fitted,
    predicted,
    stopped_early,
    suggested,
)
from focal_gbm._compare._experiment import Store
from focal_gbm._compare._measures import Difference, difference_of, measure_of
from focal_gbm._compare._search import Control, Unit
from focal_gbm._compare._setup import prepared, seconds_of
from focal_gbm._compare._summary import (
    sentence,
)

QUICK = {"folds": 2, "repeats": 1, "trials": 2, "jobs": 2, "progress": False}


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(400, 3)), columns=list("abc"))
    X["d"] = rng.choice(["u", "v", None], 400)
    y = np.where(X["a"] + X["b"] ** 2 + rng.normal(size=400) > 2.5, "bad", "good")
    return X, y


@pytest.fixture(scope="module")
def found(table):
    return compare(*table, **QUICK)


def test_every_contender_has_the_same_folds_and_trials(found):
    assert found.scores.shape[0] == 2 * 4 * 2 + 4 * 2
    assert set(found.scores["trials"]) == {2}
    assert found.trials.groupby(["library", "contender", "fold"]).size().eq(2).all()
    by_contender = found.predictions.groupby(["library", "contender"], observed=True)["row"]
    for _, rows in by_contender:
        assert_array_equal(np.sort(rows), np.arange(400))
    of_fold = found.predictions.groupby(["fold", "library", "contender"], observed=True)["row"]
    for fold in range(2):
        first, *others = (rows for (f, *_), rows in of_fold if f == fold)
        assert all(np.array_equal(first, rows) for rows in others)


def test_scores_are_those_of_the_predictions(table, found):
    _, y = table
    keys = ["library", "contender", "repeat", "fold"]
    assert_array_equal(found.predictions["y"], y[found.predictions["row"]] == "bad")
    groups = dict(iter(found.predictions.groupby(keys, observed=True)))
    for _, line in found.scores[found.scores["library"] != "chosen"].iterrows():
        rows = groups[tuple(line[keys])]
        weight = rows["weight"].to_numpy()
        for name in ("average precision", "ROC AUC", "log loss", "Brier score"):
            assert_allclose(line[name], measure_of(name)(rows["y"], rows["posterior"], weight))
        of_sigmoid = measure_of("log loss")(rows["y"], rows["sigmoid"], weight)
        assert_allclose(line["log loss of the sigmoid"], of_sigmoid)


def test_the_sigmoid_is_the_posterior_but_for_focal_loss(found):
    is_same = found.predictions["posterior"] == found.predictions["sigmoid"]
    by_contender = is_same.groupby(found.predictions["contender"], observed=True).mean()
    assert by_contender[LOG_LOSS] == by_contender[WEIGHTED] == 1
    assert by_contender[FOCAL] < 0.1
    assert by_contender[FOCAL_DEFAULTS] < 0.1


def test_the_library_is_chosen_by_the_search_of_the_fold(found):
    best = found.trials.groupby(["contender", "fold", "library"])["value"].max().unstack()
    chosen = found.scores[found.scores["library"] == "chosen"].set_index(["contender", "fold"])
    scores = found.scores.set_index(["library", "contender", "fold"])
    assert len(chosen) == len(best) == 8
    for (contender, fold), line in chosen.iterrows():
        library = best.loc[(contender, fold)].idxmax()
        expected = scores.loc[(library, contender, fold)]
        assert line["average precision"] == expected["average precision"]
        assert line["parameters"] == expected["parameters"]


def test_differences_are_of_the_same_library(found):
    scores = found.scores.pivot(
        index="fold", columns=["library", "contender"], values="average precision"
    )
    assert len(found.differences) == 3 * 3
    for _, line in found.differences.iterrows():
        of_library = scores[line["library"]]
        of_folds = (of_library[line["contender"]] - of_library[LOG_LOSS]).to_numpy()
        expected = difference_of(of_folds, 1 / 2, 0.005)
        assert_allclose([line[name] for name in Difference._fields], expected)
        assert line["verdict"] == expected.verdict


def test_the_chosen_trial_is_the_best(found):
    keys = ["library", "contender", "fold"]
    best_of = found.trials.loc[found.trials.groupby(keys)["value"].idxmax()].set_index(keys)
    for _, line in found.scores[found.scores["library"] != "chosen"].iterrows():
        best = best_of.loc[tuple(line[keys])]
        assert line["trees"] == best["trees"]
        for name, value in line["parameters"].items():
            assert best[name] == value or (value is None and np.isnan(best[name]))


def test_the_verdict_is_that_of_the_chosen_library(found):
    headline = found.differences.set_index(["library", "contender"]).loc["chosen", FOCAL]
    expected = Difference(*headline[list(Difference._fields)])
    assert repr(found) == found.verdict
    assert found.verdict == sentence(expected, measure_of("average precision"), 0.005, None)


def test_best_and_its_code(table, found):
    X, y = table
    names = {}
    exec(found.code, names)  # noqa: S102
    assert type(names["model"]) is type(found.best)
    assert repr(names["model"]) == repr(found.best)
    assert isinstance(found.best[-1], xgb.XGBClassifier | lgb.LGBMClassifier)
    p = clone(found.best).fit(X, y == "bad").predict_proba(X)[:, 1]
    assert p[y == "bad"].mean() > 2 * p[y == "good"].mean()
    assert "# model.fit(X, y == 'bad')" in found.code


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_best_takes_the_table_that_was_compared(table, library, capfd):
    X, y = table
    X = X.assign(
        day=pd.Timestamp("2024-01-01"),
        written="2024-01-31",
        sold=[True, None] * 200,
        name=[f"customer {i}" for i in range(400)],
    ).rename(columns={"a": "a, [x]"})
    found = compare(X, y, **{**QUICK, "trials": 1}, library=library)
    names = {"X": X, "y": y}
    exec(found.code.replace("# model", "model"), names)  # noqa: S102
    assert repr(names["model"]) == repr(found.best)
    assert list(names["model"][0].names_) == ["a___x_", "b", "c", "d", "day", "written", "sold"]
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""
    assert np.isfinite(clone(found.best).fit(X, y == "bad").predict_proba(X[:7])).all()


def test_json(tmp_path, found):
    text = found.to_json(tmp_path / "result.json")
    told = json.loads(text)
    assert (tmp_path / "result.json").read_text() == text
    assert told["verdict"] == found.verdict
    assert told["protocol"]["finished"] is True
    assert told["protocol"]["positive label"] == "bad"
    assert_frame_equal(pd.DataFrame(told["differences"]), found.differences)
    assert len(told["trials"]) == len(found.trials)


def test_the_same_seed_gives_the_same_result(table, found):
    again = compare(*table, **{**QUICK, "jobs": 1})
    pd.testing.assert_frame_equal(again.differences, found.differences, check_exact=True)
    pd.testing.assert_frame_equal(again.predictions, found.predictions, check_exact=True)
    assert again.code == found.code


def test_another_seed_gives_other_folds(table, found):
    other = compare(*table, **QUICK, seed=1, library="lightgbm")
    assert set(other.scores["library"]) == {"LightGBM"}
    rows = other.predictions["row"][:100].to_numpy()
    assert not np.array_equal(rows, found.predictions["row"][:100].to_numpy())


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=list(LIBRARIES))
@pytest.mark.parametrize(
    "loss", [{}, {"focal_gamma": 1.0, "focal_alpha": 0.8}], ids=["log", "focal"]
)
def test_predictions_are_those_of_the_classifiers(table, library, loss):
    X, y = table
    X, y = X[["a", "b"]], (y == "bad").astype(int)
    model = fitted(library, loss, Rows(X, y, None), 5, n_jobs=1, random_state=0)
    posterior, sigmoid = predicted(library, model, X)
    assert posterior.dtype == sigmoid.dtype == np.float32
    assert_allclose(posterior, model.predict_proba(X)[:, 1], rtol=1e-5)
    bare = {"posterior": False} if loss else {}
    assert_allclose(sigmoid, model.predict_proba(X, **bare)[:, 1], rtol=1e-5)


def test_seeds_of_contenders_differ(table):
    plan = prepared(*table, folds=2).plan
    units = [Unit("XGBoost", contender, 0, 0) for contender in CONTENDERS]
    assert len({_search.seed_of(plan.seed, unit.name) for unit in units}) == 4


@pytest.mark.parametrize("metric", ["log loss", "cost", "recall at FPR 0.1"])
def test_other_metrics(table, metric):
    options = {**QUICK, "trials": 1, "library": "xgboost", "cost_fn": 5, "cost_fp": 1}
    found = compare(*table, **options, metric=metric)
    scores = found.scores.set_index(["contender", "fold"])
    less = scores.loc[FOCAL, metric] - scores.loc[LOG_LOSS, metric]
    sign = 1 if metric.startswith("recall") else -1
    assert_allclose(found.differences["mean"].iloc[-1], sign * less.mean())
    assert metric in found.verdict or "no verdict" in found.verdict
    rope = 0.005 * (1 if sign == 1 else scores.loc[LOG_LOSS, metric].mean())
    assert_allclose(found.protocol["rope"], rope, rtol=1e-2)
    assert found.costs == (5, 1)
    assert found.threshold == 1 / 6


def test_weights_count(table):
    X, y = table
    weight = np.where(np.arange(400) % 2, 1.0, 1e-6)
    options = {**QUICK, "library": "lightgbm"}
    found = compare(X, y, sample_weight=weight, **options)
    assert_allclose(found.predictions["weight"], weight[found.predictions["row"]])
    one = found.predictions[found.predictions["contender"] == LOG_LOSS]
    heavy = one[(one["fold"] == 0) & (one["row"] % 2 == 1)]
    expected = measure_of("ROC AUC")(heavy["y"], heavy["posterior"], np.ones(len(heavy)))
    assert_allclose(found.scores["ROC AUC"].iloc[0], expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["groups", "time"])
def test_folds_by_groups_and_time(table, kind):
    order = np.random.default_rng(0).permutation(400) // 4
    options = {**QUICK, "trials": 1, "library": "xgboost", kind: order}
    found = compare(*table, **options)
    tested = [set(order[rows]) for _, rows in found.predictions.groupby("fold")["row"]]
    assert not tested[0] & tested[1]
    assert kind in found.protocol["folds are"]
    assert kind != "time" or max(tested[0]) < min(tested[1])


# Fairness of the search.


def test_first_trials_have_the_defaults(found):
    first = found.trials[found.trials["trial"] == 0]
    assert len(first) == 2 * 4 * 2
    for library in (XGBOOST, LIGHTGBM):
        lines = first[first["library"] == library.name]
        assert all((lines[name] == value).all() for name, value in library.defaults.items())
    focal = first[first["contender"] == FOCAL]
    assert (focal["focal_gamma"] == 2).all()
    assert focal["focal_alpha"].isna().all()


@pytest.mark.parametrize("contender", [LOG_LOSS, FOCAL])
def test_a_search_has_inner_rows_only_and_its_result_is_fitted_to_all_of_them(
    table, monkeypatch, contender
):
    plan = prepared(*table, folds=4, repeats=1, trials=2).plan
    searched, refitted = [], []

    def stopped_early(library, parameters, train, valid, measure, **booster):
        searched.append((train, valid))
        return library, 10 + len(searched)

    def fitted(library, parameters, train, n_trees, **booster):
        refitted.append((train, n_trees, parameters))
        return library

    def predicted(library, model, X):
        return np.full(len(X), len(searched) / 10), np.zeros(len(X))

    monkeypatch.setattr(_search, "stopped_early", stopped_early)
    monkeypatch.setattr(_search, "fitted", fitted)
    monkeypatch.setattr(_search, "predicted", predicted)
    measure = replace(plan.measure, function=lambda y, p, weight: p[0])  # later trials are better
    outcome = _search.run(
        Unit("XGBoost", contender, 0, 1), replace(plan, measure=measure), Control()
    )
    outer, test = plan.folds.train(0, 1), plan.folds.test(0, 1)
    for train, valid in searched:
        assert_array_equal(np.sort(np.concatenate([train.X.index, valid.X.index])), outer)
        for rows in (train, valid):
            assert_array_equal(rows.y, plan.y[rows.X.index])
    ((train, n_trees, parameters),) = refitted
    assert_array_equal(train.X.index, outer)
    assert n_trees == 12
    assert parameters == outcome.trials[1]["parameters"] == outcome.parameters
    assert outcome.posterior.size == test.size


def test_defaults_are_the_libraries_own():
    own = lgb.LGBMClassifier().get_params()
    assert all(own[name] == value for name, value in LIGHTGBM.defaults.items())
    booster = xgb.XGBClassifier(n_estimators=1).fit([[0], [1]], [0, 1]).get_booster()
    text = booster.save_config()
    names = {"reg_lambda": "lambda"}
    for name, value in XGBOOST.defaults.items():
        match = re.search(rf'"{names.get(name, name)}":"([^"]*)"', text)
        assert float(match[1]) == pytest.approx(value)


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=list(LIBRARIES))
@pytest.mark.parametrize("contender", CONTENDERS)
def test_the_first_trial_has_the_defaults_and_the_space_has_the_first_trial(library, contender):
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial(first_trial(library, contender))
    found = suggested(study.ask(), library, contender, 49.0)
    of_loss = {
        LOG_LOSS: {},
        WEIGHTED: {"scale_pos_weight": 1.0},
        FOCAL_DEFAULTS: {"focal_gamma": 2.0, "focal_alpha": None},
        FOCAL: {"focal_gamma": 2.0, "focal_alpha": None},
    }
    assert found == {**library.defaults, **of_loss[contender]}


@pytest.mark.parametrize("ratio", [0.02, 1.0, 500.0])
def test_weights_are_searched_around_the_ratio(ratio):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = [
        suggested(study.ask(), XGBOOST, WEIGHTED, ratio)["scale_pos_weight"] for _ in range(300)
    ]
    assert min(found) < ratio < max(found)
    assert min(found) <= 1.1
    assert max(found) >= 0.9


def test_boosters_have_the_same_space_whatever_the_loss():
    def space(contender):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        trial = study.ask()
        suggested(trial, XGBOOST, contender, 9.0)
        shared = trial.distributions.keys() - {
            "scale_pos_weight",
            "focal_gamma",
            "focal_alpha",
            "is_weighted",
        }
        return {name: trial.distributions[name] for name in shared}

    assert space(LOG_LOSS) == space(WEIGHTED) == space(FOCAL) == space(FOCAL_DEFAULTS)


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=list(LIBRARIES))
@pytest.mark.parametrize("loss", [{}, {"focal_gamma": 1.0}], ids=["log loss", "focal"])
@pytest.mark.parametrize("metric", ["average precision", "ROC AUC", "log loss"])
@pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated")
def test_trees_stop_where_the_validation_rows_gain_nothing(table, library, loss, metric):
    X, y = table
    y = (y == "bad").astype(int)
    weight = np.random.default_rng(0).gamma(1.0, size=400)
    train, valid = (
        Rows(X.loc[r, ["a", "b"]], y[r], weight[r]) for r in (np.arange(300), np.arange(300, 400))
    )
    measure = measure_of(metric)
    model, n_trees = stopped_early(library, loss, train, valid, measure, n_jobs=1, random_state=0)
    assert 1 <= n_trees < 500
    if library is XGBOOST:
        (metric_name, history), *others = model.evals_result()["validation_0"].items()
        n_fitted = model.get_booster().num_boosted_rounds()
    else:
        (metric_name, history), *others = model.evals_result_["valid_0"].items()
        n_fitted = len(history)
    assert not others
    names = {"XGBoost": ("aucpr", "auc", "logloss"),
             "LightGBM": ("average_precision", "auc", "binary_logloss")}  # fmt: skip
    metrics = ("average precision", "ROC AUC", "log loss")
    assert metric_name == names[library.name][metrics.index(metric)]
    assert n_fitted == n_trees + 30
    best = np.argmin(history) if metric == "log loss" else np.argmax(history)
    assert n_trees == best + 1
    if metric == "ROC AUC":  # unchanged by the shift of the intercept after training
        p, _ = predicted(library, model, valid.X)
        assert_allclose(history[best], measure(valid.y, p, valid.weight), rtol=1e-5)


def test_a_budget_is_split_evenly(table):
    experiment = prepared(*table, folds=2, repeats=1, jobs=1, time_budget="18m")
    assert experiment.plan.seconds == pytest.approx(18 * 60 / (2 * (2 * 4 + 2)))
    side_by_side = prepared(*table, folds=2, repeats=1, jobs=3, time_budget="18m")
    assert side_by_side.plan.seconds == pytest.approx(3 * experiment.plan.seconds)


@pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated", "ignore:no tree has")
def test_a_search_starts_no_trial_that_its_share_does_not_suffice_for(table, monkeypatch):
    clock = count()
    monkeypatch.setattr(_search, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    plan = replace(prepared(*table, folds=2).plan, n_trials=50, seconds=14.5)
    # Each trial looks at the clock three times, and its fit takes a second: the fifth would start
    # at the 13th second, after which there is time for itself, but not for the fit of the best.
    for library in LIBRARIES:
        for contender in CONTENDERS:
            outcome = _search.run(Unit(library, contender, 0, 0), plan, Control())
            assert [trial["seconds"] for trial in outcome.trials] == [1, 1, 1, 1]


def test_a_budget_too_small_for_a_trial_allows_one(table):
    found = compare(*table, **{**QUICK, "trials": 9}, library="lightgbm", time_budget=1e-3)
    assert set(found.scores["trials"]) == {1}
    assert found.protocol["time budget"] == 1e-3
    assert found.cautions[0] == (
        "The time budget allowed only 1 trial per search: gamma and alpha were not searched. Use a "
        "larger time budget."
    )


def test_few_trials_are_said(found):
    assert found.cautions[0] == (
        "There were only 2 trials per search: too few for gamma and alpha. Use more trials."
    )


def test_the_bar_ends_where_the_fits_end(table):
    plan = replace(prepared(*table, folds=2, jobs=1).plan, n_trials=9, seconds=1e-3)
    units = [Unit("LightGBM", contender, 0, 0) for contender in CONTENDERS]
    bar = _experiment.Bar(10 * 4, plan.measure, False)
    outcomes, _ = _experiment.run_all(units, plan, Store(None, {}), 1, bar)
    assert bar._bar.total == sum(len(found.trials) + 1 for found in outcomes.values()) == 8


def test_positives_that_would_be_needed():
    def said(half_width):
        wide = Difference(0.0, -half_width, half_width, 0.4, 0.2, 0.4)
        return _api._too_few_positives(wide, np.arange(300) < 287, 0.005)

    assert said(0.001) == []
    assert said(0.0631) == [
        "To detect a difference of 0.005 you would need about 46,000 positives; you have 287."
    ]
    assert said(0.5) == [
        "A difference of 0.005 cannot be detected in practice: you would need more than 1,000,000 "
        "positives; you have 287."
    ]


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [(90, 90), ("90s", 90), ("1.5 h", 5400), ("10m", 600), (1e-5, 1e-5), (np.float64(1e20), 1e20)],
)
def test_time_budgets(budget, seconds):
    assert seconds_of(budget) == seconds


def test_large_fits_follow_each_other_and_large_searches_take_part_of_the_rows(table, monkeypatch):
    small = prepared(*table, folds=2, jobs=6)
    assert (small.n_workers, small.plan.n_threads) == (6, 1)
    assert small.protocol["subsampling"] is None
    monkeypatch.setattr(_folds, "SEARCH_ROWS", 150)
    monkeypatch.setattr(_folds, "SEARCH_ROWS_OF_A_CLASS", 8)
    monkeypatch.setattr(_setup, "SIDE_BY_SIDE_ROWS", 199)
    large = prepared(*table, folds=2, jobs=6)
    assert (large.n_workers, large.plan.n_threads) == (1, 6)
    assert large.protocol["subsampling"].startswith("A search takes 150 of the training rows")


# What is kept.


def test_what_is_kept_is_not_computed_again(tmp_path, table, monkeypatch):
    options = {**QUICK, "library": "lightgbm", "output": tmp_path / "kept"}
    first = compare(*table, **options)

    def run(*_):
        raise AssertionError

    monkeypatch.setattr("focal_gbm._compare._experiment.run", run)
    second = compare(*table, **options)
    for name in ("scores", "trials", "predictions", "differences"):
        assert_frame_equal(getattr(first, name), getattr(second, name), check_exact=True)
    assert (first.verdict, first.code) == (second.verdict, second.code)


@pytest.mark.parametrize("change", ["value", "label", "category", "row order", "weight"])
def test_the_fingerprint_sees_every_change(table, change):
    X, y = table
    before = prepared(X, y).settings["data"]
    assert before == prepared(X.copy(), y.copy()).settings["data"]
    X, y, weight = X.copy(), y.copy(), None
    if change == "value":
        X.loc[7, "a"] += 1e-9
    elif change == "label":
        y[np.flatnonzero(y == "good")[0]] = "bad"
    elif change == "category":
        X.loc[3, "d"] = "w"
    elif change == "row order":
        X = X[::-1]
    else:
        weight = np.ones(400)
    assert prepared(X, y, sample_weight=weight).settings["data"] != before
