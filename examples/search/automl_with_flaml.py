"""
AutoML with FLAML
=================

Focal loss among FLAML's learners, with gamma and alpha in its search space.

pip install flaml, without its extra "automl", which requires an older XGBoost.
"""

import warnings

from flaml import AutoML, tune
from flaml.automl.model import SKLearnEstimator
from sklearn.datasets import make_classification
from sklearn.metrics import average_precision_score, log_loss
from sklearn.model_selection import train_test_split

from focal_gbm.lightgbm import FocalLGBMClassifier


class FocalLearner(SKLearnEstimator):
    """The classifier in the form that FLAML searches."""

    def __init__(self, task="binary", **config):
        super().__init__(task, **config)
        self.params["verbosity"] = -1
        self.estimator_class = FocalLGBMClassifier

    @classmethod
    def search_space(cls, data_size, task):
        return {
            "n_estimators": {"domain": tune.lograndint(4, 300), "init_value": 30},
            "num_leaves": {"domain": tune.lograndint(4, 64), "init_value": 8},
            "learning_rate": {"domain": tune.loguniform(0.02, 0.5), "init_value": 0.1},
            "focal_gamma": {"domain": tune.uniform(0.0, 5.0), "init_value": 2.0},
            "focal_alpha": {"domain": tune.uniform(0.1, 0.9), "init_value": 0.5},
        }


X, y = make_classification(5_000, weights=[0.95], flip_y=0.02, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

automl = AutoML()
automl.add_learner("focal loss", FocalLearner)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # from FLAML, about how it calls the libraries
    automl.fit(
        X_train,
        y_train,
        task="classification",
        metric="ap",
        estimator_list=["lgbm", "focal loss"],
        eval_method="holdout",
        time_budget=8,  # seconds
        seed=0,
        verbose=0,
    )
for name, loss in automl.best_loss_per_estimator.items():
    print(f"{name}: average precision {1 - loss:.4f} in validation")

found = automl.best_config_per_estimator["focal loss"]
print(f"gamma {found['focal_gamma']:.2f}, alpha {found['focal_alpha']:.2f}")
probability = FocalLGBMClassifier(**found, verbosity=-1).fit(X_train, y_train).predict_proba(X_test)
print(f"average precision {average_precision_score(y_test, probability[:, 1]):.4f}")
print(f"log loss {log_loss(y_test, probability):.4f}")
