"""
Segmentation in PyTorch
=======================

Classify pixels, most of which are background: softmax focal loss plus soft Dice.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import one_hot

from focal_gbm.torch import SoftmaxFocalLoss

N_CLASSES = 3  # background, faint stroke, strong stroke
IGNORED = 255
SIZE = 20

rng = np.random.default_rng(0)
digits = load_digits().images[:1200]
canvas = np.zeros((len(digits), SIZE, SIZE))
for image, digit in zip(canvas, digits, strict=True):
    top, left = rng.integers(SIZE - 8, size=2)
    image[top : top + 8, left : left + 8] = digit
# Ink from 0 to 16. Values between two classes are too ambiguous to label, and are ignored.
mask = np.select([canvas < 3, canvas < 5, canvas < 11, canvas < 13], [0, IGNORED, 1, IGNORED], 2)
noisy = canvas / 16 + rng.normal(0, 0.15, canvas.shape)

images, masks = torch.tensor(noisy).float().unsqueeze(1), torch.tensor(mask)
(train_images, test_images), (train_masks, test_masks) = images.split(1000), masks.split(1000)
focal = SoftmaxFocalLoss(gamma=2.0, alpha=[0.5, 1.0, 1.0], ignore_index=IGNORED)


def planes(classes, counts):
    """One plane per class: ones where a pixel has the class; zeros where it does not count."""
    return (one_hot(classes.where(counts, 0), N_CLASSES) * counts.unsqueeze(-1)).movedim(-1, 1)


def soft_dice(logits, target):
    counts = target != IGNORED
    true, probability = planes(target, counts), logits.softmax(1) * counts.unsqueeze(1)
    overlap, total = (x.sum((0, 2, 3)) for x in (true * probability, true + probability))
    return 1 - (2 * overlap / total).mean()


def evaluate(when):
    with torch.no_grad():
        logits = network(test_images)
    counts = test_masks != IGNORED
    true, predicted = planes(test_masks, counts), planes(logits.argmax(1), counts)
    ious = (true & predicted).sum((0, 2, 3)) / (true | predicted).sum((0, 2, 3))
    losses = f"focal {focal(logits, test_masks):.4f}, Dice {soft_dice(logits, test_masks):.3f}"
    print(f"{when} training, loss: {losses}")
    print(f"  mean IoU {ious.mean():.3f}, by class {ious.numpy().round(3)}")


torch.manual_seed(0)
hidden = nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
network = nn.Sequential(*hidden, nn.Conv2d(16, N_CLASSES, 1))
optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
shares = test_masks.flatten().bincount()[:N_CLASSES] / test_masks.numel()
print(f"share of the pixels by class {shares.numpy().round(3)}, the rest is ignored")
evaluate("before")
for _ in range(4):
    for batch in torch.randperm(len(train_images)).split(50):
        optimizer.zero_grad()
        logits, target = network(train_images[batch]), train_masks[batch]
        (focal(logits, target) + soft_dice(logits, target)).backward()
        optimizer.step()
evaluate("after")

# %%
# Images, labels and predictions. White pixels do not count.

with torch.no_grad():
    predicted = network(test_images[:5]).argmax(1)
figure, axes = plt.subplots(3, 5, figsize=(8, 5), layout="constrained")
for i, (image, labels, classes) in enumerate(axes.T):
    image.imshow(test_images[i, 0], cmap="gray")
    labels.imshow(np.ma.masked_equal(test_masks[i], IGNORED), vmin=0, vmax=N_CLASSES - 1)
    classes.imshow(predicted[i], vmin=0, vmax=N_CLASSES - 1)
for ax in axes.flat:
    ax.set_axis_off()
