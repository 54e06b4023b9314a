"""The gradient and Hessian of focal loss against what else computes them.

    pip install --editable '.[bench]' --requirement benchmarks/requirements.txt
    python benchmarks/kernel.py
    python benchmarks/kernel.py --classes 5

Every provider gets float32 labels and margins of a million rows. A copy of the outputs' bytes is
the floor that memory sets.
"""

import argparse
import warnings

import numpy as np
from harness import interleaved, print_machine, print_table

from focal_gbm import BinaryFocalLoss, SoftmaxFocalLoss

GAMMA = 2.0


class Labels:
    """The part of a DMatrix that an objective asks for."""

    def __init__(self, y):
        self.y = y

    def get_label(self):
        return self.y


def numpy_closed_form(y, margin):
    """The package's formulas, as one would write them in NumPy."""
    sign = 2 * y - 1
    t = sign * margin
    e = np.exp(-np.abs(t))
    p = np.where(t >= 0, 1, e) / (1 + e)
    q = np.where(t >= 0, e, 1) / (1 + e)
    log1p = np.log1p(e)
    log_p = np.minimum(t, 0) - log1p
    log_q = np.minimum(-t, 0) - log1p
    power = np.exp(GAMMA * log_q)
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


def torch_autograd(y, margin):
    import torch

    z = torch.from_numpy(margin).requires_grad_()
    target = torch.from_numpy(y)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        z, target, reduction="none"
    )
    loss = (1 - torch.exp(-cross_entropy)) ** GAMMA * cross_entropy
    (grad,) = torch.autograd.grad(loss.sum(), z, create_graph=True)
    (hess,) = torch.autograd.grad(grad.sum(), z)
    return grad.detach().numpy(), hess.numpy()


def binary_providers(n_rows, threads):
    rng = np.random.default_rng(0)
    y = (rng.random(n_rows) < 0.1).astype(np.float32)
    margin = rng.normal(-2, 2, n_rows).astype(np.float32)
    out = np.empty_like(margin), np.empty_like(margin)
    focal = BinaryFocalLoss(GAMMA)

    def copy():
        np.copyto(out[0], y)
        np.copyto(out[1], margin)

    providers = {
        "focal_gbm": lambda: focal.gradient_hessian(y, margin, out=out, n_threads=threads),
        "np.copyto": copy,
        "NumPy closed form": lambda: numpy_closed_form(y, margin),
    }
    try:
        import torch
    except ImportError as error:
        print(f"torch autograd is left out: {error}")
    else:
        torch.set_num_threads(threads)
        providers["torch double autograd"] = lambda: torch_autograd(y, margin)
    try:
        from imxgboost.focal_loss import Focal_Binary_Loss
    except ImportError as error:
        print(f"imbalance-xgboost is left out: {error}")
    else:
        peer, labels = Focal_Binary_Loss(GAMMA), Labels(y)
        providers["imbalance-xgboost"] = lambda: peer.focal_binary_object(margin, labels)
    return providers


def softmax_providers(n_rows, n_classes, threads):
    rng = np.random.default_rng(0)
    y = rng.integers(0, n_classes, n_rows).astype(np.float32)
    margin = rng.normal(0, 2, (n_rows, n_classes)).astype(np.float32)
    out = np.empty_like(margin), np.empty_like(margin)
    focal = SoftmaxFocalLoss(n_classes, GAMMA)

    def copy():
        np.copyto(out[0], margin)
        np.copyto(out[1], margin)

    return {
        "focal_gbm": lambda: focal.gradient_hessian(y, margin, out=out, n_threads=threads),
        "np.copyto": copy,
        "NumPy closed form": lambda: numpy_softmax(y, margin),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    if arguments.classes == 2:
        providers = binary_providers(arguments.rows, arguments.threads)
    else:
        providers = softmax_providers(arguments.rows, arguments.classes, arguments.threads)
    print_machine()
    print(
        f"{arguments.rows} float32 rows, {arguments.classes} classes, "
        f"{arguments.threads} threads, gamma {GAMMA}"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the peers overflow
        seconds = interleaved(providers, arguments.rounds)
    print_table(seconds, "focal_gbm", per=arguments.rows * 1e-9, unit="ns/row")


if __name__ == "__main__":
    main()
