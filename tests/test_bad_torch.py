"""What a user of the PyTorch losses can get wrong, and the error that says so."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from focal_gbm.torch import (
    SigmoidFocalLoss,
    SoftmaxFocalLoss,
    sigmoid_focal_loss,
    softmax_focal_loss,
)

nan, inf = torch.nan, torch.inf
Z, Y = torch.tensor([[0.1, -0.2, 0.3], [1.0, 2.0, -3.0]]), torch.tensor([[0.0, 1, 0], [1, 0, 1]])
T, SHARES = torch.tensor([0, 2]), torch.full((2, 3), 1 / 3)
P = Y.clone().clamp(0.1, 0.9)
MASK = Y > 0
META = torch.ones(3, device="meta")

sigmoid = partial(sigmoid_focal_loss, Z, Y)
softmax = partial(softmax_focal_loss, Z, T)
shares = partial(softmax_focal_loss, Z, SHARES)
bce, cross_entropy = F.binary_cross_entropy_with_logits, F.cross_entropy


def replaced(tensor, value):
    tensor = tensor.clone()
    tensor.view(-1)[1] = value
    return tensor


# The error, how the message begins, what it contains, and the call; then torch's own loss where it
# raises for the same mistake.
CASES = {
    # input
    "array": (TypeError, "input", "ndarray", lambda: sigmoid_focal_loss(Z.numpy(), Y)),
    "array, softmax": (
        TypeError,
        "input",
        "ndarray",
        lambda: softmax_focal_loss(Z.numpy(), T),
        lambda: cross_entropy(Z.numpy(), T),
    ),
    "list": (TypeError, "input", "list", lambda: sigmoid_focal_loss([0.1], Y)),
    "logits integer": (
        NotImplementedError,
        "input",
        "torch.int64",
        lambda: softmax_focal_loss(Z.long(), T),
        lambda: cross_entropy(Z.long(), T),
    ),
    "logits complex": (
        NotImplementedError,
        "input",
        "torch.complex64",
        lambda: sigmoid_focal_loss(Z + 0j, Y),
    ),
    "logits bool": (
        NotImplementedError,
        "input",
        "torch.bool",
        lambda: sigmoid_focal_loss(MASK, Y),
    ),
    "logits scalar": (ValueError, "input", "()", lambda: softmax_focal_loss(Z[0, 0], T[0])),
    "one class": (ValueError, "input", "(2, 1)", lambda: softmax_focal_loss(Z[:, :1], 0 * T)),
    "one class, 1-D": (ValueError, "input", "(1,)", lambda: softmax_focal_loss(Z[0, :1], T[0])),
    "no class": (ValueError, "input", "(2, 0)", lambda: softmax_focal_loss(Z[:, :0], 0 * T)),
    "probability above 1": (
        RuntimeError,
        "input",
        "[0, 1]",
        lambda: sigmoid_focal_loss(P + 1, Y, from_logits=False),
        lambda: F.binary_cross_entropy(P + 1, Y),
    ),
    "probability negative": (
        RuntimeError,
        "input",
        "[0, 1]",
        lambda: softmax_focal_loss(replaced(P, -0.1), T, from_logits=False),
    ),
    "probability NaN": (
        RuntimeError,
        "input",
        "[0, 1]",
        lambda: sigmoid_focal_loss(replaced(P, nan), Y, from_logits=False),
        lambda: F.binary_cross_entropy(replaced(P, nan), Y),
    ),
    # target
    "target array": (
        TypeError,
        "target",
        "ndarray",
        lambda: softmax_focal_loss(Z, T.numpy()),
        lambda: cross_entropy(Z, T.numpy()),
    ),
    "target list": (TypeError, "target", "list", lambda: sigmoid_focal_loss(Z, [0, 1])),
    "target complex": (
        NotImplementedError,
        "target",
        "torch.complex64",
        lambda: sigmoid_focal_loss(Z, Y + 0j),
    ),
    "target shape": (
        ValueError,
        "target",
        "(2,)",
        lambda: sigmoid_focal_loss(Z, Y[:, 0]),
        lambda: bce(Z, Y[:, 0]),
    ),
    "target that would broadcast": (
        ValueError,
        "target",
        "(2, 1)",
        lambda: sigmoid_focal_loss(Z, Y[:, :1]),
        lambda: bce(Z, Y[:, :1]),
    ),
    "number of classes": (
        ValueError,
        "target",
        "(3,)",
        lambda: softmax_focal_loss(Z, torch.zeros(3, dtype=torch.long)),
        lambda: cross_entropy(Z, torch.zeros(3, dtype=torch.long)),
    ),
    "shares transposed": (ValueError, "target", "(3, 2)", lambda: softmax_focal_loss(Z, SHARES.T)),
    "classes in a column": (
        ValueError,
        "target",
        "(2, 1)",
        lambda: softmax_focal_loss(Z, T[:, None]),
    ),
    "label above 1": (ValueError, "target", "got 2", lambda: sigmoid_focal_loss(Z, replaced(Y, 2))),
    "label -1": (ValueError, "target", "got -1", lambda: sigmoid_focal_loss(Z, replaced(Y, -1))),
    "label NaN": (ValueError, "target", "nan", lambda: sigmoid_focal_loss(Z, replaced(Y, nan))),
    "label NaN, pt": (
        ValueError,
        "target",
        "nan",
        lambda: sigmoid_focal_loss(Z, replaced(Y, nan), soft_target="pt"),
    ),
    "label above 1, smoothed": (
        ValueError,
        "target",
        "got 1.5",
        lambda: sigmoid_focal_loss(Z, replaced(Y, 1.5), label_smoothing=1.0),
    ),
    "label other than ignored": (
        ValueError,
        "target",
        "got -2",
        lambda: sigmoid_focal_loss(Z, replaced(Y, -2), ignore_index=-1),
    ),
    "label in a total": (
        ValueError,
        "target",
        "got 2",
        lambda: sigmoid_focal_loss(Z, replaced(Y, 2), reduction="sum"),
    ),
    "label, plain": (
        ValueError,
        "target",
        "got 2",
        lambda: sigmoid_focal_loss(Z, replaced(Y, 2).requires_grad_()),
    ),
    "share above 1": (
        ValueError,
        "target",
        "got 1.5",
        lambda: softmax_focal_loss(Z, replaced(SHARES, 1.5)),
    ),
    "share NaN": (
        ValueError,
        "target",
        "nan",
        lambda: softmax_focal_loss(Z, replaced(SHARES, nan)),
    ),
    "class too large": (
        IndexError,
        "target",
        "got 3",
        lambda: softmax_focal_loss(Z, replaced(T, 3)),
        lambda: cross_entropy(Z, replaced(T, 3)),
    ),
    "class negative": (
        IndexError,
        "target",
        "got -1",
        lambda: softmax_focal_loss(Z, replaced(T, -1)),
        lambda: cross_entropy(Z, replaced(T, -1)),
    ),
    "class -100 where another is ignored": (
        IndexError,
        "target",
        "got -100",
        lambda: softmax_focal_loss(Z, replaced(T, -100), ignore_index=255),
        lambda: cross_entropy(Z, replaced(T, -100), ignore_index=255),
    ),
    "class in a sum": (
        IndexError,
        "target",
        "got 3",
        lambda: softmax_focal_loss(Z, replaced(T, 3), reduction="sum"),
    ),
    "class, smoothed and weighted": (
        IndexError,
        "target",
        "got 3",
        lambda: softmax_focal_loss(Z, replaced(T, 3), label_smoothing=0.1, weight=[1, 1, 1]),
    ),
    "class, plain": (
        IndexError,
        "target",
        "got 3",
        lambda: softmax_focal_loss(
            Z, replaced(T, 3), gamma=torch.ones(3, requires_grad=True), reduction="none"
        ),
    ),
    "classes float": (
        RuntimeError,
        "target",
        "torch.float32",
        lambda: softmax_focal_loss(Z, T.float()),
        lambda: cross_entropy(Z, T.float()),
    ),
    "classes bool": (RuntimeError, "target", "torch.bool", lambda: softmax_focal_loss(Z, T > 0)),
    "derivative by target, pt": (
        NotImplementedError,
        "target",
        "'pt'",
        lambda: sigmoid_focal_loss(Z, Y.clone().requires_grad_(), soft_target="pt"),
    ),
    # alpha, gamma and weights
    "alpha above 1": (ValueError, "alpha", "1.5", lambda: sigmoid(1.5)),
    "alpha above 1, of a label": (ValueError, "alpha", "1.5", lambda: sigmoid([0.5, 1.5, 0.5])),
    "alpha NaN": (ValueError, "alpha", "nan", lambda: sigmoid(nan)),
    "alpha NaN, softmax": (ValueError, "alpha", "nan", lambda: softmax(alpha=[1, nan, 1])),
    "alpha infinite": (ValueError, "alpha", "got inf", lambda: softmax(alpha=inf)),
    "share -100, plain operations": (
        ValueError,
        "target",
        "-100",
        lambda: softmax_focal_loss(Z, Z * 0 - 100, alpha=torch.ones(3).requires_grad_()),
    ),
    "vmap over gamma": (
        NotImplementedError,
        "gamma",
        "vmap",
        lambda: torch.func.vmap(lambda g: softmax_focal_loss(Z, T, gamma=g))(torch.ones(2, 3)),
    ),
    "alpha text": (TypeError, "alpha", "'0.25'", lambda: sigmoid("0.25")),
    "alpha bool": (TypeError, "alpha", "True", lambda: sigmoid(True)),
    "alpha of 2 labels": (RuntimeError, "alpha", "(2,)", lambda: sigmoid([0.5, 0.5])),
    "alpha of too many dimensions": (
        RuntimeError,
        "alpha",
        "(1, 2, 3)",
        lambda: sigmoid(torch.ones(1, 2, 3)),
    ),
    "alpha of 2 classes": (RuntimeError, "alpha", "(2,)", lambda: softmax(alpha=[1, 1])),
    "alpha by row": (RuntimeError, "alpha", "(2, 3)", lambda: softmax(alpha=torch.ones(2, 3))),
    "alpha Tensor of bool": (TypeError, "alpha", "torch.bool", lambda: sigmoid(MASK)),
    "gamma negative": (ValueError, "gamma", "-1", lambda: sigmoid(gamma=-1)),
    "gamma NaN": (ValueError, "gamma", "nan", lambda: sigmoid(gamma=nan)),
    "gamma infinite": (ValueError, "gamma", "inf", lambda: softmax(gamma=inf)),
    "gamma negative, of a class": (ValueError, "gamma", "-1", lambda: softmax(gamma=[1, -1, 1])),
    "gamma NaN, Tensor": (ValueError, "gamma", "nan", lambda: sigmoid(gamma=torch.tensor(nan))),
    "gamma text": (TypeError, "gamma", "'2'", lambda: sigmoid(gamma="2")),
    "gamma text, of a class": (TypeError, "gamma", "'2'", lambda: softmax(gamma=[1, "2", 1])),
    "gamma bool": (TypeError, "gamma", "True", lambda: softmax(gamma=True)),
    "gamma None": (TypeError, "gamma", "None", lambda: softmax(gamma=None)),
    "gamma complex": (TypeError, "gamma", "complex", lambda: sigmoid(gamma=Y + 0j)),
    "gamma of 2 labels": (RuntimeError, "gamma", "(2,)", lambda: sigmoid(gamma=torch.ones(2))),
    "gamma of 4 classes": (RuntimeError, "gamma", "(4,)", lambda: softmax(gamma=torch.ones(4))),
    "weight of 2 labels": (
        RuntimeError,
        "weight",
        "(2,)",
        lambda: sigmoid(weight=torch.ones(2)),
        lambda: bce(Z, Y, weight=torch.ones(2)),
    ),
    "weight of 2 classes": (
        RuntimeError,
        "weight",
        "(2,)",
        lambda: softmax(weight=torch.ones(2)),
        lambda: cross_entropy(Z, T, weight=torch.ones(2)),
    ),
    "weight negative": (ValueError, "weight", "-1", lambda: softmax(weight=[1, -1, 1])),
    "weight NaN": (ValueError, "weight", "nan", lambda: sigmoid(weight=nan)),
    "weight text": (TypeError, "weight", "'balanced'", lambda: softmax(weight="balanced")),
    "pos_weight of 2 labels": (
        RuntimeError,
        "pos_weight",
        "(2,)",
        lambda: sigmoid(pos_weight=torch.ones(2)),
        lambda: bce(Z, Y, pos_weight=torch.ones(2)),
    ),
    "pos_weight negative": (ValueError, "pos_weight", "-1", lambda: sigmoid(pos_weight=-1)),
    "pos_weight text": (TypeError, "pos_weight", "'1'", lambda: sigmoid(pos_weight="1")),
    # what counts
    "mask integer": (TypeError, "mask", "torch.int64", lambda: sigmoid(mask=T)),
    "mask array": (TypeError, "mask", "ndarray", lambda: sigmoid(mask=MASK.numpy())),
    "mask shape": (RuntimeError, "mask", "(2,)", lambda: sigmoid(mask=MASK[:, 0])),
    "ignore_index text": (
        TypeError,
        "ignore_index",
        "'void'",
        lambda: sigmoid(ignore_index="void"),
    ),
    "ignore_index None": (
        TypeError,
        "ignore_index",
        "None",
        lambda: softmax(ignore_index=None),
        lambda: cross_entropy(Z, T, ignore_index=None),
    ),
    "ignore_index fraction": (
        TypeError,
        "ignore_index",
        "1.0",
        lambda: softmax(ignore_index=1.0),
        lambda: cross_entropy(Z, T, ignore_index=1.0),
    ),
    "ignore_index bool": (TypeError, "ignore_index", "True", lambda: softmax(ignore_index=True)),
    "ignore_index of shares": (
        RuntimeError,
        "ignore_index",
        "255",
        lambda: shares(ignore_index=255),
        lambda: cross_entropy(Z, SHARES, ignore_index=255),
    ),
    # reduction
    "reduction unknown": (
        ValueError,
        "reduction",
        "'avg'",
        lambda: sigmoid(reduction="avg"),
        lambda: bce(Z, Y, reduction="avg"),
    ),
    "reduction unknown, softmax": (
        ValueError,
        "reduction",
        "'batchmean'",
        lambda: softmax(reduction="batchmean"),
        lambda: cross_entropy(Z, T, reduction="batchmean"),
    ),
    "reduction None": (
        ValueError,
        "reduction",
        "None",
        lambda: softmax(reduction=None),
        lambda: cross_entropy(Z, T, reduction=None),
    ),
    "normalizer 0": (ValueError, "normalizer", "got 0", lambda: sigmoid(normalizer=0)),
    "normalizer negative": (ValueError, "normalizer", "-2", lambda: softmax(normalizer=-2.0)),
    "normalizer NaN": (ValueError, "normalizer", "nan", lambda: softmax(normalizer=nan)),
    "normalizer 0, Tensor": (
        ValueError,
        "normalizer",
        "got 0",
        lambda: softmax(normalizer=torch.tensor(0.0)),
    ),
    "normalizer of 3": (RuntimeError, "normalizer", "(3,)", lambda: sigmoid(normalizer=Z[0])),
    "normalizer unknown": (
        ValueError,
        "normalizer",
        "'positive'",
        lambda: sigmoid(normalizer="positive"),
    ),
    "normalizer positives, softmax": (
        TypeError,
        "normalizer",
        "'positives'",
        lambda: softmax(normalizer="positives"),
    ),
    "normalizer bool": (TypeError, "normalizer", "True", lambda: softmax(normalizer=True)),
    # the rest
    "label_smoothing above 1": (
        RuntimeError,
        "label_smoothing",
        "1.5",
        lambda: softmax(label_smoothing=1.5),
        lambda: cross_entropy(Z, T, label_smoothing=1.5),
    ),
    "label_smoothing negative": (
        RuntimeError,
        "label_smoothing",
        "-0.1",
        lambda: sigmoid(label_smoothing=-0.1),
    ),
    "label_smoothing NaN": (
        RuntimeError,
        "label_smoothing",
        "nan",
        lambda: shares(label_smoothing=nan),
    ),
    "label_smoothing text": (
        TypeError,
        "label_smoothing",
        "'0.1'",
        lambda: softmax(label_smoothing="0.1"),
        lambda: cross_entropy(Z, T, label_smoothing="0.1"),
    ),
    "soft_target unknown": (
        ValueError,
        "soft_target",
        "'torchvision'",
        lambda: sigmoid(soft_target="torchvision"),
    ),
    "soft_target None": (ValueError, "soft_target", "None", lambda: sigmoid(soft_target=None)),
    # a device of its own
    "target elsewhere": (
        RuntimeError,
        "target",
        "meta",
        lambda: sigmoid_focal_loss(Z, Y.to("meta")),
    ),
    "input elsewhere": (
        RuntimeError,
        "target",
        "meta",
        lambda: softmax_focal_loss(Z.to("meta"), T),
    ),
    "alpha elsewhere": (RuntimeError, "alpha", "meta", lambda: softmax(alpha=META)),
    "gamma elsewhere": (RuntimeError, "gamma", "meta", lambda: sigmoid(gamma=META)),
    "weight elsewhere": (RuntimeError, "weight", "meta", lambda: softmax(weight=META)),
    "pos_weight elsewhere": (RuntimeError, "pos_weight", "meta", lambda: sigmoid(pos_weight=META)),
    "mask elsewhere": (RuntimeError, "mask", "meta", lambda: sigmoid(mask=MASK.to("meta"))),
    # modules raise when called
    "module alpha": (ValueError, "alpha", "2", lambda: SigmoidFocalLoss(2.0)(Z, Y)),
    "module gamma": (ValueError, "gamma", "-1", lambda: SoftmaxFocalLoss(gamma=-1)(Z, T)),
    "module alpha of 2": (
        RuntimeError,
        "alpha",
        "(2,)",
        lambda: SoftmaxFocalLoss(alpha=[1, 1])(Z, T),
    ),
    "module weight, array": (
        RuntimeError,
        "weight",
        "(2,)",
        lambda: SigmoidFocalLoss(weight=np.ones(2))(Z, Y),
    ),
    "module normalizer": (
        TypeError,
        "normalizer",
        "'positives'",
        lambda: SoftmaxFocalLoss()(Z, T, normalizer="positives"),
    ),
    "module alpha, bools": (
        TypeError,
        "alpha",
        "got True",
        lambda: SoftmaxFocalLoss(alpha=[True, False, True]),
    ),
    "module alpha, array of bools": (
        TypeError,
        "alpha",
        "bool",
        lambda: SoftmaxFocalLoss(alpha=np.array([True, False, True])),
    ),
    "module reduction": (
        ValueError,
        "reduction",
        "'total'",
        lambda: SigmoidFocalLoss(reduction="total")(Z, Y),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_error_names_argument_and_value(case):
    error, argument, value, call, *of_torch = case
    with pytest.raises(error) as raised:
        call()
    assert type(raised.value) is error
    assert str(raised.value).startswith(f"{argument}: ")
    assert value in str(raised.value)
    for theirs in of_torch:
        with pytest.raises(type(raised.value)):
            theirs()


def test_calls_with_nothing_wrong():
    """Otherwise the cases could fail for another reason."""
    for call in (sigmoid, softmax, shares):
        assert call().isfinite().all()
    for function, target in ((sigmoid_focal_loss, Y), (softmax_focal_loss, T)):
        assert function(P, target, from_logits=False).isfinite().all()
    assert sigmoid([0.5, 1, 0], gamma=[1, 2, 3], pos_weight=[1, 2, 3]).isfinite().all()
    assert softmax(alpha=[0.5, 1, 0], gamma=[1, 2, 3], weight=[1, 2, 3]).isfinite().all()
