"""What the package uses of torch beyond what its documentation promises.

``tests/test_assumptions_of_torch.py`` has a test of each.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode


def are_plain(*arguments: Any) -> bool:
    """Whether the tensors among the arguments are plain memory, and nothing intercepts operators.

    Then a kernel can be called on their memory directly, without the cost of torch's dispatcher.
    Otherwise an operator has to be called: fake and traced tensors know it, and every other kind of
    tensor gets what it needs from it.

    torch/utils/_python_dispatch.py: only there can one ask whether a mode intercepts operators, as
    those that trace or count them do. torch/autograd/function.py asks as below whether a transform
    of ``torch.func`` is active, and torch/autograd/forward_ad.py whether forward mode is: its
    tensors have tangents. Subclasses have types of their own; tensors of the older vmap, and zeros
    that forward mode has not written out, are of the type Tensor too, but have no address.
    """
    if is_in_torch_dispatch_mode() or torch._C._are_functorch_transforms_active():
        return False
    if forward_ad._current_level >= 0:
        return False
    return all(_is_plain(argument) for argument in arguments if is_tensor(argument))


def is_tensor(value: Any) -> bool:
    """Like ``isinstance``, which for Tensor is slow if the value is not one."""
    return type(value) not in _NO_TENSORS and isinstance(value, Tensor)


def requires_gradient(tensor: Tensor) -> bool:
    """Whether a tensor requires a gradient, even within transforms of ``torch.func``.

    torch/_functorch: the tensor that a mapped function or an inner ``grad`` gets does not tell, and
    nothing public gives the one in it.
    """
    if torch.compiler.is_compiling():
        return tensor.requires_grad
    while not tensor.requires_grad and torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor.requires_grad


def _is_plain(tensor: Tensor) -> bool:
    if type(tensor) not in _PLAIN or tensor.layout is not torch.strided or tensor.is_neg():
        return False
    try:
        return tensor.data_ptr() != 0
    except RuntimeError:
        return False


_PLAIN = {Tensor, torch.nn.Parameter}
_NO_TENSORS = {float, int, bool, str, type(None)}
