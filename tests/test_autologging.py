"""MLflow's autologging, for which functions with its behaviour stand in here."""

import sys
from types import SimpleNamespace

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from classifiers import LGB, XGB, both

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import FocalObjective

X = np.random.default_rng(0).normal(size=(300, 3))
Y = (X[:, 0] > 1).astype(int)


class Mlflow(SimpleNamespace):
    """Logs a booster for the libraries' ``train``, but not for the one their estimators call."""

    class MlflowException(Exception):  # noqa: N818
        pass

    def __init__(self, monkeypatch):
        super().__init__(params={}, boosters=[], is_running=False)
        for library in (xgb, lgb):
            monkeypatch.setattr(library, "train", self.patched(library.train, logs_model=True))
            estimators_train = self.patched(library.sklearn.train, logs_model=False)
            monkeypatch.setattr(library.sklearn, "train", estimators_train)
        monkeypatch.setitem(sys.modules, "mlflow", self)

    def patched(self, train, *, logs_model):
        def patched_train(*arguments, **options):
            self.is_running = True
            booster = train(*arguments, **options)
            self.is_running = False
            if logs_model:
                self.boosters.append(booster)
            return booster

        return patched_train

    def active_run(self):
        return object() if self.is_running else None

    def log_params(self, params):
        for name, value in params.items():
            if self.params.setdefault(name, value) != value:
                raise self.MlflowException("Changing param values is not allowed")


@pytest.fixture
def mlflow(monkeypatch):
    return Mlflow(monkeypatch)


@both
def test_a_classifier_is_not_logged_as_a_bare_booster(library, mlflow):
    with pytest.warns(UserWarning, match=r"not the model, .* mlflow\.\w+\.log_model\(model, ") as w:
        library(focal_gamma=1.5, focal_alpha="balanced").fit(X, Y)
    assert w[0].filename == __file__
    assert mlflow.boosters == []
    assert mlflow.params["focal_loss.gamma"] == 1.5
    assert mlflow.params["focal_loss.alpha"] == pytest.approx(1 - Y.mean())


@pytest.mark.filterwarnings("ignore:autologging logs")
@both
def test_a_second_loss_in_a_run_is_warned_of(library, mlflow):
    library(focal_gamma=1.5).fit(X, Y)
    with pytest.warns(UserWarning, match="MLflow did not log the parameters of the focal loss"):
        library(focal_gamma=2.5).fit(X, Y)


def test_boosters_of_train(mlflow):
    objective = FocalObjective(1.0)
    booster = focal_gbm.xgboost.train({}, xgb.DMatrix(X, Y), 3, obj=objective)
    assert mlflow.boosters == [booster]
    params = {"objective": objective, "verbose": -1}
    with pytest.warns(UserWarning, match=r"mlflow\.lightgbm\.log_model\(booster"):
        focal_gbm.lightgbm.train(params, lgb.Dataset(X, Y), 3)
    assert mlflow.boosters == [booster]  # LightGBM's is not complete when its ``train`` returns
    assert mlflow.params["focal_loss.gamma"] == 1.0


@both
def test_without_mlflow_nothing_is_logged_or_warned_of(library):
    assert "mlflow" not in sys.modules
    library().fit(X, Y)


@pytest.mark.parametrize("library", [XGB, LGB], ids=str)
def test_estimators_train_by_the_function_that_mlflow_replaces(library, monkeypatch):
    module = xgb.sklearn if library is XGB else lgb.sklearn
    calls = []
    train = module.train
    monkeypatch.setattr(module, "train", lambda *a, **o: calls.append(1) or train(*a, **o))
    library.parent(**library.params).fit(X, Y)
    library().fit(X, Y)
    assert calls == [1, 1]
