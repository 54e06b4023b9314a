"""Training of XGBoost that stays on the GPU: the model of a training that does not.

Without a GPU, CuPy's place is taken by NumPy and XGBoost falls back to the CPU, by the same steps.
"""

import pickle

import numpy as np
import places
import pytest
import scipy.sparse
import xgboost as xgb
from numpy.testing import assert_allclose, assert_array_equal

from focal_gbm import FocalObjective
from focal_gbm._training import Training
from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier, _internals, _resident, _train, focal_metric, train

pytestmark = [
    pytest.mark.usefixtures("cupy"),
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:.*No visible GPU is found"),
    pytest.mark.filterwarnings("ignore:.*Device is changed from GPU to CPU"),
    pytest.mark.filterwarnings("ignore:(.|\\n)*booster=(dart|gblinear)"),
    pytest.mark.filterwarnings("ignore:(.|\\n)*are not used"),
]

PARAMS = {"device": "cuda", "max_depth": 4, "eta": 0.3, "nthread": 2, "seed": 1}
ROUNDS = 12


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 6)).astype(np.float32)
    X[rng.random(X.shape) < 0.05] = np.nan
    margin = 2 * np.nan_to_num(X[:, 0]) - np.nan_to_num(X[:, 1]) ** 2 + rng.normal(size=2000)
    weight = rng.gamma(2.0, size=2000).astype(np.float32)
    return X, margin, weight


def labels(margin, n_classes):
    return np.digitize(margin, np.quantile(margin, np.linspace(0, 1, n_classes + 1)[1:-1]))


def must_not_be_called(self, margin, dataset):
    raise AssertionError("called with margins on the host")


def both_ways(params, objective, dtrain, *arguments, **options):
    """Boosters and results of a training that stays on the GPU, and of one that does not."""
    settings = {name: getattr(objective, name) for name in ("gamma", "alpha", "hessian")}
    trained = []
    for stays in (True, False):
        results = {}
        fresh = {name: make() for name, make in options.items()}
        with pytest.MonkeyPatch.context() as patch:
            if stays:
                patch.setattr(Training, "__call__", must_not_be_called)
            else:
                patch.setattr(_train, "_resident", lambda *arguments: None)
            booster = train(
                {**PARAMS, **params},
                dtrain,
                ROUNDS,
                *arguments,
                obj=FocalObjective(**settings),
                evals_result=results,
                verbose_eval=False,
                **fresh,
            )
        trained.append((booster, results))
    return trained


def assert_same(trained, dataset):
    (stayed, its_results), (plain, results) = trained
    assert type(stayed) is xgb.Booster
    assert stayed.attributes().keys() == plain.attributes().keys()
    if not places.xgboost_has_gpu():
        assert stayed.get_dump(with_stats=False) == plain.get_dump(with_stats=False)
        assert stayed.attributes() == plain.attributes()
    margins = (booster.predict(dataset, output_margin=True) for booster in (stayed, plain))
    assert_nearly_all_close(*margins, rtol=1e-5, atol=1e-5)
    assert its_results.keys() == results.keys()
    tolerance = 1e-3 if places.xgboost_has_gpu() else 1e-5
    for name, metrics in results.items():
        for metric, values in metrics.items():
            assert_allclose(its_results[name][metric], values, rtol=tolerance)
            assert len(values) > 0


def assert_nearly_all_close(actual, expected, **tolerance):
    """All are close, and on a GPU nearly all.

    There sums are in other orders, and the last digit may decide between splits of equal gain.
    """
    if places.xgboost_has_gpu():
        assert np.isclose(actual, expected, **tolerance).mean() > 0.98
    else:
        assert_allclose(actual, expected, **tolerance)


@pytest.mark.parametrize("make", [xgb.DMatrix, xgb.QuantileDMatrix])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_same_model(data, n_classes, weighted, make):
    X, margin, weight = data
    y = labels(margin, n_classes)
    dtrain = make(X[:1500], y[:1500], weight=weight[:1500] if weighted else None)
    ref = {"ref": dtrain} if make is xgb.QuantileDMatrix else {}
    dvalid = make(X[1500:], y[1500:], weight=weight[1500:] if weighted else None, **ref)
    params = {"num_class": n_classes} if n_classes > 2 else {}
    trained = both_ways(
        params,
        FocalObjective(2.0, "balanced"),
        dtrain,
        evals=lambda: [(dtrain, "train"), (dvalid, "valid")],
    )
    assert_same(trained, dvalid)
    assert set(trained[0][1]) == {"train", "valid"}
    assert list(trained[0][1]["valid"]) == ["focal_loss"]


CASES = {
    "sampling": {"subsample": 0.6, "colsample_bytree": 0.7},
    "forests": {"num_parallel_tree": 3, "subsample": 0.7},
    "lossguide": {"grow_policy": "lossguide", "max_leaves": 7, "max_depth": 0},
    "approx": {"tree_method": "approx"},
    "base score": {"base_score": 0.3},
    "vector leaves": {"num_class": 3, "multi_strategy": "multi_output_tree"},
    "named metrics": {"eval_metric": ["auc", "logloss", "error@0.3"]},
}


@pytest.mark.parametrize("case", CASES)
def test_same_model_with(data, case):
    X, margin, _ = data
    dtrain = xgb.DMatrix(X, labels(margin, CASES[case].get("num_class", 2)))
    base_score = CASES[case].get("base_score")
    trained = both_ways(
        CASES[case], FocalObjective(1.5, hessian="clip"), dtrain, evals=lambda: [(dtrain, "train")]
    )
    assert_same(trained, dtrain)
    starts = [_internals.base_margin_of(booster) for booster, _ in trained]
    assert_allclose(*starts, rtol=1e-6, atol=1e-6 if places.xgboost_has_gpu() else 0)
    if base_score is not None:  # and the shift of the intercept
        assert_allclose(starts[0], np.log(base_score / (1 - base_score)), atol=0.05)


def test_early_stopping(data):
    X, margin, _ = data
    y = labels(margin + np.random.default_rng(1).normal(0, 5, margin.size), 2)
    dtrain, dvalid = xgb.DMatrix(X[:1500], y[:1500]), xgb.DMatrix(X[1500:], y[1500:])
    for options in (
        {"early_stopping_rounds": lambda: 2},
        {
            "callbacks": lambda: [
                xgb.callback.EarlyStopping(
                    rounds=2, save_best=True, metric_name="auc", maximize=True
                )
            ]
        },
    ):
        trained = both_ways(
            {"eval_metric": ["logloss", "auc"], "eta": 1.0},
            FocalObjective(),
            dtrain,
            evals=lambda: [(dvalid, "valid")],
            **options,
        )
        assert_same(trained, dvalid)
        assert trained[0][0].num_boosted_rounds() < ROUNDS
        assert trained[0][0].best_iteration == trained[1][0].best_iteration


def test_soft_labels_and_margins_to_start_from(data):
    X, margin, _ = data
    y = 1 / (1 + np.exp(-margin))
    dtrain = xgb.DMatrix(X, y, base_margin=np.sin(margin))
    assert_same(both_ways({}, FocalObjective(0.5, 0.7), dtrain), dtrain)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_margins_to_start_from_for_the_training_data_alone(data, n_classes):
    X, margin, _ = data
    y = labels(margin, n_classes)
    start = np.tile(np.sin(margin)[:, None], n_classes) if n_classes > 2 else np.sin(margin)
    dtrain, dvalid = xgb.DMatrix(X, y, base_margin=start), xgb.DMatrix(X, y)
    params = {"num_class": n_classes} if n_classes > 2 else {}
    trained = both_ways(params, FocalObjective(), dtrain, evals=lambda: [(dvalid, "v")])
    assert_same(trained, dvalid)


def test_continued_from_a_model_without_trees(data):
    X, margin, _ = data
    dtrain = xgb.DMatrix(X, labels(margin, 2))
    empty = xgb.train({"objective": "binary:logistic"}, dtrain, 0)
    with pytest.warns(UserWarning, match="xgb_model"):
        trained = both_ways({}, FocalObjective(), dtrain, xgb_model=lambda: empty)
    assert_same(trained, dtrain)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_continued_training(data, n_classes):
    X, margin, _ = data
    dtrain = xgb.DMatrix(X, labels(margin, n_classes))
    params = {"num_class": n_classes} if n_classes > 2 else {}
    (first, _), _ = both_ways(params, FocalObjective(), dtrain)
    trained = both_ways(params, FocalObjective(), dtrain, xgb_model=lambda: first)
    assert_same(trained, dtrain)
    assert trained[0][0].num_boosted_rounds() == 2 * ROUNDS
    assert first.num_boosted_rounds() == ROUNDS


@pytest.mark.parametrize("matrix", [scipy.sparse.csr_matrix, scipy.sparse.csc_matrix])
def test_sparse_features(data, matrix):
    X, margin, _ = data
    dtrain = xgb.DMatrix(matrix(np.where(np.isnan(X) | (X < 0.5), 0, X)), labels(margin, 2))
    assert dtrain.num_nonmissing() < X.size
    assert_same(both_ways({}, FocalObjective(), dtrain), dtrain)


def test_categories(data):
    X, margin, _ = data
    codes = np.digitize(X[:, :2], [-1, 0, 1]).astype(np.float32)
    dtrain = xgb.DMatrix(
        np.hstack([codes, X[:, 2:]]),
        labels(margin, 2),
        feature_types=["c", "c", "q", "q", "q", "q"],
        enable_categorical=True,
    )
    params = {"max_cat_to_onehot": 2}
    assert_same(both_ways(params, FocalObjective(), dtrain), dtrain)


def test_categories_of_a_data_frame(data):
    pandas = pytest.importorskip("pandas")
    X, margin, _ = data
    names = np.array(["low", "middle", "high"])[np.digitize(X[:, 0], [-1, 1])]
    frame = pandas.DataFrame({"rank": pandas.Categorical(names), "number": X[:, 1]})
    y = labels(margin, 2)
    stayed, plain = (
        FocalXGBClassifier(device=device, enable_categorical=True, n_estimators=9).fit(frame, y)
        for device in ("cuda", "cpu")
    )
    assert_allclose(stayed.predict_proba(frame), plain.predict_proba(frame), rtol=1e-4)
    assert {"rank"} <= set(stayed.get_booster().get_score())


def test_callbacks_see_a_booster_of_xgboost(data, tmp_path):
    X, margin, _ = data
    dtrain = xgb.DMatrix(X, labels(margin, 2))
    seen = []

    class Watch(xgb.callback.TrainingCallback):
        def after_iteration(self, model, epoch, evals_log):
            copied, pickled = model.copy(), pickle.loads(pickle.dumps(model))  # noqa: S301
            expected = model.predict(dtrain)
            for booster in (copied, pickled, model[:]):
                assert type(booster) is xgb.Booster
                assert not hasattr(booster, "resident")
                assert_array_equal(booster.predict(dtrain), expected)
            seen.append((epoch, model.num_boosted_rounds()))
            return epoch == 4

    def callbacks():
        return [
            Watch(),
            xgb.callback.LearningRateScheduler(lambda epoch: 0.5 / (1 + epoch)),
            xgb.callback.TrainingCheckPoint(tmp_path, as_pickle=True, interval=2),
        ]

    assert_same(both_ways({}, FocalObjective(), dtrain, callbacks=callbacks), dtrain)
    assert seen == [(epoch, epoch + 1) for epoch in range(5)] * 2
    checkpoint = pickle.loads((tmp_path / "model_2.pkl").read_bytes())  # noqa: S301
    assert "focal_loss" in checkpoint.attributes()


def test_callbacks_that_replace_the_booster_or_its_trees(data):
    X, margin, _ = data
    dtrain = xgb.DMatrix(X, labels(margin, 2))
    other = train({**PARAMS, "device": "cpu"}, dtrain, 3, obj=FocalObjective())

    class Loads(xgb.callback.TrainingCallback):
        def after_iteration(self, model, epoch, evals_log):
            if epoch == 4:
                model.load_model(other.save_raw())
            return False

    trained = both_ways(
        {},
        FocalObjective(),
        dtrain,
        evals=lambda: [(dtrain, "t")],
        callbacks=lambda: [Loads()],
    )
    assert_same(trained, dtrain)
    assert trained[0][0].num_boosted_rounds() == 3 + ROUNDS - 5

    class Copies(xgb.callback.TrainingCallback):
        def before_training(self, model):
            return model.copy()

    results = {}
    booster = train(
        PARAMS,
        dtrain,
        5,
        obj=FocalObjective(0.0),  # whose intercept is not shifted in the end
        evals=[(dtrain, "t")],
        evals_result=results,
        callbacks=[Copies()],
        verbose_eval=False,
    )
    _, value = focal_metric(FocalObjective(0.0))(
        booster.predict(dtrain, output_margin=True), dtrain
    )
    assert_allclose(results["t"]["focal_loss"][-1], value, rtol=1e-5)


def test_weights_set_before_training(data):
    X, margin, weight = data
    dtrain = xgb.DMatrix(X, labels(margin, 2))

    class Weighs(xgb.callback.TrainingCallback):
        def before_training(self, model):
            dtrain.set_weight(weight)
            return model

    def callbacks():
        dtrain.set_weight(np.ones(len(weight)))
        return [Weighs()]

    trained = both_ways({}, FocalObjective(), dtrain, callbacks=callbacks)
    dtrain.set_weight(np.ones(len(weight)))
    unweighted = both_ways({}, FocalObjective(), dtrain)
    assert_same(trained, dtrain)
    assert trained[0][0].get_dump() != unweighted[0][0].get_dump()


def test_evaluation_sets_of_fewer_columns_and_without_labels(data):
    X, margin, _ = data
    dtrain = xgb.DMatrix(X, labels(margin, 2))
    dvalid = xgb.DMatrix(X[:, :4])

    def mean_margin(margins, dataset):
        return "mean", float(margins.mean())

    trained = both_ways(
        {},
        FocalObjective(),
        dtrain,
        evals=lambda: [(dvalid, "v")],
        custom_metric=lambda: mean_margin,
    )
    assert_same(trained, dtrain)


def test_metrics_of_a_user_get_margins_of_numpy(data):
    X, margin, _ = data
    dtrain = xgb.DMatrix(X, labels(margin, 2))

    def mean_margin(margins, dataset):
        assert type(margins) is np.ndarray
        return "mean", float(margins.mean())

    trained = both_ways(
        {},
        FocalObjective(),
        dtrain,
        evals=lambda: [(dtrain, "t")],
        custom_metric=lambda: mean_margin,
    )
    assert_same(trained, dtrain)
    assert list(trained[0][1]["t"]) == ["mean"]


def test_nothing_returns_to_the_host(data, cupy, monkeypatch):
    X, margin, _ = data
    dtrain, dvalid = (xgb.DMatrix(X, labels(margin, 2)) for _ in range(2))
    predicted = []
    predict = xgb.Booster.predict

    def counting(booster, dataset, **options):
        predicted.append(dataset)
        return predict(booster, dataset, **options)

    read, freed = [], []
    labels_and_weights, free_pools = _resident.labels_and_weights, _resident._free_pools
    monkeypatch.setattr(
        _resident, "labels_and_weights", lambda ds: read.append(ds) or labels_and_weights(ds)
    )
    monkeypatch.setattr(_resident, "_free_pools", lambda: freed.append(1) or free_pools())
    monkeypatch.setattr(xgb.Booster, "predict", counting)
    monkeypatch.setattr(cupy, "asnumpy", lambda array: pytest.fail("brought to the host"))
    params = {**PARAMS, "eval_metric": "aucpr"}
    monkeypatch.setattr(Training, "__call__", must_not_be_called)
    for custom_metric in (None, focal_metric(FocalObjective())):
        train(
            params,
            dtrain,
            5,
            obj=FocalObjective(),
            evals=[(dvalid, "valid")],
            custom_metric=custom_metric,
            verbose_eval=False,
        )
    assert predicted == [dtrain, dvalid] * 2  # where they start
    assert read == [dtrain, dtrain, dvalid]  # once for each training, and its focal metric
    assert len(freed) == 4  # before and after


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("container", ["numpy", "fortran", "double", "pandas", "missing", "device"])
def test_classifier(data, cupy, n_classes, container):
    X, margin, weight = data
    y = labels(margin, n_classes)
    given, missing = X, np.nan
    if container == "fortran":
        given = np.asfortranarray(X)
    elif container == "double":
        given = X.astype(np.float64)
    elif container == "pandas":
        given = pytest.importorskip("pandas").DataFrame(X)
    elif container == "missing":
        given, missing = np.where(np.isnan(X), -99, X), -99
    elif container == "device":
        given = cupy.asarray(X)
    settings = {"n_estimators": 8, "max_depth": 4, "n_jobs": 2, "missing": missing}
    options = {"sample_weight": weight[:1500], "verbose": False}
    fitted = []
    for device in ("cuda", "cpu"):
        model = FocalXGBClassifier(device=device, early_stopping_rounds=3, **settings)
        eval_set = [(given[1500:], y[1500:])]
        fitted.append(model.fit(given[:1500], y[:1500], eval_set=eval_set, **options))
    stayed, plain = fitted
    if not places.xgboost_has_gpu():
        assert stayed.get_booster().get_dump() == plain.get_booster().get_dump()
    probabilities = (model.predict_proba(given) for model in (stayed, plain))
    assert_nearly_all_close(*probabilities, rtol=1e-4)
    tolerance = 1e-2 if places.xgboost_has_gpu() else 1e-5
    for name, values in plain.evals_result()["validation_0"].items():
        assert_allclose(stayed.evals_result()["validation_0"][name], values, rtol=tolerance)


@pytest.mark.skipif(not places.HAS_NUMBA_CUDA, reason="without numba-cuda")
def test_labels_and_weights_on_a_gpu(data, gpu):
    X, margin, weight = data
    y = labels(margin, 3) + 5
    for classifier in (FocalXGBClassifier, FocalLGBMClassifier):
        model = classifier(n_estimators=3, n_jobs=2)
        eval_set = [(X[1500:], gpu.put(y[1500:]))]
        model.fit(
            X[:1500], gpu.put(y[:1500]), sample_weight=gpu.put(weight[:1500]), eval_set=eval_set
        )
        expected = classifier(n_estimators=3, n_jobs=2)
        expected.fit(X[:1500], y[:1500], sample_weight=weight[:1500])
        assert_array_equal(model.classes_, [5, 6, 7])
        assert_array_equal(model.predict_proba(X), expected.predict_proba(X))


def test_labels_of_cudf(data):
    """Text has no interface of arrays, and asking for it raises."""
    pandas = pytest.importorskip("pandas")
    X, margin, _ = data
    names = np.where(margin > 0, "yes", "no")

    class Series:
        def to_pandas(self):
            return pandas.Series(names)

        @property
        def __cuda_array_interface__(self):
            raise NotImplementedError("strings")

        def __len__(self):
            return len(names)

    Series.__module__ = "cudf.core.series"
    model = FocalXGBClassifier(n_estimators=3, n_jobs=2).fit(X, Series())
    assert_array_equal(model.classes_, ["no", "yes"])


def test_devices_that_are_none(data):
    X, margin, _ = data
    y = labels(margin, 2)
    with pytest.raises(xgb.core.XGBoostError, match="device"):
        train({"device": "cuda:x"}, xgb.DMatrix(X, y), 1, obj=FocalObjective())
    with pytest.raises(TypeError, match="evals"):
        train(PARAMS, xgb.DMatrix(X, y), 1, obj=FocalObjective(), evals=[(X, "v")])
    params = {**PARAMS, "device": "cuda:1"}
    with pytest.raises(ValueError, match=r"device: .*'cuda:2', but trees grow on 'cuda:1'"):
        train(params, xgb.DMatrix(X, y), 1, obj=FocalObjective(device="cuda:2"))


def test_an_objective_on_the_cpu_stays_there(data, monkeypatch):
    X, margin, _ = data
    dtrain = xgb.DMatrix(X, labels(margin, 2))
    called = []

    def call(self, margin, dataset):
        called.append(self.device)
        return original(self, margin, dataset)

    original = Training.__call__
    monkeypatch.setattr(Training, "__call__", call)
    train(PARAMS, dtrain, 2, obj=FocalObjective(device="cpu"))
    assert called == ["cpu", "cpu"]
