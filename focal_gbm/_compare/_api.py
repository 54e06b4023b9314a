"""``compare``, and how an experiment becomes a ``Comparison``."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from focal_gbm._extras import needed_by
from focal_gbm._types import Array

with needed_by("focal_gbm.compare", "compare", "optuna", "pandas", "pyarrow", "tqdm"):
    import pandas as pd

    from focal_gbm._compare._contenders import FOCAL, LOG_LOSS
    from focal_gbm._compare._experiment import Bar, Outcomes, Store, fits_of, run_all
    from focal_gbm._compare._measures import Difference, positives_needed
    from focal_gbm._compare._result import Comparison
    from focal_gbm._compare._search import Outcome, Plan, Unit
    from focal_gbm._compare._setup import Experiment, prepared
    from focal_gbm._compare._summary import (
        best_estimator,
        differences_table,
        has_interval,
        headline_of,
        predictions_table,
        rope_of,
        scores_table,
        sentence,
        threshold_of,
        trials_table,
    )
    from focal_gbm._compare._table import leak_sentence

FEW_TRIALS = 5
MOST_POSITIVES = 1_000_000


def compare(
    X: Any,
    y: Any,
    *,
    positive: Any = None,
    sample_weight: Any = None,
    groups: Any = None,
    time: Any = None,
    library: str | Sequence[str] | None = None,
    metric: str = "average precision",
    cost_fn: float | None = None,
    cost_fp: float | None = None,
    folds: int = 5,
    repeats: int | None = None,
    trials: int = 20,
    time_budget: float | str | None = None,
    rope: float = 0.005,
    jobs: int | None = None,
    seed: int = 0,
    output: str | Path | None = None,
    progress: bool = True,
) -> Comparison:
    """Find out whether focal loss is better than log loss on a table, and with which gamma.

    XGBoost and LightGBM are fitted with log loss, with a tuned ``scale_pos_weight``, with focal
    loss at its defaults, and with focal loss with a tuned gamma and alpha. All share the same outer
    folds, and in each fold all have the same number of trials from the same sampler, starting with
    the library's defaults. A search holds out a quarter of the training rows, for early stopping
    and to compare trials. The verdict comes from a correlated Bayesian t-test.

    Parameters
    ----------
    X : DataFrame or array-like of shape (n, n_features)
        Numbers, categories, text, booleans and dates; values may be missing.
    y : array-like of shape (n,)
        Labels of two values, or of more if ``positive`` names one.
    positive : label, optional
        The label treated as positive; by default the rarer one.
    sample_weight : array-like of shape (n,), optional
        Weights >= 0, for fits and scores.
    groups : array-like of shape (n,), optional
        Rows of the same group are never in both the training and the test rows of a fold.
    time : array-like of shape (n,), optional
        Numbers or dates. Each fold trains on earlier rows only.
    library : {"xgboost", "lightgbm"} or list of them, optional
        By default, all that are installed.
    metric : str, default="average precision"
        Or "ROC AUC", "log loss", "Brier score", "recall at precision 0.9", "recall at FPR 0.01"
        (or another number), or "cost".
    cost_fn, cost_fp : float, optional
        Costs of a missed positive and of a false alarm. They set the threshold and define the
        metric "cost".
    folds : int, default=5
        Number of outer folds.
    repeats : int, optional
        How often the rows are split into folds; by default twice, or once with ``time``.
    trials : int, default=20
        Trials per search. Each contender has one search in each fold.
    time_budget : float or str, optional
        Seconds, or text such as "10m" or "1.5h". Every search has an equal share; after its first
        trial, it starts only trials that fit into it. Results then depend on the machine.
    rope : float, default=0.005
        Differences smaller than this count as equal. In the unit of the metric; for log loss, Brier
        score and cost, whose scale depends on the data, as a share of the score of log loss.
    jobs : int, optional
        Number of threads; by default one per processor. Up to 50,000 training rows, fits run in
        parallel on one thread each.
    seed : int, default=0
        Seed of folds, searches and boosters.
    output : str or path, optional
        A folder that keeps finished parts, so that the same call continues from there.
    progress : bool, default=True
        Show a progress bar if standard error is a terminal.

    Returns
    -------
    Comparison
        Ctrl-C ends the experiment early; the result then covers the folds that are finished.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value, columns that cannot be used, folds with one
        class only, and an ``output`` of another experiment.
    OSError
        If ``output`` cannot be written to.
    KeyboardInterrupt
        If nothing is finished yet.

    Examples
    --------
    >>> import numpy as np
    >>> from focal_gbm import compare
    >>> X = np.random.default_rng(0).normal(size=(300, 3))
    >>> found = compare(
    ...     X, X[:, 0] > 1, library="xgboost", folds=2, repeats=1, trials=1, progress=False
    ... )
    >>> found.differences[["library", "contender"]].iloc[-1].tolist()
    ['XGBoost', 'focal loss']
    """
    experiment = prepared(
        X,
        y,
        positive=positive,
        sample_weight=sample_weight,
        groups=groups,
        time=time,
        library=library,
        metric=metric,
        cost_fn=cost_fn,
        cost_fp=cost_fp,
        folds=folds,
        repeats=repeats,
        trials=trials,
        time_budget=time_budget,
        rope=rope,
        jobs=jobs,
        seed=seed,
    )
    store = Store(None if output is None else Path(output).expanduser(), experiment.settings)
    return run_experiment(experiment, store, progress=progress)


def run_experiment(experiment: Experiment, store: Store, *, progress: bool) -> Comparison:
    """Run all parts and summarise their outcomes."""
    plan, units, start = experiment.plan, experiment.units, monotonic()
    bar = Bar(sum(fits_of(unit, plan.n_trials) for unit in units), plan.measure, progress)
    try:
        outcomes, is_finished = run_all(units, plan, store, experiment.n_workers, bar)
    finally:
        bar.close()
    of_folds = _of_finished_folds(units, outcomes)
    if not of_folds:
        raise KeyboardInterrupt  # there is nothing to compare
    final = {unit: found for unit, found in outcomes.items() if unit.fold is None}
    comparison = _comparison(experiment, of_folds, final if is_finished else of_folds)
    n_finished = len({(unit.repeat, unit.fold) for unit in of_folds})
    if not is_finished:
        n_planned = experiment.protocol["folds planned"]
        hint = "" if store.folder is None else " Run the same command again to continue."
        comparison.cautions.insert(0, f"Interrupted after {n_finished} of {n_planned} folds.{hint}")
    comparison.protocol |= {
        "folds finished": n_finished,
        "finished": is_finished,
        "seconds": monotonic() - start,
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
    }
    return comparison


def _of_finished_folds(units: list[Unit], outcomes: Outcomes) -> Outcomes:
    """Outcomes of folds that all contenders have finished: other means are not comparable."""
    unfinished = {(unit.repeat, unit.fold) for unit in units if unit not in outcomes}
    return {
        unit: found
        for unit, found in outcomes.items()
        if unit.fold is not None and (unit.repeat, unit.fold) not in unfinished
    }


def _comparison(experiment: Experiment, outcomes: Outcomes, candidates: Outcomes) -> Comparison:
    """The result of the outcomes of folds, with the best of the candidates."""
    plan = experiment.plan
    scores = scores_table(plan, outcomes, experiment.measures)
    rope = rope_of(scores, plan.measure, experiment.rope)
    differences = differences_table(scores, plan.measure, plan.folds.correlation, rope)
    headline = headline_of(differences)
    is_better = headline.verdict == "better"
    best = _best(candidates, FOCAL if is_better else LOG_LOSS, plan.measure.sign)
    predictions = predictions_table(plan, outcomes)
    threshold, rule = _threshold(predictions, best, experiment.costs)
    verdict = sentence(headline, plan.measure, rope, best)
    estimator, code = best_estimator(best, experiment.positive, threshold, rule, experiment.encoder)
    if experiment.leaks:
        verdict = leak_sentence(experiment.leaks)
    if experiment.leaks or not has_interval(headline):
        estimator, code = None, ""
    return Comparison(
        scores=scores,
        trials=trials_table(outcomes),
        predictions=predictions,
        differences=differences,
        verdict=verdict,
        cautions=[
            *experiment.cautions,
            *_too_few_trials(scores, plan),
            *_too_few_positives(headline, plan.y, rope),
        ],
        best=estimator,
        code=code,
        protocol={**experiment.protocol, "rope": float(f"{rope:.3g}")},
        costs=experiment.costs,
        threshold=threshold,
        threshold_rule=rule,
    )


def _best(outcomes: Outcomes, contender: str, sign: int) -> Outcome:
    """The best search of a contender."""
    rivals = [outcome for unit, outcome in outcomes.items() if unit.contender == contender]
    return max(rivals, key=lambda outcome: sign * outcome.best["value"])


def _threshold(
    predictions: pd.DataFrame, best: Outcome, costs: tuple[float, float] | None
) -> tuple[float, str]:
    """A threshold for the recommended model, from its predictions of the test rows."""
    is_best = (predictions["library"] == best.unit.library) & (
        predictions["contender"] == best.unit.contender
    )
    rows = predictions[is_best]
    y, posterior, weight = (rows[name].to_numpy() for name in ("y", "posterior", "weight"))
    return threshold_of(y, posterior, weight, costs)


def _too_few_trials(scores: pd.DataFrame, plan: Plan) -> list[str]:
    trials = scores.loc[scores["contender"] == FOCAL, "trials"]
    fewest = int(trials.min())
    if fewest >= FEW_TRIALS:
        return []
    found = f"only {fewest} {'trial' if fewest == 1 else 'trials'}"
    place = "per search" if trials.eq(fewest).all() else "in some searches"
    searched = "gamma and alpha were not searched" if fewest == 1 else "too few for gamma and alpha"
    if fewest < plan.n_trials:
        return [f"The time budget allowed {found} {place}: {searched}. Use a larger time budget."]
    return [
        f"There {'was' if fewest == 1 else 'were'} {found} {place}: {searched}. Use more trials."
    ]


def _too_few_positives(headline: Difference, y: Array, rope: float) -> list[str]:
    positives = int(y.sum())
    needed = positives_needed(headline, positives, rope)
    if needed is None:
        return []
    if needed > MOST_POSITIVES:
        return [
            f"A difference of {rope:.2g} cannot be detected in practice: you would need more than "
            f"{MOST_POSITIVES:,} positives; you have {positives:,}."
        ]
    return [
        f"To detect a difference of {rope:.2g} you would need about {needed:,} positives; you have "
        f"{positives:,}."
    ]
