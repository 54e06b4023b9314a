"""Outer folds and inner splits of a comparison."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from focal_gbm._compare import _folds
from focal_gbm._compare._folds import folds_of, seed_of


@pytest.fixture
def y():
    return (np.random.default_rng(0).random(600) < 0.2).astype(np.int8)


def test_every_row_is_tested_once_in_each_repeat(y):
    folds = folds_of(y, None, None, 5, 2, 0)
    for repeat in range(2):
        tested = np.concatenate([folds.test(repeat, fold) for fold in range(5)])
        assert_array_equal(np.sort(tested), np.arange(600))
    for repeat, fold in folds:
        train, test = folds.train(repeat, fold), folds.test(repeat, fold)
        assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(600))
        assert abs(y[test].mean() - y.mean()) < 0.01
    assert not np.array_equal(folds.places[0], folds.places[1])
    assert folds.correlation == pytest.approx(1 / 5)


def test_a_search_sees_no_test_row_and_splits_the_others(y):
    folds = folds_of(y, None, None, 3, 1, 0)
    for repeat, fold in folds:
        rows = folds.train(repeat, fold)
        train, valid = folds.search(rows, 0)
        assert_array_equal(np.sort(np.concatenate([train, valid])), rows)
        assert valid.size == pytest.approx(rows.size / 4, abs=1)
        assert abs(y[valid].mean() - y.mean()) < 0.02


def test_groups_stay_together(y):
    groups = np.random.default_rng(1).integers(0, 60, y.size)
    folds = folds_of(y, groups, None, 4, 2, 0)
    for repeat, fold in folds:
        train = folds.train(repeat, fold)
        assert not set(groups[train]) & set(groups[folds.test(repeat, fold)])
        search, valid = folds.search(train, 0)
        assert not set(groups[search]) & set(groups[valid])
        assert set(search) | set(valid) == set(train)


def test_time_goes_forward(y):
    time = np.random.default_rng(1).integers(0, 90, y.size).astype(float)
    folds = folds_of(y, None, time, 4, 1, 0)
    sizes = []
    for repeat, fold in folds:
        train, test = folds.train(repeat, fold), folds.test(repeat, fold)
        assert time[train].max() < time[test].min()
        search, valid = folds.search(train, 0)
        assert time[search].max() < time[valid].min()
        assert set(search) | set(valid) == set(train)
        sizes.append(train.size)
    assert sizes == sorted(sizes)
    assert np.concatenate([folds.test(0, fold) for fold in range(4)]).size > 0.7 * y.size
    # one in two rows is tested first, and one in five last
    assert folds.correlation == pytest.approx(np.mean([1 / 2, 1 / 3, 1 / 4, 1 / 5]), abs=0.02)


@pytest.mark.parametrize("kind", ["stratified", "groups", "time"])
def test_a_large_search_takes_part_of_the_rows(monkeypatch, y, kind):
    monkeypatch.setattr(_folds, "SEARCH_ROWS", 200)
    monkeypatch.setattr(_folds, "SEARCH_ROWS_OF_A_CLASS", 4)
    order = np.arange(y.size)
    groups, time = (order // 5 if kind == name else None for name in ("groups", "time"))
    folds = folds_of(y, groups, time, 3, 1, 0)
    rows = folds.train(0, 2)
    train, valid = folds.search(rows, 0)
    assert train.size + valid.size == 200
    assert set(train) | set(valid) <= set(rows)
    assert not set(train) & set(valid)
    both = np.concatenate([train, valid])
    assert abs(y[both].mean() - y[rows].mean()) < 0.01


@pytest.mark.parametrize("kind", ["stratified", "groups", "time"])
@pytest.mark.parametrize("rare", [20, 100, 1000])
def test_a_large_search_has_enough_of_a_rare_class(monkeypatch, kind, rare):
    monkeypatch.setattr(_folds, "SEARCH_ROWS", 1000)
    y = np.zeros(20_000, int)
    y[:: y.size // rare] = 1
    order = np.arange(y.size)
    groups, time = (order // 5 if kind == name else None for name in ("groups", "time"))
    folds = folds_of(y, groups, time, 2, 1, 0)
    folds.check(None)
    rows = folds.train(0, 1)
    taken = np.concatenate(folds.search(rows, 0))
    assert y[taken].sum() >= min(y[rows].sum(), 200)
    assert taken.size == rows.size if rare < 1000 else 1000 < taken.size < rows.size


@pytest.mark.parametrize("n", [1000, 1001, 1002, 1003])
def test_a_search_of_almost_all_rows(monkeypatch, n):
    monkeypatch.setattr(_folds, "SEARCH_ROWS", 1000)
    y = np.arange(2 * n) % 3 % 2
    folds = folds_of(y, None, None, 2, 1, 0)
    taken = np.concatenate(folds.search(folds.train(0, 0), 0))
    assert taken.size == (1000 if n > 1001 else n)


def test_seeds_of_different_parts_differ():
    parts = [(seed, repeat, fold) for seed in range(3) for repeat in range(3) for fold in range(5)]
    assert len({seed_of(*part) for part in parts}) == len(parts)
    assert seed_of(1, "a") == seed_of(1, "a")


def test_another_seed_is_another_division(y):
    one, other, again = (folds_of(y, None, None, 5, 1, seed).places[0] for seed in (0, 1, 0))
    assert_array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1] * 4 + [0] * 50, "folds: 5 are more than there are positives, 4"),
        ([1] * 50 + [0] * 4, "folds: 5 are more than there are negatives, 4"),
    ],
)
def test_more_folds_than_rows_of_a_class(labels, message):
    with pytest.raises(ValueError, match=message):
        folds_of(np.array(labels, np.int8), None, None, 5, 1, 0)


def test_too_few_positives_for_a_search():
    y = np.array([1] * 3 + [0] * 60, np.int8)
    with pytest.raises(ValueError, match=r"^folds: fold 1 of 3 has 2 positive training rows, and"):
        folds_of(y, None, None, 3, 1, 0)


def test_a_time_without_positives(y):
    time = np.where(y == 1, 0.0, 1.0) + np.arange(y.size) / y.size
    with pytest.raises(ValueError, match=r"^folds: fold \d of 3 has 0 (positive|negative) \w+ row"):
        folds_of(y, None, time, 3, 1, 0)


@pytest.mark.parametrize("part", ["test", "training"])
def test_weights_that_leave_one_class(y, part):
    time = np.arange(y.size, dtype=float)
    folds = folds_of(y, None, time, 2, 1, 0)
    rows = folds.test(0, 0) if part == "test" else folds.train(0, 0)
    weight = np.ones(y.size, np.float32)
    weight[rows] = y[rows] == 0
    folds_of(y, None, time, 2, 1, 0, np.ones(y.size, np.float32))
    with pytest.raises(ValueError, match=rf"^folds: fold 1 of 2 has 0 positive {part} rows, and"):
        folds_of(y, None, time, 2, 1, 0, weight)


def test_too_few_groups_for_a_search(y):
    folds_of(y, np.arange(y.size) % 8, None, 2, 1, 0)
    with pytest.raises(ValueError, match=r"^groups: fold 1 trains on 3, and a search needs at lea"):
        folds_of(y, np.arange(y.size) % 6, None, 2, 1, 0)


def test_fewer_groups_than_folds(y):
    with pytest.raises(ValueError, match="folds: 5 are more than there are groups, 3"):
        folds_of(y, np.arange(y.size) % 3, None, 5, 1, 0)


def test_fewer_times_than_chunks(y):
    with pytest.raises(ValueError, match=r"^time: 3 folds need at least 4 different times, but th"):
        folds_of(y, None, np.arange(y.size) % 3, 3, 1, 0)
