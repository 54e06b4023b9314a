"""As ``autodiff.softmax``, for arrays on a GPU.

Nothing is raised, as that would wait for the device: invalid values become NaN.
"""

from focal_gbm._kernels.cuda.autodiff import classes, shares, tensors
from focal_gbm._kernels.cuda.device import Array, kind
from focal_gbm._kernels.limits import LIMIT
from focal_gbm._kernels.softmax import largest_margin


def softmax(
    margin: Array,
    y: Array,
    factor: Array | None,
    vector: Array | None,
    out: Array,
    gamma: Array,
    alpha: Array,
    *,
    ignore_index: int,
    label_smoothing: float,
    stream: int,
) -> None:
    """As ``autodiff.softmax``, with gamma and alpha on the device, on the stream of a pointer.

    A bad label's results are NaN. Positions along the second dimension are taken by neighbouring
    threads, and should be neighbours in memory.
    """
    # Numba's kernels do not take None: the margins stand in for a missing vector.
    order = 0 if out.ndim == 2 else 1 if vector is None else 2
    inputs = (
        margin,
        y,
        margin[:0, :, 0] if factor is None else factor,
        margin if vector is None else vector,
        out[:, :, None] if out.ndim == 2 else out,
        gamma,
        alpha,
    )
    n_rows, row_size, n_classes = margin.shape
    numbers = (largest_margin(kind(margin)[0], n_classes), LIMIT)
    flags, size = (order, ignore_index), n_rows * row_size
    if y.ndim == 2 and not label_smoothing:
        tensors.launch(classes.derivative, inputs, numbers, flags, size, stream)
    else:
        smoothing = 1 - label_smoothing, label_smoothing / n_classes
        tensors.launch(shares.derivative, inputs, (*numbers, *smoothing), flags, size, stream)
