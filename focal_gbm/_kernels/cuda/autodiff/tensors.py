"""Launching kernels on tensors."""

from collections.abc import Sequence
from typing import Any

from focal_gbm._kernels.cuda import device
from focal_gbm._kernels.cuda.device import Array, view
from focal_gbm._types import Compiled


def launch(function: Compiled, arrays: Sequence[Array], *settings: Any) -> None:
    """Numba itself would take tensors by DLPack, and wait for streams."""
    device.launch(function, [view(array.detach()) for array in arrays], *settings)
