"""Focal loss for PyTorch: values and derivatives against exact ones and against other losses."""

from functools import partial
from itertools import chain, product

import mpmath as mp
import numpy as np
import oracle
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import grad
from torch.testing import assert_close
from torch_cases import (
    ALPHA,
    CLASSES,
    HARD,
    IGNORED,
    MASK,
    MIXED,
    SOFT,
    VOID,
    WEIGHT,
    C,
    Z,
    assert_agree,
    both_paths,
    both_reals,
    derivatives,
    each_call,
    plain,
    same,
    soft_targets,
)

import focal_gbm
from focal_gbm.torch import SigmoidFocalLoss, sigmoid_focal_loss, softmax_focal_loss


def errors(computed, terms, dtype):
    """Errors in units of eps times the largest term, each term times its conditioning."""
    # Near the smallest normal number some factors are subnormal, with their few digits.
    eps, smallest = torch.finfo(dtype).eps, 1e3 * torch.finfo(dtype).tiny
    for value, of_value in zip(computed.flatten().tolist(), terms, strict=True):
        if max((abs(term) for term, _ in of_value), default=0) <= smallest:
            assert abs(value) < 2 * smallest
        else:
            scale = max(abs(term) * conditioning for term, conditioning in of_value)
            exact = mp.fsum(term for term, _ in of_value)
            yield float(abs(mp.mpf(value) - exact) / (eps * scale))


def sigmoid_terms(z, label, gamma, alpha):
    """Terms, with their conditioning, of the value and of two derivatives."""
    orders = [], [], []
    for sign, share in ((1, alpha * label), (-1, (1 - alpha) * (1 - label))):
        t = sign * mp.mpf(z)
        conditioning = 1 + gamma * abs(oracle.posteriors(t)[3])
        first = sign * oracle.gradient(t, gamma)
        terms = [oracle.loss(t, gamma)], [first], oracle.hessian_terms(t, gamma)
        for order, of_order in zip(orders, terms, strict=True):
            order.extend((share * term, conditioning) for term in of_order if share)
    return orders


def softmax_terms(z, labels, gamma, alpha, vector):
    """The same for a row, with the Hessian times a vector."""
    classes = range(len(z))
    value, first, second = [], [[] for _ in classes], [[] for _ in classes]
    for true in (k for k in classes if labels[k]):
        t, others = oracle.softmax_log_odds(z, true)
        conditioning = 1 + gamma[true] * abs(oracle.posteriors(t)[3])
        share, slope = labels[true] * mp.mpf(alpha[true]), [-other for other in others]
        slope[true] = mp.mpf(1)
        by_t = share * oracle.gradient(t, gamma[true])
        by_tt = [share * term for term in oracle.hessian_terms(t, gamma[true])]
        value.append((share * oracle.loss(t, gamma[true]), conditioning))
        for k in classes:
            first[k].append((by_t * slope[k], conditioning))
            terms = [
                *(term * slope[k] * slope[j] * vector[j] for term, j in product(by_tt, classes)),
                *(by_t * others[k] * others[j] * vector[j] for j in classes),
                -by_t * others[k] * vector[k],
            ]
            second[k].extend((term, conditioning) for term in terms)
    return [value], first, second


@both_reals
@pytest.mark.parametrize("gamma", [0.0, 1e-3, 0.5, 2.0, 10.0])
def test_sigmoid_agrees_with_50_digits(gamma, dtype):
    size = torch.tensor([0, 1e-30, 0.1, 1, 3, 8, 20, 80, 300, 1e4], dtype=dtype)
    labels = torch.tensor([0, 1e-6, 0.3, 1], dtype=dtype)
    z, y = torch.cartesian_prod(torch.cat([-size, size]), labels).T
    call = partial(sigmoid_focal_loss, target=y, gamma=gamma)
    computed = derivatives(call, z)
    gamma = mp.mpf(torch.tensor(gamma, dtype=dtype).item())
    pairs = zip(z.tolist(), y.tolist(), strict=True)
    exact = [sigmoid_terms(z, mp.mpf(y), gamma, 0.25) for z, y in pairs]
    for order, terms in zip(computed, zip(*exact, strict=True), strict=True):
        assert order.dtype == dtype
        assert max(errors(order, terms, dtype)) < 8
    z.requires_grad_()
    (of_sum,) = grad(call(z, reduction="sum"), z)
    assert max(errors(of_sum, [first for _, first, _ in exact], dtype)) < 8


@both_reals
@pytest.mark.parametrize("gamma", [0.0, 1e-3, 0.5, 2.0, 10.0])
@pytest.mark.parametrize("kind", ["classes", "shares"])
def test_softmax_agrees_with_50_digits(kind, gamma, dtype):
    rng = torch.Generator().manual_seed(1)
    scale = torch.tensor([1e-30, 0.1, 1, 5, 20, 60, 300, 1e4]).repeat(2).unsqueeze(1)
    z, vector = (torch.randn(2, 16, C, generator=rng) * torch.stack([scale, scale**0])).to(dtype)
    classes = torch.randint(C, (16,), generator=rng)
    shares = F.one_hot(classes, C).to(dtype)
    if kind == "shares":
        shares = torch.tensor([[0.7, 0, 0.3], [0.1, 0.6, 0.3]], dtype=dtype).repeat(8, 1)
    options = {"alpha": [0.25, 1.0, 2.0], "gamma": gamma}
    target = classes if kind == "classes" else shares
    call = partial(softmax_focal_loss, target=target, **options)
    computed = derivatives(partial(call, reduction="none"), z, vector)
    gammas = [mp.mpf(torch.tensor(gamma, dtype=dtype).item())] * C
    rows = zip(z.tolist(), shares.tolist(), vector.tolist(), strict=True)
    exact = [softmax_terms(z, y, gammas, options["alpha"], v) for z, y, v in rows]
    for order, by_row in zip(computed, zip(*exact, strict=True), strict=True):
        assert max(errors(order, chain(*by_row), dtype)) < 8
    z.requires_grad_()
    (of_sum,) = grad(call(z, reduction="sum"), z)
    assert max(errors(of_sum, chain(*(first for _, first, _ in exact)), dtype)) < 8


@pytest.mark.parametrize("labels", [[0, 1, 0], [0.25, 0.25, 0.5]])
def test_hessian_agrees_with_50_digits(labels):
    gamma, alpha = [mp.mpf(0.5), mp.mpf(2), mp.mpf(3)], [0.25, 1.0, 2.0]
    options = {"target": torch.tensor(labels), "gamma": [0.5, 2, 3], "alpha": alpha}
    for z in Z:
        hessian = torch.func.hessian(partial(softmax_focal_loss, **options))(z)
        for unit, column in zip(torch.eye(C).tolist(), hessian.T, strict=True):
            terms = softmax_terms(z.tolist(), labels, gamma, alpha, unit)[2]
            assert max(errors(column, terms, torch.float64)) < 8


@both_reals
@both_paths
@soft_targets
@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_soft_targets_agree_with_their_definitions(soft_target, gamma, path, dtype):
    def defined(y, z):
        p, q, log_p, log_q = oracle.posteriors(z)
        if soft_target == "mixture":
            return -0.25 * y * q**gamma * log_p - 0.75 * (1 - y) * p**gamma * log_q
        entropy = -y * log_p - (1 - y) * log_q
        p_t = mp.exp(-entropy) if soft_target == "bce" else y * p + (1 - y) * q
        return (0.25 * y + 0.75 * (1 - y)) * (1 - p_t) ** gamma * entropy

    logits = torch.tensor([-8.0, -2.5, -0.3, 0.5, 3.0, 9.0], dtype=dtype)
    z, y = torch.cartesian_prod(logits, torch.tensor([0.03125, 0.3, 0.5, 0.9], dtype=dtype)).T
    options = {"gamma": path(gamma, dtype), "soft_target": soft_target}
    computed = derivatives(partial(sigmoid_focal_loss, target=y, **options), z)
    for order, values in enumerate(computed):
        pairs = zip(z.tolist(), y.tolist(), strict=True)
        exact = [mp.diff(partial(defined, mp.mpf(y)), z, order) for z, y in pairs]
        eps = torch.finfo(dtype).eps * (1 + gamma)
        assert_close(values, torch.tensor(exact, dtype=dtype), rtol=16 * eps, atol=8 * eps)


seeds, reductions = st.integers(0, 2**32), st.sampled_from(["none", "mean", "sum"])


@settings(deadline=None, max_examples=50)
@given(seeds, reductions, st.booleans(), st.booleans(), st.booleans(), st.sampled_from([2, 100]))
def test_gamma_zero_is_torch_binary_cross_entropy(
    seed, reduction, weighted, balanced, is_hard, scale
):
    rng = torch.Generator().manual_seed(seed)
    z, p, y, weight, pos_weight = torch.rand(5, 4, C, generator=rng, dtype=torch.float64)
    y, p = ((1.5 * shares - 0.25).clamp(0, 1) for shares in (y, p))
    y = y.round() if is_hard else y
    options = {"target": y, "reduction": reduction, "weight": weight[:, :1] if weighted else None}
    pos_weight = {"pos_weight": 3 * pos_weight[0] if balanced else None}
    for soft_target in ("mixture", "pt", "bce"):
        ours = partial(sigmoid_focal_loss, alpha=None, gamma=0.0, soft_target=soft_target)
        theirs = partial(F.binary_cross_entropy_with_logits, **options, **pos_weight)
        assert_agree(partial(ours, **options, **pos_weight), theirs, scale * (2 * z - 1))
        assert_close(ours(p, **options, from_logits=False), F.binary_cross_entropy(p, **options))


def rows_or_maps(rng, maps, void):
    """Logits with shares of classes, and classes of which some are void."""
    z, shares = torch.rand(2, *((2, C, 3) if maps else (5, C)), generator=rng, dtype=torch.float64)
    classes = torch.randint(C, z[:, 0].shape, generator=rng)
    classes = torch.where(torch.rand(classes.shape, generator=rng) < 0.3, void, classes)
    classes.view(-1)[0] = 0  # the mean over none would be NaN in both
    return z, shares, classes


voids = st.sampled_from([-100, 1])


@settings(deadline=None, max_examples=100)
@given(seeds, reductions, st.booleans(), st.booleans(), st.booleans(), voids)
def test_gamma_zero_is_torch_cross_entropy(seed, reduction, weighted, soft, maps, void):
    rng = torch.Generator().manual_seed(seed)
    z, shares, classes = rows_or_maps(rng, maps, void)
    options = {"target": shares} if soft else {"target": classes, "ignore_index": void}
    weight = torch.rand(C, generator=rng, dtype=torch.float64) if weighted else None
    options |= {"weight": weight, "reduction": reduction}
    ours = partial(softmax_focal_loss, gamma=0.0, **options)
    for smoothing in ({}, {"label_smoothing": 0.1}, {"label_smoothing": 1.0}):
        theirs = partial(F.cross_entropy, **options, **smoothing)
        assert_agree(partial(ours, **smoothing), theirs, 20 * z - 10)


@settings(deadline=None, max_examples=50)
@given(seeds, reductions, st.booleans(), st.booleans(), voids)
def test_gamma_zero_of_probabilities_is_torch_nll_loss(seed, reduction, weighted, maps, void):
    rng = torch.Generator().manual_seed(seed)
    z, _, classes = rows_or_maps(rng, maps, void)
    weight = torch.rand(C, generator=rng, dtype=torch.float64) if weighted else None
    options = {"ignore_index": void, "weight": weight, "reduction": reduction}
    p = z.softmax(1)
    ours = softmax_focal_loss(p, classes, gamma=0.0, from_logits=False, **options)
    assert_close(ours, F.nll_loss(p.log(), classes, **options))


@both_reals
def test_agrees_with_the_boosting_losses(dtype):
    z, y, gamma = Z.flatten().to(dtype), HARD.flatten().to(dtype), (0.5, 3.0)
    close = partial(np.testing.assert_allclose, rtol=16 * torch.finfo(dtype).eps, atol=1e-6)
    binary = focal_gbm.BinaryFocalLoss(gamma, alpha=0.25)
    expected = [
        binary.loss(y.numpy(), z.numpy()),
        *binary.gradient_hessian(y.numpy(), z.numpy()),
    ]
    gammas = torch.where(y == 1, gamma[1], gamma[0])
    close(
        torch.stack(derivatives(partial(sigmoid_focal_loss, target=y, gamma=gammas), z)), expected
    )

    pair, second = torch.stack([0 * z, z], 1), torch.tensor([0.0, 1.0]).expand(len(z), 2)
    options = {"alpha": [0.75, 0.25], "gamma": gamma, "reduction": "none"}
    call = partial(softmax_focal_loss, target=y.long(), **options)
    value, first, hessian = derivatives(call, pair, second)
    close(torch.stack([value, first[:, 1], hessian[:, 1]]), expected)
    close(-first[:, 0], expected[1])

    options = {"alpha": [0.25, 1, 2], "gamma": (*gamma, 1.0)}
    softmax, margin = focal_gbm.SoftmaxFocalLoss(C, **options), Z.to(dtype)
    call = partial(softmax_focal_loss, target=CLASSES, reduction="none", **options)
    value, first, _ = derivatives(call, margin)
    hessians = torch.func.vmap(torch.func.hessian(lambda z, y: softmax_focal_loss(z, y, **options)))
    close(value, softmax.loss(CLASSES.numpy(), margin.numpy()))
    expected = softmax.gradient_hessian(CLASSES.numpy(), margin.numpy())
    close(torch.stack([first, hessians(margin, CLASSES).diagonal(dim1=1, dim2=2)]), expected)


@each_call
def test_plain_operations_agree_with_kernels(call):
    assert_agree(partial(call, gamma=plain(call.keywords.get("gamma", 2.0))), call, 3 * Z)


def test_denominators():
    counts = MASK & (IGNORED != -1)
    options = {"alpha": ALPHA / 2, "mask": MASK, "ignore_index": -1, "weight": SOFT}
    call = partial(sigmoid_focal_loss, Z, IGNORED, **options)
    same(call() != 0, counts)
    assert_close(call(reduction="mean"), call().sum() / counts.sum())
    positives = IGNORED[counts].sum()
    assert positives > 1
    three = torch.tensor([3.0])
    for normalizer, number in (
        (7, 7),
        (np.float32(2.5), 2.5),
        (three, 3),
        ("positives", positives),
    ):
        assert_close(call(normalizer=normalizer), call() / number)
        for reduction in ("mean", "sum"):
            ours = call(normalizer=normalizer, reduction=reduction)
            assert_close(ours, call().sum() / number)
    call = partial(sigmoid_focal_loss, Z, HARD, ignore_index=1)
    assert_close(call(normalizer="positives"), call())

    call = partial(softmax_focal_loss, Z, VOID, weight=WEIGHT, alpha=ALPHA)
    losses, denominator = call(reduction="none"), WEIGHT[VOID[VOID >= 0]].sum()
    same(losses != 0, VOID != -100)
    for normalizer, number in ((None, denominator), (2, 2), (torch.tensor(4.0), 4)):
        assert_close(call(normalizer=normalizer), losses.sum() / number)
    assert_close(call(normalizer=2, reduction="none"), losses / 2)
    assert_close(softmax_focal_loss(Z, VOID, alpha=2.0), 2 * softmax_focal_loss(Z, VOID))
    assert softmax_focal_loss(Z, VOID.clamp(max=-100)).isnan()
    assert sigmoid_focal_loss(Z, HARD, mask=MASK & ~MASK, reduction="mean").isnan()


_NOTHING, _NO_LABEL = torch.full((4,), -100), torch.full((4, 3), -1.0)


@pytest.mark.parametrize(
    "loss",
    [
        lambda z: F.cross_entropy(z, _NOTHING),
        lambda z: softmax_focal_loss(z, _NOTHING),
        lambda z: softmax_focal_loss(z, _NOTHING, weight=WEIGHT),
        lambda z: softmax_focal_loss(z, _NOTHING, weight=WEIGHT.tolist()),
        lambda z: softmax_focal_loss(z, _NOTHING, gamma=torch.ones(3, requires_grad=True)),
        lambda z: sigmoid_focal_loss(z, _NO_LABEL, ignore_index=-1, reduction="mean"),
        lambda z: SigmoidFocalLoss(ignore_index=-1, weight=WEIGHT)(z, _NO_LABEL),
        lambda z: SigmoidFocalLoss(ignore_index=-1, soft_target="pt")(z, _NO_LABEL),
        lambda z: SigmoidFocalLoss()(z, -_NO_LABEL, mask=_NO_LABEL > 0),
    ],
)
@pytest.mark.parametrize("is_compiled", [False, True])
def test_a_batch_of_which_nothing_counts_changes_no_weight(loss, is_compiled):
    logits = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    value = (torch.compile(loss, backend="aot_eager") if is_compiled else loss)(logits)
    value.backward()
    assert value.isnan()
    assert not logits.grad.any()


@pytest.mark.parametrize("alpha", [0.25, 1e-30, 2e-38])
@pytest.mark.parametrize("loss", [sigmoid_focal_loss, softmax_focal_loss])
def test_means_keep_the_digits_of_small_weights(loss, alpha):
    """Divided by the number of rows, a weight may be too small for single precision."""
    logits = torch.linspace(-8, 8, 30_000)
    target = torch.arange(30_000) % 3
    if loss is softmax_focal_loss:
        logits, target = torch.stack([logits, -logits, logits / 2], 1), target % 3
    else:
        target = torch.ones(30_000)
    single = loss(logits, target, alpha=alpha, reduction="mean")
    double = loss(logits.double(), target, alpha=alpha, reduction="mean")
    assert_close(single.double(), double, rtol=1e-5, atol=0)


@each_call
def test_totals_are_sums_of_elements(call):
    call = partial(call, normalizer=None)
    elements = partial(call, reduction="none")
    assert_agree(partial(call, reduction="sum"), lambda z: elements(z).sum(), Z)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_representations_of_targets_agree(reduction):
    shares = F.one_hot(CLASSES, C)
    for smoothing in (0.0, 0.2):
        options = {"reduction": reduction, "label_smoothing": smoothing, "gamma": [0.5, 2, 3]}
        call = partial(softmax_focal_loss, alpha=ALPHA, **options)
        for target in (shares, shares.bool(), shares.float()):
            assert_agree(partial(call, target=target), partial(call, target=CLASSES), Z)
    for dtype in (torch.uint8, torch.int32):
        same(softmax_focal_loss(Z, CLASSES.to(dtype)), softmax_focal_loss(Z, CLASSES))
    for options in ({}, {"soft_target": "pt"}, {"soft_target": "bce", "reduction": "sum"}):
        call = partial(sigmoid_focal_loss, **options)
        smoothed = partial(call, target=MIXED, label_smoothing=0.2)
        assert_agree(smoothed, partial(call, target=0.8 * MIXED + 0.1), Z)
    for hard in (HARD.bool(), HARD.int(), HARD.half()):
        same(sigmoid_focal_loss(Z, hard), sigmoid_focal_loss(Z, HARD))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_positions_are_rows(reduction, smoothing):
    rng = torch.Generator().manual_seed(3)
    maps, shares = torch.rand(2, 2, C, 4, 3, generator=rng, dtype=torch.float64)
    classes = torch.randint(-1, C, (2, 4, 3), generator=rng)
    options = {"alpha": ALPHA, "label_smoothing": smoothing, "reduction": reduction}

    def rows(x):
        return x.movedim(1, -1).reshape(-1, C)

    call = partial(softmax_focal_loss, ignore_index=-1, **options)
    flat = classes.flatten()
    assert_agree(partial(call, target=classes), lambda z: call(rows(z), flat), 5 * maps)
    call = partial(softmax_focal_loss, **options)
    assert_agree(partial(call, target=shares), lambda z: call(rows(z), rows(shares)), 5 * maps)
