"""Focal loss for PyTorch: the modules."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from torch_cases import ALPHA, CLASSES, HARD, MASK, SOFT, WEIGHT, C, Z, same

from focal_gbm.torch import (
    SigmoidFocalLoss,
    SoftmaxFocalLoss,
    sigmoid_focal_loss,
    softmax_focal_loss,
)


def test_modules_train_parameters():
    module = SigmoidFocalLoss(gamma=torch.nn.Parameter(torch.tensor(2.0)))
    (gamma,) = module.parameters()
    module(Z.float(), HARD).backward()
    assert gamma.grad.abs() > 0


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (torch.nn.CrossEntropyLoss(), "weight"),
        (SoftmaxFocalLoss(), "weight"),
        (SigmoidFocalLoss(), "weight"),
        (SigmoidFocalLoss(), "pos_weight"),
    ],
)
def test_weights_that_are_given_later_are_buffers(module, name):
    assert not module.state_dict()
    setattr(module, name, WEIGHT)
    assert set(module.state_dict()) == {name}
    assert getattr(copy.deepcopy(module).to("meta"), name).is_meta
    setattr(module, name, None)
    assert not module.state_dict()


def test_arguments_can_be_set_as_in_the_constructor():
    module = SigmoidFocalLoss()
    for value in (2.0, WEIGHT, WEIGHT.tolist(), WEIGHT.numpy(), 3.0, torch.nn.Parameter(WEIGHT)):
        module.pos_weight = value
        expected = SigmoidFocalLoss(pos_weight=value)
        same(module(Z, HARD), expected(Z, HARD))
        assert set(module.state_dict()) == set(expected.state_dict())
    assert [name for name, _ in module.named_parameters()] == ["pos_weight"]
    with pytest.raises(TypeError, match="cannot assign"):
        module.pos_weight = WEIGHT


@pytest.mark.parametrize(
    ("module_of", "function", "arguments"),
    [
        (SigmoidFocalLoss, sigmoid_focal_loss, {"alpha": ALPHA / 2, "gamma": 1.5}),
        (SigmoidFocalLoss, sigmoid_focal_loss, {"pos_weight": WEIGHT, "label_smoothing": 0.1}),
        (SigmoidFocalLoss, sigmoid_focal_loss, {"reduction": "sum", "soft_target": "bce"}),
        (SigmoidFocalLoss, sigmoid_focal_loss, {"ignore_index": 1, "weight": WEIGHT}),
        (SigmoidFocalLoss, sigmoid_focal_loss, {"from_logits": False, "alpha": None}),
        (SoftmaxFocalLoss, softmax_focal_loss, {"alpha": ALPHA, "gamma": WEIGHT}),
        (SoftmaxFocalLoss, softmax_focal_loss, {"weight": WEIGHT, "ignore_index": 1}),
        (SoftmaxFocalLoss, softmax_focal_loss, {"label_smoothing": 0.2, "reduction": "none"}),
        (SoftmaxFocalLoss, softmax_focal_loss, {"from_logits": False}),
    ],
)
def test_modules_are_the_functions_and_can_be_copied(module_of, function, arguments):
    module, is_sigmoid = module_of(**arguments), module_of is SigmoidFocalLoss
    data = (SOFT.sqrt(), HARD if is_sigmoid else CLASSES)
    call = partial(function, *data, **({"reduction": "mean"} | arguments))
    tensors = {name: value for name, value in arguments.items() if torch.is_tensor(value)}
    assert set(dict(module.named_buffers())) == set(module.state_dict()) == set(tensors)
    other = module_of(**arguments | {name: value**2 for name, value in tensors.items()})
    assert not tensors or not torch.equal(other(*data), call())
    other.load_state_dict(module.state_dict())
    copies = copy.deepcopy(module), pickle.loads(pickle.dumps(module)), other  # noqa: S301
    for each in (module, *copies, copy.deepcopy(module).float().double()):
        same(each(*data), call())
        same(each(*data, normalizer=3), call(normalizer=3))
        assert repr(each) == repr(module)
    for options in [{"mask": MASK}, {"mask": MASK, "normalizer": "positives"}] * is_sigmoid:
        same(module(*data, **options), call(**options))


@pytest.mark.parametrize("gamma", [np.array(2.0), np.array(2), np.array([1.0, 2.0, 3.0])[::-1]])
def test_modules_take_the_arrays_that_functions_take(gamma):
    expected = softmax_focal_loss(Z, CLASSES, gamma=gamma, reduction="mean")
    same(SoftmaxFocalLoss(gamma=gamma)(Z, CLASSES), expected)


def test_modules_keep_sequences_as_buffers():
    module = SoftmaxFocalLoss(alpha=[0.5, 1, 2], gamma=(0.0, 1.0, 2.0), weight=np.ones(C))
    assert {name: buffer.tolist() for name, buffer in module.named_buffers()} == {
        "alpha": [0.5, 1, 2],
        "gamma": [0, 1, 2],
        "weight": [1, 1, 1],
    }
    assert all(buffer.dtype == torch.float64 for buffer in module.double().buffers())
    assert repr(module) == (
        "SoftmaxFocalLoss(alpha=[0.5, 1.0, 2.0], gamma=[0.0, 1.0, 2.0], weight=[1.0, 1.0, 1.0], "
        "ignore_index=-100, label_smoothing=0.0, reduction='mean', from_logits=True)"
    )
