"""Focal losses in circulation, from their definitions, are one call each; mistakes change them."""

import pytest
import torch
from torch.nn.functional import cross_entropy, logsigmoid, one_hot
from torch.testing import assert_close

from focal_gbm.torch import (
    SigmoidFocalLoss,
    SoftmaxFocalLoss,
    sigmoid_focal_loss,
    softmax_focal_loss,
)

N, C = 12, 5
RNG = torch.Generator().manual_seed(0)
LOGITS = 2 * torch.randn(N, C, generator=RNG, dtype=torch.float64)
MAPS = 2 * torch.randn(2, C, 3, 4, generator=RNG, dtype=torch.float64)
SOFT = torch.rand(N, C, generator=RNG, dtype=torch.float64)
HARD = (SOFT > 0.7).double()
ANCHORS = torch.where(SOFT < 0.2, -1.0, HARD)  # -1 is neither positive nor negative
HEATMAP = torch.where(SOFT > 0.9, 1.0, SOFT)
PENALTY = torch.where(HEATMAP == 1, 1.0, (1 - HEATMAP) ** 4)
CLASSES = torch.randint(C, (N,), generator=RNG)
TWO = CLASSES.clamp(max=1)
PIXELS = torch.randint(C, (2, 3, 4), generator=RNG)
IS_VALID = torch.rand(2, 3, 4, generator=RNG) < 0.7
VOID = torch.where(IS_VALID, PIXELS, 255)
ONE_HOT, ONE_HOT_PIXELS = one_hot(CLASSES, C), one_hot(PIXELS, C).movedim(-1, 1)

# Short in binary, so the same numbers in every precision.
WEIGHTS = [0.25, 1.0, 0.5, 2.0, 0.75]
ALPHAS = [0.25, 0.5, 0.75, 0.125, 1.0]
GAMMAS = [0.0, 0.5, 1.0, 2.0, 5.0]
WEIGHT, ALPHA, GAMMA = torch.tensor([WEIGHTS, ALPHAS, GAMMAS], dtype=torch.float64)
OF_POSITIVES = {"reduction": "sum", "normalizer": "positives"}
REDUCTIONS = {"none": lambda loss: loss, "mean": torch.mean, "sum": torch.sum}


def entropy(z, y):
    return -y * logsigmoid(z) - (1 - y) * logsigmoid(-z)


def balance(y, alpha):
    return alpha * y + (1 - alpha) * (1 - y)


def by_mean_posterior(z, y, gamma=2.0):
    """As in torchvision and Keras."""
    return (1 - balance(y, z.sigmoid())) ** gamma * entropy(z, y)


def by_entropy(entropy, gamma=2.0):
    """As in segmentation libraries."""
    return (1 - torch.exp(-entropy)) ** gamma * entropy


def two_terms(p, y, weight0=1.0, weight1=1.0, gamma=2.0):
    """As in Kornia and in closures for Keras."""
    positives = -weight1 * y * (1 - p) ** gamma * p.log()
    return positives - weight0 * (1 - y) * p**gamma * (1 - p).log()


def each_class(p, gamma=2.0):
    """The loss of each class if it is the true one."""
    return -((1 - p) ** gamma) * p.log()


def true_class(x, classes, gamma=2.0):
    return each_class(x.softmax(1), gamma).gather(1, classes.unsqueeze(1)).squeeze(1)


def detection(z, y, penalty=1.0):
    positive = (y == 1).double()
    negative_weight = torch.where(y == -1, 0, penalty)
    return two_terms(z.sigmoid(), positive, negative_weight).sum() / positive.sum().clamp(min=1)


def keras_binary(p, y, alpha, eps=1e-7):
    return two_terms(p.clamp(eps, 1 - eps), y, 1 - alpha, alpha)


def keras_categorical(p, y, alpha, eps=1e-7):
    p = (p / p.sum(1, keepdim=True)).clamp(eps, 1 - eps)
    return (alpha * y * each_class(p)).sum(1)


def map_classes(x):
    return WEIGHT.reshape(C, 1, 1) * ONE_HOT_PIXELS * each_class(x.softmax(1))


def map_problems(x):
    """One binary problem per class."""
    losses = by_entropy(entropy(x, ONE_HOT_PIXELS)).movedim(1, 0)
    return torch.stack([loss[IS_VALID].mean() for loss in losses]).sum()


# The published form, and the call that is the same.
OF_LOGITS = {
    "torchvision, alpha off": (
        lambda z: by_mean_posterior(z, HARD, 1.5),
        lambda z: sigmoid_focal_loss(z, HARD, -1, 1.5),
    ),
    "torchvision, soft labels": (
        lambda z: balance(SOFT, 0.25) * by_mean_posterior(z, SOFT),
        lambda z: sigmoid_focal_loss(z, SOFT, soft_target="pt"),
    ),
    "SMP, soft labels": (
        lambda z: (balance(SOFT, 0.25) * by_entropy(entropy(z, SOFT))).mean(),
        lambda z: SigmoidFocalLoss(soft_target="bce")(z, SOFT),
    ),
    "Kornia, soft labels": (
        lambda z: two_terms(z.sigmoid(), SOFT, 0.75, 0.25),
        lambda z: sigmoid_focal_loss(z, SOFT),
    ),
    "Keras, smoothed labels": (
        lambda z: by_mean_posterior(z, 0.9 * HARD + 0.05).mean(),
        lambda z: SigmoidFocalLoss(None, label_smoothing=0.1, soft_target="pt")(z, HARD),
    ),
    "alpha as a plain factor, sigmoid": (
        lambda z: (0.3 * by_entropy(entropy(z, HARD))).mean(),
        lambda z: sigmoid_focal_loss(z, HARD, None, weight=0.3, reduction="mean"),
    ),
    "alpha as a plain factor, softmax": (
        lambda x: (0.3 * true_class(x, CLASSES)).mean(),
        lambda x: softmax_focal_loss(x, CLASSES, alpha=0.3),
    ),
    "weights of two classes, by pos_weight": (
        lambda z: two_terms(z.sigmoid(), HARD, 0.4, 3.0),
        lambda z: sigmoid_focal_loss(z, HARD, None, weight=0.4, pos_weight=3.0 / 0.4),
    ),
    "weights of two classes, by alpha": (
        lambda z: two_terms(z.sigmoid(), HARD, 0.4, 3.0),
        lambda z: sigmoid_focal_loss(z, HARD, 3.0 / 3.4, weight=3.4),
    ),
    "gamma of two classes": (
        lambda z: by_entropy(entropy(z, HARD), torch.where(HARD == 1, 1.0, 4.0)),
        lambda z: sigmoid_focal_loss(z, HARD, None, torch.where(HARD == 1, 1.0, 4.0)),
    ),
    "alpha and gamma of each label": (
        lambda z: (balance(HARD, ALPHA) * by_mean_posterior(z, HARD, GAMMA)).mean(),
        lambda z: sigmoid_focal_loss(z, HARD, ALPHAS, GAMMAS, "mean"),
    ),
    "sum over the batch size": (
        lambda z: two_terms(z.sigmoid(), HARD, 0.75, 0.25).sum() / N,
        lambda z: sigmoid_focal_loss(z, HARD, reduction="sum", normalizer=len(z)),
    ),
    "RetinaNet": (
        lambda z: detection(z, ANCHORS),
        lambda z: sigmoid_focal_loss(z, ANCHORS, -1, ignore_index=-1, **OF_POSITIVES),
    ),
    "RetinaNet, no positives": (
        lambda z: detection(z, -HARD),
        lambda z: sigmoid_focal_loss(z, -HARD, -1, ignore_index=-1, **OF_POSITIVES),
    ),
    "CenterNet": (
        lambda z: detection(z, HEATMAP, PENALTY),
        lambda z: sigmoid_focal_loss(z, HEATMAP == 1, None, weight=PENALTY, **OF_POSITIVES),
    ),
    "two logits, alpha of class 0": (
        lambda x: (balance(1 - TWO, 0.25) * true_class(x[:, :2], TWO)).mean(),
        lambda x: softmax_focal_loss(x[:, :2], TWO, alpha=[0.25, 0.75]),
    ),
    "mean over weights": (
        lambda x: (WEIGHT[CLASSES] * true_class(x, CLASSES)).sum() / WEIGHT[CLASSES].sum(),
        lambda x: softmax_focal_loss(x, CLASSES, weight=WEIGHTS),
    ),
}
OF_PROBABILITIES = {
    "Keras closure, binary, mean": (
        lambda p: keras_binary(p, HARD, 0.25).mean(),
        lambda p: SigmoidFocalLoss(from_logits=False)(p, HARD),
    ),
    "Keras closure, binary, sum": (
        lambda p: keras_binary(p, HARD, 0.25).sum(),
        lambda p: SigmoidFocalLoss(reduction="sum", from_logits=False)(p, HARD),
    ),
    "Keras closure, categorical, mean": (
        lambda p: keras_categorical(p, ONE_HOT, WEIGHT).mean(),
        lambda p: SoftmaxFocalLoss(alpha=WEIGHTS, from_logits=False)(p, ONE_HOT),
    ),
    "Keras closure, categorical, sum": (
        lambda p: keras_categorical(p, ONE_HOT, 0.25).sum(),
        lambda p: SoftmaxFocalLoss(alpha=0.25, reduction="sum", from_logits=False)(p, ONE_HOT),
    ),
}
OF_MAPS = {
    "maps, one-hot": (
        lambda x: map_classes(x).sum(1).mean(),
        lambda x: softmax_focal_loss(x, ONE_HOT_PIXELS, alpha=WEIGHTS),
    ),
    "maps, one-hot, mean over classes too, as in MONAI": (
        lambda x: map_classes(x).mean(),
        lambda x: softmax_focal_loss(x, ONE_HOT_PIXELS, alpha=WEIGHTS, normalizer=x.numel()),
    ),
    "maps, void": (
        lambda x: map_classes(x).sum(1)[IS_VALID].mean(),
        lambda x: softmax_focal_loss(x, VOID, alpha=WEIGHTS, ignore_index=255),
    ),
    "maps, void, one binary problem per class, as in SMP": (
        map_problems,
        lambda x: SigmoidFocalLoss(None, 2, "sum")(
            x, ONE_HOT_PIXELS, mask=IS_VALID.unsqueeze(1), normalizer=IS_VALID.sum()
        ),
    ),
}
FORMS = [
    pytest.param(*form, x, id=name)
    for x, forms in [(LOGITS, OF_LOGITS), (LOGITS.sigmoid(), OF_PROBABILITIES), (MAPS, OF_MAPS)]
    for name, form in forms.items()
]


def value_and_gradient(function, x):
    x = x.clone().requires_grad_()
    loss = function(x)
    factor = torch.arange(1, loss.numel() + 1).reshape(loss.shape)
    return loss.detach(), *torch.autograd.grad((factor * loss).sum(), x)


def assert_same(published, call, x):
    expected = value_and_gradient(published, x)
    assert_close(value_and_gradient(call, x), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("published", "call", "x"), FORMS)
def test_published_form_is_one_call(published, call, x):
    assert_same(published, call, x)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reductions(reduction):
    reduced = REDUCTIONS[reduction]
    binary = SigmoidFocalLoss(0.25, 2.0, reduction)
    multiclass = SoftmaxFocalLoss(alpha=WEIGHTS, gamma=1.5, reduction=reduction)

    def published(z):
        return reduced(balance(HARD, 0.25) * by_mean_posterior(z, HARD))

    assert_same(published, lambda z: sigmoid_focal_loss(z, HARD, 0.25, 2, reduction), LOGITS)
    assert_same(published, lambda z: binary(z, HARD), LOGITS)
    assert_same(
        lambda x: reduced(WEIGHT[CLASSES] * true_class(x, CLASSES, 1.5)),
        lambda x: multiclass(x, CLASSES),
        LOGITS,
    )


@pytest.mark.parametrize("eps", [1e-8, 1e-5])
def test_epsilon_in_logarithms_changes_its_own_order(eps):
    p = torch.linspace(0.02, 0.98, N * C, dtype=torch.float64).reshape(N, C)
    positives = -0.25 * HARD * (1 - p) ** 2 * (p + eps).log()
    biased = positives - 0.75 * (1 - HARD) * p**2 * (1 - p + eps).log()
    assert_close(sigmoid_focal_loss(p, HARD, from_logits=False), biased, rtol=100 * eps, atol=0)


FOUR, FIVE = ([2, -1, 3, -2], [1, 0, 1, 0]), ([0.1, 0.9, 0.2, 0.8, 0.7], [0, 1, 0, 1, 1])
ONE = ([1], [0.3])


@pytest.mark.parametrize(
    ("example", "arguments", "expected"),
    [
        (FOUR, {}, [4.50891e-4, 1.699354e-2, 2.73208e-5, 1.352672e-3]),
        (FOUR, {"reduction": "mean"}, 4.706107e-3),
        (FOUR, {"alpha": None, "weight": 0.25, "reduction": "mean"}, 1.648404e-3),
        (FIVE, {"reduction": "sum"}, 0.3619777),
        (ONE, {"alpha": None, "soft_target": "pt"}, [0.355620]),
        (ONE, {"alpha": None, "soft_target": "bce"}, [0.411108]),
        (ONE, {"alpha": None}, [0.498105]),
    ],
)
def test_worked_examples(example, arguments, expected):
    z, y = (torch.tensor(values, dtype=torch.float64) for values in example)
    loss = sigmoid_focal_loss(z, y, **arguments)
    assert_close(loss, torch.tensor(expected).double(), rtol=2e-6, atol=0)


# The published form, what it means to be, and the call.
MISTAKES = {
    "a line ends before the second term": (
        lambda z: -(0.25 * HARD * (1 - z.sigmoid()) ** 2 * logsigmoid(z)).sum(),
        lambda z: two_terms(z.sigmoid(), HARD, 0.75, 0.25).sum(),
        lambda z: sigmoid_focal_loss(z, HARD, reduction="sum"),
    ),
    "p_t from the weighted cross entropy": (
        lambda x: by_entropy(cross_entropy(x, CLASSES, WEIGHT, reduction="none")).mean(),
        lambda x: (WEIGHT[CLASSES] * true_class(x, CLASSES)).mean(),
        lambda x: softmax_focal_loss(x, CLASSES, alpha=WEIGHTS),
    ),
    "p_t from the batch's mean cross entropy": (
        lambda x: by_entropy(cross_entropy(x, CLASSES)),
        lambda x: true_class(x, CLASSES).mean(),
        lambda x: softmax_focal_loss(x, CLASSES),
    ),
    "three classes whatever their number": (
        lambda x: (ONE_HOT * each_class(x.softmax(1)))[:, :3].sum(1).mean(),
        lambda x: true_class(x, CLASSES).mean(),
        lambda x: softmax_focal_loss(x, CLASSES),
    ),
}


@pytest.mark.parametrize(("mistaken", "meant", "call"), MISTAKES.values(), ids=MISTAKES)
def test_known_mistakes_change_the_loss(mistaken, meant, call):
    assert_same(meant, call, LOGITS)
    assert mistaken(LOGITS).item() != pytest.approx(call(LOGITS).item(), rel=0.01)


def test_detached_focusing_factor_changes_the_gradient():
    def mistaken(x):
        entropy = cross_entropy(x, CLASSES, reduction="none")
        return ((1 - torch.exp(-entropy.detach())) ** 2 * entropy).mean()

    value, gradient = value_and_gradient(lambda x: softmax_focal_loss(x, CLASSES), LOGITS)
    mistaken_value, mistaken_gradient = value_and_gradient(mistaken, LOGITS)
    assert_close(value, mistaken_value)
    assert not torch.isclose(gradient, mistaken_gradient, rtol=0.01).any()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_easy_examples_are_not_lost_in_float32(gamma):
    z, y = torch.tensor([17.0, 20.0, 25.0]), torch.ones(3)
    value, gradient = value_and_gradient(lambda z: by_mean_posterior(z, y, gamma), z)
    assert (value == 0).all()
    is_lost = gradient == 0 if gamma >= 1 else gradient.isnan()
    assert is_lost.all()
    exact = value_and_gradient(lambda z: -((-z).sigmoid() ** gamma) * logsigmoid(z), z.double())
    computed = value_and_gradient(lambda z: sigmoid_focal_loss(z, y, None, gamma), z)
    assert_close(computed, exact, rtol=1e-5, atol=0, check_dtype=False)
