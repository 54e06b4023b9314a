"""What LightGBM does not promise, and this package relies on: all of it is here.

Each function names the file of LightGBM that it was read in, and why there is no public way. It was
seen in 4.6.0 and 4.7.0. ``tests/test_assumptions_of_lightgbm.py`` states each assumption.
"""

import re
from functools import partial
from typing import Any, ClassVar

import lightgbm as lgb
import numpy as np

from focal_gbm._types import Array


def is_autologged() -> bool:
    """Whether ``lightgbm.train`` has been replaced (engine.py), as MLflow's autologging does."""
    return lgb.train is not lgb.engine.train


def estimators_train(*arguments: Any, **options: Any) -> lgb.Booster:
    """``lightgbm.train`` as LightGBM's estimators call it (sklearn.py).

    It is the same function, but MLflow replaces it by another: one that logs no booster, which is
    not complete yet.
    """
    booster: lgb.Booster = lgb.sklearn.train(*arguments, **options)  # type: ignore[attr-defined]
    return booster


def is_constructed(dataset: lgb.Dataset) -> bool:
    """Whether a data set has been handed to LightGBM (basic.py), which no public method tells."""
    return dataset._handle is not None


def was_continued(dataset: lgb.Dataset) -> bool:
    """Whether a data set has margins of an ``init_model`` (basic.py).

    ``Dataset.get_init_score`` is public, but does not tell whose they are. A training without
    ``init_model`` makes zeros of them.
    """
    return dataset._predictor is not None


def constructed(params: dict[str, Any], dataset: lgb.Dataset) -> lgb.Dataset:
    """The data set, constructed as ``lightgbm.train`` constructs it for parameters (basic.py).

    Public ``construct`` knows only the parameters that the data set was made with.
    """
    try:
        dataset._update_params({**params, "objective": "none", "metric": "None"})
        dataset.construct()
    finally:
        dataset._reverse_update_params()  # which does nothing once it is constructed
    return dataset


def objective_is_none(booster: lgb.Booster) -> None:
    """Tell a booster of ``lightgbm.train`` that its objective is "none", as it is (basic.py).

    Else it sets it so in its first iteration, and fails on data without a feature to split, of
    which built-in losses make a constant.
    """
    vars(booster)["_Booster__set_objective_to_none"] = True


def training_margin(booster: lgb.Booster) -> Array:
    """Margins of the training data, in memory that LightGBM writes to again (basic.py).

    ``Booster.eval_train`` gives them to a metric, but evaluates all others, too.
    """
    margin: Array = booster._Booster__inner_predict(data_idx=0)  # type: ignore[attr-defined]
    return margin


def training_data_name(booster: lgb.Booster) -> str:
    """The name that training data are evaluated by (basic.py), for which there is only a setter."""
    name: str = booster._train_data_name
    return name


def is_dart(booster: lgb.Booster) -> bool:
    return str(booster.params.get("boosting")).lower() == "dart"


def final_margin(booster: lgb.Booster) -> Array:
    """Margins of the training data once training has ended.

    Asked for them, DART would drop trees for the next iteration (src/boosting/dart.hpp), unless it
    skips that for certain.
    """
    if is_dart(booster):
        skip = booster.params.get("skip_drop", 0.5)
        booster.reset_parameter({"skip_drop": 1.0})
        margin = training_margin(booster)
        booster.reset_parameter({"skip_drop": skip})
        return margin
    return training_margin(booster)


def best_iterations(callback: Any) -> list[int]:
    """The best iteration so far by each metric, of a callback that stops early (callback.py).

    The booster tells its best iteration only once training has stopped.
    """
    is_early_stopping = isinstance(callback, lgb.callback._EarlyStoppingCallback)
    return callback.best_iter if is_early_stopping and callback.enabled else []


class NativeClassifier(lgb.LGBMClassifier):
    """``LGBMClassifier`` that keeps some parameters to itself (sklearn.py).

    Public ``get_params`` has to name them, and hands them all to LightGBM.
    """

    _kept: ClassVar[set[str]]

    def _process_params(self, stage: str) -> dict[str, Any]:
        params = super()._process_params(stage)
        return {name: value for name, value in params.items() if name not in self._kept}


def native_params(model: NativeClassifier, n_classes: int) -> tuple[dict[str, Any], Any]:
    """Parameters for ``lightgbm.train``, and the objective that the user named (sklearn.py).

    ``LGBMClassifier.fit`` does this itself, and makes no method of it.
    """
    own = "binary" if n_classes == 2 else "multiclass"
    model._n_classes, model._objective = n_classes, own
    params = model._process_params("fit")
    # LightGBM prefers an alias among the parameters.
    given = model.objective if model._objective == own else model._objective
    model._objective = own
    return params, given


def set_fitted(
    model: NativeClassifier,
    booster: lgb.Booster,
    evals_result: dict[str, Any],
    n_classes: int,
) -> None:
    """Make a classifier a fitted one (sklearn.py), which only its own ``fit`` can."""
    model._Booster = booster
    model._n_classes = n_classes
    model._objective = "binary" if n_classes <= 2 else "multiclass"
    model._n_features = model.n_features_in_ = booster.num_feature()
    given_by_lightgbm = [f"Column_{i}" for i in range(booster.num_feature())]
    model._fitted_with_feature_names = booster.feature_name() != given_by_lightgbm
    model._evals_result = evals_result
    model._best_iteration, model._best_score = booster.best_iteration, booster.best_score
    model.fitted_ = True


def dask_fit(model: lgb.DaskLGBMClassifier, **arguments: Any) -> None:
    """Fit on the workers of a cluster (dask.py).

    Public ``fit`` gives no way to a class of our own for the workers, nor to arguments for it.
    """
    model._lgb_dask_fit(**arguments)


def dask_to_local(model: lgb.DaskLGBMClassifier, kind: Any) -> Any:
    """The classifier without its client (dask.py); public ``to_local`` makes LightGBM's own."""
    return model._lgb_dask_to_local(kind)


def other_params(model: lgb.LGBMModel) -> dict[str, Any]:
    """Parameters that are LightGBM's and no argument of the classifier (sklearn.py).

    Public ``get_params`` mixes them with the others.
    """
    params: dict[str, Any] = model._other_params
    return params


# Parameters of data that has a row or two, and still a feature to split.
TWO_ROWS_SUFFICE = {"feature_pre_filter": False, "min_data_in_bin": 1}


def set_globals(params: dict[str, Any]) -> None:
    """Let LightGBM take the threads, and say what, its parameters tell from now on.

    Both are global, and are those of whatever has been constructed last (Config::Set in
    src/io/config.cpp, seen in 4.6.0 and 4.7.0): a model is written to a text by as many threads,
    for which a forked process would wait for good.
    """
    names = "num_threads", "verbosity"
    given: dict[str, Any] = {name: params[name] for name in names if name in params}
    lgb.Dataset(np.arange(2.0)[:, None], params={**TWO_ROWS_SUFFICE, **given}).construct()


def with_objective(model: str, n_classes: int, parameter: str) -> str:
    """The text of a model of a callable objective, as one that predicts probabilities.

    The text (src/boosting/gbdt_model_text.cpp) has no line for a callable objective, and no public
    way to one. Its section of parameters calls it "custom", and has ``parameter`` here: a loaded
    booster's parameters are from there, by which it is refitted (basic.py).
    """
    is_binary = n_classes == 2
    line = "binary sigmoid:1" if is_binary else f"multiclass num_class:{n_classes}"
    pattern = r"^max_feature_idx=.*$"
    model = _substituted(pattern, rf"\g<0>\nobjective={line}", model, "max_feature_idx=")
    return _substituted(
        r"^\[objective: custom\]$", f"[objective: {parameter}]", model, "[objective: custom]"
    )


def with_parameter(model: str, name: str, value: str) -> str:
    """The text of a model with a parameter of ours, which LightGBM reads past and keeps.

    A loaded model keeps the text of its parameters as it is (src/boosting/gbdt_model_text.cpp), and
    tells those that it knows.
    """
    model = re.sub(rf"^\[{name}: .*\]\n", "", model, flags=re.MULTILINE)
    return _substituted(
        r"^parameters:$", lambda line: f"{line[0]}\n[{name}: {value}]", model, "parameters:"
    )


def parameter_of(booster: lgb.Booster, name: str) -> str | None:
    """The parameter of ours in a booster's text, None if it has none."""
    text = booster.model_to_string(num_iteration=1)
    found = re.search(rf"^\[{name}: (.*)\]$", text, re.MULTILINE)
    return found and found[1]


def with_linear_leaves_raised(model: str, start: Array) -> str:
    """The text of a model, with ``start`` added to the first tree of each class if it is linear.

    ``Booster.set_leaf_output`` is public, but leaves out the constants of linear leaves, which are
    a line of each tree's text (src/io/tree.cpp).
    """
    raised = model
    for tree, value in enumerate(start.tolist()):
        lines = rf"^Tree={tree}\n(?:.+\n)+"
        raised = _substituted(lines, partial(_raised, value), raised, f"Tree={tree}")
    if raised == model:
        return model
    # The sizes of the trees' texts only speed up loading; now they are wrong.
    return _substituted(r"^tree_sizes=.*\n", "", raised, "tree_sizes=")


def _raised(value: float, tree: re.Match[str]) -> str:
    """The text of a tree, with a value added to its leaves if they are linear."""
    text = tree[0]
    if "\nis_linear=0\n" in text:
        return text

    def raised(line: re.Match[str]) -> str:
        return "leaf_const=" + " ".join(repr(float(const) + value) for const in line[1].split())

    return _substituted(r"^leaf_const=(.*)$", raised, text, "leaf_const=")


def _substituted(pattern: str, new: Any, model: str, line: str) -> str:
    changed, n_lines = re.subn(pattern, new, model, count=1, flags=re.MULTILINE)
    if not n_lines:
        raise RuntimeError(
            f"LightGBM {lgb.__version__} writes models in another form: a line '{line}' was "
            "expected. Use a release of LightGBM that focal_gbm supports, or a newer focal_gbm"
        )
    return changed
