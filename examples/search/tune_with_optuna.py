"""
Search with Optuna
==================

Tune gamma, alpha and the trees, and stop poor trials early.
"""

import matplotlib.pyplot as plt
import optuna
from optuna_integration import XGBoostPruningCallback
from sklearn.datasets import make_classification
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split

from focal_gbm.xgboost import FocalXGBClassifier

X, y = make_classification(10_000, weights=[0.97], n_informative=6, random_state=0)
X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
X_train, X_valid, y_train, y_valid = train_test_split(X, y, stratify=y, random_state=0)


def average_precision(trial):
    params = {
        "focal_gamma": trial.suggest_float("focal_gamma", 0.0, 4.0),
        "focal_alpha": trial.suggest_float("focal_alpha", 0.1, 0.9),
        "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.3, log=True),
        "max_depth": trial.suggest_int("max_depth", 2, 7),
        "min_child_weight": trial.suggest_float("min_child_weight", 1e-3, 1.0, log=True),
    }
    model = FocalXGBClassifier(
        **params,
        eval_metric="aucpr",
        callbacks=[XGBoostPruningCallback(trial, "validation_0-aucpr")],
    )
    model.fit(X_train, y_train, eval_set=[(X_valid, y_valid)], verbose=False)
    return average_precision_score(y_valid, model.predict_proba(X_valid)[:, 1])


optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
study.optimize(average_precision, n_trials=15)

pruned = sum(trial.state == optuna.trial.TrialState.PRUNED for trial in study.trials)
print(f"{len(study.trials)} trials, {pruned} pruned, best {study.best_value:.3f}")
for name, value in study.best_params.items():
    print(f"  {name:16} {value:.3g}")
model = FocalXGBClassifier(**study.best_params).fit(X, y)
probability = model.predict_proba(X_test)[:, 1]
print(f"average precision on the test set {average_precision_score(y_test, probability):.3f}")

# %%
# Where the search has looked; crosses are trials that were stopped early.

figure, axes = plt.subplots(layout="constrained")
for state, marker in zip(("COMPLETE", "PRUNED"), "ox", strict=True):
    trials = study.get_trials(states=[optuna.trial.TrialState[state]])
    points = axes.scatter(
        [trial.params["focal_gamma"] for trial in trials],
        [trial.params["focal_alpha"] for trial in trials],
        c=[trial.value for trial in trials],
        vmin=0,
        vmax=study.best_value,
        marker=marker,
    )
axes.set(xlabel="gamma", ylabel="alpha")
figure.colorbar(points, label="average precision on the validation rows")
