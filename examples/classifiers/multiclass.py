"""
Several classes
===============

Softmax focal loss in both libraries, for three classes, two of them rare.
"""

from sklearn.datasets import make_classification
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.model_selection import train_test_split

from focal_gbm.lightgbm import FocalLGBMClassifier
from focal_gbm.xgboost import FocalXGBClassifier

X, y = make_classification(
    6_000,
    n_classes=3,
    weights=[0.9, 0.07, 0.03],
    n_informative=6,
    n_clusters_per_class=1,
    random_state=0,
)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

for model in (
    FocalXGBClassifier(focal_alpha="balanced", n_estimators=40, learning_rate=0.1),
    FocalLGBMClassifier(focal_gamma=[1.0, 2.0, 2.0], n_estimators=40, verbosity=-1),
):
    model.fit(X_train, y_train)
    probabilities = model.predict_proba(X_test)
    print(type(model).__name__, model.loss_)
    print(f"  balanced accuracy {balanced_accuracy_score(y_test, model.predict(X_test)):.3f}")
    print(f"  log loss          {log_loss(y_test, probabilities):.3f}")
    print(f"  mean posterior    {probabilities.mean(axis=0).round(3)}")
