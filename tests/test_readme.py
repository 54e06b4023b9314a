"""The README: short, with blocks that run."""

import numpy as np
import pages


def test_blocks_run():
    names = pages.run(pages.README)
    y = names["y_test"]
    of_train, of_classifier = names["probability"], names["model"].predict_proba(names["X_test"])
    for probability in (of_train, of_classifier[:, 1]):
        assert np.mean(probability[y]) > 0.5 > np.mean(probability[~y])
    assert names["logits"].grad.abs().min() > 0


def test_is_one_screen():
    assert len(pages.README.read_text().splitlines()) <= 150
