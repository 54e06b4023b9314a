"""Focal loss in 50-digit arithmetic, itself checked against numerical differentiation.

The gradient is by the chain rule through the posterior, dividing by p and raising 1 - p to
gamma - 1, unlike the package's formulas.
"""

import mpmath as mp

mp.mp.dps = 50


def posteriors(t):
    """p, q = 1 - p and their logarithms at a margin that is positive on the true class's side."""
    t = mp.mpf(t)
    e = mp.exp(-abs(t))
    larger, smaller = 1 / (1 + e), e / (1 + e)
    log_larger = -mp.log1p(e)
    log_smaller = log_larger - abs(t)
    if t >= 0:
        return larger, smaller, log_larger, log_smaller
    return smaller, larger, log_smaller, log_larger


def loss(t, gamma):
    _, q, log_p, _ = posteriors(t)
    return -(q**gamma) * log_p


def gradient(t, gamma):
    p, q, log_p, _ = posteriors(t)
    by_p = gamma * q ** (gamma - 1) * log_p - q**gamma / p
    return by_p * p * q


def hessian_terms(t, gamma):
    """Terms whose sum is the second derivative, none larger than it must be."""
    p, q, log_p, _ = posteriors(t)
    power = q**gamma
    return [
        power * p * q * gamma * log_p,
        power * p * q * (2 * gamma + 1),
        -power * gamma**2 * p**2 * log_p,
    ]


def posterior_margin(z, gamma, alpha):
    """Log-odds of the posterior from the two gradients; gamma and alpha negative class first."""
    negative = alpha[0] * -gradient(-z, gamma[0])
    positive = alpha[1] * -gradient(z, gamma[1])
    return mp.log(negative) - mp.log(positive)


def softmax_log_odds(margins, true):
    """Margin of the true class less the logsumexp of the others, and the others' shares."""
    margins = [mp.mpf(float(z)) for z in margins]
    others = [z for j, z in enumerate(margins) if j != true]
    top = max(others)
    total = mp.fsum(mp.exp(z - top) for z in others)
    shares = [mp.exp(z - top) / total if j != true else mp.mpf(0) for j, z in enumerate(margins)]
    return margins[true] - top - mp.log(total), shares


def softmax_posteriors(margins, gamma, alpha):
    """Posterior by class at a margin, from the condition that the expected gradient vanishes."""
    unnormalised = []
    for j in range(len(margins)):
        t, _ = softmax_log_odds(margins, j)
        p, q, log_p, _ = posteriors(t)
        unnormalised.append(p / (alpha[j] * q ** (gamma[j] - 1) * (q - gamma[j] * p * log_p)))
    return [value / mp.fsum(unnormalised) for value in unnormalised]
