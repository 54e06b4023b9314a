"""Kernels, iterations of training, losses of PyTorch, an evaluated fit, and what starting takes.

asv calls what is named ``time_`` many times in one process, and runs the code that a function
named ``timeraw_`` returns once in each of several.
"""

import lightgbm as lgb
import numpy as np
import torch
import xgboost as xgb

from focal_gbm import BinaryFocalLoss, FocalObjective, SoftmaxFocalLoss
from focal_gbm.torch import sigmoid_focal_loss, softmax_focal_loss
from focal_gbm.xgboost import FocalXGBClassifier

GAMMA = 2.0


def features(n_rows):
    """Features, and labels of which one in nine is positive."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 28)).astype(np.float32)
    margin = 1.5 * X[:, 0] - X[:, 1] * X[:, 2] + np.sin(3 * X[:, 3]) - 3
    return X, (rng.random(n_rows) < 1 / (1 + np.exp(-margin))).astype(np.float32)


class Kernels:
    """Of labels and margins in memory, into arrays that are there."""

    def setup(self):
        rng = np.random.default_rng(0)
        self.y = (rng.random(10**6) < 0.1).astype(np.float32)
        self.margin = 2 * rng.standard_normal(10**6, np.float32) - np.float32(2)
        self.classes = rng.integers(0, 10, 10**5).astype(np.float32)
        self.margins = 2 * rng.standard_normal((10**5, 10), np.float32)
        self.binary, self.softmax = BinaryFocalLoss(GAMMA), SoftmaxFocalLoss(10, GAMMA)
        self.out = np.empty_like(self.margin), np.empty_like(self.margin)
        self.outs = np.empty_like(self.margins), np.empty_like(self.margins)

    def time_binary(self):
        self.binary.gradient_hessian(self.y, self.margin, out=self.out)

    def time_binary_of_few_rows(self):
        few = slice(10**4)
        out = self.out[0][few], self.out[1][few]
        self.binary.gradient_hessian(self.y[few], self.margin[few], out=out)

    def time_binary_loss(self):
        self.binary.loss(self.y, self.margin)

    def time_posterior(self):
        self.binary.posterior(self.margin)

    def time_softmax(self):
        self.softmax.gradient_hessian(self.classes, self.margins, out=self.outs)


class XGBoost:
    """An iteration on 100,000 rows."""

    number, repeat = 1, 10

    def setup(self):
        X, y = features(100_000)
        self.objective = FocalObjective(GAMMA)
        start = self.objective.loss.initial_margin(y)
        self.dtrain = xgb.QuantileDMatrix(X, y)
        params = {"objective": "binary:logistic", "base_score": 1 / (1 + np.exp(-start))}
        self.booster = xgb.Booster(params, [self.dtrain])

    def time_iteration(self):
        self.booster.update(self.dtrain, self.booster.num_boosted_rounds(), fobj=self.objective)


class LightGBM:
    """An iteration on 100,000 rows."""

    number, repeat = 1, 10

    def setup(self):
        X, y = features(100_000)
        self.objective = FocalObjective(GAMMA)
        start = np.full(y.size, self.objective.loss.initial_margin(y))
        # Left to itself, LightGBM times both ways and may choose another one each time.
        params = {"objective": "none", "verbose": -1, "force_col_wise": True}
        self.booster = lgb.Booster(params, lgb.Dataset(X, y, init_score=start))

    def time_iteration(self):
        self.booster.update(fobj=self.objective)


class Torch:
    """The mean of a loss, and its gradient."""

    def setup(self):
        torch.manual_seed(0)
        self.logits = (3 * torch.randn(10**6)).requires_grad_()
        self.target = (torch.rand(10**6) < 0.1).float()
        self.rows = (3 * torch.randn(10**5, 10)).requires_grad_()
        self.classes = torch.randint(0, 10, (10**5,))

    def time_sigmoid(self):
        loss = sigmoid_focal_loss(self.logits, self.target, 0.25, GAMMA, "mean")
        torch.autograd.grad(loss, self.logits)

    def time_softmax(self):
        loss = softmax_focal_loss(self.rows, self.classes, gamma=GAMMA)
        torch.autograd.grad(loss, self.rows)


class Fit:
    """Of a classifier that evaluates rows in every round."""

    number, repeat = 1, 3

    def setup(self):
        X, y = features(50_000)
        self.train, self.valid = (X[::2], y[::2]), (X[1::2], y[1::2])

    def time_evaluated(self):
        model = FocalXGBClassifier(n_estimators=20, early_stopping_rounds=20)
        model.fit(*self.train, eval_set=[self.valid], verbose=False)


class Start:
    """Of a fresh process, which compiles nothing in all but the first one."""

    repeat = 3

    def timeraw_import(self):
        return "import focal_gbm"

    def timeraw_first_call(self):
        return """
            from focal_gbm import BinaryFocalLoss
            BinaryFocalLoss().gradient_hessian([0.0, 1.0], [0.5, 0.5])
        """
