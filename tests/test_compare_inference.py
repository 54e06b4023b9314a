"""The correlated Bayesian t-test, and the metrics whose differences it judges."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, stats
from sklearn import metrics

from focal_gbm._compare._measures import (
    USUAL,
    Difference,
    difference_of,
    measure_of,
    positives_needed,
)


@pytest.mark.parametrize("n", [2, 5, 10, 30])
@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.5])
def test_probabilities_are_those_of_quadrature(n, correlation):
    differences = np.random.default_rng(n).normal(0.004, 0.02, n)
    rope = 0.005
    scale = np.sqrt((1 / n + correlation / (1 - correlation)) * differences.var(ddof=1))

    def density(x):
        return stats.t.pdf(x, n - 1, differences.mean(), scale)

    def integral(low, high):
        return integrate.quad(density, low, high, epsabs=1e-11, epsrel=1e-11, limit=500)[0]

    found = difference_of(differences, correlation, rope)
    assert_allclose(found.better, integral(rope, np.inf), atol=1e-6)
    assert_allclose(found.same, integral(-rope, rope), atol=1e-6)
    assert_allclose(found.worse, integral(-np.inf, -rope), atol=1e-6)
    assert_allclose(integral(found.low, found.high), 0.95, atol=1e-6)


def test_without_correlation_the_interval_is_that_of_the_t_test():
    differences = np.random.default_rng(0).normal(size=12)
    found = difference_of(differences, 0.0, 0.1)
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert_allclose((found.low, found.high), expected)


def test_the_correction_widens_the_interval_as_nadeau_and_bengio_have_it():
    differences = np.random.default_rng(0).normal(size=10)
    plain, corrected = (difference_of(differences, rho, 0.1) for rho in (0.0, 1 / 5))
    ratio = (corrected.high - corrected.low) / (plain.high - plain.low)
    # Ten differences, each tested on a fifth: 1/10 + (1/5) / (4/5) instead of 1/10.
    assert_allclose(ratio, math.sqrt((1 / 10 + 1 / 4) / (1 / 10)))


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.02, "better"), (0.001, "same"), (0.0, "same"), (-0.02, "worse")]
)
def test_folds_that_all_agree_are_sure(value, verdict):
    found = difference_of(np.full(5, value), 0.2, 0.005)
    assert found.verdict == verdict
    assert (found.mean, found.low, found.high) == (value, value, value)
    assert sorted(found[3:]) == [0, 0, 1]


@pytest.mark.parametrize("unit", [1e-15, 1.0, 1e15])
def test_the_unit_does_not_matter(unit):
    differences = np.array([0.03, -0.01, 0.02, 0.05])
    expected = difference_of(differences, 0.2, 0.005)
    found = difference_of(unit * differences, 0.2, unit * 0.005)
    assert_allclose(found[:3], np.multiply(unit, expected[:3]))
    assert_allclose(found[3:], expected[3:])


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_folds_say_nothing(n):
    found = difference_of(np.full(n, 0.5), 0.2, 0.005)
    assert found.verdict == "unclear"
    assert np.isnan(found[1:]).all()
    assert math.isnan(found.mean) == (n == 0)


def test_a_verdict_takes_a_probability_of_95_percent():
    def verdict(better, same, worse):
        return Difference(0, 0, 0, better, same, worse).verdict

    assert verdict(0.95, 0.05, 0.0) == "better"
    assert verdict(0.949, 0.051, 0.0) == "unclear"
    assert verdict(0.0, 0.95, 0.05) == "same"
    assert verdict(0.0, 0.05, 0.95) == "worse"


def test_positives_needed():
    wide = Difference(0.0, -0.05, 0.05, 0.4, 0.2, 0.4)
    assert positives_needed(wide, 50, 0.005) == 5000  # ten times as wide: a hundred times as many
    assert positives_needed(wide, 57, 0.004) == 9000  # 8906, rounded up to two digits
    assert positives_needed(wide, 50, 0.05) is None
    assert positives_needed(wide._replace(better=0.96), 50, 0.005) is None
    assert positives_needed(difference_of(np.ones(1), 0.2, 0.005), 50, 0.005) is None


def test_so_many_positives_do_tell():
    # The variance of differences on folds of n positives is inversely proportional to n.
    noise = np.random.default_rng(0).normal(size=10)
    noise = (noise - noise.mean()) / noise.std()
    found = difference_of(noise / math.sqrt(100), 0.2, 0.005)
    needed = positives_needed(found, 100, 0.005)
    then = difference_of(noise / math.sqrt(needed), 0.2, 0.005)
    assert 0.9 * 0.005 < (then.high - then.low) / 2 <= 0.005


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    y = (rng.random(400) < 0.3).astype(int)
    return y, (rng.normal(size=400) + y).astype(np.float32), rng.gamma(2.0, size=400)


def test_ranking_metrics_see_the_order_alone(predictions):
    y, margin, weight = predictions
    p = 1 / (1 + np.exp(-margin))
    for name in ("average precision", "ROC AUC", "recall at precision 0.6", "recall at FPR 0.1"):
        measure = measure_of(name)
        assert measure.ranks
        assert measure.greater_is_better
        assert_allclose(measure(y, p, weight), measure(y, p**3, weight))
    for name in ("log loss", "Brier score"):
        measure = measure_of(name)
        assert not measure.ranks
        assert not measure.greater_is_better
        assert abs(measure(y, p, weight) - measure(y, p**3, weight)) > 0.01


def test_usual_metrics_are_scikit_learns(predictions):
    y, margin, weight = predictions
    p = (1 / (1 + np.exp(-margin))).astype(float)
    expected = (
        metrics.average_precision_score,
        metrics.roc_auc_score,
        metrics.log_loss,
        metrics.brier_score_loss,
    )
    for measure, function in zip(USUAL, expected, strict=True):
        assert_allclose(measure(y, p, weight), function(y, p, sample_weight=weight), rtol=1e-6)


def test_recall_at_a_bound_is_the_best_of_all_thresholds(predictions):
    y, p, weight = predictions
    best = {"precision": 0.0, "fpr": 0.0}
    for threshold in p:
        alarm = p >= threshold
        recall = weight[alarm & (y == 1)].sum() / weight[y == 1].sum()
        if weight[alarm & (y == 1)].sum() / weight[alarm].sum() >= 0.6:
            best["precision"] = max(best["precision"], recall)
        if weight[alarm & (y == 0)].sum() / weight[y == 0].sum() <= 0.1:
            best["fpr"] = max(best["fpr"], recall)
    assert_allclose(measure_of("recall at precision 0.6")(y, p, weight), best["precision"])
    assert_allclose(measure_of("recall at FPR 0.1")(y, p, weight), best["fpr"])


def test_recall_at_a_precision_that_nothing_has_is_zero():
    y, p = np.array([0, 0, 1]), np.array([0.9, 0.8, 0.1])
    assert measure_of("recall at precision 0.9")(y, p, np.ones(3)) == 0


def test_cost_is_that_of_the_threshold_that_the_costs_give():
    y, p = np.array([1, 1, 0, 0]), np.array([0.3, 0.1, 0.3, 0.1])
    cost = measure_of("cost", (4.0, 1.0))  # the threshold is 1/5: one miss, one false alarm
    assert_allclose(cost(y, p, np.ones(4)), (4 + 1) / 4)
    assert_allclose(cost(y, p, np.array([0, 2, 1, 1])), (2 * 4 + 1) / 4)
    assert not cost.greater_is_better


def test_log_loss_of_predictions_that_round_to_certainty_is_finite():
    found = measure_of("log loss")(np.array([0, 1]), np.float32([1, 0]), np.ones(2))
    assert 10 < found < 20


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("average-precision", "average precision"),
        ("ROC_AUC", "ROC AUC"),
        ("roc-auc", "ROC AUC"),
        ("brier", "Brier score"),
        ("Log Loss", "log loss"),
        ("recall-at-precision-.95", "recall at precision 0.95"),
        ("recall at fpr 0.001", "recall at FPR 0.001"),
    ],
)
def test_names_of_metrics(given, name):
    assert measure_of(given).name == name


@pytest.mark.parametrize("name", ["accuracy", "recall at precision 2", "recall at fpr 0.0", "", 3])
def test_unknown_metrics(name):
    with pytest.raises(
        ValueError, match=r"^metric: there is no .*: use one of average-precision, roc-auc"
    ):
        measure_of(name)


def test_cost_without_costs():
    with pytest.raises(ValueError, match=r"^metric: 'cost' needs the cost of a miss"):
        measure_of("cost")
