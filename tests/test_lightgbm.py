"""focal_gbm.lightgbm.train: LightGBM's own train with focal loss done right."""

import inspect
import subprocess
import sys

import lightgbm as lgb
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from focal_gbm import FocalObjective
from focal_gbm.lightgbm import FocalLGBMClassifier, focal_metric, train

PARAMS = {
    "num_leaves": 15,
    "verbose": -1,
    "num_threads": 2,
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
}


def with_objective(*arguments, **changes):
    return {**PARAMS, "objective": FocalObjective(*arguments), **changes}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 5))
    y = (X[:, 0] + rng.normal(size=4000) > 2).astype(np.float32)
    weight = rng.gamma(2.0, size=4000).astype(np.float32)
    return X, y, weight


def sigmoid(margin):
    return 1 / (1 + np.exp(-margin))


def splits(booster):
    frame = booster.trees_to_dataframe()
    return frame[["node_depth", "split_feature", "threshold", "count"]]


def test_signature_is_that_of_lightgbm_and_label_totals():
    ours, theirs = inspect.signature(train).parameters, inspect.signature(lgb.train).parameters
    *places, added = [(p.name, p.kind, p.default) for p in ours.values()]
    assert added == ("label_totals", inspect.Parameter.KEYWORD_ONLY, None)
    assert places == [(p.name, p.kind, p.default) for p in theirs.values()]


@pytest.mark.parametrize("weighted", [False, True])
def test_gamma_zero_equals_binary(data, weighted):
    X, y, weight = data
    weight = weight if weighted else None
    builtin = lgb.train({**PARAMS, "objective": "binary"}, lgb.Dataset(X, y, weight=weight), 100)
    focal = train(with_objective(0.0), lgb.Dataset(X, y, weight=weight), 100)
    assert splits(focal).equals(splits(builtin))
    assert_allclose(focal.predict(X), builtin.predict(X), rtol=0, atol=1e-6)


# Stumps, which are warned of, tell the margin that training starts from.
ignore_stumps = pytest.mark.filterwarnings("ignore:no tree has a split")


@ignore_stumps
@pytest.mark.parametrize("gamma", [0.5, 2.0, (1.0, 4.0)])
@pytest.mark.parametrize("alpha", [None, 0.25, "balanced"])
@pytest.mark.parametrize("linear_tree", [False, True])
def test_starts_at_the_focal_optimum(data, gamma, alpha, linear_tree):
    X, y, _ = data
    params = with_objective(gamma, alpha, linear_tree=linear_tree)
    start = params["objective"].loss.initial_margin(y)
    stump = train({**params, "min_sum_hessian_in_leaf": 1e9}, lgb.Dataset(X, y), 1)
    assert_allclose(stump.predict(X, raw_score=True), start)
    # From the log-odds of so rare a class, leaves would have negative curvature.
    booster = train(params, lgb.Dataset(X, y), 1)
    assert booster.dump_model()["tree_info"][0]["num_leaves"] > 1


@pytest.mark.usefixtures("unshifted")
@pytest.mark.parametrize("linear_tree", [False, True])
def test_training_sees_the_margins_it_returns(data, linear_tree):
    X, y, weight = data
    train_set = lgb.Dataset(X[:3000], y[:3000])
    valid_set = lgb.Dataset(X[3000:], y[3000:], weight=weight[3000:], reference=train_set)
    params = with_objective(2.0, 0.4, linear_tree=linear_tree)
    history = {}
    booster = train(
        params,
        train_set,
        10,
        valid_sets=[train_set, valid_set],
        valid_names=["train", "valid"],
        callbacks=[lgb.record_evaluation(history)],
    )
    loss = params["objective"].loss
    margin = booster.predict(X, raw_score=True)
    assert list(history["valid"]) == ["focal_loss"]
    assert_allclose(history["train"]["focal_loss"][-1], loss.loss(y, margin)[:3000].mean())
    mean = np.average(loss.loss(y, margin)[3000:], weights=weight[3000:])
    assert_allclose(history["valid"]["focal_loss"][-1], mean)
    assert booster.best_score["valid"]["focal_loss"] == history["valid"]["focal_loss"][-1]


@pytest.mark.parametrize("linear_tree", [False, True])
def test_saved_model_predicts_probabilities_without_us(data, tmp_path, linear_tree):
    X, y, _ = data
    booster = train(with_objective(2.0, 0.25, linear_tree=linear_tree), lgb.Dataset(X, y), 10)
    margin = booster.predict(X, raw_score=True)
    assert_allclose(booster.predict(X), sigmoid(margin), rtol=1e-12)
    path = tmp_path / "model.txt"
    for _ in range(3):
        assert booster.params["objective"] == "binary_focal_loss"
        booster.save_model(path)
        booster = lgb.Booster(model_file=path)
    np.save(tmp_path / "X.npy", X)
    program = """
import sys
sys.modules["focal_gbm"] = None  # makes importing it an error
import lightgbm as lgb, numpy as np
folder, name = sys.argv[1:]
X = np.load(folder + "/X.npy")
np.save(folder + "/prediction.npy", lgb.Booster(model_file=folder + "/" + name).predict(X))
"""
    command = [sys.executable, "-c", program, str(tmp_path), path.name]
    subprocess.run(command, check=True)  # noqa: S603
    assert_allclose(np.load(tmp_path / "prediction.npy"), sigmoid(margin), rtol=1e-12)


@pytest.mark.parametrize("boosting", ["gbdt", "dart"])
def test_shap_values_add_up_to_the_margin(data, boosting):
    X, y, _ = data
    booster = train(with_objective(2.0, boosting=boosting), lgb.Dataset(X, y), 20)
    contributions = booster.predict(X, pred_contrib=True)
    assert_allclose(contributions.sum(axis=1), booster.predict(X, raw_score=True), atol=1e-9)


def test_dart_depends_on_its_seed_alone():
    """By itself, LightGBM reads uninitialised memory, which in a new process holds zeros."""
    program = """
import lightgbm as lgb
import numpy as np
from focal_gbm import FocalObjective
from focal_gbm.lightgbm import train
rng = np.random.default_rng(0)
X = rng.normal(size=(1000, 5))
y = X[:, 0] + rng.normal(size=1000) > 0
params = {"objective": FocalObjective(1.0), "boosting": "dart", "drop_rate": 0.5, "skip_drop": 0.1}
params |= {"verbose": -1, "num_threads": 1}
models, others = [], []
for size in rng.integers(1, 2000, 15):
    others.append(np.ones(size))
    models.append(train(params, lgb.Dataset(X, y), 10).model_to_string())
assert len(set(models)) == 1, [models.index(model) for model in models]
assert train({**params, "seed": 2}, lgb.Dataset(X, y), 10).model_to_string() not in models
"""
    subprocess.run([sys.executable, "-c", program], check=True)  # noqa: S603


def test_early_stopping(data):
    X, y, _ = data
    train_set = lgb.Dataset(X[:3000], y[:3000])
    valid_set = lgb.Dataset(X[3000:], y[3000:], reference=train_set)
    history = {}
    booster = train(
        with_objective(2.0, learning_rate=0.5),
        train_set,
        100,
        valid_sets=[valid_set],
        callbacks=[lgb.early_stopping(5, verbose=False), lgb.record_evaluation(history)],
    )
    curve = history["valid_0"]["focal_loss"]
    assert booster.best_iteration == int(np.argmin(curve)) + 1 < 100
    by_parameter = train(
        with_objective(2.0, learning_rate=0.5, early_stopping_round=5),
        lgb.Dataset(X[:3000], y[:3000]),
        100,
        valid_sets=lgb.Dataset(X[3000:], y[3000:]),
    )
    assert by_parameter.best_iteration == booster.best_iteration


def test_rank_metrics_and_custom_metrics_are_the_callers(data):
    X, y, _ = data
    train_set = lgb.Dataset(X, y)
    objective = FocalObjective(2.0, "balanced")

    def custom(margin, dataset):
        return "smallest", margin.min(), False

    history = {}
    train(
        {**PARAMS, "objective": objective, "metric": ["auc", "average_precision"]},
        train_set,
        3,
        valid_sets=[train_set],
        feval=[custom, focal_metric(objective)],
        callbacks=[lgb.record_evaluation(history)],
    )
    assert set(history["training"]) == {"auc", "average_precision", "smallest", "focal_loss"}
    assert max(history["training"]["smallest"]) < 0


def test_continued_training_is_uninterrupted_training(data, tmp_path):
    X, y, _ = data
    whole = train(with_objective(2.0), lgb.Dataset(X, y), 10)
    first = train(with_objective(2.0), lgb.Dataset(X, y), 5)
    path = tmp_path / "first.txt"
    first.save_model(path)
    for model in (first, path, str(path)):
        train_set = lgb.Dataset(X, y, free_raw_data=False)
        continued = train(with_objective(2.0), train_set, 5, init_model=model)
        assert continued.num_trees() == 10
        assert_allclose(continued.predict(X), whole.predict(X), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Converting column-vector to 1d array")
def test_labels_of_a_continued_training_may_be_a_column(data):
    X, y, _ = data
    params = with_objective(2.0, "balanced")
    first = train(params, lgb.Dataset(X, y), 5)
    whole = train(params, lgb.Dataset(X, y), 10)
    continued = train(params, lgb.Dataset(X, y[:, None]), 5, init_model=first)
    assert_allclose(continued.predict(X), whole.predict(X), rtol=1e-6)


@pytest.mark.usefixtures("unshifted")
def test_training_booster_can_go_on(data):
    X, y, _ = data
    params = with_objective(2.0)
    train_set = lgb.Dataset(X, y)
    booster = train(params, train_set, 5, keep_training_booster=True)
    assert_allclose(booster.predict(X), sigmoid(booster.predict(X, raw_score=True)))
    with pytest.raises(lgb.basic.LightGBMError, match="null objective"):
        booster.update()
    booster.reset_parameter({"objective": "none"})
    for _ in range(5):
        booster.update(fobj=params["objective"])
    whole = train(params, lgb.Dataset(X, y), 10)
    margin = booster.predict(X, raw_score=True)
    assert_allclose(margin, whole.predict(X, raw_score=True), rtol=1e-6)


@pytest.mark.usefixtures("unshifted")
def test_init_score_and_boost_from_average_replace_the_starting_margin(data):
    X, y, _ = data
    without = train(with_objective(2.0, boost_from_average=False), lgb.Dataset(X, y), 5)
    zero = train(with_objective(2.0), lgb.Dataset(X, y, init_score=np.zeros(y.size)), 5)
    assert_array_equal(without.predict(X), zero.predict(X))
    plain = lgb.train(with_objective(2.0), lgb.Dataset(X, y), 5)
    assert_array_equal(without.predict(X, raw_score=True), plain.predict(X))


def test_two_classes_are_binary(data):
    X, y, _ = data
    expected = train(with_objective(2.0), lgb.Dataset(X, y), 3).predict(X)
    for alias in ("num_class", "num_classes"):
        booster = train(with_objective(2.0, **{alias: 2}), lgb.Dataset(X, y), 3)
        assert_array_equal(booster.predict(X), expected)


@pytest.mark.parametrize(("word", "switch"), [("false", False), ("-", False), ("true", True)])
def test_switches_in_words(data, word, switch):
    X, y, _ = data
    in_words, plain = (
        train(with_objective(2.0, boost_from_average=value), lgb.Dataset(X, y), 3)
        for value in (word, switch)
    )
    assert_array_equal(in_words.predict(X), plain.predict(X))


def test_data_sets_are_as_before(data):
    X, y, weight = data
    train_set = lgb.Dataset(X, y, weight=weight)
    valid_set = lgb.Dataset(X, y, init_score=np.full(y.size, 0.25), reference=train_set)
    params = with_objective(2.0, "balanced")
    before = dict(params)
    for _ in range(2):
        booster = train(params, train_set, 3, valid_sets=[train_set, valid_set])
    assert params == before
    assert train_set.get_init_score() is None
    assert train_set.get_field("init_score") is None
    assert_array_equal(valid_set.get_init_score(), 0.25)
    assert_array_equal(train_set.get_label(), y)
    assert_array_equal(train_set.get_weight(), weight)
    # Also after a failure.
    with pytest.raises(ZeroDivisionError):
        train(params, train_set, 3, callbacks=[lambda env: 1 / 0])
    assert train_set.get_init_score() is None
    assert booster.num_trees() == 3


@pytest.mark.parametrize("form", ["subset", "file", "list"])
def test_labels_are_found_in_every_data_set(data, tmp_path, form):
    X, y, _ = data
    expected = train(with_objective(2.0), lgb.Dataset(X[:2000], y[:2000]), 3).predict(X)
    if form == "subset":
        train_set = lgb.Dataset(X, y).construct().subset(list(range(2000)))
    elif form == "file":
        path = tmp_path / "train.tsv"
        np.savetxt(path, np.column_stack([y, X])[:2000], delimiter="\t")
        train_set = lgb.Dataset(str(path))
    else:
        train_set = lgb.Dataset(X[:2000], y[:2000].tolist())
    booster = train(with_objective(2.0), train_set, 3)
    assert booster.num_trees() == 3
    if form != "subset":  # whose bins come from all rows
        assert_allclose(booster.predict(X), expected, rtol=1e-6)


def test_posterior_is_calibrated_where_the_sigmoid_is_not(data):
    X, y, _ = data
    params = with_objective(3.0, num_leaves=4)
    booster = train(params, lgb.Dataset(X[:2000], y[:2000]), 60)
    margin = booster.predict(X[2000:], raw_score=True)
    share = y[2000:].mean()
    assert abs(params["objective"].loss.posterior(margin).mean() - share) < 0.02
    assert booster.predict(X[2000:]).mean() - share > 0.1


def test_soft_labels(data):
    X, y, _ = data
    soft = np.clip(y, 0.1, 0.8)
    params = with_objective(2.0)
    margin = train(params, lgb.Dataset(X, soft), 20).predict(X, raw_score=True)
    assert_allclose(params["objective"].loss.posterior(margin).mean(), soft.mean(), atol=0.02)


def test_quantized_gradients_are_warned_about(data):
    X, y, _ = data
    with pytest.warns(UserWarning, match="use_quantized_grad"):
        train(with_objective(2.0, use_quantized_grad=True), lgb.Dataset(X, y), 1)


@pytest.fixture(scope="module")
def classes():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(3000, 4))
    y = np.digitize(X[:, 0] + rng.normal(size=3000), [-0.5, 1.8])
    return X, y, rng.gamma(2.0, size=3000).astype(np.float32)


@pytest.mark.usefixtures("unshifted")
@ignore_stumps
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("alpha", [None, "balanced", (1, 2, 3)])
@pytest.mark.parametrize("linear_tree", [False, True])
def test_multiclass(classes, tmp_path, weighted, alpha, linear_tree):
    X, y, weight = classes
    weight = weight if weighted else None
    train_set = lgb.Dataset(X, y, weight=weight)
    params = with_objective(2.0, alpha, num_class=3, linear_tree=linear_tree)
    history = {}
    booster = train(
        params,
        train_set,
        20,
        valid_sets=[train_set],
        callbacks=[lgb.record_evaluation(history)],
    )
    loss = params["objective"].softmax_loss(3).resolve(y, weight)
    path = tmp_path / "model.txt"
    booster.save_model(path)
    booster = lgb.Booster(model_file=path)
    margin = booster.predict(X, raw_score=True)
    softmax = np.exp(margin - margin.max(axis=1, keepdims=True))
    softmax /= softmax.sum(axis=1, keepdims=True)
    assert_allclose(booster.predict(X), softmax, rtol=1e-12)
    mean = np.average(loss.loss(y, margin), weights=weight)
    assert_allclose(history["training"]["focal_loss"][-1], mean)
    stump = train({**params, "min_sum_hessian_in_leaf": 1e9}, lgb.Dataset(X, y, weight=weight), 1)
    start = stump.predict(X[:1], raw_score=True)
    assert_allclose(start[0], loss.initial_margin(y, weight))
    assert train_set.get_init_score() is None
    if not linear_tree:
        contributions = booster.predict(X, pred_contrib=True).reshape(len(X), 3, -1)
        assert_allclose(contributions.sum(axis=2), margin, atol=1e-9)


def test_multiclass_doors_grow_the_same_trees(classes):
    X, y, weight = classes
    objective = FocalObjective(1.5, (1, 2, 3))
    params = {**PARAMS, "objective": objective, "num_class": 3}
    trained = lgb.train(params, lgb.Dataset(X, y, weight=weight), 5)
    fitted = lgb.LGBMClassifier(
        objective=objective,
        n_estimators=5,
        num_leaves=15,
        n_jobs=2,
        verbose=-1,
        random_state=1,
        deterministic=True,
        force_row_wise=True,
    ).fit(X, y, sample_weight=weight)
    assert_array_equal(
        fitted.booster_.predict(X, raw_score=True), trained.predict(X, raw_score=True)
    )


@pytest.fixture(scope="module", params=["gpu", "cuda"])
def device(request):
    """Parameters for a GPU by CUDA, or by OpenCL, where PoCL can use the CPU as a device."""
    params = {**PARAMS, "device_type": request.param, "max_bin": 63}
    params.pop("force_row_wise")
    try:
        lgb.train({**params, "objective": "binary"}, lgb.Dataset(np.eye(50), np.arange(50) % 2), 1)
    except lgb.basic.LightGBMError as error:
        if not any(name in str(error) for name in ("OpenCL", "GPU", "CUDA")):
            raise
        pytest.skip(f"LightGBM finds no device: {error}")
    return params


@pytest.mark.gpu
@pytest.mark.parametrize("weighted", [False, True])
def test_gamma_zero_equals_binary_on_a_gpu(data, device, weighted):
    X, y, weight = data
    weight = weight if weighted else None
    builtin = lgb.train({**device, "objective": "binary"}, lgb.Dataset(X, y, weight=weight), 30)
    params = {**device, "objective": FocalObjective(0.0)}
    booster = train(params, lgb.Dataset(X, y, weight=weight), 30)
    assert_allclose(booster.predict(X), builtin.predict(X), rtol=1e-5)
    assert booster.feature_importance().tolist() == builtin.feature_importance().tolist()


@pytest.mark.gpu
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_gpu_agrees_with_the_cpu(data, device, n_classes):
    X, y, _ = data
    y = y if n_classes == 2 else np.digitize(X[:, 0], [-1, 1])
    params = {**device, "num_class": n_classes if n_classes > 2 else 1}
    on_gpu, on_cpu = (
        train(
            {**params, "device_type": device_type, "objective": FocalObjective(2.0)},
            lgb.Dataset(X, y),
            10,
        ).predict(X)
        for device_type in (device["device_type"], "cpu")
    )
    if device["device_type"] == "gpu":
        assert_allclose(on_gpu, on_cpu, rtol=1e-4)
    else:  # CUDA's histograms are in single precision, so splits of equal gain differ
        assert np.abs(on_gpu - on_cpu).mean() < 0.01


@pytest.mark.gpu
def test_classifier_on_a_gpu(data, device):
    X, y, weight = data
    settings = {"device_type": device["device_type"], "max_bin": 63, "verbosity": -1}
    model = FocalLGBMClassifier(n_estimators=20, **settings)
    probability = model.fit(X, y, sample_weight=weight).predict_proba(X)[:, 1]
    assert abs(np.average(probability, weights=weight) - np.average(y, weights=weight)) < 0.01


@pytest.mark.gpu
def test_evaluation_and_continued_training_on_a_gpu(data, device):
    X, y, _ = data
    train_set = lgb.Dataset(X[:2000], y[:2000], params=device, free_raw_data=False)
    valid_set = lgb.Dataset(X[2000:], y[2000:], reference=train_set, free_raw_data=False)
    params = {**device, "objective": FocalObjective(2.0)}
    results = {}
    stop = [lgb.early_stopping(5, verbose=False), lgb.record_evaluation(results)]
    booster = train(params, train_set, 40, valid_sets=[valid_set], callbacks=stop)
    assert booster.best_iteration > 0
    assert list(results["valid_0"]) == ["focal_loss"]
    more = train(params, train_set, 5, init_model=booster)
    assert np.isfinite(more.predict(X)).all()
    copied = lgb.Booster(model_str=booster.model_to_string())
    assert_allclose(copied.predict(X), booster.predict(X), rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"boosting_type": "gbdt", "boost": "dart"}, "dart"),
        ({"boosting_type": "dart", "boosting": "gbdt"}, "gbdt"),
        ({"boosting_type": "dart", "boost": None}, "dart"),
    ],
)
def test_of_several_names_lightgbms_wins(data, given, expected):
    X, y, _ = data
    for objective in (FocalObjective(2.0), "binary"):
        params = {**given, "objective": objective, "verbose": -1, "num_threads": 2}
        params = {name: value for name, value in params.items() if value is not None}
        run = train if objective != "binary" else lgb.train
        text = run(params, lgb.Dataset(X, y), 2).model_to_string()
        assert f"[boosting: {expected}]" in text
