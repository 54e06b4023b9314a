"""What a LightGBM booster and its file record about focal loss, and classifiers saved in files.

The record is a line of JSON among the parameters of the model's text: the "loss"; the "start" of
the margins and the "shift" of the intercept, both of which are in the first trees; "class_prior",
the share of each class in the training data; and "classes", the labels of a classifier.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import lightgbm as lgb
from sklearn.utils.validation import check_is_fitted

from focal_gbm._estimator import FocalClassifier
from focal_gbm._files import write_whole
from focal_gbm._stored import (
    ERRORS,
    classes_from,
    damaged,
    decoded,
    labels_of,
    loss_from,
    margins,
    parameters_of,
    prior_of,
)
from focal_gbm._types import Array
from focal_gbm._validation import check_prior
from focal_gbm.lightgbm._internals import NativeClassifier, parameter_of, set_fitted, with_parameter
from focal_gbm.objective import Loss

_NAME = "focal_gbm"


def stored_of(booster: lgb.Booster) -> dict[str, Any]:
    """What a booster records, nothing if it was not trained by this package."""
    text = parameter_of(booster, _NAME)
    return {} if text is None else decoded(_NAME, text)


def with_stored(model: str, stored: dict[str, Any]) -> str:
    """The text of a model with this record."""
    return with_parameter(model, _NAME, json.dumps(stored))


def to_store(
    loss: Loss, start: Array | None, shift: Array, totals: Array | None, classes: Array | None
) -> dict[str, Any]:
    """What a model should record, as far as it is known."""
    stored = {
        "loss": None if loss.alpha == "balanced" else parameters_of(loss),
        "start": None if start is None else start.tolist(),
        "shift": shift.tolist(),
        "class_prior": None if totals is None else prior_of(totals),
        "classes": None if classes is None else labels_of(classes),
    }
    return {name: part for name, part in stored.items() if part is not None}


def loss_of(booster: lgb.Booster) -> Loss | None:
    """The loss of a booster trained by this package, None if it records none."""
    loss: Loss | None = _part(booster, "loss", lambda part: loss_from(part, n_classes_of(booster)))
    return loss


def classes_of(booster: lgb.Booster) -> Array | None:
    """The labels of a booster's classes, None if it was trained without a classifier."""
    classes: Array | None = _part(booster, "classes", classes_from)
    return classes


def class_prior_of(booster: lgb.Booster) -> Array | None:
    """The share of each class in a booster's training data, None if it records none."""
    n_classes = n_classes_of(booster)
    prior: Array | None = _part(
        booster, "class_prior", lambda part: check_prior("class_prior", part, n_classes)
    )
    return prior


def margins_of(booster: lgb.Booster, name: str) -> Array | None:
    """The "start" or the "shift" of a booster, None if it records none."""
    n_margins = booster.num_model_per_iteration()
    margin: Array | None = _part(booster, name, lambda part: margins(part, n_margins))
    return margin


def n_classes_of(booster: lgb.Booster) -> int:
    """Number of classes of the loss."""
    return max(2, booster.num_model_per_iteration())


def check_is_whole(model: str) -> None:
    """Refuse a model's text that is cut off: LightGBM might never return from reading it."""
    if not re.search(r"^end of parameters\n\npandas_categorical:.*\n\Z", model, re.MULTILINE):
        raise ValueError("fname: the file is no model of LightGBM, or has been cut off")


def _part(booster: lgb.Booster, name: str, read: Any) -> Any:
    stored = stored_of(booster)
    if name not in stored:
        return None
    try:
        return read(stored[name])
    except ERRORS as error:
        raise damaged(_NAME, json.dumps(stored), error) from None


class SavedClassifier(FocalClassifier, NativeClassifier):
    """A classifier that can be saved and loaded."""

    def save_model(self, fname: str | os.PathLike[str]) -> None:
        """Save the model, with gamma, alpha and the labels, to a file that is replaced as a whole.

        The content is that of ``booster_.save_model``, which plain LightGBM reads. An existing file
        stays until the new one is complete and synced, and the new one keeps its mode and owner.

        Parameters
        ----------
        fname : str or path
            Where to save it.

        Returns
        -------
        None

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        OSError
            If the folder does not exist or is not writable, and if the disk is full.

        Examples
        --------
        >>> import numpy as np, tempfile
        >>> from focal_gbm.lightgbm import FocalLGBMClassifier
        >>> X = np.random.default_rng(0).normal(size=(500, 3))
        >>> model = FocalLGBMClassifier(n_estimators=5, verbosity=-1).fit(X, X[:, 0] > 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save_model(f"{folder}/model.txt")
        """
        check_is_fitted(self)
        write_whole(fname, self.booster_.model_to_string().encode())

    def load_model(self, fname: str | os.PathLike[str]) -> None:
        """Load a model saved by ``save_model`` of a classifier like this one.

        Models saved by ``booster_.save_model`` or trained by ``focal_gbm.lightgbm.train`` load too.

        Parameters
        ----------
        fname : str or path
            The file.

        Returns
        -------
        None

        Raises
        ------
        OSError
            If there is no such file.
        ValueError
            For a model of another kind, which does not record a focal loss, and for a file that is
            cut off or damaged. This classifier is then left unchanged.

        Examples
        --------
        >>> import numpy as np, tempfile
        >>> from focal_gbm.lightgbm import FocalLGBMClassifier
        >>> X = np.random.default_rng(0).normal(size=(500, 3))
        >>> y = np.where(X[:, 0] > 1, "yes", "no")
        >>> model = FocalLGBMClassifier(n_estimators=5, verbosity=-1).fit(X, y)
        >>> loaded = FocalLGBMClassifier()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save_model(f"{folder}/model.txt")
        ...     loaded.load_model(f"{folder}/model.txt")
        >>> bool((loaded.predict(X) == model.predict(X)).all())
        True
        """
        path = Path(fname).expanduser()
        check_is_whole(path.read_text(encoding="utf-8", errors="replace"))
        booster = lgb.Booster(model_file=path)
        loss, classes, prior = loss_of(booster), classes_of(booster), class_prior_of(booster)
        if loss is None:
            raise ValueError(
                "fname: the model does not tell its focal loss, where focal_gbm saves gamma and "
                "alpha: it is of another kind"
            )
        self._set_stored(loss, classes, prior, n_classes_of(booster))
        set_fitted(self, booster, {}, self._labels_of_classes.size)
