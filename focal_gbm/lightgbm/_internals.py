"""Everything that this package relies on and LightGBM does not promise.

Each function names the file of LightGBM that it is based on, and says why there is no public way.
All of it was checked in 4.6.0 and 4.7.0. ``tests/test_assumptions_of_lightgbm.py`` states each
assumption.
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

    It is the same function, but MLflow replaces it by a different one, which does not log the
    booster: it is not complete yet.
    """
    booster: lgb.Booster = lgb.sklearn.train(*arguments, **options)  # type: ignore[attr-defined]
    return booster


def is_constructed(dataset: lgb.Dataset) -> bool:
    """Whether a data set has been constructed (basic.py), which no public method tells."""
    return dataset._handle is not None


def was_continued(dataset: lgb.Dataset) -> bool:
    """Whether a data set has margins from an ``init_model`` (basic.py).

    ``Dataset.get_init_score`` is public, but does not tell where they come from. Training without
    ``init_model`` sets them to zero.
    """
    return dataset._predictor is not None


def constructed(params: dict[str, Any], dataset: lgb.Dataset) -> lgb.Dataset:
    """The data set, constructed with these parameters as by ``lightgbm.train`` (basic.py).

    The public ``construct`` uses only the parameters that the data set was made with.
    """
    try:
        dataset._update_params({**params, "objective": "none", "metric": "None"})
        dataset.construct()
    finally:
        dataset._reverse_update_params()  # no effect once it is constructed
    return dataset


def objective_is_none(booster: lgb.Booster) -> None:
    """Tell a booster of ``lightgbm.train`` that its objective is already "none" (basic.py).

    Otherwise it sets that in its first iteration, and fails on data without a feature to split, for
    which built-in losses give a constant model.
    """
    vars(booster)["_Booster__set_objective_to_none"] = True


def training_margin(booster: lgb.Booster) -> Array:
    """Margins of the training data, in memory that LightGBM reuses (basic.py).

    ``Booster.eval_train`` passes them to a metric, but also evaluates all others.
    """
    margin: Array = booster._Booster__inner_predict(data_idx=0)  # type: ignore[attr-defined]
    return margin


def training_data_name(booster: lgb.Booster) -> str:
    """The name that training data are evaluated under (basic.py); only its setter is public."""
    name: str = booster._train_data_name
    return name


def is_dart(booster: lgb.Booster) -> bool:
    return str(booster.params.get("boosting")).lower() == "dart"


def final_margin(booster: lgb.Booster) -> Array:
    """Margins of the training data once training has ended.

    When asked for them, DART drops trees for the next iteration (src/boosting/dart.hpp), so
    ``skip_drop`` is set to 1 meanwhile.
    """
    if is_dart(booster):
        skip = booster.params.get("skip_drop", 0.5)
        booster.reset_parameter({"skip_drop": 1.0})
        margin = training_margin(booster)
        booster.reset_parameter({"skip_drop": skip})
        return margin
    return training_margin(booster)


def stops_early(callback: Any) -> bool:
    """Whether a callback, once training has begun, may stop it early (callback.py)."""
    return isinstance(callback, lgb.callback._EarlyStoppingCallback) and callback.enabled


class NativeClassifier(lgb.LGBMClassifier):
    """``LGBMClassifier`` that does not pass some of its parameters on to LightGBM (sklearn.py).

    They must be in the public ``get_params``, but LightGBM would get all that it returns.
    """

    _kept: ClassVar[set[str]]

    def _process_params(self, stage: str) -> dict[str, Any]:
        params = super()._process_params(stage)
        return {name: value for name, value in params.items() if name not in self._kept}


def native_params(model: NativeClassifier, n_classes: int) -> tuple[dict[str, Any], Any]:
    """Parameters for ``lightgbm.train``, and the objective that the user named (sklearn.py).

    ``LGBMClassifier.fit`` does this itself, and has no method for it.
    """
    own = "binary" if n_classes == 2 else "multiclass"
    model._n_classes, model._objective = n_classes, own
    params = model._process_params("fit")
    # LightGBM prefers an alias of "objective" among the parameters.
    given = model.objective if model._objective == own else model._objective
    model._objective = own
    return params, given


def set_fitted(
    model: NativeClassifier,
    booster: lgb.Booster,
    evals_result: dict[str, Any],
    n_classes: int,
) -> None:
    """Make a classifier fitted (sklearn.py), which only its own ``fit`` can do."""
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

    The public ``fit`` accepts neither a class of our own for the workers nor arguments for it.
    """
    model._lgb_dask_fit(**arguments)


def dask_to_local(model: lgb.DaskLGBMClassifier, kind: Any) -> Any:
    """The classifier without its client (dask.py); public ``to_local`` makes an LGBMClassifier."""
    return model._lgb_dask_to_local(kind)


def other_params(model: lgb.LGBMModel) -> dict[str, Any]:
    """LightGBM's parameters that are not arguments of the classifier (sklearn.py).

    The public ``get_params`` mixes them with the others.
    """
    params: dict[str, Any] = model._other_params
    return params


# Parameters with which data of one or two rows still have a feature to split.
TWO_ROWS_SUFFICE = {"feature_pre_filter": False, "min_data_in_bin": 1}


def set_globals(params: dict[str, Any]) -> None:
    """Make LightGBM use the threads and the verbosity of these parameters from now on.

    Both are global, and are those of whatever was constructed last (Config::Set in
    src/io/config.cpp, seen in 4.6.0 and 4.7.0). A model, too, is written to text by that many
    threads, for which a forked process would wait forever.
    """
    names = "num_threads", "verbosity"
    given: dict[str, Any] = {name: params[name] for name in names if name in params}
    lgb.Dataset(np.arange(2.0)[:, None], params={**TWO_ROWS_SUFFICE, **given}).construct()


def with_objective(model: str, n_classes: int, parameter: str) -> str:
    """The text of a model of a callable objective, as one that predicts probabilities.

    The text (src/boosting/gbdt_model_text.cpp) has no line for a callable objective, and there is
    no public way to add one. Its section of parameters calls the objective "custom"; here it gets
    ``parameter`` instead. A loaded booster takes its parameters from there, and is refitted with
    them (basic.py).
    """
    is_binary = n_classes == 2
    line = "binary sigmoid:1" if is_binary else f"multiclass num_class:{n_classes}"
    pattern = r"^max_feature_idx=.*$"
    model = _substituted(pattern, rf"\g<0>\nobjective={line}", model, "max_feature_idx=")
    return _substituted(
        r"^\[objective: custom\]$", f"[objective: {parameter}]", model, "[objective: custom]"
    )


def with_parameter(model: str, name: str, value: str) -> str:
    """The text of a model with a parameter of ours, which LightGBM ignores and keeps.

    A loaded model keeps the text of its parameters as it is (src/boosting/gbdt_model_text.cpp). It
    warns of names that it does not know, unless they are without a value, "[name: ]"
    (src/boosting/gbdt.h, GetLoadedParam). So ours comes after that.
    """
    model = re.sub(rf"^\[{name}: \]: .*\n", "", model, flags=re.MULTILINE)
    return _substituted(
        r"^parameters:$", lambda line: f"{line[0]}\n[{name}: ]: {value}", model, "parameters:"
    )


def parameter_of(booster: lgb.Booster, name: str) -> str | None:
    """The value of a parameter of ours in a booster's text, None if it has none."""
    text = booster.model_to_string(num_iteration=1)
    found = re.search(rf"^\[{name}: \]: (.*)$", text, re.MULTILINE)
    return found and found[1]


def with_linear_leaves_raised(model: str, start: Array) -> str:
    """The text of a model, with ``start`` added to the first tree of each class if it is linear.

    ``Booster.set_leaf_output`` is public, but does not change the constants of linear leaves, which
    are a line of each tree's text (src/io/tree.cpp).
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
