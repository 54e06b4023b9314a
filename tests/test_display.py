"""FocalLossDisplay draws what the losses compute."""

import matplotlib as mpl
import numpy as np
import pytest
from numpy.testing import assert_allclose

from focal_gbm import BinaryFocalLoss, FocalLossDisplay, SoftmaxFocalLoss

mpl.use("agg")


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    mpl.pyplot.close("all")


def test_curves_are_those_of_the_losses():
    losses = [BinaryFocalLoss(0), BinaryFocalLoss((1, 2), 0.25)]
    display = FocalLossDisplay.from_losses(losses)
    assert display.lines_.shape == (2, 3)
    assert [axes.get_ylabel() for axes in display.axes_] == ["loss", "gradient", "Hessian"]
    texts = [text.get_text() for text in display.axes_[0].get_legend().get_texts()]
    assert texts == ["gamma 0", "gamma (1.0, 2.0), alpha 0.25"]
    for loss, lines in zip(losses, display.lines_, strict=True):
        p = lines[0].get_xdata()
        margin = np.log(p / (1 - p))
        expected = (
            loss.loss(np.ones(p.size), margin),
            *loss.gradient_hessian(np.ones(p.size), margin),
        )
        for line, values in zip(lines, expected, strict=True):
            assert_allclose(line.get_ydata(), values, rtol=1e-6)
    # Log loss, its gradient and its Hessian.
    p = display.probability
    assert_allclose(display.curves[0], [-np.log(p), p - 1, p * (1 - p)], atol=1e-12)


def test_draws_into_given_axes_with_given_lines():
    _, axes = mpl.pyplot.subplots(3, 1)
    display = FocalLossDisplay.from_losses([BinaryFocalLoss(2)], ax=axes, linestyle=":")
    assert display.figure_ is axes[0].figure
    assert display.lines_[0, 1].get_linestyle() == ":"
    again = display.plot()
    assert again is display
    assert display.figure_ is not axes[0].figure


def test_what_can_be_wrong():
    with pytest.raises(TypeError, match=r"^losses: .*SoftmaxFocalLoss"):
        FocalLossDisplay.from_losses([SoftmaxFocalLoss(3)])
    with pytest.raises(TypeError, match=r"^losses: expected a sequence .*BinaryFocalLoss"):
        FocalLossDisplay.from_losses(BinaryFocalLoss())
    with pytest.raises(ValueError, match=r"^losses: .*got none"):
        FocalLossDisplay.from_losses([])
    with pytest.raises(ValueError, match=r"^losses: .*'balanced'.* use loss.resolve"):
        FocalLossDisplay.from_losses([BinaryFocalLoss(alpha="balanced")])
    with pytest.raises(ValueError, match=r"^ax: expected 3 axes, got 1"):
        FocalLossDisplay.from_losses([BinaryFocalLoss()], ax=mpl.pyplot.figure().gca())
    with pytest.raises(ValueError, match=r"^curves: expected shape \(1, 3, 2\), got \(2,\)"):
        FocalLossDisplay(probability=np.zeros(2), curves=np.zeros(2), labels=["one"])
