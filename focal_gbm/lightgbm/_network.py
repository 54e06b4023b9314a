"""The network of LightGBM's machines, and sums over it.

LightGBM has no function that sums over machines, but its start from the average label is a mean
over all of them. So each number becomes the label of a model without splits. All calls are public.
"""

from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import lightgbm as lgb
import numpy as np

from focal_gbm._engines import SumOfAll, alone
from focal_gbm._types import Array
from focal_gbm.lightgbm._internals import TWO_ROWS_SUFFICE, set_globals
from focal_gbm.lightgbm._parameters import n_machines

# LightGBM clips labels to this, and turns NaN into 0.
_LARGEST_LABEL = 1e38

# Three numbers in single precision hold the digits of one in double precision; dividing by four
# loses none.
_N_LABELS = 4

# Parameters of a model that is the mean of its labels.
_MEAN = {"objective": "regression", "metric": "None", "force_col_wise": True, "verbosity": -1}


# Connections left by failed trainings: if deleted late, one would take down the next network.
_left: WeakSet[lgb.Booster] = WeakSet()


def _given(params: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: params[name] for name in names if name in params}


class Network:
    """The machines that train together, connected as long as they do; one alone has no network.

    After a failure they are left connected, as by ``lightgbm.train``: when this process ends, the
    others mostly raise, but from a closed connection they would read forever. A process that is
    kept for later trainings (``is_kept``) has to close it.
    """

    def __init__(self, params: dict[str, Any], *, is_kept: bool = False) -> None:
        for connection in list(_left):
            connection.free_network()
        _left.clear()
        self.is_kept = is_kept
        self.n_machines = n_machines(params)
        self._globals = _given(params, "num_threads", "verbosity")
        self._addresses = _given(params, "machines", "local_listen_port", "time_out")
        self._connection: lgb.Booster | None = None

    def of_connected(self, params: dict[str, Any]) -> dict[str, Any]:
        """Parameters for a booster whose machines are already connected."""
        if self.n_machines == 1:
            return params
        return {**params, "num_machines": self.n_machines, "machines": None}

    def __enter__(self) -> Self:
        if self.n_machines > 1:
            self._labels = lgb.Dataset(
                np.arange(_N_LABELS, dtype=np.float64)[:, None] % 2,
                label=np.zeros(_N_LABELS),
                params={**TWO_ROWS_SUFFICE, **self._globals},
            ).construct()
            params = {**self._globals, **self._addresses, "num_machines": self.n_machines}
            self._connection = lgb.Booster(params, self._labels)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection is None:
            return
        if error is None or self.is_kept:
            self._connection.free_network()
        else:
            _left.add(self._connection)

    @property
    def sum_of_all(self) -> SumOfAll:
        """The sum of an array over all machines."""
        return alone if self.n_machines == 1 else self._sum

    def _sum(self, array: Array) -> Array:
        means = [self._mean(value) for value in array.ravel().tolist()]
        set_globals({"verbosity": 1, **self._globals})
        sums = np.reshape(means, array.shape) * self.n_machines * _N_LABELS
        return np.where(np.abs(sums) < _LARGEST_LABEL / 10, sums, np.nan)

    def _mean(self, value: float) -> float:
        """The mean over the labels of all machines; the labels here sum to the value."""
        labels = np.zeros(_N_LABELS, np.float32)
        if np.isfinite(value):
            for i in range(3):
                labels[i] = value
                value -= float(labels[i])
        else:
            labels[0] = _LARGEST_LABEL
        self._labels.set_label(labels)
        booster = lgb.Booster({**self._globals, **_MEAN}, self._labels)
        booster.update()  # it finds no split in so few rows
        return booster.get_leaf_output(0, 0)
