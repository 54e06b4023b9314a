"""Other implementations of the gradient and Hessian of focal loss or log loss, a function for each.

Each takes labels and margins, float32 or float64, and returns gradient and Hessian.
"""

import numpy as np

GAMMA = 2.0


class Labels:
    """The part of a DMatrix or Dataset that an objective asks for."""

    def __init__(self, y):
        self.y = y

    def get_label(self):
        return self.y


def numpy_closed_form(y, margin, xp=np):
    """The package's formulas, as one would write them in NumPy, or in CuPy if ``xp`` is CuPy."""
    sign = 2 * y - 1
    t = sign * margin
    e = xp.exp(-xp.abs(t))
    p = xp.where(t >= 0, 1, e) / (1 + e)
    q = xp.where(t >= 0, e, 1) / (1 + e)
    log1p = xp.log1p(e)
    log_p = xp.minimum(t, 0) - log1p
    log_q = xp.minimum(-t, 0) - log1p
    power = xp.exp(GAMMA * log_q)
    grad = sign * power * (GAMMA * p * log_p - q)
    hess = power * p * (q * (GAMMA * log_p + 2 * GAMMA + 1) - GAMMA**2 * p * log_p)
    return grad, hess


def numpy_softmax(y, margin):
    """The same for several classes."""
    rows = np.arange(y.size)
    true = y.astype(np.intp)
    others = margin.copy()
    others[rows, true] = -np.inf
    top = others.max(axis=1, keepdims=True)
    shares = np.exp(others - top)
    total = shares.sum(axis=1, keepdims=True)
    shares /= total
    t = margin[rows, true] - (top + np.log(total))[:, 0]
    first, second = numpy_closed_form(np.ones_like(t), t)
    first, second = first[:, None], second[:, None]
    grad = -first * shares
    hess = second * shares**2 - first * shares * (1 - shares)
    grad[rows, true] = first[:, 0]
    hess[rows, true] = second[:, 0]
    return grad, hess


def numerical_differentiation(y, margin):
    """Central differences of the loss, as a generic helper would take them."""

    def loss(z):
        t = (2 * y - 1) * z
        return (1 + np.exp(t)) ** -GAMMA * np.logaddexp(0, -t)

    step = 1e-4 if margin.dtype == np.float64 else 1e-2
    below, here, above = loss(margin - step), loss(margin), loss(margin + step)
    return (above - below) / (2 * step), (above - 2 * here + below) / step**2


def torch_autograd(y, margin):
    """The usual composite, differentiated twice."""
    import torch

    z, target = torch.from_numpy(margin).requires_grad_(), torch.from_numpy(y)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        z, target, reduction="none"
    )
    loss = (1 - torch.exp(-cross_entropy)) ** GAMMA * cross_entropy
    (grad,) = torch.autograd.grad(loss.sum(), z, create_graph=True)
    (hess,) = torch.autograd.grad(grad.sum(), z)
    return grad.detach().numpy(), hess.numpy()


def imbalance_xgboost(y, margin):
    from imxgboost.focal_loss import Focal_Binary_Loss

    return Focal_Binary_Loss(GAMMA).focal_binary_object(margin, Labels(y))


def imlightgbm(y, margin):
    from imlightgbm.objective import binary_focal_objective

    return binary_focal_objective(y, margin, GAMMA)


def imlightgbm_multiclass(y, margin):
    from imlightgbm.objective import multiclass_focal_objective

    return multiclass_focal_objective(y, margin, GAMMA, margin.shape[1])


def gbdt_cbl(y, margin):
    from gbdtCBL.binary import FLLoss

    return FLLoss(GAMMA)(y, margin)


def gbdt_cbl_multiclass(y, margin):
    from gbdtCBL.xgbmulti import XGBFLMulti

    return tuple(np.reshape(array, margin.shape) for array in XGBFLMulti(GAMMA)(y, margin))


def bokbokbok(y, margin):
    from bokbokbok.loss_functions.classification import WeightedFocalLoss

    return WeightedFocalLoss(alpha=1.0, gamma=GAMMA)(margin, Labels(y))


def half_binomial(y, margin):
    """scikit-learn's compiled log loss: not focal loss, but shows what compiling gains."""
    from sklearn._loss import HalfBinomialLoss

    return HalfBinomialLoss().gradient_hessian(y, margin, n_threads=N_THREADS)


N_THREADS = 2  # for functions that take a number of threads

BINARY = {
    "NumPy closed form": numpy_closed_form,
    "numerical differentiation": numerical_differentiation,
    "torch autograd": torch_autograd,
    "imbalance-xgboost": imbalance_xgboost,
    "imlightgbm": imlightgbm,
    "gbdtCBL": gbdt_cbl,
    "bokbokbok": bokbokbok,
    "scikit-learn, log loss": half_binomial,
}
SEVERAL = {
    "NumPy closed form": numpy_softmax,
    "imlightgbm": imlightgbm_multiclass,
    "gbdtCBL": gbdt_cbl_multiclass,
}
