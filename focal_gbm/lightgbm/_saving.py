"""Saving and loading the LightGBM classifier, which predicts posteriors again once loaded."""

import os
from pathlib import Path

import lightgbm as lgb
from sklearn.utils.validation import check_is_fitted

from focal_gbm._estimator import FocalClassifier
from focal_gbm._files import write_whole
from focal_gbm.lightgbm._attributes import (
    check_is_whole,
    class_prior_of,
    classes_of,
    loss_of,
    n_classes_of,
)
from focal_gbm.lightgbm._internals import NativeClassifier, set_fitted


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
