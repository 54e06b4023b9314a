"""Trainings of XGBoost that cannot stay on the GPU, which say so and train the same model."""

import re

import numpy as np
import places
import pytest
import xgboost as xgb
from numpy.testing import assert_allclose

from focal_gbm import FocalObjective
from focal_gbm.xgboost import _resident, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.usefixtures("cupy"),
    pytest.mark.filterwarnings("ignore:.*No visible GPU is found"),
    pytest.mark.filterwarnings("ignore:.*Device is changed from GPU to CPU"),
    pytest.mark.filterwarnings("ignore:(.|\\n)*booster=(dart|gblinear)"),
    pytest.mark.filterwarnings("ignore:(.|\\n)*are not used"),
]

PARAMS = {"device": "cuda", "max_depth": 4, "eta": 0.3, "nthread": 2, "seed": 1}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 6)).astype(np.float32)
    y = 2 * X[:, 0] - X[:, 1] ** 2 + rng.normal(size=2000) > -1
    return X, y.astype(int)


def external_memory(X, y, tmp_path, make, cupy):
    class Batches(xgb.DataIter):
        def __init__(self):
            super().__init__(cache_prefix=str(tmp_path / "cache"))
            self.batch = 0

        def next(self, input_data):
            if self.batch == 2:
                return False
            rows = slice(self.batch * 1000, (self.batch + 1) * 1000)
            input_data(data=cupy.asarray(X[rows]), label=y[rows])
            self.batch += 1
            return True

        def reset(self):
            self.batch = 0

    return make(Batches())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"booster": "dart"}, "booster='dart'"),
        ({"rate_drop": 0.1}, "rate_drop=0.1"),
        ({"booster": "gblinear", "updater": "coord_descent"}, "booster='gblinear'"),
        ("external memory", "external memory"),
        ("quantised external memory", "external memory"),
        ("categories", "categories in an evaluation set"),
        ("memory", "0.0 GB of features and 0.0 GB free"),
        ("out of memory", "too little memory"),
        ("continued dart", "booster='dart'|rate_drop='0.5'"),
        ("no cupy", "no CuPy"),
        ("no numba-cuda", "no numba-cuda"),
        ("no GPU", "no GPU"),
    ],
)
def test_what_cannot_stay_says_so_once(data, tmp_path, monkeypatch, cupy, change, reason):
    X, y = data
    dtrain, params, options = xgb.DMatrix(X, y), dict(PARAMS), {"verbose_eval": False}
    is_external = str(change).endswith("external memory")
    if isinstance(change, dict):
        params.update(change)
    elif is_external:
        quantised = change.startswith("quantised")
        make = xgb.ExtMemQuantileDMatrix if quantised else xgb.DMatrix
        dtrain = external_memory(X, y, tmp_path, make, cupy)
    elif change == "categories":
        codes = np.digitize(X[:, :1], [0]).astype(np.float32)
        sets = [
            xgb.DMatrix(codes, y, feature_types=["c"], enable_categorical=True) for _ in range(2)
        ]
        dtrain, options["evals"] = sets[0], [(sets[1], "valid")]
    elif change == "memory":
        monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", lambda: (50_000, 100_000))
    elif change == "out of memory":

        def full(*arguments):
            raise MemoryError

        monkeypatch.setattr(cupy, "full", full, raising=False)
    elif change == "continued dart":
        dart = {"booster": "dart", "rate_drop": 0.5, "device": "cpu"}
        options["xgb_model"] = train({**PARAMS, **dart}, dtrain, 4, obj=FocalObjective())
    elif change == "no cupy":
        find_spec = _resident.importlib.util.find_spec
        monkeypatch.setattr(
            _resident.importlib.util,
            "find_spec",
            lambda name: None if name == "cupy" else find_spec(name),
        )
    else:
        monkeypatch.setattr(_resident, "cuda_problem", lambda: change)
    with pytest.warns(UserWarning, match="training cannot stay on the GPU") as warned:
        booster = train(params, dtrain, 4, obj=FocalObjective(), **options)
    ours = [w for w in warned if str(w.message).startswith("training cannot stay")]
    assert len(ours) == 1
    assert re.search(reason, str(ours[0].message))
    assert ours[0].filename == __file__
    if is_external and places.xgboost_has_gpu():
        # XGBoost bins features that come in batches differently, and data on a GPU stays there.
        at_once = xgb.DMatrix(X, y)
        plain = train({**params, "device": "cpu"}, at_once, 4, obj=FocalObjective(), **options)
        assert np.abs(booster.predict(at_once) - plain.predict(at_once)).mean() < 0.03
    elif change != "continued dart":  # its trees change
        plain = train({**params, "device": "cpu"}, dtrain, 4, obj=FocalObjective(), **options)
        assert_allclose(booster.predict(dtrain), plain.predict(dtrain), rtol=1e-4)
