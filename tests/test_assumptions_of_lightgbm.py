"""What LightGBM does not promise, stated one by one: a release that moves something fails here."""

import inspect

import lightgbm as lgb
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from focal_gbm import FocalObjective
from focal_gbm.lightgbm import _internals, train
from focal_gbm.lightgbm._parameters import ALIASES

X = np.random.default_rng(0).normal(size=(300, 3))
Y = (X[:, 0] > 0.5).astype(float)
QUIET = {"verbosity": -1, "num_leaves": 4}


def custom(**params):
    """A model of a callable objective, and its training booster."""
    params = {**QUIET, "objective": FocalObjective(2.0), **params}
    dataset = lgb.Dataset(X, Y)
    return lgb.train(params, dataset, 3, keep_training_booster=True)


def test_aliases_are_those_of_the_library():
    known = lgb.basic._ConfigAliases.get
    for name, aliases in ALIASES.items():
        assert known(name) == {name, *aliases}, f"LightGBM {lgb.__version__} has other aliases"


def test_a_data_set_tells_whether_it_is_constructed():
    dataset = lgb.Dataset(X, Y)
    assert not _internals.is_constructed(dataset)
    dataset.construct()
    assert _internals.is_constructed(dataset)


def test_a_data_set_keeps_the_margins_of_a_continued_model():
    first = lgb.train({**QUIET, "objective": "binary"}, lgb.Dataset(X, Y), 2)
    dataset = lgb.Dataset(X, Y, free_raw_data=False)
    assert not _internals.was_continued(dataset)
    lgb.train({**QUIET, "objective": "binary"}, dataset, 2, init_model=first)
    assert _internals.was_continued(dataset)
    lgb.train({**QUIET, "objective": "binary"}, dataset, 2)
    assert_array_equal(dataset.get_init_score(), 0)


def test_a_data_set_is_constructed_for_parameters_of_a_training():
    dataset = _internals.constructed({"max_bin": 3, "verbosity": -1}, lgb.Dataset(X, Y))
    assert dataset.feature_num_bin(0) <= 4
    assert dataset.params["max_bin"] == 3


def test_a_training_booster_gives_its_margins():
    booster = custom()
    assert_allclose(_internals.training_margin(booster), booster.predict(X, raw_score=True))


def test_a_booster_remembers_whether_its_objective_is_none():
    booster = lgb.Booster(QUIET, lgb.Dataset(X, Y))
    name = "_Booster__set_objective_to_none"
    assert vars(booster)[name] is False, f"LightGBM {lgb.__version__} has no {name}"
    _internals.objective_is_none(booster)
    assert vars(booster)[name] is True


def test_a_booster_tells_the_name_of_its_training_data():
    booster = lgb.Booster(QUIET, lgb.Dataset(X, Y)).set_train_data_name("ours")
    assert _internals.training_data_name(booster) == "ours"


def test_dart_drops_trees_when_it_is_asked_for_margins():
    booster = custom(boosting="dart", skip_drop=0.0, drop_rate=1.0)
    assert _internals.is_dart(booster)
    assert not _internals.is_dart(custom())
    margin = booster.predict(X, raw_score=True)
    training = booster.train_set
    booster.add_valid(training, "valid")
    found = {}

    def keep(margin, dataset):
        found[dataset] = margin.copy()
        return "none", 0.0, False

    booster.eval_valid(keep)
    assert_allclose(found[training], margin)
    assert_array_equal(booster.predict(X, raw_score=True), margin)
    booster.eval_train(keep)
    assert not np.allclose(found[training], margin)
    assert not np.allclose(booster.predict(X, raw_score=True), margin)


def test_early_stopping_is_known():
    callback = lgb.early_stopping(2, verbose=False)
    valid = lgb.Dataset(X[:50], 1 - Y[:50])
    booster = lgb.train(
        {**QUIET, "objective": "binary"}, lgb.Dataset(X, Y), 9, [valid], callbacks=[callback]
    )
    assert 0 < booster.best_iteration < 9
    assert _internals.stops_early(callback)
    assert not _internals.stops_early(lgb.record_evaluation({}))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_text_of_a_model_has_the_lines_that_are_replaced(n_classes, tmp_path):
    params = {} if n_classes == 2 else {"num_class": n_classes}
    model = custom(**params).model_to_string()
    for line in ("max_feature_idx=", "[objective: custom]"):
        renamed = model.replace(f"\n{line}", "\nrenamed=")
        with pytest.raises(RuntimeError, match=rf"LightGBM {lgb.__version__} writes models in"):
            _internals.with_objective(renamed, n_classes, "binary")
    path = tmp_path / "model.txt"  # from a string LightGBM 4.6 reads no parameters
    path.write_text(_internals.with_objective(model, n_classes, "unknown"))
    loaded = lgb.Booster(model_file=path)
    assert loaded.dump_model()["objective"].startswith("binary" if n_classes == 2 else "multi")
    assert loaded.params["objective"] == "unknown"
    assert "\n[objective: unknown]\n" in loaded.model_to_string()


def test_the_text_of_a_model_keeps_a_parameter_of_ours(tmp_path):
    value = '{"gamma": [2.0], "labels": ["a: b", "[c]", "\\u00e4"]}'
    path = tmp_path / "model.txt"
    model = lgb.Booster(model_str=custom().model_to_string())
    before = model.predict(X)
    path.write_text(_internals.with_parameter(model.model_to_string(), "ours", "1"))
    for expected in ("1", value):
        for _ in range(2):
            model = lgb.Booster(model_file=path)
            assert _internals.parameter_of(model, "ours") == expected
            assert _internals.parameter_of(model, "other") is None
            assert_array_equal(model.predict(X), before)
            assert "ours" not in model.params
            assert model.params["num_leaves"] == 4
            model.save_model(path)
        path.write_text(_internals.with_parameter(path.read_text(), "ours", value))
    renamed = model.model_to_string().replace("\nparameters:\n", "\nPARAMETERS:\n")
    with pytest.raises(RuntimeError, match="'parameters:' was expected"):
        _internals.with_parameter(renamed, "ours", value)


def test_a_parameter_of_ours_causes_no_warning(tmp_path, capfd):
    text = custom().model_to_string()
    path = tmp_path / "model.txt"
    _internals.set_globals({"verbosity": 1})
    for model, warning in (
        (_internals.with_parameter(text, "ours", '{"gamma": 2.0}'), ""),
        (text.replace("\nparameters:\n", "\nparameters:\n[ours: 1]\n"), "unrecognized parameter"),
    ):
        path.write_text(model)
        lgb.Booster(model_file=path)
        out, err = capfd.readouterr()
        assert warning in out + err
        assert bool(warning) == bool(out + err)
    _internals.set_globals({"verbosity": -1})


def test_the_text_of_linear_trees_has_the_lines_that_are_replaced():
    model = custom(linear_tree=True).model_to_string()
    raised = lgb.Booster(model_str=_internals.with_linear_leaves_raised(model, np.array([0.25])))
    before = lgb.Booster(model_str=model).predict(X, raw_score=True)
    found = raised.predict(X, raw_score=True)
    assert_allclose(np.abs(found - before).max(), 0.25)
    first = custom().model_to_string()
    assert _internals.with_linear_leaves_raised(first, np.array([0.25])) == first
    for line in ("Tree=0", "leaf_const=", "tree_sizes="):
        renamed = model.replace(f"\n{line}", "\nrenamed=")
        with pytest.raises(RuntimeError, match=f"'{line}' was expected"):
            _internals.with_linear_leaves_raised(renamed, np.array([0.25]))


def test_a_changed_text_stops_a_training(monkeypatch):
    text = lgb.Booster.model_to_string

    def renamed(self, *arguments, **options):
        return text(self, *arguments, **options).replace("max_feature_idx=", "features=")

    monkeypatch.setattr(lgb.Booster, "model_to_string", renamed)
    with pytest.raises(RuntimeError, match=f"LightGBM {lgb.__version__}"):
        train({**QUIET, "objective": FocalObjective(2.0)}, lgb.Dataset(X, Y), 3)


def test_a_classifier_is_fitted_by_these_attributes():
    model = lgb.LGBMClassifier(n_estimators=2, verbosity=-1).fit(X, Y)
    names = ["_Booster", "_n_features", "_evals_result", "_best_iteration", "_best_score"]
    missing = {*names, "_n_classes", "_objective"} - set(vars(model))
    assert not missing, f"LightGBM {lgb.__version__} has no {missing}"


def test_what_the_classes_for_dask_are_made_of():
    for name in ("_lgb_dask_fit", "_lgb_dask_to_local"):
        assert inspect.isfunction(getattr(lgb.DaskLGBMClassifier, name))
    taken = inspect.signature(lgb.DaskLGBMClassifier._lgb_dask_fit).parameters
    assert {"model_factory", "X", "y", "sample_weight", "init_score"} <= set(taken)
    assert inspect.isfunction(lgb.LGBMClassifier._process_params)
