"""Focal loss for PyTorch: what is kept for the backward pass, and hooks that keep it elsewhere."""

import weakref
from functools import partial

import numpy as np
import pytest
import torch
from torch.autograd import grad
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint
from torch_cases import HARD, VECTOR, Z, derivatives, each_call, same

from focal_gbm.torch import sigmoid_focal_loss

each_reduction = pytest.mark.parametrize("reduction", ["none", "mean", "sum"])


class Counting(saved_tensors_hooks):
    """Counts how often each tensor is unpacked in a backward pass."""

    def __init__(self):
        self._counts = []
        super().__init__(self._pack, self._unpack)

    def _pack(self, tensor):
        self._counts.append(0)
        return len(self._counts) - 1, tensor

    def _unpack(self, packed):
        index, tensor = packed
        self._counts[index] += 1
        return tensor

    def grad(self, *arguments, **options):
        n_packed = len(self._counts)
        self._counts = [0] * n_packed
        gradients = grad(*arguments, **options)
        assert max(self._counts[:n_packed]) == 1
        return gradients


class OnDisk(saved_tensors_hooks):
    def __init__(self, folder):
        self._folder, self.n_files = folder, 0
        super().__init__(self._pack, torch.load)

    def _pack(self, tensor):
        path = self._folder / str(self.n_files)
        self.n_files += 1
        torch.save(tensor, path)
        return path


@each_call
@each_reduction
def test_each_tensor_is_unpacked_once_per_pass(call, reduction):
    z, vector = Z.clone().requires_grad_(), VECTOR.clone().requires_grad_()
    with (hooks := Counting()):
        value = call(z, reduction=reduction).sum()
        hooks.grad(value, z, retain_graph=True)
        (first,) = hooks.grad(value, z, create_graph=True)
        (product,) = hooks.grad(first, z, vector, create_graph=True)
        (along,) = hooks.grad(product, vector, VECTOR, create_graph=True)
        hooks.grad(along, z, VECTOR, retain_graph=True)
        hooks.grad(product, (z, vector), VECTOR)


@each_call
@each_reduction
def test_checkpoints(call, reduction):
    call = partial(call, reduction=reduction)
    expected = derivatives(call, Z, VECTOR)
    same(derivatives(partial(checkpoint, call, use_reentrant=False), Z, VECTOR), expected)
    z = Z.clone().requires_grad_()
    checkpoint(call, z, use_reentrant=True).sum().backward()
    same((z.grad,), grad(call(z).sum(), z))


def test_checkpoint_of_a_network():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))

    def loss(rows):
        return sigmoid_focal_loss(network(rows), HARD, reduction="mean")

    rows = Z.float()
    expected = grad(loss(rows), network.parameters())
    same(grad(checkpoint(loss, rows, use_reentrant=False), network.parameters()), expected)


@each_call
@each_reduction
def test_tensors_may_wait_on_a_disk_or_the_cpu(call, reduction, tmp_path):
    call = partial(call, reduction=reduction)
    expected = derivatives(call, Z, VECTOR)
    with (hooks := OnDisk(tmp_path)):
        same(derivatives(call, Z, VECTOR), expected)
    assert hooks.n_files > 0
    with save_on_cpu():
        same(derivatives(call, Z, VECTOR), expected)


@each_call
def test_memory_may_be_taken_away_between_the_passes(call):
    """Sharded training does that, and gives it back before the backward pass."""
    expected = derivatives(lambda z: call(2 * z), Z, VECTOR)
    z = Z.clone().requires_grad_()
    logits = 2 * z
    loss = call(logits).sum()
    storage, content = logits.untyped_storage(), logits.untyped_storage().clone()
    storage.resize_(0)

    def give_back(_):
        storage.resize_(content.nbytes())
        storage.copy_(content)

    loss.register_hook(give_back)
    (first,) = grad(loss, z, create_graph=True)
    same([first.detach(), *grad(first, z, VECTOR)], expected[1:])


@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_nothing_is_kept_where_hooks_keep_it(reduction, tmp_path):
    labels = np.ones(Z.shape)
    is_alive = weakref.ref(labels)
    target = torch.from_numpy(labels)
    with OnDisk(tmp_path):
        loss = sigmoid_focal_loss(Z.clone().requires_grad_(), target, reduction=reduction)
    del labels, target
    assert is_alive() is None
    assert loss.requires_grad
