"""Metrics, evaluation sets, callbacks and early stopping of the classifiers."""

import numpy as np
import pytest
import xgboost as xgb
from classifiers import LGB, XGB, both, two_and_three
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import log_loss, roc_auc_score, zero_one_loss

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import FocalObjective
from focal_gbm.xgboost import FocalXGBClassifier


@pytest.mark.usefixtures("unshifted")
@both
@two_and_three
def test_named_metrics_and_callables_see_the_posterior(data, library, n_classes):
    X, labels, weight = data
    y = labels[n_classes]
    valid = (X[2000:], y[2000:])
    seen = []

    def my_log_loss(y_true, y_pred, sample_weight=None):
        seen.append(y_pred)
        return log_loss(y_true, y_pred, sample_weight=sample_weight)

    def for_lightgbm(y_true, y_pred, weight):
        return "my_log_loss", my_log_loss(y_true, y_pred, weight), False

    alpha = 0.1 if n_classes == 2 else (1, 1, 5)
    model = library(focal_gamma=3.0, focal_alpha=alpha)
    mine = my_log_loss if library is XGB else for_lightgbm
    metric = [library.error[n_classes], library.log_loss[n_classes], mine]
    weights = "sample_weight_eval_set" if library is XGB else "eval_sample_weight"
    library.fit(
        model,
        X[:2000],
        y[:2000],
        metric=metric,
        eval_set=[valid],
        **{weights: [weight[2000:]]},
    )
    ((_, log),) = library.history(model).items()
    assert len(seen) == 20
    posterior = model.predict_proba(valid[0])
    last = posterior[:, 1] if n_classes == 2 else posterior
    assert_allclose(seen[-1], last, rtol=1e-5)
    expected = log_loss(valid[1], posterior, sample_weight=weight[2000:])
    assert_allclose(log[library.log_loss[n_classes]][-1], expected, rtol=1e-5)
    assert_allclose(log["my_log_loss"][-1], expected, rtol=1e-5)
    error = zero_one_loss(valid[1], model.predict(valid[0]), sample_weight=weight[2000:])
    assert_allclose(log[library.error[n_classes]][-1], error, rtol=1e-5)
    # The bare sigmoid or softmax would have given another value.
    bare = model.predict_proba(valid[0], posterior=False)
    assert log_loss(valid[1], bare, sample_weight=weight[2000:]) > 1.05 * expected


@pytest.mark.usefixtures("unshifted")
@both
@two_and_three
def test_default_metric_is_the_log_loss_of_the_posterior(data, library, n_classes):
    X, labels, _ = data
    y = labels[n_classes]
    model = library.fit(library(), X, y, eval_set=[(X, y)])
    ((_, log),) = library.history(model).items()
    assert list(log) == [library.log_loss[n_classes]]
    expected = log_loss(y, model.predict_proba(X))
    assert_allclose(log[library.log_loss[n_classes]][-1], expected, rtol=1e-6)
    with_callable = [lambda y, p: 0.0] if library is XGB else [lambda y, p: ("zero", 0.0, False)]
    library.fit(model, X, y, eval_set=[(X, y)], metric=with_callable)
    ((_, log),) = library.history(model).items()
    assert len(log) == 2
    assert next(iter(log)) == library.log_loss[n_classes]


@pytest.mark.usefixtures("unshifted")
@both
def test_focal_metric_is_that_of_the_margins(data, library):
    X, labels, _ = data
    y = labels[2]
    home = focal_gbm.xgboost if library is XGB else focal_gbm.lightgbm
    metric = home.focal_metric(FocalObjective(2.0, "balanced"))
    model = library.fit(library(focal_alpha="balanced"), X, y, eval_set=[(X, y)], metric=metric)
    ((_, log),) = library.history(model).items()
    loss = model.loss_.loss(y, library.margins(model, X).astype(float)).mean()
    assert_allclose(log["focal_loss"][-1], loss, rtol=1e-5)


@both
def test_focal_metric_has_the_threads_of_the_classifier(data, library, monkeypatch):
    X, labels, _ = data
    home = focal_gbm.xgboost if library is XGB else focal_gbm.lightgbm
    metric, seen = home.focal_metric(FocalObjective()), []

    def mean(self, *rows):
        seen.append(self.objective.n_threads)
        return 0.0

    monkeypatch.setattr(type(metric), "mean", mean)
    library.fit(library(n_jobs=1), X, labels[2], eval_set=[(X, labels[2])], metric=metric)
    assert set(seen) == {1}


def test_xgboost_weights_and_margins_of_evaluation_sets_as_arrays(data):
    X, labels, _ = data
    y = labels[2][:500]
    weight, margin = np.ones((1, 500)), np.zeros((1, 500))
    given = {"sample_weight_eval_set": weight, "base_margin_eval_set": margin}
    model = XGB().fit(X[:500], y, eval_set=[(X[:500], y)], verbose=False, **given)
    assert len(XGB.history(model)["validation_0"]["logloss"]) == 20


@pytest.mark.usefixtures("unshifted")
@both
@pytest.mark.parametrize("metric", ["auc", "log loss"])
def test_early_stopping(data, library, metric):
    X, labels, _ = data
    y = labels[2]
    params = {"n_estimators": 200, "learning_rate": 0.5, "focal_alpha": 0.05}
    if library is XGB:
        params["early_stopping_rounds"] = 5
    else:
        params["early_stopping_round"] = 5
        params["first_metric_only"] = True
    name = library.log_loss[2] if metric == "log loss" else metric
    model = library(**params)
    library.fit(model, X[:2000], y[:2000], eval_set=[(X[2000:], y[2000:])], metric=name)
    ((_, log),) = library.history(model).items()
    curve = np.array(log[name]) * (-1 if metric == "auc" else 1)
    best = model.best_iteration if library is XGB else model.best_iteration_ - 1
    assert best == curve.argmin() < 190
    # Predictions are those of the best iteration.
    posterior = model.predict_proba(X[2000:])[:, 1]
    value = roc_auc_score if metric == "auc" else log_loss
    assert_allclose(abs(curve[best]), value(y[2000:], posterior), rtol=1e-6)


@pytest.mark.parametrize("save_best", [False, True])
def test_xgboost_early_stopping_callback(data, tmp_path, save_best):
    X, labels, _ = data
    y = labels[2]
    stop = xgb.callback.EarlyStopping(
        rounds=5, metric_name="auc", data_name="validation_1", save_best=save_best
    )
    checkpoint = xgb.callback.TrainingCheckPoint(tmp_path, interval=1)
    model = XGB(n_estimators=200, learning_rate=0.5, callbacks=[stop, checkpoint])
    sets = [(X[:2000], y[:2000]), (X[2000:], y[2000:])]
    XGB.fit(model, *sets[0], metric=["auc", "logloss"], eval_set=sets)
    curve = model.evals_result()["validation_1"]["auc"]
    auc = roc_auc_score(y[2000:], model.predict_proba(X[2000:])[:, 1])
    assert_allclose(auc, max(curve), rtol=1e-6)
    # Models saved on the way are whole.
    saved = FocalXGBClassifier()
    saved.load_model(sorted(tmp_path.iterdir())[0])
    assert saved.loss_ == model.loss_
    assert_array_equal(saved.classes_, [0, 1])


@pytest.mark.usefixtures("unshifted")
@both
def test_evaluation_sets_keep_the_librarys_names_and_weights(data, library):
    X, labels, weight = data
    y = labels[2]
    train, valid, other = (X[:2000], y[:2000]), (X[2000:2500], y[2000:2500]), (X[2500:], y[2500:])
    weights = [weight[:2000], weight[2000:2500], None]
    names = {"sample_weight_eval_set" if library is XGB else "eval_sample_weight": weights}
    model = library.fit(
        library(), *train, sample_weight=weight[:2000], eval_set=[train, valid, other], **names
    )
    expected = (
        ["validation_0", "validation_1", "validation_2"]
        if library is XGB
        else ["training", "valid_1", "valid_2"]
    )
    history = library.history(model)
    assert list(history) == expected
    for name, (features, truth), w in zip(expected, (train, valid, other), weights, strict=True):
        value = log_loss(truth, model.predict_proba(features), sample_weight=w)
        assert_allclose(history[name][library.log_loss[2]][-1], value, rtol=1e-5)


@pytest.mark.usefixtures("unshifted")
def test_lightgbm_weights_of_evaluation_sets(data):
    X, labels, weight = data
    y = np.array(["no", "yes"])[labels[2]]
    margin = np.full(len(X), 0.5)
    model = LGB().fit(
        X,
        y,
        eval_set=[(X, y), (X[:500], y[:500])],
        eval_names=["all", "some"],
        eval_class_weight=[{"no": 1, "yes": 5}],
        eval_sample_weight={1: weight[:500]},
        eval_init_score=[margin],
        feature_name=["a", "b", "c", "d"],
        categorical_feature=[],
    )
    assert model.feature_name_ == ["a", "b", "c", "d"]
    shifted = model.loss_.posterior(model.predict(X, raw_score=True) + margin)
    value = log_loss(y, shifted, sample_weight=np.where(y == "yes", 5, 1))
    assert_allclose(model.evals_result_["all"]["binary_logloss"][-1], value)
    value = log_loss(y[:500], model.predict_proba(X[:500]), sample_weight=weight[:500])
    assert_allclose(model.evals_result_["some"]["binary_logloss"][-1], value, rtol=1e-6)


@pytest.mark.usefixtures("unshifted")
def test_xgboost_margins_and_weights_by_feature(data):
    X, labels, _ = data
    margin = np.full(len(X), 0.5, np.float32)
    model = XGB.fit(
        XGB(feature_weights=[1, 0, 0, 0], colsample_bynode=0.25, random_state=0),
        X,
        labels[2],
        base_margin=margin,
        eval_set=[(X, labels[2])],
        base_margin_eval_set=[margin],
    )
    assert_array_equal(model.feature_importances_, [1, 0, 0, 0])
    value = log_loss(labels[2], model.predict_proba(X, base_margin=margin))
    assert_allclose(model.evals_result()["validation_0"]["logloss"][-1], value, rtol=1e-5)


@pytest.mark.parametrize("metric", ["", [], (), None, ["auc", None]])
def test_lightgbm_metrics_that_are_not_given(data, metric):
    X, labels, _ = data
    model = LGB(metric=metric).fit(X, labels[2], eval_set=[(X, labels[2])])
    expected = ["auc"] if metric == ["auc", None] else ["binary_logloss"]
    assert list(model.evals_result_["training"]) == expected


def test_evaluation_does_not_silence_lightgbm(data, capfd):
    X, labels, _ = data
    LGB(verbosity=2, n_estimators=4).fit(X, labels[2], eval_set=[(X, labels[2])])
    assert capfd.readouterr().out.count("Trained a tree") == 4
    LGB(verbosity=-1, n_estimators=4).fit(X, labels[2], eval_set=[(X, labels[2])])
    assert capfd.readouterr().out == ""


@both
def test_callbacks_run(data, library):
    X, labels, _ = data
    rounds = []
    if library is XGB:

        class Count(xgb.callback.TrainingCallback):
            def after_iteration(self, model, epoch, evals_log):
                rounds.append(epoch)
                return epoch == 4

        model = library(callbacks=[Count()]).fit(X, labels[2])
        assert model.get_booster().num_boosted_rounds() == 5
    else:
        model = library().fit(X, labels[2], callbacks=[lambda env: rounds.append(env.iteration)])
        assert model.n_iter_ == 20
    assert rounds == list(range(5 if library is XGB else 20))
