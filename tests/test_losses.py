"""BinaryFocalLoss: values, derivatives, posterior and starting margin."""

import math

import mpmath as mp
import numpy as np
import oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize_scalar
from scipy.special import expit

from focal_gbm import BinaryFocalLoss

GAMMAS = [0.0, 1e-3, 0.5, 1.0, 1.5, 2.0, 5.0, 10.0]
MAGNITUDES = [10.0**exponent for exponent in range(-30, 5)] + [
    *(0.3, 0.5, 0.7, 2, 3, 5, 7, 13, 17, 20, 30, 50, 80),
    *(86, 87, 88, 89, 103, 104, 200, 500, 708, 709, 745, 746, 800, 2000),
]
MARGINS = np.array([0.0, *MAGNITUDES, *(-magnitude for magnitude in MAGNITUDES)])
REALS = [np.float32, np.float64]

gammas = st.floats(0, 20) | st.sampled_from([0.0, 1e-300, 1e3, 1e10, 1e30])
margins = st.floats(allow_nan=False, allow_infinity=True)


def relative_errors(computed, exact, scale, conditioning, real):
    """Errors in units of eps times the conditioning; below the smallest normal number absolute."""
    eps, smallest = float(np.finfo(real).eps), float(np.finfo(real).tiny)
    return [
        float(abs(mp.mpf(float(c)) - e) / (eps * k * max(s, smallest)))
        for c, e, s, k in zip(computed, exact, scale, conditioning, strict=True)
    ]


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("label", [0, 1])
def test_agrees_with_50_digits(place, real, gamma, label):
    margin = MARGINS.astype(real)
    y = np.full(margin.size, label, real)
    sign = 2 * label - 1
    t = [sign * float(z) for z in margin]
    g = mp.mpf(float(real(gamma)))
    conditioning = [1 + g * abs(oracle.posteriors(z)[3]) for z in t]
    focal = BinaryFocalLoss(gamma)
    there = place.put(y), place.put(margin)
    losses = place.get(focal.loss(*there))
    grad, hess = map(place.get, focal.gradient_hessian(*there))
    assert losses.dtype == grad.dtype == hess.dtype == real

    exact = [oracle.loss(z, g) for z in t]
    assert max(relative_errors(losses, exact, exact, conditioning, real)) < 8

    exact = [sign * oracle.gradient(z, g) for z in t]
    assert max(relative_errors(grad, exact, map(abs, exact), conditioning, real)) < 8

    # A Hessian below the smallest normal number comes from subnormal posteriors, so its absolute
    # error is a few hundred of the smallest subnormal numbers.
    terms = [oracle.hessian_terms(z, g) for z in t]
    scale = [max(map(abs, term)) for term in terms]
    normal = [s > float(np.finfo(real).tiny) for s in scale]
    errors = relative_errors(hess, map(sum, terms), scale, conditioning, real)
    assert max(error for error, is_normal in zip(errors, normal, strict=True) if is_normal) < 8
    assert np.abs(hess[np.logical_not(normal)]).max(initial=0) < 2 * np.finfo(real).tiny


def test_oracle_agrees_with_numerical_differentiation():
    with mp.workdps(120):
        for gamma in map(mp.mpf, GAMMAS):
            for t in (-7, -0.5, 0, 0.5, 7):
                for order, exact in (
                    (1, oracle.gradient(t, gamma)),
                    (2, sum(oracle.hessian_terms(t, gamma))),
                ):
                    numeric = mp.diff(lambda z, gamma=gamma: oracle.loss(z, gamma), t, order)
                    assert abs(numeric - exact) < mp.mpf(10) ** -40


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_limits_at_infinite_margins(place, real, gamma):
    focal = BinaryFocalLoss(gamma)
    y = place.put(np.array([0, 0, 1, 1], real))
    margin = place.put(np.array([-np.inf, np.inf, -np.inf, np.inf], real))
    grad, hess = map(place.get, focal.gradient_hessian(y, margin))
    assert_array_equal(grad, [0, 1, -1, 0])
    assert_array_equal(hess, 0)
    assert_array_equal(place.get(focal.loss(y, margin)), [0, np.inf, np.inf, 0])
    assert_array_equal(place.get(focal.posterior(margin)), [0, 1, 0, 1])


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("soft", [False, True])
def test_agrees_with_autograd(gamma, soft):
    rng = np.random.default_rng(0)
    y = rng.random(2000) if soft else rng.integers(0, 2, 2000).astype(float)
    z = torch.tensor(rng.uniform(-30, 30, y.size), requires_grad=True)
    target = torch.from_numpy(y)
    log_p = torch.nn.functional.logsigmoid(z)
    log_q = torch.nn.functional.logsigmoid(-z)
    value = -(
        0.3 * target * torch.exp(gamma * log_q) * log_p
        + 0.7 * (1 - target) * torch.exp(gamma * log_p) * log_q
    )
    (grad,) = torch.autograd.grad(value.sum(), z, create_graph=True)
    (hess,) = torch.autograd.grad(grad.sum(), z)

    focal = BinaryFocalLoss(gamma, alpha=0.3)
    margin = z.detach().numpy()
    ours = focal.gradient_hessian(y, margin)
    assert_allclose(focal.loss(y, margin), value.detach(), rtol=1e-12)
    assert_allclose(ours[0], grad.detach(), rtol=1e-12, atol=1e-12 * soft)
    # Where the Hessian crosses zero, rounding is relative to its terms.
    assert_allclose(ours[1], hess, rtol=1e-12, atol=1e-12 * (1 + gamma))


@pytest.mark.parametrize("real", REALS)
def test_gamma_zero_is_log_loss(real):
    rng = np.random.default_rng(1)
    y, margin = rng.integers(0, 2, 999).astype(real), rng.normal(0, 5, 999).astype(real)
    sign = 2.0 * y - 1
    q = expit(-sign * margin)
    focal = BinaryFocalLoss(gamma=0.0)
    grad, hess = focal.gradient_hessian(y, margin)
    tolerance = 8 * np.finfo(real).eps
    assert_allclose(focal.loss(y, margin), np.logaddexp(0, (1 - 2 * y) * margin), tolerance)
    assert_allclose(grad, -sign * q, tolerance)
    assert_allclose(hess, q * expit(sign * margin), tolerance)


@given(
    gammas, margins, st.floats(0, 1), st.sampled_from(REALS), st.sampled_from([None, 0.25, (3, 1)])
)
def test_everything_is_finite(gamma, margin, label, real, alpha):
    y = np.array([label], real)
    with np.errstate(over="ignore"):
        margin = np.array([margin]).astype(real)
        is_representable = np.isfinite(4 * margin)
    focal = BinaryFocalLoss(gamma, alpha)
    for hessian in ("exact", "clip", "abs", "gradient"):
        derivatives = BinaryFocalLoss(gamma, alpha, hessian).gradient_hessian(y, margin)
        assert np.isfinite(derivatives).all()
    if is_representable:
        assert np.isfinite(focal.loss(y, margin)).all()
    assert 0 <= focal.posterior(margin) <= 1


@given(gammas, st.floats(-1e4, 1e4), st.floats(0, 1))
def test_soft_labels_are_the_mixture(gamma, margin, label):
    focal = BinaryFocalLoss(gamma, alpha=(0.4, 1.5))
    z = [margin]
    mixed = (focal.loss([label], z), *focal.gradient_hessian([label], z))
    ones = (focal.loss([1], z), *focal.gradient_hessian([1], z))
    zeros = (focal.loss([0], z), *focal.gradient_hessian([0], z))
    for value, one, zero in zip(mixed, ones, zeros, strict=True):
        scale = abs(one) + abs(zero)
        assert abs(value - (label * one + (1 - label) * zero)) <= 1e-14 * scale + 1e-300


def test_one_soft_label_among_hard_ones():
    y, margin = np.array([0, 1, 0.5, 1]), np.array([0.3, -2.0, 1.0, 4.0])
    focal = BinaryFocalLoss(1.5)
    together = focal.gradient_hessian(y, margin)
    apart = [focal.gradient_hessian(y[i : i + 1], margin[i : i + 1]) for i in range(4)]
    assert_allclose(together, np.hstack(apart), rtol=1e-15)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("soft", [False, True])
def test_weights_multiply(real, soft):
    rng = np.random.default_rng(2)
    y = rng.random(101) if soft else rng.integers(0, 2, 101)
    margin, weight = rng.normal(0, 4, 101).astype(real), rng.gamma(1, size=101)
    weight[::10] = 0
    for hessian in ("exact", "clip", "abs", "gradient"):
        focal = BinaryFocalLoss(2.0, 0.25, hessian)
        plain = np.array(focal.gradient_hessian(y, margin))
        weighted = focal.gradient_hessian(y, margin, weight)
        assert_allclose(weighted, plain * weight.astype(real), rtol=4 * np.finfo(real).eps)
    assert_allclose(
        focal.loss(y, margin, weight), focal.loss(y, margin) * weight, rtol=4 * np.finfo(real).eps
    )
    assert focal.loss([0], [np.inf], [0.0]) == 0


def test_hessian_modes():
    y, margin = np.array([1, 1, 0, 0]), np.array([-5.0, 8.0, 5.0, -8.0])
    weight = np.array([1.0, 2.0, 1.0, 2.0])
    grad, exact = BinaryFocalLoss(2.0, 0.25).gradient_hessian(y, margin, weight)
    assert exact[0] < 0 < exact[1] < 1e-4
    of_log_loss = expit(margin) * expit(-margin)
    floor = np.minimum(1e-3, of_log_loss) * weight * np.array([0.25, 0.25, 0.75, 0.75])
    as_long_as_log_loss = np.abs(grad) * expit(np.where(y == 1, margin, -margin))
    for hessian, expected in {
        "clip": np.maximum.reduce([exact, floor, as_long_as_log_loss]),
        "abs": np.abs(exact),
        "gradient": np.abs(grad),
    }.items():
        focal = BinaryFocalLoss(2.0, 0.25, hessian)
        assert_allclose(focal.gradient_hessian(y, margin, weight), [grad, expected], rtol=1e-14)


@pytest.mark.parametrize("real", REALS)
def test_clipped_curvature_of_gamma_zero_is_log_loss(real):
    margin = np.linspace(-100, 100, 999).astype(real)
    y = np.arange(margin.size) % 2
    exact = BinaryFocalLoss(0.0).gradient_hessian(y, margin)
    assert_array_equal(BinaryFocalLoss(0.0, hessian="clip").gradient_hessian(y, margin), exact)


def test_parameters_per_class_and_their_scalar_forms():
    rng = np.random.default_rng(3)
    y, margin = rng.integers(0, 2, 50), rng.normal(size=50)
    per_class = np.array(BinaryFocalLoss((3.0, 0.5), (0.2, 5.0)).gradient_hessian(y, margin))
    for label, gamma, alpha in ((0, 3.0, 0.2), (1, 0.5, 5.0)):
        alone = np.array(BinaryFocalLoss(gamma).gradient_hessian(y, margin)) * alpha
        assert_allclose(per_class[:, y == label], alone[:, y == label], rtol=1e-14)
    assert BinaryFocalLoss([1, 2], np.array([1, 2])) == BinaryFocalLoss((1.0, 2.0), (1.0, 2.0))
    assert_array_equal(
        BinaryFocalLoss(2.0, 0.25).gradient_hessian(y, margin),
        BinaryFocalLoss((2.0, 2.0), (0.75, 0.25)).gradient_hessian(y, margin),
    )


def test_balanced_alpha():
    y = np.repeat([0, 1], [95, 5])
    margin = np.linspace(-3, 3, 100)
    balanced = BinaryFocalLoss(2.0, "balanced")
    assert balanced.resolve(y) == BinaryFocalLoss(2.0, 0.95)
    weight = np.where(y, 19.0, 1.0)
    assert balanced.resolve(y, weight).alpha == 0.5
    for method in ("loss", "gradient_hessian", "initial_margin"):
        arguments = (y,) if method == "initial_margin" else (y, margin)
        assert_array_equal(
            getattr(balanced, method)(*arguments),
            getattr(BinaryFocalLoss(2.0, 0.95), method)(*arguments),
        )


@pytest.mark.parametrize("soft", [False, True])
def test_input_forms_agree_and_stay_untouched(soft):
    rng = np.random.default_rng(4)
    y = rng.random(60) if soft else rng.integers(0, 2, 60)
    margin, weight = rng.normal(size=60), rng.random(60)
    focal = BinaryFocalLoss(2.0)
    expected = focal.gradient_hessian(y, margin, weight)
    before = y.copy(), margin.copy(), weight.copy()

    strided = np.repeat(margin, 3)[::3]
    reverse = slice(None, None, -1)
    read_only = margin.copy()
    read_only.flags.writeable = False
    assert not strided.flags.c_contiguous
    for form in (margin.tolist(), strided, read_only):
        assert_array_equal(focal.gradient_hessian(y, form, weight), expected)
    backwards = focal.gradient_hessian(y[reverse], margin[reverse], weight[reverse])
    assert_array_equal(np.array(backwards)[:, reverse], expected)
    assert_array_equal(focal.gradient_hessian(y.tolist(), margin, weight.tolist()), expected)
    if not soft:
        for dtype in (bool, np.int8, np.float32):
            assert_array_equal(focal.gradient_hessian(y.astype(dtype), margin, weight), expected)
    for array, copy in zip((y, margin, weight), before, strict=True):
        assert_array_equal(array, copy)


def test_out_is_written_and_returned():
    rng = np.random.default_rng(5)
    y, margin = rng.integers(0, 2, 40), rng.normal(size=40)
    focal = BinaryFocalLoss(2.0)
    expected = np.array(focal.gradient_hessian(y, margin))
    for real in REALS:
        out = np.full(40, np.nan, real), np.full(40, np.nan, real)
        returned = focal.gradient_hessian(y, margin, out=out)
        assert returned[0] is out[0]
        assert returned[1] is out[1]
        assert_array_equal(out, expected.astype(real))


def test_empty_input():
    focal = BinaryFocalLoss(2.0)
    for real in REALS:
        empty = np.empty(0, real)
        for result in (focal.loss(empty, empty), *focal.gradient_hessian(empty, empty)):
            assert result.shape == (0,)
            assert result.dtype == real
        assert focal.posterior(empty).shape == (0,)


@pytest.mark.parametrize("real", REALS)
def test_threads_change_nothing(real):
    rng = np.random.default_rng(6)
    n = 600_001
    y, margin = rng.integers(0, 2, n), rng.normal(0, 3, n).astype(real)
    focal = BinaryFocalLoss(2.0)
    expected = focal.gradient_hessian(y, margin, n_threads=1)
    for n_threads in (None, 2, 3, 8):
        assert_array_equal(focal.gradient_hessian(y, margin, n_threads=n_threads), expected)


@pytest.mark.parametrize("gamma", [*GAMMAS, (0.5, 3.0), (8.0, 0.0)])
@pytest.mark.parametrize("alpha", [None, 0.25, (0.1, 4.0)])
def test_posterior_is_where_the_expected_gradient_vanishes(place, gamma, alpha):
    focal = BinaryFocalLoss(gamma, alpha)
    margin = np.linspace(-40, 40, 401)
    by_class = [np.broadcast_to(value, 2).astype(float) for value in (gamma, alpha or 1.0)]
    if isinstance(alpha, float):
        by_class[1] = np.array([1 - alpha, alpha])
    exact = [oracle.posterior_margin(z, *by_class) for z in margin]
    scale = 1 + max(by_class[0])
    there = place.put(margin)
    log_odds, posterior = (
        place.get(focal.posterior_margin(there)),
        place.get(focal.posterior(there)),
    )
    assert_allclose(log_odds, np.array(exact, float), rtol=1e-14, atol=1e-14 * scale)
    assert_allclose(posterior, [float(1 / (1 + mp.exp(-z))) for z in exact], rtol=1e-12)
    g0 = focal.gradient_hessian(np.zeros(401), margin)[0]
    g1 = focal.gradient_hessian(np.ones(401), margin)[0]
    assert_allclose(posterior, g0 / (g0 - g1), rtol=1e-11)


@given(st.tuples(st.floats(0, 8), st.floats(0, 8)), st.floats(-50, 50), st.floats(1e-3, 10))
def test_posterior_margin_increases(gamma, margin, step):
    low, high = BinaryFocalLoss(gamma).posterior_margin([margin, margin + step])
    assert low < high


def test_posterior_margin_of_log_loss_is_the_margin():
    margin = np.random.default_rng(7).normal(0, 10, 100)
    assert_array_equal(BinaryFocalLoss(0.0).posterior_margin(margin), margin)
    for gamma in GAMMAS:
        posterior_margin = BinaryFocalLoss(gamma).posterior_margin
        assert_allclose(np.diff(posterior_margin([500.0, 501.0])), 1 + gamma)


def test_posterior_keeps_the_shape():
    focal = BinaryFocalLoss(2.0)
    margin = np.arange(6.0).reshape(2, 3)
    assert_array_equal(focal.posterior(margin), focal.posterior(margin.ravel()).reshape(2, 3))
    assert focal.posterior(np.float32(0)) == 0.5
    assert focal.posterior(np.zeros(3, np.float32)).dtype == np.float32
    assert focal.posterior(np.asfortranarray(margin))[1, 2] == focal.posterior(5.0)


@pytest.mark.parametrize("gamma", [*GAMMAS, (0.5, 3.0)])
@pytest.mark.parametrize("alpha", [None, 0.25, "balanced", (0.1, 4.0)])
@pytest.mark.parametrize("positives", [1, 17, 500, 999])
def test_initial_margin_minimises_the_loss(gamma, alpha, positives):
    y = np.arange(1000) < positives
    weight = np.random.default_rng(8).gamma(2.0, size=1000)
    focal = BinaryFocalLoss(gamma, alpha)
    margin = focal.initial_margin(y, weight)
    grad, hess = focal.gradient_hessian(y, np.full(1000, margin), weight)
    assert abs(grad.sum()) < 1e-11 * np.abs(grad).sum()
    assert hess.sum() > 0
    resolved = focal.resolve(y, weight)
    assert_allclose(resolved.posterior(margin), weight[y].sum() / weight.sum(), rtol=1e-10)

    def total(z):
        return focal.loss(y, np.full(1000, z), weight).sum()

    best = minimize_scalar(total, bracket=(margin - 1, margin + 1))
    assert total(margin) <= best.fun * (1 + 1e-12)


@given(
    gammas | st.tuples(gammas, gammas),
    st.sampled_from([None, "balanced"])
    | st.floats(1e-3, 0.999)
    | st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)),
    st.floats(-9, 9).map(lambda exponent: 10**exponent),
)
def test_gradient_vanishes_at_the_initial_margin(gamma, alpha, odds):
    focal, y, weight = BinaryFocalLoss(gamma, alpha), np.array([0, 1]), np.array([1, odds])
    margin = focal.initial_margin(y, weight)
    grad, _ = focal.gradient_hessian(y, np.full(2, margin), weight)
    assert abs(grad.sum()) <= 1e-10 * np.abs(grad).sum() + np.finfo(float).tiny


def test_one_class_is_found_whatever_the_weights_add_up_to():
    for seed in range(20):
        weight = np.random.default_rng(seed).random(100)
        for label in (0, 1):
            with pytest.raises(ValueError, match="by class"):
                BinaryFocalLoss().initial_margin(np.full(100, label), weight)


def test_initial_margin_of_log_loss_is_the_log_odds():
    y = np.repeat([0, 1], [999, 1])
    assert BinaryFocalLoss(0.0).initial_margin(y) == math.log(1) - math.log(999)
    assert BinaryFocalLoss((0, 0), 0.5).initial_margin(y) == math.log(1) - math.log(999)
    expected = math.log(3) - math.log(2 * 999)
    assert_allclose(BinaryFocalLoss(0.0, (2, 3)).initial_margin(y), expected, rtol=1e-15)
    assert_allclose(BinaryFocalLoss(0.0, "balanced").initial_margin(y), 0, atol=1e-14)


def test_prior_log_odds_are_a_trap():
    """Why initial_margin exists: at the log-odds of a rare class the mean Hessian is negative."""
    y = np.repeat([0, 1], [9983, 17])
    focal = BinaryFocalLoss(2.0)
    for margin, sign in ((math.log(17 / 9983), -1), (focal.initial_margin(y), 1)):
        _, hess = focal.gradient_hessian(y, np.full(y.size, margin))
        assert np.sign(hess.mean()) == sign
