"""Everything that this package relies on and XGBoost does not promise.

Each function names the file of XGBoost that it is based on, and says why there is no public way.
All of it was checked in 3.2.0 and 3.4.1. ``tests/test_assumptions_of_xgboost.py`` states each
assumption.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import numpy as np
import xgboost as xgb
from xgboost.core import _deprecate_positional_args
from xgboost.sklearn import _wrap_evaluation_matrices, get_model_categories

from focal_gbm._types import Array

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Objectives whose base_score is a margin. A model of a callable objective has the last one if none
# is named.
_OF_MARGINS = {"binary:logitraw", "multi:softprob", "multi:softmax", "reg:squarederror"}


def warn_of_places(function: _Function) -> _Function:
    """Accept keyword-only arguments by position too, with a FutureWarning (core.py).

    XGBoost decorates its own functions and methods with this. The name is not public, but its
    users' calls must keep working here, and raise once they raise there. For a type checker the
    function stays as it is.
    """
    return cast("_Function", _deprecate_positional_args(function))


def evaluated(booster: xgb.Booster, dataset: xgb.DMatrix) -> list[tuple[str, float]]:
    """Names and values of the booster's metrics.

    ``Booster.eval`` (core.py) is public, and the only way to a metric by its name, but the format
    of the text it returns is undocumented: "[0]", then a name and a value for each metric,
    separated by tabs, as in "-error@0.3:0.25".
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

    From its configuration (src/gbm/gbtree.cc), as for ``objective_of``. XGBoost 3.4 turns "dart"
    into "gbtree", 3.2 does not.
    """
    config = json.loads(booster.save_config())["learner"]["gradient_booster"]
    dropout = config.get("dart_train_param", {})
    drops = any(float(dropout.get(name, 0)) > 0 for name in ("rate_drop", "one_drop"))
    return {"booster": "dart" if drops else config["name"], **dropout}


def base_margin_of(booster: xgb.Booster) -> Array:
    """The margins that a booster starts from, one or one per class.

    From its configuration (src/learner.cc), where ``base_score`` is a list, stored as text: a
    probability for "binary:logistic", margins for "multi:softprob".
    """
    return start_of(json.loads(booster.save_config())).astype(np.float64)


def _log_odds(base_score: Array) -> Array:
    """Log-odds of probabilities, as XGBoost computes them (src/objective/regression_loss.h).

    It clips the probabilities and takes the logarithm in single precision: near one, log-odds are
    mostly rounding.
    """
    clipped = np.clip(base_score, np.float32(1e-6), np.float32(1) - np.float32(1e-6))
    log_odds: Array = -np.log((1 / clipped - 1).astype(np.float64)).astype(np.float32)
    return log_odds


def model_of(booster: xgb.Booster) -> dict[str, Any]:
    """The content of a model's file.

    Nothing public gives the thresholds of trees in full precision, and nothing changes a leaf. The
    layout of the file (JSON) is documented in doc/tutorials/saving_model.rst, except for the
    weights of trees and for leaves of several numbers.
    """
    model: dict[str, Any] = json.loads(booster.save_raw("json"))
    return model


def trees_of(model: dict[str, Any]) -> tuple[dict[str, Any], list[float]]:
    """The trees in a model's file, and the weight of each, which only DART changes.

    XGBoost 3.4 stores the weights with the trees, 3.2 next to them (src/gbm/gbtree.cc).
    """
    part = model["learner"]["gradient_booster"]
    trees = part.get("gbtree", part)["model"]
    return trees, {**part, **trees}.get("weight_drop", [1.0] * len(trees["trees"]))


def start_of(model: dict[str, Any]) -> Array:
    """The margins that trees are added to, one or one per class, as float32.

    From a model's file or a booster's configuration, which have these parts in the same places.
    """
    objective = model["learner"]["objective"]["name"]
    parameters = model["learner"]["learner_model_param"]
    base_score = np.atleast_1d(np.array(json.loads(parameters["base_score"]), np.float32))
    if objective == "binary:logistic":
        base_score = _log_odds(base_score)
    elif objective not in _OF_MARGINS:
        known = sorted({"binary:logistic", *_OF_MARGINS})
        raise ValueError(
            f"model: its objective is {objective!r}, but a booster of focal loss has one of {known}"
        )
    return np.broadcast_to(base_score, max(int(parameters["num_class"]), base_score.size))


def leaves_of(tree: dict[str, Any]) -> Array:
    """What each node of a tree in a model's file adds to margins, if it is a leaf.

    Of shape (n_nodes, n_margins). A single number is in the place of the threshold; several numbers
    are at the index of the right child (src/tree/multi_target_tree_model.cc).
    """
    if not tree.get("leaf_weights"):
        return np.array(tree["split_conditions"])[:, None]
    is_leaf = np.array(tree["left_children"]) < 0
    leaves = np.array(tree["leaf_weights"]).reshape(is_leaf.sum(), -1)
    return leaves[np.where(is_leaf, tree["right_children"], 0)]


def raise_first_trees(booster: xgb.Booster, shift: Array) -> None:
    """Add the shift of each class to the leaves of its first tree, through the model's file."""
    if not shift.any():
        return
    config = booster.save_config()  # a file lacks the training parameters
    model = model_of(booster)
    part = model["learner"]["gradient_booster"]
    if part["name"] == "gblinear":  # a row of weights for each feature, then the intercepts
        weights = part["model"]["weights"]
        weights[-shift.size :] = (np.array(weights[-shift.size :]) + shift).tolist()
    else:
        trees, kept = trees_of(model)
        first = {group: i for i, group in reversed(list(enumerate(trees["tree_info"])))}
        for group, i in first.items():
            tree, of_class = trees["trees"][i], shift / kept[i]
            if tree.get("leaf_weights"):
                leaves = np.array(tree["leaf_weights"]).reshape(-1, shift.size)
                tree["leaf_weights"] = (leaves + of_class).ravel().tolist()
                continue
            is_leaf = np.array(tree["left_children"]) < 0
            values = np.array(tree["split_conditions"], np.float64)
            values[is_leaf] += of_class[group]
            tree["split_conditions"] = values.tolist()
    booster.load_model(bytearray(json.dumps(model), "utf-8"))
    booster.load_config(config)


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

    They depend on the tree method, the kind of features and the categories of the model, by
    XGBoost's own rules, which have no public name.
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
    """Set the trained booster of a classifier (sklearn.py), which only its own ``fit`` can do."""
    classifier._Booster = booster


def evaluate_fold_by(fold: Any, results: Callable[[xgb.Booster], list[tuple[str, float]]]) -> None:
    """Evaluate a fold of ``xgboost.cv`` by a function of its booster (training.py, callback.py).

    ``custom_metric`` is public, but is rounded to six decimals. ``cv`` reads text as from
    ``Booster.eval``: the iteration, then "train-error:0.25" for each metric.
    """

    def evaluated(iteration: int, feval: Any, output_margin: bool) -> str:
        values = (f"{name}:{float(value)!r}" for name, value in results(fold.bst))
        return "\t".join([f"[{iteration}]", *values])

    fold.eval = evaluated


def is_autologged() -> bool:
    """Whether ``xgboost.train`` has been replaced (training.py), as MLflow's autologging does."""
    return xgb.train is not xgb.training.train


def estimators_train(*arguments: Any, **options: Any) -> xgb.Booster:
    """``xgboost.train`` as XGBoost's estimators call it (sklearn.py).

    It is the same function, but MLflow replaces it by a different one, which does not log the
    booster, because that is left to the estimator.
    """
    booster: xgb.Booster = xgb.sklearn.train(*arguments, **options)  # type: ignore[attr-defined]
    return booster


def serialized(classifier: xgb.XGBClassifier, raw_format: str) -> bytearray:
    """The content of the file that ``XGBClassifier.save_model`` writes (sklearn.py).

    ``Booster.save_raw`` is public, but not the kind of estimator that ``save_model`` records for
    ``load_model``. Nor does ``save_model`` tell whether the whole file was written.
    """
    booster = classifier.get_booster()
    booster.set_attr(scikit_learn=json.dumps({"_estimator_type": "classifier"}))
    try:
        return booster.save_raw(raw_format=raw_format)
    finally:
        booster.set_attr(scikit_learn=None)


def forget_booster(classifier: xgb.XGBClassifier) -> None:
    """Make a classifier unfitted (sklearn.py)."""
    classifier.__dict__.pop("_Booster", None)


def client_of(classifier: Any) -> Any:
    """The client that a Dask classifier was given, or None (dask/__init__.py).

    Its public ``client`` raises if there is no current one.
    """
    return classifier._client


def partitions_of(dataset: Any) -> Iterator[tuple[str, Any]]:
    """Workers and partitions of a ``DaskDMatrix`` (dask/__init__.py).

    There is no public way to its labels. A partition is a future of a dictionary with the keys
    "label", "weight" and "base_margin".
    """
    for worker, parts in dataset.worker_map.items():
        for part in parts:
            yield worker, part


def workers_of(dataset: Any) -> list[str]:
    """Addresses of the workers that have partitions (dask/__init__.py); also not public."""
    return list(dataset.worker_map)
