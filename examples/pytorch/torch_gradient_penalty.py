"""
Gradient penalty in PyTorch
===========================

Penalise the gradient of the loss with respect to the inputs, which takes second derivatives.
"""

import torch
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, average_precision_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

from focal_gbm.torch import SigmoidFocalLoss

STEP = 0.1  # of the perturbation, in standard deviations of a feature

X, digit = load_digits(return_X_y=True)
is_eight = digit == 8
X_train, X_test, y_train, y_test = train_test_split(
    X, is_eight, test_size=0.5, stratify=is_eight, random_state=0
)
scaler = StandardScaler().fit(X_train)
rows, test_rows = (torch.tensor(scaler.transform(X)).float() for X in (X_train, X_test))
labels, test_labels = (torch.tensor(y).float() for y in (y_train, y_test))
criterion = SigmoidFocalLoss(alpha=None, gamma=2.0, reduction="none")


def input_gradient(output, rows, **options):
    # One call gives each row's own gradient, as no row enters the output of another.
    return torch.autograd.grad(output.sum(), rows, **options)[0]


def fit(penalty):
    torch.manual_seed(0)  # all networks start from the same weights
    # The penalty's gradient involves second derivatives, including those of the activation.
    network = nn.Sequential(nn.Linear(64, 32), nn.SiLU(), nn.Linear(32, 1), nn.Flatten(0))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    inputs = rows.clone().requires_grad_()
    for _ in range(300):
        optimizer.zero_grad()
        loss = criterion(network(inputs), labels)
        gradient = input_gradient(loss, inputs, create_graph=True)
        (loss.mean() + penalty * gradient.square().sum(1).mean()).backward()
        optimizer.step()
    return network


def perturbed(network):
    inputs = test_rows.clone().requires_grad_()
    # The gradient of the loss has the same signs, but underflows where the network is confident.
    gradient = input_gradient(network(inputs), inputs)
    return test_rows + STEP * (1 - 2 * test_labels).unsqueeze(1) * gradient.sign()


print(f"{y_test.size} rows held out, share of eights {y_test.mean():.3f}")
print("             clean rows                   perturbed rows")
print("penalty      accuracy  average precision  accuracy  average precision")
for penalty in (0.0, 1.0, 10.0, 100.0):
    network = fit(penalty)
    line = f"{penalty:7.1f}"
    for inputs in (test_rows, perturbed(network)):
        with torch.no_grad():
            logits = network(inputs).numpy()
        accuracy = accuracy_score(y_test, logits > 0)
        line += f"{accuracy:14.3f} {average_precision_score(y_test, logits):18.3f}"
    print(line)
