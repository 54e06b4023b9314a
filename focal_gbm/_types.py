"""Types that modules share."""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from focal_gbm._kernels.threads import Threads

Array = NDArray[Any]  # or one on a GPU

Kind = tuple[np.dtype[Any], int]  # type of an array's elements, and number of dimensions

Compiled = Callable[..., Any]  # a function that a compiler takes or gives

HessianMode = Literal["exact", "clip", "abs", "gradient"]

Balanced = Literal["balanced"]  # class weights that make up for the shares of the classes

PerClass = tuple[float, ...]  # one number per class, in class order


class Kernels(Protocol):
    """What a module of kernels offers to a loss.

    Each writes to its last arrays and returns bits that tell what is wrong with a row.
    """

    __name__: str

    def gradient_hessian(
        self,
        y: Array,
        margin: Array,
        weight: Array | None,
        grad: Array,
        hess: Array,
        *,
        gamma: PerClass,
        alpha: PerClass,
        hessian: str,
        n_threads: Threads,
    ) -> int: ...

    def loss(
        self,
        y: Array,
        margin: Array,
        weight: Array | None,
        out: Array,
        *,
        gamma: PerClass,
        alpha: PerClass,
        n_threads: Threads,
    ) -> int: ...

    def posterior(
        self, margin: Array, out: Array, *, gamma: PerClass, alpha: PerClass, as_margin: bool
    ) -> int: ...


class HostKernels(Kernels, Protocol):
    """The same on the CPU, where sums need no array of their terms."""

    def loss_total(
        self,
        y: Array,
        margin: Array,
        weight: Array | None,
        *,
        gamma: PerClass,
        alpha: PerClass,
        n_threads: Threads,
    ) -> tuple[int, float]: ...

    def metric_total(
        self,
        y: Array,
        margin: Array,
        weight: Array | None,
        *,
        start: Array,
        kind: str,
        bound: float,
        gamma: PerClass,
        alpha: PerClass,
        n_threads: Threads,
    ) -> tuple[int, float]: ...
