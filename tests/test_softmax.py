"""SoftmaxFocalLoss: values, derivatives, posterior and starting margins."""

import mpmath as mp
import numpy as np
import oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from focal_gbm import BinaryFocalLoss, SoftmaxFocalLoss

GAMMAS = [0.0, 1e-3, 0.5, 1.0, 1.5, 2.0, 5.0, 10.0]
SCALES = [1e-30, 1e-6, 0.1, 1, 5, 20, 60, 300, 1e4]
REALS = [np.float32, np.float64]
CLASSES = [2, 3, 10, 100]


def sample(n_classes, real, rows=6, seed=0):
    rng = np.random.default_rng(seed)
    margin = np.vstack([rng.normal(size=(rows, n_classes)) * scale for scale in SCALES])
    return rng.integers(0, n_classes, len(margin)), margin.astype(real)


def worst_error(computed, exact, scale, conditioning, real):
    """In units of eps times the conditioning; below the smallest normal number absolute."""
    eps, smallest = float(np.finfo(real).eps), float(np.finfo(real).tiny)
    return float(abs(mp.mpf(float(computed)) - exact) / (eps * conditioning * max(scale, smallest)))


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("n_classes", CLASSES)
@pytest.mark.parametrize("gamma", [0.0, 1e-3, 1.5, 10.0])
def test_agrees_with_50_digits(place, real, n_classes, gamma):
    y, margin = sample(n_classes, real, rows=6 if n_classes < 100 else 1)
    focal = SoftmaxFocalLoss(n_classes, gamma)
    there = place.put(y), place.put(margin)
    losses = place.get(focal.loss(*there))
    grad, hess = map(place.get, focal.gradient_hessian(*there))
    assert losses.dtype == grad.dtype == hess.dtype == real
    g = mp.mpf(float(real(gamma)))
    smallest = float(np.finfo(real).tiny)
    errors = []
    for i, true in enumerate(y):
        t, shares = oracle.softmax_log_odds(margin[i], true)
        conditioning = 1 + g * abs(oracle.posteriors(t)[3])
        exact = oracle.loss(t, g)
        first, second = oracle.gradient(t, g), oracle.hessian_terms(t, g)
        errors.append(worst_error(losses[i], exact, exact, conditioning, real))
        for j, share in enumerate(shares):
            rest = mp.fsum(other for k, other in enumerate(shares) if k != j)
            exact = first if j == true else -first * share
            errors.append(worst_error(grad[i, j], exact, abs(exact), conditioning, real))
            terms = (
                second
                if j == true
                else [term * share**2 for term in second] + [-first * share * rest]
            )
            scale = max(map(abs, terms))
            # Below the smallest normal number posteriors are subnormal, with their few digits.
            if scale > smallest:
                errors.append(worst_error(hess[i, j], sum(terms), scale, conditioning, real))
            else:
                assert abs(hess[i, j]) < 2 * smallest
    assert max(errors) < 8


def test_oracle_agrees_with_numerical_differentiation():
    margins, true, gamma = [0.3, -1.2, 2.0, 0.1], 1, mp.mpf(1.5)
    t, shares = oracle.softmax_log_odds(margins, true)

    def loss_at(z, j):
        moved = [mp.mpf(value) for value in margins]
        moved[j] = z
        total = mp.fsum(map(mp.exp, moved))
        p = mp.exp(moved[true]) / total
        return -((1 - p) ** gamma) * mp.log(p)

    first, second = oracle.gradient(t, gamma), mp.fsum(oracle.hessian_terms(t, gamma))
    with mp.workdps(100):
        for j, share in enumerate(shares):
            rest = mp.fsum(other for k, other in enumerate(shares) if k != j)
            grad, hess = (
                (first, second)
                if j == true
                else (-first * share, second * share**2 - first * share * rest)
            )
            z = mp.mpf(margins[j])
            assert abs(mp.diff(lambda v, j=j: loss_at(v, j), z) - grad) < mp.mpf(10) ** -40
            assert abs(mp.diff(lambda v, j=j: loss_at(v, j), z, 2) - hess) < mp.mpf(10) ** -40


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("n_classes", CLASSES)
def test_agrees_with_autograd(gamma, n_classes):
    rng = np.random.default_rng(1)
    y, margin = rng.integers(0, n_classes, 20), rng.normal(0, 4, (20, n_classes))
    z = torch.tensor(margin, requires_grad=True)
    true = torch.nn.functional.one_hot(torch.from_numpy(y), n_classes).bool()
    t = z[true] - torch.logsumexp(z.masked_fill(true, -torch.inf), dim=1)
    log_p, log_q = torch.nn.functional.logsigmoid(t), torch.nn.functional.logsigmoid(-t)
    value = -torch.exp(gamma * log_q) * log_p
    (grad,) = torch.autograd.grad(value.sum(), z, create_graph=True)
    diagonal = torch.stack(
        [
            torch.autograd.grad(grad[:, j].sum(), z, retain_graph=True)[0][:, j]
            for j in range(n_classes)
        ],
        dim=1,
    )
    focal = SoftmaxFocalLoss(n_classes, gamma)
    ours = focal.gradient_hessian(y, margin)
    assert_allclose(focal.loss(y, margin), value.detach(), rtol=1e-12)
    assert_allclose(ours[0], grad.detach(), rtol=1e-12, atol=1e-13)
    assert_allclose(ours[1], diagonal, rtol=1e-12, atol=1e-12 * (1 + gamma))


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("hessian", ["exact", "clip", "abs", "gradient"])
def test_two_classes_are_the_binary_loss(real, hessian):
    rng = np.random.default_rng(2)
    y, z = rng.integers(0, 2, 300), rng.normal(0, 6, 300).astype(real)
    weight = rng.gamma(2.0, size=300)
    margin = np.stack([np.zeros_like(z), z], axis=1)
    parameters = {"gamma": (0.5, 3.0), "alpha": 0.25, "hessian": hessian}
    binary, softmax = BinaryFocalLoss(**parameters), SoftmaxFocalLoss(2, **parameters)
    tolerance = {"rtol": 16 * np.finfo(real).eps, "atol": 8 * np.finfo(real).eps}
    grad, hess = softmax.gradient_hessian(y, margin, weight)
    expected = binary.gradient_hessian(y, z, weight)
    assert_allclose(grad, np.stack([-expected[0], expected[0]], axis=1), **tolerance)
    assert_allclose(hess, np.stack([expected[1], expected[1]], axis=1), **tolerance)
    assert_allclose(softmax.loss(y, margin), binary.loss(y, z), **tolerance)
    assert_allclose(softmax.posterior(margin)[:, 1], binary.posterior(z), **tolerance)
    start = softmax.initial_margin(y, weight)
    assert_allclose(start[1] - start[0], binary.initial_margin(y, weight), rtol=1e-10)


@given(
    arrays(np.float64, (3, 4), elements=st.floats(-1e4, 1e4)),
    st.floats(0, 20) | st.sampled_from([1e-300, 1e3, 1e30]),
    st.sampled_from(REALS),
    st.sampled_from([None, (1, 2, 0.5, 3)]),
)
def test_finite_and_gradients_sum_to_zero(margin, gamma, real, alpha):
    y, margin = np.array([0, 3, 1]), margin.astype(real)
    for hessian in ("exact", "clip", "abs", "gradient"):
        focal = SoftmaxFocalLoss(4, gamma, alpha, hessian)
        grad, hess = focal.gradient_hessian(y, margin)
        assert np.isfinite(grad).all()
        assert np.isfinite(hess).all()
        scale = np.abs(grad).max(axis=1)
        smallest = np.finfo(real).tiny
        assert (abs(grad.sum(axis=1)) <= 8 * np.finfo(real).eps * scale + smallest).all()
    assert np.isfinite(focal.loss(y, margin)).all()
    posterior = focal.posterior(margin)
    assert_allclose(posterior.sum(axis=1), 1, rtol=8 * np.finfo(real).eps)
    assert (posterior >= 0).all()


@given(st.integers(2, 20), st.sampled_from(REALS), st.integers(0, 2**32 - 1))
def test_equal_margins_have_equal_posteriors(n_classes, real, seed):
    rng = np.random.default_rng(seed)
    margin = rng.choice(rng.normal(size=2), (50, n_classes)).astype(real)
    posterior = SoftmaxFocalLoss(n_classes, rng.uniform(0, 3)).posterior(margin)
    for row, of_row in zip(margin, posterior, strict=True):
        assert len(set(of_row)) == len(set(row))


def test_hessian_modes():
    y, margin = sample(5, np.float64)
    p = np.exp(margin - margin.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    alpha = np.array([1, 2, 0.5, 3, 1])
    grad, exact = SoftmaxFocalLoss(5, 2.0, alpha).gradient_hessian(y, margin)
    floor = np.minimum(1e-3, p * (1 - p)) * alpha[y][:, None]
    assert (exact < 0).any()
    assert ((exact < floor) & (floor < 1e-3 * alpha[y][:, None])).any()
    as_long_as_log_loss = np.abs(grad) * np.where(np.eye(5)[y] == 1, p, 1 - p)
    for hessian, expected in {
        "clip": np.maximum.reduce([exact, floor, as_long_as_log_loss]),
        "abs": np.abs(exact),
        "gradient": np.abs(grad),
    }.items():
        found = SoftmaxFocalLoss(5, 2.0, alpha, hessian).gradient_hessian(y, margin)
        assert_allclose(found, [grad, expected], rtol=1e-9, atol=1e-15)


def test_gamma_zero_is_log_loss():
    y, margin = sample(5, np.float64)
    focal = SoftmaxFocalLoss(5, gamma=0.0)
    grad, hess = focal.gradient_hessian(y, margin)
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(margin), torch.from_numpy(y), reduction="none"
    )
    assert_allclose(focal.loss(y, margin), expected, rtol=1e-12, atol=1e-15)
    p = np.exp(margin - margin.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert_allclose(grad, p - np.eye(5)[y], atol=1e-15)
    assert_allclose(hess, p * (1 - p), atol=1e-15)
    assert_allclose(focal.posterior(margin), p, rtol=1e-11)


@pytest.mark.parametrize("real", REALS)
def test_weights_multiply(real):
    y, margin = sample(4, real)
    weight = np.random.default_rng(3).gamma(1.0, size=y.size)
    weight[::7] = 0
    tolerance = 4 * np.finfo(real).eps
    for hessian in ("exact", "clip", "abs", "gradient"):
        focal = SoftmaxFocalLoss(4, (1, 2, 3, 0), (1, 2, 3, 4), hessian)
        plain = np.array(focal.gradient_hessian(y, margin))
        weighted = focal.gradient_hessian(y, margin, weight)
        expected = plain * weight.astype(real)[:, None]
        assert_allclose(weighted, expected, tolerance, atol=np.finfo(real).tiny)
    expected = focal.loss(y, margin) * weight.astype(real)
    assert_allclose(focal.loss(y, margin, weight), expected, tolerance, atol=np.finfo(real).tiny)


def test_parameters_per_class():
    y, margin = sample(3, np.float64)
    gamma, alpha = (0.5, 2.0, 4.0), (1.0, 0.2, 7.0)
    per_class = np.array(SoftmaxFocalLoss(3, gamma, alpha).gradient_hessian(y, margin))
    for label in range(3):
        rows = y == label
        alone = SoftmaxFocalLoss(3, gamma[label]).gradient_hessian(y[rows], margin[rows])
        assert_allclose(per_class[:, rows], np.array(alone) * alpha[label], rtol=1e-14)


def test_input_forms_and_threads_agree():
    rng = np.random.default_rng(4)
    n = 200_001
    y, margin = rng.integers(0, 3, n), rng.normal(0, 3, (n, 3)).astype(np.float32)
    focal = SoftmaxFocalLoss(3, 1.5)
    expected = focal.gradient_hessian(y, margin, n_threads=1)
    fortran = np.asfortranarray(margin)
    strided = np.repeat(margin, 2, axis=1)[:, ::2]
    read_only = margin.copy()
    read_only.flags.writeable = False
    for form in (margin, fortran, strided, read_only):
        for n_threads in (None, 2):
            results = focal.gradient_hessian(y, form, n_threads=n_threads)
            assert_array_equal(results, expected)
        assert_array_equal(focal.loss(y, form), focal.loss(y, margin))
        assert_array_equal(focal.posterior(form), focal.posterior(margin))
    assert focal.gradient_hessian(y, fortran)[0].flags.f_contiguous
    out = np.empty((n, 3), np.float32, order="F"), np.empty((n, 3))
    assert focal.gradient_hessian(y, margin, out=out)[0] is out[0]
    assert_array_equal(out[0], expected[0])
    assert_array_equal(out[1], expected[1])


def test_interleaved_outputs_do_not_overlap():
    y, margin = sample(3, np.float64)
    focal = SoftmaxFocalLoss(3)
    both = np.empty((*margin.shape, 2))
    focal.gradient_hessian(y, margin, out=(both[..., 0], both[..., 1]))
    assert_array_equal(np.moveaxis(both, 2, 0), focal.gradient_hessian(y, margin))


def test_rows_do_not_depend_on_their_neighbours():
    y, margin = sample(5, np.float64, rows=20)
    focal = SoftmaxFocalLoss(5, 2.0)
    together = np.array(focal.gradient_hessian(y, margin))
    posterior = focal.posterior(margin)
    for i in range(0, y.size, 13):
        alone = focal.gradient_hessian(y[i : i + 1], margin[i : i + 1])
        assert_array_equal(together[:, i : i + 1], alone)
        assert_array_equal(posterior[i : i + 1], focal.posterior(margin[i : i + 1]))


def test_empty_input():
    focal = SoftmaxFocalLoss(3)
    grad, hess = focal.gradient_hessian([], np.empty((0, 3)))
    assert grad.shape == hess.shape == focal.posterior(np.empty((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(
    ("gamma", "alpha"), [(0.0, None), (2.0, None), (5.0, (0.2, 1, 3)), ((0.5, 3, 0), (1, 2, 3))]
)
def test_posterior_is_where_the_expected_gradient_vanishes(place, real, gamma, alpha):
    _, margin = sample(3, real, rows=3)
    margin = margin[np.abs(margin).max(axis=1) < 1e3]
    by_class = [np.broadcast_to(value, 3).astype(real) for value in (gamma, alpha or 1.0)]
    focal = SoftmaxFocalLoss(3, gamma, alpha)
    there = place.put(margin)
    posterior, logarithms = map(place.get, (focal.posterior(there), focal.posterior_margin(there)))
    with mp.workdps(60):
        exact = [
            oracle.softmax_posteriors(z, *([mp.mpf(float(v)) for v in c] for c in by_class))
            for z in margin
        ]
    rtol = 3e-5 if real is np.float32 else 1e-12
    assert_allclose(posterior, np.array(exact, float), rtol=rtol, atol=np.finfo(real).tiny)
    assert_allclose(np.exp(logarithms), posterior, rtol=rtol, atol=1e-37)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 8.0, (1.0, 0.0, 3.0, 2.0)])
@pytest.mark.parametrize("alpha", [None, "balanced", (0.1, 1, 2, 30)])
def test_initial_margin_minimises_the_loss(gamma, alpha):
    y = np.repeat([0, 1, 2, 3], [900, 80, 19, 1])
    weight = np.random.default_rng(5).gamma(2.0, size=1000)
    focal = SoftmaxFocalLoss(4, gamma, alpha)
    margin = focal.initial_margin(y, weight)
    assert_allclose(np.exp(margin).sum(), 1)
    repeated = np.tile(margin, (1000, 1))
    grad, _ = focal.gradient_hessian(y, repeated, weight)
    assert_allclose(grad.sum(axis=0), 0, atol=1e-10 * np.abs(grad).sum())
    shares = np.bincount(y, weight) / weight.sum()
    assert_allclose(focal.resolve(y, weight).posterior(margin[None]), shares[None], rtol=1e-9)
    least = focal.loss(y, repeated, weight).sum()
    rng = np.random.default_rng(6)
    for _ in range(20):
        moved = repeated + rng.normal(0, 0.3, 4)
        assert focal.loss(y, moved, weight).sum() >= least * (1 - 1e-12)


gammas = st.floats(0, 20) | st.sampled_from([0.0, 5e-324, 1e-300, 1e-9, 1e3, 1e10, 1e30])
shares = st.floats(-9, 0).map(lambda exponent: 10**exponent)


@st.composite
def losses_and_weights(draw):
    """A loss, and a total weight for each of its classes."""
    n_classes = draw(st.integers(2, 5))

    def per_class(values):
        return st.lists(values, min_size=n_classes, max_size=n_classes)

    gamma = draw(gammas | per_class(gammas))
    alpha = draw(st.sampled_from([None, "balanced"]) | per_class(st.floats(1e-3, 1e3)))
    return SoftmaxFocalLoss(n_classes, gamma, alpha), np.array(draw(per_class(shares)))


@given(losses_and_weights())
def test_gradient_vanishes_at_the_initial_margin(case):
    focal, weight = case
    y = np.arange(weight.size)
    margin = focal.initial_margin(y, weight)
    assert_allclose(np.exp(margin).sum(), 1, rtol=1e-12)
    grad, _ = focal.gradient_hessian(y, np.tile(margin, (y.size, 1)), weight)
    tolerance = 1e-10 * np.abs(grad).sum(axis=0) + np.finfo(float).tiny
    assert (np.abs(grad.sum(axis=0)) <= tolerance).all()


@pytest.mark.parametrize("gamma", [0.0, (0.0, 0.0, 0.0)])
@pytest.mark.parametrize("alpha", ["balanced", (1, 1, 2)])
def test_initial_margin_of_weighted_log_loss_is_the_weighted_log_prior(gamma, alpha):
    y = np.repeat([0, 1, 2], [80, 10, 10])
    focal = SoftmaxFocalLoss(3, gamma, alpha)
    weighted = np.array([0.8, 0.1, 0.1]) * focal.resolve(y).alpha
    assert_allclose(focal.initial_margin(y), np.log(weighted / weighted.sum()), rtol=1e-14)


def test_initial_margin_of_log_loss_is_the_log_prior():
    y = np.repeat([0, 1, 2], [6, 3, 1])
    assert_allclose(SoftmaxFocalLoss(3, 0.0).initial_margin(y), np.log([0.6, 0.3, 0.1]))
