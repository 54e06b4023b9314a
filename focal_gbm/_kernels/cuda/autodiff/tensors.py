"""Launching kernels on tensors."""

from collections.abc import Sequence
from typing import Any

from focal_gbm._kernels.cuda import device
from focal_gbm._kernels.cuda.device import Array
from focal_gbm._types import Compiled


def launch(function: Compiled, arrays: Sequence[Array | None], *settings: Any) -> None:
    detached = [None if array is None else array.detach() for array in arrays]
    device.launch(function, detached, *settings)
