"""Focal loss as modules."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from focal_gbm.torch._arguments import check_number
from focal_gbm.torch._functional import sigmoid_focal_loss, softmax_focal_loss

_MOST_SHOWN = 10  # values; a longer Tensor is shown by its shape


class _FocalLoss(nn.Module):
    """Keeps the arguments of a loss: Tensors as buffers, and parameters as parameters."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self._names = tuple(arguments)
        for name, value in arguments.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        """Arguments that are Tensors become buffers, also if they are set later."""
        is_argument = name in self.__dict__.get("_names", ()) and name not in self._parameters
        if is_argument and not isinstance(value, nn.Parameter):
            if isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str):
                value = _buffer(name, value)
            self.__dict__.pop(name, None)
            self._buffers.pop(name, None)
            if isinstance(value, Tensor):
                self.register_buffer(name, value)
                return
        super().__setattr__(name, value)

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._names}

    def extra_repr(self) -> str:
        return ", ".join(
            f"{name}={_shown(value)}"
            for name, value in self._arguments().items()
            if value is not None
        )


def _buffer(name: str, value: Any) -> Tensor:
    """A Tensor of the numbers in a sequence or an array."""
    if not isinstance(value, np.ndarray):
        for element in value:
            check_number(name, element)
    elif value.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected real numbers, got {value.dtype}")
    return torch.tensor(np.array(value, order="C"), dtype=torch.get_default_dtype())


def _shown(value: Any) -> str:
    if not isinstance(value, Tensor):
        return repr(value)
    is_short = value.numel() <= _MOST_SHOWN and not value.is_meta
    return str(value.tolist()) if is_short else f"Tensor of shape {tuple(value.shape)}"


class SigmoidFocalLoss(_FocalLoss):
    """``sigmoid_focal_loss`` as a module.

    Parameters
    ----------
    alpha, gamma, weight, pos_weight, ignore_index, label_smoothing, soft_target, from_logits
        As for ``sigmoid_focal_loss``. Tensors become buffers. Sequences become buffers of the
        default dtype. An ``nn.Parameter`` stays a parameter, and is trained.
    reduction : {"none", "mean", "sum"}, default="mean"
        As for ``sigmoid_focal_loss``, but with the default of torch's loss modules.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for ``sigmoid_focal_loss``; most are raised when the module is called.

    Examples
    --------
    >>> import torch
    >>> from focal_gbm.torch import SigmoidFocalLoss
    >>> criterion = SigmoidFocalLoss(alpha=None, gamma=2.0)
    >>> logits = torch.zeros(4, requires_grad=True)
    >>> criterion(logits, torch.tensor([1.0, 0.0, 0.0, 0.0])).backward()
    >>> [round(value, 4) for value in logits.grad.tolist()]
    [-0.0746, 0.0746, 0.0746, 0.0746]
    """

    def __init__(
        self,
        alpha: float | Sequence[float] | Tensor | None = 0.25,
        gamma: float | Sequence[float] | Tensor = 2.0,
        reduction: str = "mean",
        *,
        weight: float | Tensor | None = None,
        pos_weight: float | Sequence[float] | Tensor | None = None,
        ignore_index: float | None = None,
        label_smoothing: float = 0.0,
        soft_target: str = "mixture",
        from_logits: bool = True,
    ) -> None:
        super().__init__(
            alpha=alpha,
            gamma=gamma,
            reduction=reduction,
            weight=weight,
            pos_weight=pos_weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            soft_target=soft_target,
            from_logits=from_logits,
        )

    def forward(
        self,
        input: Tensor,
        target: Tensor,
        *,
        mask: Tensor | None = None,
        normalizer: float | str | Tensor | None = None,
    ) -> Tensor:
        """Loss of a batch.

        Parameters
        ----------
        input, target, mask, normalizer
            As for ``sigmoid_focal_loss``.

        Returns
        -------
        Tensor
            As returned by ``sigmoid_focal_loss``.

        Raises
        ------
        TypeError, ValueError, RuntimeError, NotImplementedError
            As for ``sigmoid_focal_loss``.

        Examples
        --------
        >>> import torch
        >>> mask = torch.tensor([True, False])
        >>> loss = SigmoidFocalLoss(alpha=None)(torch.zeros(2), torch.ones(2), mask=mask)
        >>> print(f"{loss.item():.4f}")
        0.1733
        """
        return sigmoid_focal_loss(
            input, target, mask=mask, normalizer=normalizer, **self._arguments()
        )


class SoftmaxFocalLoss(_FocalLoss):
    """``softmax_focal_loss`` as a module.

    Parameters
    ----------
    alpha, gamma, weight, ignore_index, label_smoothing, reduction, from_logits
        As for ``softmax_focal_loss``. Tensors become buffers. Sequences become buffers of the
        default dtype. An ``nn.Parameter`` stays a parameter, and is trained.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for ``softmax_focal_loss``; most are raised when the module is called.

    Examples
    --------
    >>> import torch
    >>> from focal_gbm.torch import SoftmaxFocalLoss
    >>> criterion = SoftmaxFocalLoss(alpha=[0.5, 1.0, 2.0], gamma=2.0)
    >>> loss = criterion(torch.zeros(5, 3, 8, 8), torch.zeros(5, 8, 8, dtype=torch.long))
    >>> print(f"{loss.item():.4f}")
    0.2441
    """

    def __init__(
        self,
        *,
        alpha: float | Sequence[float] | Tensor | None = None,
        gamma: float | Sequence[float] | Tensor = 2.0,
        weight: Sequence[float] | Tensor | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        from_logits: bool = True,
    ) -> None:
        super().__init__(
            alpha=alpha,
            gamma=gamma,
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
            from_logits=from_logits,
        )

    def forward(
        self, input: Tensor, target: Tensor, *, normalizer: float | Tensor | None = None
    ) -> Tensor:
        """Loss of a batch.

        Parameters
        ----------
        input, target, normalizer
            As for ``softmax_focal_loss``.

        Returns
        -------
        Tensor
            As returned by ``softmax_focal_loss``.

        Raises
        ------
        IndexError, TypeError, ValueError, RuntimeError, NotImplementedError
            As for ``softmax_focal_loss``.

        Examples
        --------
        >>> import torch
        >>> loss = SoftmaxFocalLoss(gamma=0.0)(torch.zeros(2, 4), torch.tensor([0, 3]))
        >>> print(f"{loss.item():.4f}")
        1.3863
        """
        return softmax_focal_loss(input, target, normalizer=normalizer, **self._arguments())
