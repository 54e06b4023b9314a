"""Comparisons, their tables, and pictures."""

from typing import Any, assert_type

from focal_gbm import BinaryFocalLoss, FocalLossDisplay, TableEncoder, compare


def on_a_table(X: Any, y: Any) -> None:
    found = compare(X, y, library=["xgboost", "lightgbm"], time_budget="10m", output="folder")
    assert_type(found.verdict, str)
    assert_type(found.cautions, list[str])
    assert_type(found.to_json(), str)
    assert_type(found.to_html("report.html"), None)
    assert_type(TableEncoder().fit(X), TableEncoder)
    assert_type(TableEncoder().fit(X).names_, list[str])

    compare(X)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    compare(X, y, folds="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    compare(X, y, metric=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    found.to_html(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


display = FocalLossDisplay.from_losses([BinaryFocalLoss(0.0), BinaryFocalLoss(2.0)])
assert_type(display.plot(color="black"), FocalLossDisplay)
FocalLossDisplay.from_losses([2.0])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
