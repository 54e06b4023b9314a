"""
Focal losses of CatBoost and YDF
================================

Turn their scores into probabilities. pip install catboost ydf
"""

import numpy as np
import ydf
from catboost import CatBoostClassifier
from sklearn.datasets import make_classification
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from focal_gbm import BinaryFocalLoss

GAMMA, ALPHA = 2.0, 0.25
X, y = make_classification(
    20_000, n_features=8, n_informative=5, weights=[0.9], flip_y=0.05, random_state=0
)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)


def catboost_margin(loss_function):
    model = CatBoostClassifier(
        loss_function=loss_function,
        iterations=500,
        depth=4,
        verbose=False,
        allow_writing_files=False,
    )
    return model.fit(X_train, y_train).predict(X_test, prediction_type="RawFormulaVal")


def ydf_margin(**loss):
    columns = {f"x{i}": X_train[:, i] for i in range(X.shape[1])}
    model = ydf.GradientBoostedTreesLearner(
        label="y", num_trees=200, apply_link_function=False, **loss
    ).train({**columns, "y": y_train}, verbose=0)
    return model.predict({f"x{i}": X_test[:, i] for i in range(X.shape[1])})


loss = BinaryFocalLoss(GAMMA, ALPHA)  # in both libraries alpha is the weight of the positive class
margins = {
    "CatBoost": (
        catboost_margin(f"Focal:focal_alpha={ALPHA};focal_gamma={GAMMA}"),
        catboost_margin("Logloss"),
    ),
    "YDF": (
        ydf_margin(loss="BINARY_FOCAL_LOSS", focal_loss_alpha=ALPHA, focal_loss_gamma=GAMMA),
        ydf_margin(loss="BINOMIAL_LOG_LIKELIHOOD"),
    ),
}
print(f"{y_test.mean():.1%} of the labels are positive")
for library, (focal, other) in margins.items():
    for name, probability in (
        ("focal loss, its own sigmoid", 1 / (1 + np.exp(-focal))),
        ("focal loss, posterior", loss.posterior(focal)),
        ("log loss", 1 / (1 + np.exp(-other))),
    ):
        print(
            f"{library:8} {name:27} log loss {log_loss(y_test, probability):.3f}, "
            f"mean probability {probability.mean():.1%}"
        )
