"""
Neural network for a rare class
===============================

Train with focal loss, and get probabilities from the logits.
"""

import torch
from scipy.special import expit
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

from focal_gbm import BinaryFocalLoss
from focal_gbm.torch import SigmoidFocalLoss

GAMMA, ALPHA = 2.0, 0.75

X, digit = load_digits(return_X_y=True)
is_eight = digit == 8
X_train, X_test, y_train, y_test = train_test_split(
    X, is_eight, test_size=0.5, stratify=is_eight, random_state=0
)
scaler = StandardScaler().fit(X_train)
rows, test_rows = (torch.tensor(scaler.transform(X)).float() for X in (X_train, X_test))
labels = torch.tensor(y_train).float()


def test_logits(criterion):
    torch.manual_seed(0)  # both networks start from the same weights
    network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))
    # An overfitted network is overconfident on new rows, and the posterior takes its logits at
    # face value. Strong weight decay prevents that.
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        criterion(network(rows), labels).backward()
        optimizer.step()
    with torch.no_grad():
        return network(test_rows).double().numpy()


log_loss_logits = test_logits(nn.BCEWithLogitsLoss())
focal_logits = test_logits(SigmoidFocalLoss(alpha=ALPHA, gamma=GAMMA))

# The same loss as in training, so its posterior undoes the distortion by gamma and alpha.
posterior = BinaryFocalLoss(gamma=GAMMA, alpha=ALPHA).posterior(focal_logits)

print(f"{y_test.size} rows held out, share of eights {y_test.mean():.3f}")
print("                     average precision  log loss  mean probability")
for name, probability in (
    ("log loss, sigmoid", expit(log_loss_logits)),
    ("focal, bare sigmoid", expit(focal_logits)),
    ("focal, posterior", posterior),
):
    precision = average_precision_score(y_test, probability)
    loss = log_loss(y_test, probability)
    print(f"{name:20} {precision:17.3f} {loss:9.3f} {probability.mean():17.3f}")
