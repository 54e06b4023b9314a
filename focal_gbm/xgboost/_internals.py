"""What XGBoost does not promise, and this package relies on: all of it is here.

Each function names the file of XGBoost that it was read in, and why there is no public way. It was
seen in 3.2.0 and 3.4.1. ``tests/test_assumptions_of_xgboost.py`` states each assumption.
"""

import json
from collections.abc import Iterator
from typing import Any

import xgboost as xgb
from xgboost.sklearn import _wrap_evaluation_matrices, get_model_categories


def evaluated(booster: xgb.Booster, dataset: xgb.DMatrix) -> list[tuple[str, float]]:
    """Names and values of the booster's metrics.

    ``Booster.eval`` (core.py) is public, and the only way to a metric by its name, but nothing says
    how the text it returns is laid out: "[0]", then a name and a value for each metric, separated
    by tabs, as "-error@0.3:0.25".
    """
    _, *texts = booster.eval(dataset, "").split("\t")
    values = [text.removeprefix("-").rsplit(":", 1) for text in texts]
    return [(name, float(value)) for name, value in values]


def objective_of(booster: xgb.Booster) -> str:
    """Name of a booster's objective, from its configuration (src/learner.cc).

    A booster has no public way to ask for a parameter.
    """
    name: str = json.loads(booster.save_config())["learner"]["objective"]["name"]
    return name


def tree_booster_of(booster: xgb.Booster) -> dict[str, Any]:
    """Name of a booster's kind, "gbtree" or another, and the parameters of dropout.

    From its configuration (src/gbm/gbtree.cc), as for ``objective_of``.
    """
    config = json.loads(booster.save_config())["learner"]["gradient_booster"]
    return {"booster": config["name"], **config.get("dart_train_param", {})}


def matrices(
    classifier: xgb.XGBClassifier,
    X: Any,
    y: Any,
    xgb_model: xgb.Booster | None,
    *,
    eval_set: Any,
    **fields: Any,
) -> tuple[xgb.DMatrix, list[tuple[xgb.DMatrix, str]], Any]:
    """Data sets as ``XGBClassifier.fit`` makes them, and the model to continue (sklearn.py).

    They depend on the tree method, the kind of features and the categories of the model, by rules
    that are XGBoost's own and have no public name.
    """
    model, feature_types = get_model_categories(X, xgb_model, classifier.feature_types)
    dtrain, evals = _wrap_evaluation_matrices(
        missing=classifier.missing,
        X=X,
        y=y,
        group=None,
        qid=None,
        eval_set=eval_set,
        eval_group=None,
        eval_qid=None,
        create_dmatrix=classifier._create_dmatrix,
        enable_categorical=classifier.enable_categorical,
        feature_types=feature_types,
        **fields,
    )
    return dtrain, evals, model


def set_booster(classifier: xgb.XGBClassifier, booster: xgb.Booster) -> None:
    """Give a classifier its trained booster (sklearn.py), which only its own ``fit`` can."""
    classifier._Booster = booster


def forget_booster(classifier: xgb.XGBClassifier) -> None:
    """Make a classifier one that is not fitted (sklearn.py)."""
    classifier.__dict__.pop("_Booster", None)


def client_of(classifier: Any) -> Any:
    """The client that a Dask classifier was given, None for none (dask/__init__.py).

    Its public ``client`` raises where there is no current one.
    """
    return classifier._client


def partitions_of(dataset: Any) -> Iterator[tuple[str, Any]]:
    """Workers and partitions of a ``DaskDMatrix`` (dask/__init__.py).

    It has no public way to its labels. A partition is a future of a dictionary with the keys
    "label", "weight" and "base_margin".
    """
    for worker, parts in dataset.worker_map.items():
        for part in parts:
            yield worker, part


def workers_of(dataset: Any) -> list[str]:
    """Addresses of the workers that have partitions (dask/__init__.py), as for the partitions."""
    return list(dataset.worker_map)
