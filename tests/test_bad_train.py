"""What a user of the two train functions can get wrong, and the error that says so."""

import re
from collections import UserDict
from types import MappingProxyType

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import BinaryFocalLoss, FocalObjective

X = np.arange(12.0).reshape(6, 2)
LABELS = np.array([0, 0, 1, 0, 1, 1])

objective = FocalObjective()


def train_xgboost(params=None, label=LABELS, obj=objective, **arguments):
    dtrain = xgb.DMatrix(X, label)
    return focal_gbm.xgboost.train(params or {}, dtrain, 1, obj=obj, **arguments)


def evaluate_xgboost(params):
    return train_xgboost(params, evals=[(xgb.DMatrix(X, LABELS), "valid")], verbose_eval=False)


def evaluate_lightgbm(params):
    return train_lightgbm(params, valid_sets=[lgb.Dataset(X, LABELS)])


def train_lightgbm(params=None, label=LABELS, **arguments):
    params = {"objective": objective, "verbose": -1, "min_data_in_leaf": 1, **(params or {})}
    return focal_gbm.lightgbm.train(params, lgb.Dataset(X, label), 1, **arguments)


MACHINES = {"nodes": "127.0.0.1:1,127.0.0.1:2"}


def train_with_totals(totals, num_class=2):
    """Train with both libraries: the first raises, and the second has to raise the same."""
    params = {"num_class": num_class}
    with pytest.raises((TypeError, ValueError)) as of_xgboost:
        train_xgboost(params, label_totals=totals)
    with pytest.raises(of_xgboost.type, match=re.escape(str(of_xgboost.value))):
        train_lightgbm(params, label_totals=totals)
    raise of_xgboost.value


CASES = {
    # label_totals of both
    "totals of a class more": (
        ValueError,
        "label_totals",
        "shape (3,), but 2 classes",
        lambda: train_with_totals([1, 2, 3]),
    ),
    "totals of a class less": (
        ValueError,
        "label_totals",
        "shape (2,), but 3 classes",
        lambda: train_with_totals([1, 2], 3),
    ),
    "totals in a column": (
        ValueError,
        "label_totals",
        "(2, 1)",
        lambda: train_with_totals([[1], [2]]),
    ),
    "totals below 0": (ValueError, "label_totals", "-1.0", lambda: train_with_totals([-1, 2])),
    "totals NaN": (ValueError, "label_totals", "nan", lambda: train_with_totals([np.nan, 2])),
    "totals infinite": (ValueError, "label_totals", "inf", lambda: train_with_totals([1, np.inf])),
    "totals of nothing": (
        ValueError,
        "label_totals",
        "[0.0, 0.0]",
        lambda: train_with_totals([0, 0]),
    ),
    "totals of text": (TypeError, "label_totals", "<U1", lambda: train_with_totals(["1", "2"])),
    "totals by class": (TypeError, "label_totals", "dict", lambda: train_with_totals({0: 1, 1: 2})),
    "totals that lack a class": (ValueError, "y", "5, 0", lambda: train_with_totals([5, 0])),
    "label of totals": (ValueError, "y", "[0, 1]", lambda: focal_gbm.label_totals([0, 2])),
    "label of totals of several classes": (
        ValueError,
        "y",
        "0 to 2",
        lambda: focal_gbm.label_totals([0.5], n_classes=3),
    ),
    "weight of totals": (
        ValueError,
        "sample_weight",
        "-1.0",
        lambda: focal_gbm.label_totals([0, 1], [1, -1]),
    ),
    "classes of totals": (
        ValueError,
        "n_classes",
        "got 1",
        lambda: focal_gbm.label_totals([0, 1], n_classes=1),
    ),
    # metrics
    "metric of gamma": (TypeError, "objective", "2.0", lambda: focal_gbm.xgboost.focal_metric(2.0)),
    "metric of None": (
        TypeError,
        "objective",
        "None",
        lambda: focal_gbm.lightgbm.focal_metric(None),
    ),
    # parameters that are no numbers, or none at all
    **{
        f"{name} of {library}": (
            error,
            name,
            repr(value),
            lambda train=train, name=name, value=value: train({name: value}),
        )
        for library, train, names in (
            ("XGBoost", evaluate_xgboost, ("num_class", "scale_pos_weight", "nthread", "n_jobs")),
            (
                "LightGBM",
                evaluate_lightgbm,
                (
                    *("num_class", "num_threads", "early_stopping_round", "num_machines"),
                    *("min_sum_hessian_in_leaf", "pos_bagging_fraction", "scale_pos_weight"),
                    "sigmoid",
                ),
            ),
        )
        for name in names
        for value, error in (("x", ValueError), ([1], TypeError))
    },
    "params of XGBoost": (
        TypeError,
        "params",
        "None",
        lambda: focal_gbm.xgboost.train(None, xgb.DMatrix(X, LABELS), obj=objective),
    ),
    "params of LightGBM": (
        TypeError,
        "params",
        "list",
        lambda: focal_gbm.lightgbm.train([("objective", objective)], lgb.Dataset(X, LABELS)),
    ),
    # XGBoost
    "xgboost without obj": (TypeError, "obj", "None", lambda: train_xgboost(obj=None)),
    "xgboost obj a loss": (
        TypeError,
        "obj",
        "BinaryFocalLoss",
        lambda: train_xgboost(obj=BinaryFocalLoss()),
    ),
    "xgboost scale_pos_weight": (
        ValueError,
        "scale_pos_weight",
        "9",
        lambda: train_xgboost({"scale_pos_weight": 9}),
    ),
    "xgboost objective": (
        ValueError,
        "objective",
        "'reg:squarederror'",
        lambda: train_xgboost({"objective": "reg:squarederror"}),
    ),
    "xgboost num_class": (
        ValueError,
        "y",
        "total weights by class are 3, 3, 0",
        lambda: train_xgboost({"num_class": 3}),
    ),
    "xgboost one class": (
        ValueError,
        "y",
        "total weights by class are 6, 0",
        lambda: train_xgboost(label=LABELS * 0),
    ),
    "xgboost label 2": (ValueError, "y", "2.0", lambda: train_xgboost(label=LABELS * 2)),
    "xgboost margins": (
        ValueError,
        "margin",
        "got 2",
        lambda: objective(np.zeros(2), xgb.DMatrix(X, LABELS)),
    ),
    "xgboost data": (
        TypeError,
        "dtrain",
        "ndarray",
        lambda: focal_gbm.xgboost.train({}, X, 1, obj=objective),
    ),
    "xgboost without labels": (
        ValueError,
        "y",
        "no labels",
        lambda: focal_gbm.xgboost.train({}, xgb.DMatrix(X), 1, obj=objective),
    ),
    "xgboost model of another objective": (
        ValueError,
        "xgb_model",
        "'reg:squarederror'",
        lambda: train_xgboost(xgb_model=xgb.train({}, xgb.DMatrix(X, LABELS), 1, obj=objective)),
    ),
    "xgboost metric": (
        ValueError,
        "eval_metric",
        "'accuracy'",
        lambda: evaluate_xgboost({"eval_metric": ["auc", "accuracy"]}),
    ),
    "xgboost metric, callable": (
        TypeError,
        "eval_metric",
        "len",
        lambda: evaluate_xgboost({"eval_metric": [len]}),
    ),
    "xgboost metric of several classes": (
        ValueError,
        "eval_metric",
        "2 classes, got 'mlogloss'",
        lambda: evaluate_xgboost({"eval_metric": ["auc", "mlogloss"]}),
    ),
    # LightGBM
    "lightgbm random forest, capitals": (
        ValueError,
        "boosting",
        "'RF'",
        lambda: train_lightgbm({"boost": "RF"}),
    ),
    "several machines without addresses": (
        ValueError,
        "num_machines",
        "addresses are missing",
        lambda: train_lightgbm({"num_machine": 2}),
    ),
    "several machines, each for itself": (
        ValueError,
        "tree_learner",
        "'serial'",
        lambda: train_lightgbm(MACHINES),
    ),
    "several machines, each with all rows": (
        ValueError,
        "tree_learner",
        "'Feature'",
        lambda: train_lightgbm({**MACHINES, "tree": "Feature"}),
    ),
    "several machines, linear trees": (
        ValueError,
        "linear_tree",
        "leave it out",
        lambda: train_lightgbm({**MACHINES, "tree_learner": "data", "linear_tree": True}),
    ),
    "several machines, a booster in training": (
        ValueError,
        "keep_training_booster",
        "2 machines",
        lambda: train_lightgbm({**MACHINES, "tree": "voting"}, keep_training_booster=True),
    ),
    "lightgbm bagging by query": (
        ValueError,
        "bagging_by_query",
        "leave it out",
        lambda: train_lightgbm({"bagging_by_query": True, "bagging_fraction": 0.5}),
    ),
    "lightgbm objective on a GPU": (
        ValueError,
        "device",
        "'cuda:1'",
        lambda: train_lightgbm({"objective": FocalObjective(device="cuda:1")}),
    ),
    "lightgbm on several GPUs": (
        ValueError,
        "num_gpu",
        "2",
        lambda: train_lightgbm({"device": "CUDA", "num_gpu": 2}),
    ),
    "lightgbm GOSS on a GPU": (
        ValueError,
        "data_sample_strategy",
        "'goss'",
        lambda: train_lightgbm({"device_type": "cuda", "data_sample_strategy": "goss"}),
    ),
    "lightgbm GOSS by its old name on a GPU": (
        ValueError,
        "boosting",
        "'goss'",
        lambda: train_lightgbm({"device_type": "cuda", "boost": "goss"}),
    ),
    "lightgbm quantised gradients on a GPU": (
        ValueError,
        "use_quantized_grad",
        "no splits",
        lambda: train_lightgbm({"device_type": "cuda", "use_quantized_grad": True}),
    ),
    "lightgbm data for the CPU on a GPU": (
        ValueError,
        "train_set",
        "for the CPU",
        lambda: focal_gbm.lightgbm.train(
            {"objective": FocalObjective(), "device_type": "cuda"},
            lgb.Dataset(X, LABELS).construct(),
            1,
        ),
    ),
    "lightgbm valid_sets": (
        TypeError,
        "valid_sets",
        "ndarray",
        lambda: train_lightgbm(valid_sets=[X]),
    ),
    "lightgbm objective": (
        TypeError,
        "objective",
        "'binary'",
        lambda: train_lightgbm({"objective": "binary"}),
    ),
    "lightgbm without objective": (
        TypeError,
        "objective",
        "None",
        lambda: focal_gbm.lightgbm.train({}, lgb.Dataset(X, LABELS), 1),
    ),
    "lightgbm scale_pos_weight": (
        ValueError,
        "scale_pos_weight",
        "2",
        lambda: train_lightgbm({"scale_pos_weight": 2}),
    ),
    "lightgbm is_unbalance": (
        ValueError,
        "is_unbalance",
        "True",
        lambda: train_lightgbm({"is_unbalance": True}),
    ),
    "lightgbm alias": (
        ValueError,
        "is_unbalance",
        "True",
        lambda: train_lightgbm({"unbalance": True}),
    ),
    "lightgbm pos_bagging": (
        ValueError,
        "pos_bagging_fraction",
        "0.5",
        lambda: train_lightgbm({"pos_subsample": 0.5}),
    ),
    "lightgbm neg_bagging": (
        ValueError,
        "neg_bagging_fraction",
        "0.5",
        lambda: train_lightgbm({"neg_bagging_fraction": 0.5}),
    ),
    "lightgbm sigmoid": (ValueError, "sigmoid", "2.0", lambda: train_lightgbm({"sigmoid": 2.0})),
    "lightgbm num_class": (
        ValueError,
        "y",
        "total weights by class are 3, 3, 0",
        lambda: train_lightgbm({"num_class": 3}),
    ),
    "lightgbm random forest": (
        ValueError,
        "boosting",
        "'rf'",
        lambda: train_lightgbm({"boosting": "rf"}),
    ),
    "lightgbm metric": (
        ValueError,
        "metric",
        "'logloss'",
        lambda: evaluate_lightgbm({"metric": "logloss"}),
    ),
    "lightgbm metrics": (
        ValueError,
        "metric",
        "'accuracy'",
        lambda: evaluate_lightgbm({"metric": ["auc", "accuracy"]}),
    ),
    "lightgbm linear": (
        ValueError,
        "keep_training_booster",
        "leave out keep_training_booster or linear_tree",
        lambda: train_lightgbm({"linear_tree": True}, keep_training_booster=True),
    ),
    "lightgbm one class": (
        ValueError,
        "y",
        "total weights by class are 0, 6",
        lambda: train_lightgbm(label=[1] * 6),
    ),
    "lightgbm label -1": (ValueError, "y", "-1.0", lambda: train_lightgbm(label=LABELS * 2 - 1)),
    "lightgbm data": (
        TypeError,
        "train_set",
        "ndarray",
        lambda: focal_gbm.lightgbm.train({"objective": objective}, X, 1),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_error_names_the_argument_and_the_value(name):
    error, argument, value, call = CASES[name]
    with pytest.raises(error, match=f"^{argument}: .*{re.escape(value)}"):
        call()


def test_params_of_any_mapping_or_pairs():
    given = {"max_depth": 2, "nthread": 1}
    for params in (MappingProxyType(given), UserDict(given), given.items(), list(given.items())):
        train_xgboost(params)
    mapping = UserDict({"objective": objective, "verbose": -1, "min_data_in_leaf": 1})
    focal_gbm.lightgbm.train(mapping, lgb.Dataset(X, LABELS), 1)


def test_neutral_values_are_accepted():
    train_xgboost({"scale_pos_weight": 1, "objective": "binary:logistic", "num_class": 2})
    train_xgboost({"scale_pos_weight": None, "num_class": None, "eval_metric": None})
    train_lightgbm({"scale_pos_weight": 1.0, "is_unbalance": False, "num_class": 2})
    train_lightgbm({"scale_pos_weight": "1", "is_unbalance": "false", "sigmoid": "1.0"})
    train_lightgbm({"num_classes": 1, "metric": "", "unbalance": None, "boosting": "gbdt"})
