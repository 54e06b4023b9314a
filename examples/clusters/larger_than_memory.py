"""
Larger than memory
==================

Train on Parquet files that need not fit into memory, one row group at a time.
"""

import resource
import tempfile
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost as xgb

from focal_gbm import FocalObjective
from focal_gbm import lightgbm as focal_lightgbm
from focal_gbm import xgboost as focal_xgboost

N_GROUPS, N_ROWS, N_FEATURES = 10, 20_000, 20
NAMES = [f"x{i}" for i in range(N_FEATURES)]


def write(path):
    """Row groups with rare positives."""
    rng = np.random.default_rng(0)
    schema = pa.schema([(name, pa.float32()) for name in [*NAMES, "y"]])
    with pq.ParquetWriter(path, schema) as writer:
        for _ in range(N_GROUPS):
            X = rng.standard_normal((N_ROWS, N_FEATURES), np.float32)
            y = X[:, 0] + rng.standard_normal(N_ROWS) > 3.5
            columns = [*X.T, y.astype(np.float32)]
            writer.write_table(pa.table(columns, schema=schema))


class RowGroups(xgb.DataIter):
    """XGBoost reads these twice: to find the bins, and to write each row's bins to disk."""

    def __init__(self, path, cache):
        self.file, self.i = pq.ParquetFile(path), 0
        super().__init__(cache_prefix=str(cache))

    def next(self, input_data):
        if self.i == self.file.num_row_groups:
            return False
        table = self.file.read_row_group(self.i)
        input_data(data=table.select(NAMES), label=table["y"].to_numpy())
        self.i += 1
        return True

    def reset(self):
        self.i = 0


class Rows(lgb.Sequence):
    """LightGBM first asks for single rows, in order, to find the bins, and then for batches."""

    batch_size = N_ROWS

    def __init__(self, path):
        self.file, self.group = pq.ParquetFile(path), (-1, None)

    def __len__(self):
        return self.file.metadata.num_rows

    def __getitem__(self, rows):
        first = rows.start if isinstance(rows, slice) else rows
        i, start = divmod(first, N_ROWS)
        if self.group[0] != i:  # one row group is in memory at a time
            table = self.file.read_row_group(i, NAMES)
            self.group = i, np.column_stack([table[name] for name in NAMES]).astype(np.float64)
        if isinstance(rows, slice):
            return self.group[1][start : start + rows.stop - rows.start]
        return self.group[1][start]


def peak():
    return f"peak so far {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"


def main():
    objective = FocalObjective(gamma=2.0, alpha="balanced")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.parquet"
        write(path)
        size = N_GROUPS * N_ROWS * N_FEATURES * 4 / 2**30
        print(f"{size:.2f} GiB of features in {N_GROUPS} row groups; {peak()}")

        # Alpha and the starting margin need class counts. They come from the labels, which XGBoost
        # and LightGBM keep in memory: 4 bytes a row.
        dtrain = xgb.ExtMemQuantileDMatrix(RowGroups(path, Path(folder) / "cache"))
        params = {"max_depth": 6, "tree_method": "hist", "eval_metric": "aucpr"}
        booster = focal_xgboost.train(
            params, dtrain, 10, obj=objective, evals=[(dtrain, "train")], verbose_eval=9
        )
        print("XGBoost from external memory:", booster.num_boosted_rounds(), "trees;", peak())
        del dtrain

        # LightGBM keeps the bins in memory, one byte each, but never the features themselves.
        y = pq.read_table(path, columns=["y"])["y"].to_numpy()
        train_set = lgb.Dataset(Rows(path), label=y, params={"verbose": -1})
        params = {"objective": objective, "num_leaves": 31, "verbose": -1}
        booster = focal_lightgbm.train(params, train_set, 10)
        print("LightGBM from a Sequence:", booster.num_trees(), "trees;", peak())


if __name__ == "__main__":
    main()
