"""The training and test rows of each fold, and the validation rows of a search."""

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

from focal_gbm._types import Array

# From more rows than these, a search takes a sample: what ranks best there does so on all rows.
SEARCH_ROWS = 100_000
# The sample grows until it has so many rows of the rarer class. A quarter of them validate: with
# fewer, trials differ by chance.
SEARCH_ROWS_OF_A_CLASS = 200
VALIDATION_SHARE = 4  # one in so many rows


def seed_of(*parts: object) -> int:
    """A seed of its own for each part of an experiment."""
    return zlib.crc32("/".join(map(str, parts)).encode())


@dataclass(frozen=True, eq=False)
class Folds:
    """Outer folds and inner splits."""

    y: Array  # 0 and 1
    # For each repeat, the fold that tests a row. Forward in time, -1 for rows that only train.
    places: list[Array]
    groups: Array | None  # whose rows stay together
    time: Array | None  # test and validation rows come after their training rows
    seed: int

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for repeat, places in enumerate(self.places):
            for fold in range(places.max() + 1):
                yield repeat, fold

    def train(self, repeat: int, fold: int) -> Array:
        places = self.places[repeat]
        is_train = places != fold if self.time is None else places < fold
        return np.flatnonzero(is_train)

    def test(self, repeat: int, fold: int) -> Array:
        return np.flatnonzero(self.places[repeat] == fold)

    @property
    def correlation(self) -> float:
        """Mean share of test rows among the rows of a fold."""
        sizes = [(self.test(*fold).size, self.train(*fold).size) for fold in self]
        return float(np.mean([test / (test + train) for test, train in sizes]))

    def search_size(self, rows: Array) -> int:
        """How many of these rows a search takes."""
        rarer = max(1, int(np.bincount(self.y[rows], minlength=2).min()))
        enough = math.ceil(rows.size * (SEARCH_ROWS_OF_A_CLASS / rarer))
        size = max(SEARCH_ROWS, enough)
        # A stratified split has to leave out a row of each class.
        return size if size <= rows.size - 2 else rows.size

    def search(self, rows: Array, seed: int) -> tuple[Array, Array]:
        """Training and validation rows of a search, from the rows given."""
        size = self.search_size(rows)
        if size < rows.size:
            rows, _ = train_test_split(
                rows, train_size=size, stratify=self.y[rows], random_state=seed
            )
        rows = np.sort(rows)
        if self.time is not None:
            is_late = _chunks(self.time[rows], VALIDATION_SHARE) == VALIDATION_SHARE - 1
            return rows[~is_late], rows[is_late]
        if self.groups is None:
            train, valid = train_test_split(
                rows, test_size=1 / VALIDATION_SHARE, stratify=self.y[rows], random_state=seed
            )
            return train, valid
        splitter = StratifiedGroupKFold(VALIDATION_SHARE, shuffle=True, random_state=seed)
        train, valid = next(splitter.split(rows, self.y[rows], self.groups[rows]))
        return rows[train], rows[valid]

    def check(self, weight: Array | None) -> None:
        """Refuse parts that have rows of one class only, or weights above 0 for one class only."""
        for repeat, fold in self:
            train = self.train(repeat, fold)
            self._check_part(fold, "training", train, VALIDATION_SHARE)
            self._check_groups(fold, train)
            search, valid = self.search(train, self.search_seed(repeat, fold))
            parts = {"test": self.test(repeat, fold), "training": search, "validation": valid}
            for name, rows in parts.items():
                counting = rows if weight is None else rows[weight[rows] > 0]
                self._check_part(fold, name, counting, 1)

    def _check_groups(self, fold: int, train: Array) -> None:
        if self.groups is None:
            return
        n_groups = np.unique(self.groups[train]).size
        if n_groups < VALIDATION_SHARE:
            raise ValueError(
                f"groups: fold {fold + 1} trains on {n_groups}, and a search needs at least "
                f"{VALIDATION_SHARE}, of which one validates"
            )

    def search_seed(self, repeat: int, fold: int) -> int:
        """The seed of the inner split, which all contenders share."""
        return seed_of(self.seed, repeat, fold)

    def _check_part(self, fold: int, part: str, rows: Array, least: int) -> None:
        counts = np.bincount(self.y[rows], minlength=2)
        for count, name in zip(counts, ("negative", "positive"), strict=True):
            if count < least:
                raise ValueError(
                    f"folds: fold {fold + 1} of {self.places[0].max() + 1} has {count} {name} "
                    f"{part} rows, and needs at least {least}: give fewer folds"
                )


def folds_of(
    y: Array,
    groups: Array | None,
    time: Array | None,
    folds: int,
    repeats: int,
    seed: int,
    weight: Array | None = None,
) -> Folds:
    """Folds that are stratified, keep groups together or go forward in time.

    It raises if there are too few rows of a class, groups or times, or none with a weight above 0.
    """
    rarest = int(np.bincount(y, minlength=2).min())
    if rarest < folds:
        name = "positives" if y.sum() == rarest else "negatives"
        raise ValueError(f"folds: {folds} are more than there are {name}, {rarest}")
    if groups is not None and np.unique(groups).size < folds:
        raise ValueError(f"folds: {folds} are more than there are groups, {np.unique(groups).size}")
    if time is not None and np.unique(time).size <= folds:
        raise ValueError(
            f"time: {folds} folds need at least {folds + 1} different times, but there are "
            f"{np.unique(time).size}"
        )
    places = [_places(y, groups, time, folds, seed + repeat) for repeat in range(repeats)]
    found = Folds(y, places, groups, time, seed)
    found.check(weight)
    return found


def _places(y: Array, groups: Array | None, time: Array | None, folds: int, seed: int) -> Array:
    if time is not None:
        return _chunks(time, folds + 1) - 1
    if groups is None:
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    else:
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    places = np.empty(y.size, np.int16)
    for fold, (_, test) in enumerate(splitter.split(y, y, groups)):
        places[test] = fold
    return places


def _chunks(time: Array, n_chunks: int) -> Array:
    """Chunks of equal size in the order of time; rows of the same time are in the same chunk."""
    starts = np.sort(time)[[i * time.size // n_chunks for i in range(1, n_chunks)]]
    return np.searchsorted(starts, time, side="right").astype(np.int16)
