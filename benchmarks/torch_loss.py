"""Focal loss in PyTorch, forward and backward, against the usual composite of operations.

    pip install --editable '.[bench,torch]'
    python benchmarks/torch_loss.py

Every provider computes the mean loss and its gradient with respect to the logits. Memory is the
peak of the process beyond what it held before, as Linux counts it, for one forward and backward
pass.
"""

import argparse
from itertools import product

import torch
from harness import interleaved, peak_memory, print_machine, print_table
from torch.nn import functional

from focal_gbm.torch import sigmoid_focal_loss, softmax_focal_loss

ALPHA, GAMMA = 0.25, 2.0
SMALL = 256  # where calling costs more than computing
MANY_CLASSES = (4096, 1000), (64, 50_257)


def sigmoid_composite(logits, target):
    """Torchvision's definition."""
    p = torch.sigmoid(logits)
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p_true = p * target + (1 - p) * (1 - target)
    alpha = ALPHA * target + (1 - ALPHA) * (1 - target)
    return (alpha * (1 - p_true) ** GAMMA * cross_entropy).mean()


def softmax_composite(logits, target):
    log_p = functional.log_softmax(logits, dim=1)
    cross_entropy = functional.nll_loss(log_p, target, reduction="none")
    return ((1 - torch.exp(-cross_entropy)) ** GAMMA * cross_entropy).mean()


def shares_composite(logits, target):
    log_p = functional.log_softmax(logits, dim=1)
    return -(target * (1 - log_p.exp()) ** GAMMA * log_p).sum(1).mean()


def sigmoid_providers(n_elements):
    logits = torch.randn(n_elements) * 3
    target = (torch.rand(n_elements) < 0.1).float()
    return (logits, target), {
        "focal_gbm": lambda z, y: sigmoid_focal_loss(z, y, ALPHA, GAMMA, "mean"),
        "composite": sigmoid_composite,
        "composite, compiled": torch.compile(sigmoid_composite),
        "F.bce_with_logits": functional.binary_cross_entropy_with_logits,
    }


def softmax_providers(n_rows, n_classes):
    logits, target = torch.randn(n_rows, n_classes) * 3, torch.randint(0, n_classes, (n_rows,))
    return (logits, target), {
        "focal_gbm": lambda z, y: softmax_focal_loss(z, y, gamma=GAMMA),
        "composite": softmax_composite,
        "composite, compiled": torch.compile(softmax_composite),
        "F.cross_entropy": functional.cross_entropy,
    }


def many_classes_providers(n_rows, n_classes, label_smoothing):
    """As many classes as in language models, against the loss that these use."""
    logits, target = torch.randn(n_rows, n_classes) * 3, torch.randint(0, n_classes, (n_rows,))
    smoothed = {"label_smoothing": label_smoothing}
    return (logits, target), {
        "focal_gbm": lambda z, y: softmax_focal_loss(z, y, gamma=GAMMA, **smoothed),
        "F.cross_entropy": lambda z, y: functional.cross_entropy(z, y, **smoothed),
    }


def shares_providers(n_rows, n_classes):
    logits = torch.randn(n_rows, n_classes) * 3
    target = torch.randn(n_rows, n_classes).softmax(1)
    return (logits, target), {
        "focal_gbm": lambda z, y: softmax_focal_loss(z, y, gamma=GAMMA),
        "composite": shares_composite,
        "composite, compiled": torch.compile(shares_composite),
        "F.cross_entropy": functional.cross_entropy,
    }


def forward_and_backward(loss, logits, target):
    logits = logits.detach().requires_grad_()
    loss(logits, target).backward()
    return logits.grad


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--elements", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    size = arguments.rows, arguments.classes
    cases = {
        f"sigmoid, {arguments.elements} elements": sigmoid_providers(arguments.elements),
        f"sigmoid, {SMALL} elements": sigmoid_providers(SMALL),
        f"softmax, {arguments.rows} x {arguments.classes}": softmax_providers(*size),
        f"softmax, shares as labels, {arguments.rows} x {arguments.classes}": shares_providers(
            *size
        ),
    }
    for (n_rows, n_classes), smoothing in product(MANY_CLASSES, (0.0, 0.1)):
        name = f"softmax, {n_rows} x {n_classes}, label smoothing {smoothing:g}"
        cases[name] = many_classes_providers(n_rows, n_classes, smoothing)
    print_machine()
    for name, (inputs, losses) in cases.items():
        print(f"{name}, float32, {arguments.threads} threads, gamma {GAMMA}")
        providers = {
            provider: lambda loss=loss, inputs=inputs: forward_and_backward(loss, *inputs)
            for provider, loss in losses.items()
        }
        # Without a pause, as in training: a loss follows the operations of a network.
        seconds = interleaved(providers, arguments.rounds, pause=0)
        print_table(seconds, "focal_gbm", per=1e-3, unit="ms")
        bytes_in = sum(tensor.nbytes for tensor in inputs)
        print(f"peak memory beyond the inputs' {bytes_in / 1e6:.1f} MB, in MB")
        for provider, action in providers.items():
            print(f"    {provider:20} {peak_memory(action) / 1e6:8.1f}")
        print()


if __name__ == "__main__":
    main()
