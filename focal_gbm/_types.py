"""Types that modules share."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]  # or one on a GPU

PerClass = tuple[float, ...]  # one number per class, in class order
