"""Over the training rows, probabilities sum to the weights of the classes."""

import copy
import pickle

import dask.array as da
import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from numpy.testing import assert_allclose, assert_array_equal

from focal_gbm import BinaryFocalLoss, FocalObjective, SoftmaxFocalLoss
from focal_gbm import lightgbm as focal_lightgbm
from focal_gbm import xgboost as focal_xgboost
from focal_gbm._intercept import posterior_totals, shift_of
from focal_gbm.dask import DaskFocalLGBMClassifier, DaskFocalXGBClassifier
from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier

pytestmark = pytest.mark.filterwarnings("ignore:Sending large graph")

ALPHAS = [None, 0.05, "balanced"]
ROUNDS = 12


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 4)).astype(np.float32)
    score = X[:, 0] + X[:, 1] ** 2 / 2 + rng.normal(size=len(X))
    return X, score, rng.gamma(2.0, size=len(X)).astype(np.float32)


def labels(score, n_classes):
    return np.digitize(score, np.quantile(score, [0.95] if n_classes == 2 else [0.7, 0.96]))


def alpha_of(alpha, n_classes):
    """Alpha, with a value for each class in place of 0.05 if there are three."""
    return (0.9, 0.5, 0.05) if alpha == 0.05 and n_classes == 3 else alpha


def margins(X, n_classes):
    """Margins to start from."""
    start = 0.3 * X[:, 2]
    return start if n_classes == 2 else np.column_stack([start, -start, 2 * start])


def valid_labels(y, n_classes):
    """Noisy labels, on which trees soon stop improving."""
    return np.where(
        np.random.default_rng(1).random(1000) < 0.4, (y[:1000] + 1) % n_classes, y[:1000]
    )


def assert_unbiased(loss, margin, y, weight):
    weight = np.ones(len(y)) if weight is None else weight
    posterior = loss.posterior(margin)
    posterior = np.column_stack([1 - posterior, posterior]) if posterior.ndim == 1 else posterior
    rate = np.bincount(y, weight) / weight.sum()
    assert_allclose(np.average(posterior, axis=0, weights=weight), rate, rtol=1e-4)


def loss_of(objective, n_classes, y, weight):
    loss = objective.loss if n_classes == 2 else objective.softmax_loss(n_classes)
    return loss.resolve(y, weight)


XGBOOST = {
    "plain": {},
    "weights": {"weighted": True},
    "dart": {"booster": "dart", "rate_drop": 0.3},
    "linear": {"booster": "gblinear"},
    "margins": {"start": True, "weighted": True},
    "margins, dart": {"start": True, "booster": "dart", "rate_drop": 0.3},
    "margins, linear": {"start": True, "booster": "gblinear"},
    "margins, forest": {"start": True, "num_parallel_tree": 3},
    "stops early": {"stops": True},
    "stops early, saves the best": {"stops": True, "saves_best": True},
    "stops early, margins": {"stops": True, "start": True},
    "stops early, dart": {"stops": True, "booster": "dart", "rate_drop": 0.3},
    "stops early, linear": {"stops": True, "booster": "gblinear"},
    "continued": {"continued": True},
}


@pytest.mark.filterwarnings("ignore:(.|\\n)*(max_depth|are not used)")
@pytest.mark.parametrize("case", list(XGBOOST))
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_xgboost(arrays, n_classes, alpha, case):
    X, score, weight = arrays
    y = labels(score, n_classes)
    params = {"nthread": 2, "verbosity": 0, "eta": 0.5, "max_depth": 4, **XGBOOST[case]}
    weight = weight if params.pop("weighted", False) else None
    start = margins(X, n_classes) if params.pop("start", False) else None
    stops, saves_best = params.pop("stops", False), params.pop("saves_best", False)
    continued = params.pop("continued", False)
    params |= {} if n_classes == 2 else {"num_class": 3}
    objective = FocalObjective(2.0, alpha_of(alpha, n_classes))
    dtrain = xgb.DMatrix(X, y, weight=weight, base_margin=start)
    options = {}
    if stops:
        valid = xgb.DMatrix(X[:1000], valid_labels(y, n_classes))
        stop = xgb.callback.EarlyStopping(rounds=2, save_best=saves_best)
        options = {"evals": [(valid, "valid")], "callbacks": [stop], "verbose_eval": False}
    if continued:
        options = {"xgb_model": focal_xgboost.train(params, dtrain, 5, obj=objective)}
    booster = focal_xgboost.train(params, dtrain, ROUNDS, obj=objective, **options)
    is_linear = params.get("booster") == "gblinear"  # which predicts with all iterations
    used = (0, booster.best_iteration + 1) if stops and not is_linear else (0, 0)
    assert not stops or is_linear or booster.best_iteration + 1 < ROUNDS
    loss = loss_of(objective, n_classes, y, weight)
    for model in (booster, xgb.Booster(model_file=booster.save_raw()), copy.copy(booster)):
        margin = model.predict(dtrain, output_margin=True, iteration_range=used)
        assert_unbiased(loss, margin, y, weight)


@pytest.mark.filterwarnings("ignore:no tree has a split")
@pytest.mark.parametrize("is_continued", [False, True])
@pytest.mark.parametrize("rare", [0, 1])
@pytest.mark.parametrize(("gamma", "alpha"), [(0.25, 0.25), (0.1, None), (0.0, 0.9), (1.0, 0.9)])
def test_xgboost_where_its_base_score_has_no_digits(arrays, gamma, alpha, rare, is_continued):
    X, score, _ = arrays
    y = (score > np.quantile(score, 0.995)).astype(int)
    weight = np.where(y == 1, 1.0, 1e6)
    y = y if rare == 1 else 1 - y
    dtrain = xgb.DMatrix(X, y, weight=weight)
    objective = FocalObjective(gamma, alpha)
    params = {"nthread": 2, "max_depth": 3, "min_child_weight": 0}
    options = {}
    if is_continued:
        options = {"xgb_model": focal_xgboost.train(params, dtrain, 3, obj=objective)}
    booster = focal_xgboost.train(params, dtrain, 5, obj=objective, **options)
    margin = booster.predict(xgb.DMatrix(X), output_margin=True).astype(float)
    posterior = objective.loss.posterior(margin if rare else -margin)
    if rare == 0:  # whose own posterior keeps its digits
        posterior = BinaryFocalLoss(gamma, None if alpha is None else 1 - alpha).posterior(-margin)
    assert_allclose(posterior @ weight, (weight == 1).sum(), rtol=1e-4)


@pytest.mark.parametrize("rounds", [1, 2, 3, 4, 5])
def test_a_shift_as_near_as_single_precision_allows(rounds):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 4)).astype(np.float32)
    y = (X[:, 0] + 0.5 * rng.normal(size=2000) >= 3).astype(int)
    weight = np.where(y == 1, 1.0, 1e6)
    dtrain, objective = xgb.DMatrix(X, y, weight=weight), FocalObjective(0.1)
    params = {"nthread": 1, "max_depth": 3, "min_child_weight": 0}
    booster = focal_xgboost.train(params, dtrain, rounds, obj=objective)
    posterior = objective.loss.posterior(booster.predict(dtrain, output_margin=True).astype(float))
    assert_allclose(posterior @ weight, y.sum(), rtol=1e-3)


@pytest.mark.parametrize("rare", [0, 1])
@pytest.mark.parametrize("weight", [1e3, 1e5, 1e7])
def test_gamma_0_is_xgboosts_log_loss_where_its_base_score_is_clipped(arrays, weight, rare):
    X, score, _ = arrays
    y = (score > np.quantile(score, 0.995)).astype(int)
    dtrain = xgb.DMatrix(X, y if rare else 1 - y, weight=np.where(y == 1, 1.0, weight))
    params = {"nthread": 1, "max_depth": 2, "min_child_weight": 0}
    booster = focal_xgboost.train(params, dtrain, 3, obj=FocalObjective(0.0))
    expected = xgb.train({**params, "objective": "binary:logistic"}, dtrain, 3)
    margins = [model.predict(dtrain, output_margin=True) for model in (booster, expected)]
    assert_allclose(*margins, rtol=2e-3)  # single precision has few digits near a base_score of 1


def test_a_booster_keeps_the_parameters_of_its_training(arrays):
    X, score, _ = arrays
    y = (score > np.quantile(score, 0.005)).astype(int)
    params = {"nthread": 1, "max_depth": 2, "eta": 0.1, "booster": "dart", "rate_drop": 0.5}
    objective = FocalObjective(0.1)
    dtrain = xgb.DMatrix(X, y)
    booster = focal_xgboost.train(params, dtrain, 4, obj=objective)
    assert "shift" in booster.attr("focal_intercept")
    config = booster.save_config()
    assert '"max_depth":"2"' in config
    assert '"rate_drop":"0.5"' in config
    booster.update(dtrain, 4, fobj=objective)
    *_, last = booster.get_dump()
    assert last.count("\n") <= 7


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_scalar_base_score_is_continued_again_and_again(arrays, n_classes):
    X, score, _ = arrays
    y = labels(score, n_classes)
    params = {"nthread": 1, "base_score": 0.3, **({"num_class": 3} if n_classes == 3 else {})}
    dtrain, objective = xgb.DMatrix(X, y), FocalObjective(2.0)
    booster = None
    for _ in range(3):
        booster = focal_xgboost.train(params, dtrain, 2, obj=objective, xgb_model=booster)
    whole = focal_xgboost.train(params, dtrain, 6, obj=objective)
    margins = [model.predict(dtrain, output_margin=True) for model in (booster, whole)]
    assert_allclose(*margins, rtol=1e-4, atol=1e-5)


def test_a_booster_without_trees_tells_no_shift_of_them(arrays):
    X, score, _ = arrays
    y = (score > np.quantile(score, 0.005)).astype(int)
    booster = focal_xgboost.train({}, xgb.DMatrix(X, y), 0, obj=FocalObjective(0.1))
    posterior = FocalObjective(0.1).loss.posterior(
        booster.predict(xgb.DMatrix(X[:1]), output_margin=True).astype(float)
    )
    assert_allclose(1 - posterior, 1 - y.mean(), rtol=1e-3)
    assert "shift" not in (booster.attr("focal_intercept") or "")


def seen_in_the_last_iteration(params, dtrain, objective, seen):
    class Predict(xgb.callback.TrainingCallback):
        def after_iteration(self, model, epoch, evals_log):
            seen.append(model.predict(dtrain, output_margin=True))
            return False

    return focal_xgboost.train(params, dtrain, 3, obj=objective, callbacks=[Predict()])


@pytest.mark.parametrize("start", [False, True])
def test_predictions_that_xgboost_keeps_are_those_after_the_shift(arrays, start):
    X, score, _ = arrays
    y = labels(score, 2)
    dtrain = xgb.DMatrix(X, y, base_margin=margins(X, 2) if start else None)
    params, objective, seen = {"nthread": 2}, FocalObjective(2.0, "balanced"), []
    booster = seen_in_the_last_iteration(params, dtrain, objective, seen)
    assert_allclose(seen[-1], booster.predict(dtrain, output_margin=True), rtol=1e-6)

    class Folds(xgb.callback.TrainingCallback):
        def after_training(self, model):
            self.folds = model.cvfolds
            return model

    callback = Folds()
    focal_xgboost.cv(params, dtrain, 3, stratified=True, obj=objective, callbacks=[callback])
    for fold in callback.folds:
        for dataset in (fold.dtrain, fold.dtest):
            again = xgb.Booster(model_file=fold.bst.save_raw()).predict(dataset, output_margin=True)
            assert_allclose(fold.bst.predict(dataset, output_margin=True), again, rtol=1e-6)


@pytest.mark.parametrize("alpha", [None, "balanced"])
def test_xgboost_with_leaves_of_several_numbers(arrays, alpha):
    X, score, _ = arrays
    y = labels(score, 3)
    dtrain = xgb.DMatrix(X, y, base_margin=margins(X, 3))
    params = {"num_class": 3, "multi_strategy": "multi_output_tree", "nthread": 2}
    objective = FocalObjective(2.0, alpha)
    booster = focal_xgboost.train(params, dtrain, ROUNDS, obj=objective)
    margin = booster.predict(dtrain, output_margin=True)
    assert_unbiased(loss_of(objective, 3, y, None), margin, y, None)


LIGHTGBM = {
    "plain": {},
    "weights": {"weighted": True},
    "dart": {"boosting": "dart"},
    "goss": {"data_sample_strategy": "goss"},
    "linear trees": {"linear_tree": True},
    "margins": {"start": True, "weighted": True},
    "margins, dart": {"start": True, "boosting": "dart"},
    "stops early": {"stops": True},
    "stops early by parameters": {"early_stopping_round": 2, "stops": True},
    "stops early, margins": {"stops": True, "start": True},
    "continued": {"continued": True},
}


@pytest.mark.parametrize("case", list(LIGHTGBM))
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_lightgbm(arrays, n_classes, alpha, case, tmp_path):
    X, score, weight = arrays
    X = X.astype(np.float64)
    y = labels(score, n_classes)
    params = {"num_threads": 2, "verbosity": -1, "learning_rate": 0.5, **LIGHTGBM[case]}
    weight = weight if params.pop("weighted", False) else None
    start = margins(X, n_classes) if params.pop("start", False) else None
    stops, continued = params.pop("stops", False), params.pop("continued", False)
    params |= {} if n_classes == 2 else {"num_class": 3}
    params["objective"] = objective = FocalObjective(2.0, alpha_of(alpha, n_classes))
    train_set = lgb.Dataset(X, y, weight=weight, init_score=start, free_raw_data=False)
    options = {}
    if stops:
        valid = lgb.Dataset(X[:1000], valid_labels(y, n_classes), reference=train_set)
        by_callback = "early_stopping_round" not in params
        params["metric"] = "multi_logloss" if n_classes == 3 else "binary_logloss"
        stop = [lgb.early_stopping(2, verbose=False)] if by_callback else []
        options = {"valid_sets": [valid], "callbacks": stop}
    if continued:
        options = {"init_model": focal_lightgbm.train(params, lgb.Dataset(X, y), 5)}
    booster = focal_lightgbm.train(params, train_set, ROUNDS, **options)
    assert not stops or booster.best_iteration < ROUNDS
    loss = loss_of(objective, n_classes, y, weight)
    booster.save_model(tmp_path / "model.txt")
    for model in (booster, lgb.Booster(model_file=tmp_path / "model.txt")):
        margin = model.predict(X, raw_score=True) + (0 if start is None else start)
        assert_unbiased(loss, margin, y, weight)


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("sizes", [(2000, 2000), (4000,)], ids=["both", "one worker idle"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("kind", [DaskFocalXGBClassifier, DaskFocalLGBMClassifier])
def test_dask(arrays, kind, n_classes, sizes):
    X, score, weight = arrays
    y = labels(score, n_classes)
    parts = [da.from_array(array, (sizes, *array.shape[1:])) for array in (X, y, weight)]
    quiet = {"verbosity": -1} if kind is DaskFocalLGBMClassifier else {}
    model = kind(n_estimators=ROUNDS, focal_alpha="balanced", **quiet)
    model.fit(parts[0], parts[1], sample_weight=parts[2])
    mean = np.average(model.predict_proba(parts[0]).compute(), axis=0, weights=weight)
    assert_allclose(mean, np.bincount(y, weight) / weight.sum(), rtol=1e-4)


@pytest.mark.parametrize("classifier", [FocalXGBClassifier, FocalLGBMClassifier])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_classifiers(arrays, classifier, n_classes):
    X, score, weight = arrays
    y = labels(score, n_classes)
    quiet = {"verbosity": -1} if classifier is FocalLGBMClassifier else {}
    model = classifier(n_estimators=ROUNDS, focal_alpha="balanced", class_weight={1: 2.0}, **quiet)
    model = pickle.loads(pickle.dumps(model.fit(X, y, sample_weight=weight)))  # noqa: S301
    weight = weight * np.where(y == 1, 2, 1)
    mean = np.average(model.predict_proba(X), axis=0, weights=weight)
    assert_allclose(mean, np.bincount(y, weight) / weight.sum(), rtol=1e-4)


def test_soft_labels(arrays):
    X, score, _ = arrays
    y = 1 / (1 + np.exp(4 - 2 * score))
    objective = FocalObjective(2.0, 0.9)
    dtrain = xgb.DMatrix(X, y)
    booster = focal_xgboost.train({"nthread": 2}, dtrain, ROUNDS, obj=objective)
    posterior = objective.loss.posterior(booster.predict(dtrain, output_margin=True))
    assert_allclose(posterior.mean(), y.mean(), rtol=1e-4)
    params = {"objective": objective, "verbosity": -1}
    booster = focal_lightgbm.train(params, lgb.Dataset(X, y), ROUNDS)
    posterior = objective.loss.posterior(booster.predict(X, raw_score=True))
    assert_allclose(posterior.mean(), y.mean(), rtol=1e-4)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_log_loss_is_left_alone(arrays, n_classes):
    X, score, _ = arrays
    y = labels(score, n_classes)
    params = {"num_class": 3} if n_classes == 3 else {}
    objective = FocalObjective(0.0)
    loss = objective.loss if n_classes == 2 else objective.softmax_loss(3)
    start = np.atleast_1d(loss.initial_margin(y))
    dtrain = xgb.DMatrix(X, y)
    booster = focal_xgboost.train({"nthread": 2, **params}, dtrain, 3, obj=objective)
    start = [1 / (1 + np.exp(-start[0]))] if n_classes == 2 else start
    base_score = start[0] if n_classes == 2 else start.tolist()
    name = "binary:logistic" if n_classes == 2 else "multi:softprob"
    same = xgb.train(
        {"nthread": 2, "objective": name, "base_score": base_score, **params},
        dtrain,
        3,
        obj=objective,
    )
    assert_array_equal(booster.predict(dtrain), same.predict(dtrain))


@pytest.mark.parametrize("n_classes", [2, 3, 12])
@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_shift_of_any_margins(n_classes, gamma):
    """The shift is found in a few passes for margins far off, also without a Jacobian."""
    rng = np.random.default_rng(0)
    shares = np.geomspace(1, 1e-3, n_classes)
    y = rng.choice(n_classes, 20_000, p=shares / shares.sum())
    weight = rng.gamma(1.0, size=len(y))
    if n_classes == 2:
        loss, margin = BinaryFocalLoss(gamma, 0.2), rng.normal(3, 2, len(y))
    else:
        loss = SoftmaxFocalLoss(n_classes, gamma, "balanced").resolve(y)
        margin = rng.normal(size=(len(y), n_classes)) + 3 * np.arange(n_classes)
    totals = np.bincount(y, weight)
    passes = []

    def totals_at(shift):
        passes.append(shift)
        return posterior_totals(loss, margin, weight, shift)

    shift = shift_of(totals_at, totals)
    assert_allclose(posterior_totals(loss, margin, weight, shift), totals, rtol=1e-5)
    assert len(passes) <= 40


def test_a_class_that_is_missing_shifts_nothing():
    assert_array_equal(shift_of(lambda shift: np.array([5.0, 1.0]), np.array([6.0, 0.0])), [0])


def test_an_intercept_that_cannot_be_found_is_left_with_a_warning():
    with pytest.warns(UserWarning, match="the intercept could not be set"):
        shift = shift_of(lambda shift: np.array([5.0, 1.0]), np.array([1.0, 5.0]))
    assert_array_equal(shift, [0])


def raises(env):
    if env.iteration in (40, env.end_iteration - 1):
        raise lgb.callback.EarlyStopException(4, [("valid_0", "metric", 0.0, False)])


@pytest.mark.parametrize("rounds", [300, 12], ids=["early", "in the last iteration"])
@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("raises", {}),
        ("raises", {"boosting": "dart"}),
        ("wraps", {}),
        ("wraps", {"linear_tree": True}),
    ],
)
def test_any_callback_may_stop_lightgbm(arrays, kind, rounds, params):
    X, score, _ = arrays
    y = labels(score, 2)
    own = lgb.early_stopping(2, verbose=False)

    def wraps(env):
        own(env)

    params = {"verbosity": -1, "num_threads": 2, "learning_rate": 0.5, **params}
    params["objective"] = FocalObjective(2.0, "balanced")
    train_set = lgb.Dataset(X[:3000], y[:3000])
    valid = lgb.Dataset(X[3000:], y[3000:], reference=train_set)
    callback = wraps if kind == "wraps" else raises
    booster = focal_lightgbm.train(params, train_set, rounds, [valid], callbacks=[callback])
    if kind == "raises":
        assert booster.best_iteration == booster.current_iteration() == 5
    else:
        assert booster.best_iteration == booster.current_iteration() < rounds
    loss = params["objective"].resolve(y[:3000]).loss
    posterior = loss.posterior(booster.predict(X[:3000], raw_score=True))
    assert_allclose(posterior.sum(), y[:3000].sum(), rtol=1e-5)
