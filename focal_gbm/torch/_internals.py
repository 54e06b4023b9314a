"""What the package uses of torch beyond what its documentation promises.

``tests/test_assumptions_of_torch.py`` has a test of each.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode


def are_plain(*arguments: Any) -> bool:
    """Whether the tensors among the arguments are plain memory, and nothing intercepts operators.

    Then a kernel can be called on their memory directly, without the cost of torch's dispatcher.
    Otherwise an operator has to be called: fake and traced tensors know it, and every other kind of
    tensor gets what it needs from it.

    torch/utils/_python_dispatch.py: only there can one ask whether a mode intercepts operators, as
    those that trace or count them do. torch/autograd/function.py asks as below whether a transform
    of ``torch.func`` is active. Subclasses have types of their own; tensors of the older vmap, and
    zeros that forward mode has not written out, are of the type Tensor too, but have no address.
    """
    if is_in_torch_dispatch_mode() or torch._C._are_functorch_transforms_active():
        return False
    return all(_is_plain(argument) for argument in arguments if is_tensor(argument))


def is_tensor(value: Any) -> bool:
    """Like ``isinstance``, which for Tensor is slow if the value is not one."""
    return type(value) not in _NO_TENSORS and isinstance(value, Tensor)


def _is_plain(tensor: Tensor) -> bool:
    if type(tensor) not in _PLAIN or tensor.layout is not torch.strided or tensor.is_neg():
        return False
    try:
        return tensor.data_ptr() != 0
    except RuntimeError:
        return False


_PLAIN = {Tensor, torch.nn.Parameter}
_NO_TENSORS = {float, int, bool, str, type(None)}
