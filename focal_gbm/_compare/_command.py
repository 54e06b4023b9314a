"""The command ``focal-gbm``."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

# pandas and the other dependencies of the extra are imported only after arguments are parsed.
if TYPE_CHECKING:
    from focal_gbm._compare._result import Comparison
    from focal_gbm._compare._setup import Experiment
    from focal_gbm._compare._table import Table

DESCRIPTION = """\
Does focal loss help on your data, and with which gamma? XGBoost and LightGBM are tuned with log
loss, scale_pos_weight and focal loss on the same folds, with the same number of trials. The answer
is one sentence, with its uncertainty, and an HTML report."""

EXAMPLES = """\
examples:
  focal-gbm compare transactions.csv --target is_fraud
  focal-gbm compare loans.parquet --target status --positive default --time issued_on
  focal-gbm compare visits.csv.gz --target ill --group patient --cost-fn 50 --cost-fp 1
  focal-gbm compare --openml 310 --time-budget 10m
  focal-gbm compare -                # data that come with scikit-learn"""

# What the command calls arguments of ``compare``.
OPTIONS = {
    "data": "DATA",
    "X": "DATA",
    "y": "--target",
    "sample_weight": "--weight",
    "groups": "--group",
}
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    arguments = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # its encoding may lack letters of column names
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = _compare(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # as in `focal-gbm compare ... | head`
        # Python flushes again at exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _compare(arguments: argparse.Namespace) -> int:
    try:
        from focal_gbm._compare._api import run_experiment
        from focal_gbm._compare._experiment import Store
        from focal_gbm._compare._setup import prepared
    except ModuleNotFoundError as error:
        return _fail(str(error))
    try:
        table = _table(arguments)
        experiment = prepared(
            table.X,
            table.y,
            sample_weight=table.sample_weight,
            groups=table.groups,
            time=table.time,
            **{name: getattr(arguments, name) for name in _PASSED},
        )
        experiment.protocol["data"] = table.name
        folder = _folder(arguments.output, table, experiment)
        store = Store(folder, experiment.settings)
    except (TypeError, ValueError) as error:
        return _fail(_with_option(str(error)))
    except OSError as error:
        return _fail(f"--output: {error.filename}: {error.strerror}")
    is_chatty = not (arguments.quiet or arguments.json)
    if is_chatty:
        if arguments.data == "-":
            print("scikit-learn's handwritten digits: 100 of the eights and all other digits")
        _introduce(experiment)
    try:
        comparison = run_experiment(experiment, store, progress=not arguments.quiet)
        if comparison.code:
            comparison.code = table.code + comparison.code
        comparison.to_html(folder / "report.html")
        result = comparison.to_json(folder / "result.json")
    except KeyboardInterrupt:
        print(
            "Interrupted before the first fold was finished. Run the same command again to "
            f"continue: what there is so far is kept in {folder}",
            file=sys.stderr,
        )
        return INTERRUPTED
    except OSError as error:
        return _fail(f"--output: {error.filename or folder}: {error.strerror}")
    if is_chatty:
        _explain(comparison, experiment)
    print(result if arguments.json else comparison)
    if is_chatty:
        print(f"Report: {folder / 'report.html'}")
    return 0 if comparison.protocol["finished"] else INTERRUPTED


_PASSED = (
    *("positive", "library", "metric", "cost_fn", "cost_fp", "folds", "repeats", "trials"),
    *("time_budget", "rope", "jobs", "seed"),
)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="focal-gbm", description="Focal loss for gradient boosting.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('focal_gbm')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    compare = commands.add_parser(
        "compare",
        help="find out whether focal loss helps on a table",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_data(compare.add_argument_group("data"))
    _add_experiment(compare.add_argument_group("experiment"))
    _add_output(compare.add_argument_group("output"))
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SystemExit(_fail(message.removeprefix("argument ")))


def _add_data(group: Any) -> None:
    add = group.add_argument
    add("data", metavar="DATA", nargs="?", help="CSV (.csv.gz), Parquet or Arrow file; '-' for "
        "scikit-learn's handwritten digits: 100 of the eights against all others")  # fmt: skip
    add("--openml", metavar="ID", type=int, help="a data set of openml.org instead, by its number")
    add("--target", metavar="COLUMN", help="the column to predict")
    add(
        "--positive",
        metavar="LABEL",
        help="the label treated as positive (default: the rarer of two)",
    )
    add("--drop", metavar="COLUMN", nargs="+", default=[], help="columns to ignore")
    add("--weight", metavar="COLUMN", help="row weights")
    add("--group", metavar="COLUMN", help="folds keep rows of the same group together")
    add("--time", metavar="COLUMN", help="each fold trains on earlier rows only")


def _add_experiment(group: Any) -> None:
    add = group.add_argument
    add("--library", nargs="+", metavar="NAME", help="xgboost, lightgbm (default: both)")
    add("--metric", default="average precision", help="average-precision (default), roc-auc, "
        "log-loss, brier, recall-at-precision-0.9, recall-at-fpr-0.01, cost")  # fmt: skip
    add("--cost-fn", type=float, metavar="COST", help="cost of a missed positive")
    add("--cost-fp", type=float, metavar="COST", help="cost of a false alarm")
    add("--folds", type=int, default=5, metavar="N", help="outer folds (default: 5)")
    add("--repeats", type=int, metavar="N", help="repeats of the folds (default: 2; 1 with --time)")
    add("--trials", type=int, default=20, metavar="N", help="trials per search (default: 20)")
    add("--time-budget", metavar="TIME", help="such as 10m; every search has an equal share")
    add("--rope", type=float, default=0.005, help="differences smaller than this count as "
        "equal (default: 0.005; for log loss, Brier score and cost, a share of the score of log "
        "loss)")  # fmt: skip
    add("--jobs", type=int, metavar="N", help="threads (default: one per processor)")
    add("--seed", type=int, default=0, help="seed of folds, searches and boosters (default: 0)")


def _add_output(group: Any) -> None:
    add = group.add_argument
    add("--output", metavar="FOLDER", type=Path, help="folder for the results; the same "
        "command continues from there (default: named after the data)")  # fmt: skip
    add("--json", action="store_true", help="print the result as JSON")
    add("--quiet", action="store_true", help="print the verdict only")


def _fail(message: str) -> int:
    print(f"focal-gbm: error: {message}", file=sys.stderr)
    return 2


def _with_option(message: str) -> str:
    """An error message of ``compare``, with the option instead of the argument."""
    name, colon, rest = message.partition(":")
    if not colon or not name.isidentifier():
        return message
    return f"{OPTIONS.get(name, '--' + name.replace('_', '-'))}:{rest}"


def _table(arguments: argparse.Namespace) -> "Table":
    from focal_gbm._compare._table import (
        SHIPPED,
        divided,
        rare_eights,
        read_file,
        read_openml,
        some,
    )

    if arguments.data is arguments.openml is None:
        _check_swallowed(arguments)
    if (arguments.data is None) == (arguments.openml is None):
        raise ValueError("data: give a file, '-' or --openml, and one of them only")
    target = arguments.target
    if arguments.openml is not None:
        frame, default = read_openml(arguments.openml)
        name, target = f"openml-{arguments.openml}", target or default
    elif arguments.data == SHIPPED:
        frame = rare_eights()
        name, target = "digits", target or "digit"
    else:
        frame = read_file(arguments.data)
        name = Path(arguments.data).name.partition(".")[0]
    if target is None:
        raise ValueError(f"target: name one of the columns {some(frame.columns)}")
    return divided(
        name,
        frame,
        target,
        drop=arguments.drop,
        weight=arguments.weight,
        group=arguments.group,
        time=arguments.time,
    )


def _check_swallowed(arguments: argparse.Namespace) -> None:
    """Refuse a file that an option with several values has taken as one of them."""
    for name in ("library", "drop"):
        *_, last = getattr(arguments, name) or [""]
        if last == "-" or Path(last).suffix:
            raise ValueError(f"{name}: it took {last!r} as a name: put the file first")


def _folder(output: Path | None, table: "Table", experiment: "Experiment") -> Path:
    """Where results are kept: by default a folder of their own for these data and settings."""
    from focal_gbm._compare._experiment import name_of

    if output is not None:
        return output.expanduser()
    return Path(f"focal-gbm-{table.name}-{name_of(experiment.settings)}")


def _introduce(experiment: "Experiment") -> None:
    told = experiment.protocol
    print(
        f"{told['rows']:,} rows, {told['features']} features, {told['positives']:,} positives "
        f"({told['positives'] / told['rows']:.2%}): the target is {experiment.positive!r}"
    )
    notes = [*experiment.cautions, *([told["subsampling"]] if told["subsampling"] else [])]
    print(*notes, sep="\n", end="\n" * bool(notes), flush=True)


def _explain(comparison: "Comparison", experiment: "Experiment") -> None:
    from focal_gbm._compare._summary import rounded_down

    metric = comparison.protocol["metric"]
    groups = comparison.scores.groupby(["library", "contender"], sort=False)
    shown = [metric, "log loss", "Brier score", *["cost"] * (comparison.costs is not None)]
    means = groups[list(dict.fromkeys(shown))].mean()
    effort = groups[["trials", "search seconds", "fit seconds"]].sum()
    table = means.join(effort)
    times = ("search seconds", "fit seconds")
    cells = {name: "{:.4f}" if name in means else "{:.1f}" for name in (*means, *times)}
    formatters = {name: cell.format for name, cell in cells.items()}
    n_folds = comparison.protocol["folds finished"]
    folds = "1 fold" if n_folds == 1 else f"{n_folds} folds"
    print(f"\nMeans over {folds}, sums of trials and seconds:")
    print(table.reset_index().to_string(index=False, formatters=formatters))
    if "chosen" in means.index:
        print("'chosen' uses, in each fold, whichever library did better in the inner search.")
    differences = comparison.differences.copy()
    probabilities = ["better", "same", "worse"]
    differences[probabilities] = differences[probabilities].map(rounded_down)
    text = differences.to_string(index=False, na_rep="", float_format="{:.3f}".format)
    print(f"\nGain over log loss, 95 % interval, probabilities:\n{text}\n")
    if comparison.code:
        print(comparison.code)
    new = [caution for caution in comparison.cautions if caution not in experiment.cautions]
    print(*new, sep="\n", end="\n" * bool(new))
