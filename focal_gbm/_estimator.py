"""What the classifiers of both libraries share: parameters, labels, weights, probabilities."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from focal_gbm._arrays import to_host
from focal_gbm._labels import (
    as_labels,
    by_class,
    check_discrete,
    class_weights,
    encoded,
    encoded_by,
)
from focal_gbm._types import Array
from focal_gbm._validation import (
    as_real,
    as_rows,
    check_alpha,
    check_gamma,
    check_length,
    check_weights,
    unmasked,
)
from focal_gbm._warnings import warn
from focal_gbm.objective import FocalObjective, Loss, loss_for

EvalSet = Sequence[tuple[Any, Any]]

# Parameters of a classifier that the library does not have.
FOCAL_PARAMETERS = {"focal_gamma", "focal_alpha", "hessian", "class_weight"}


class Targets(NamedTuple):
    """What a classifier is fitted to."""

    classes: Array
    y: Array  # integers from 0
    sample_weight: Array | None
    objective: FocalObjective  # with a value for alpha
    # Total weight of each class, if it is not that of the rows on this machine.
    totals: Array | None = None
    is_one_class: bool = False  # one class has all the weight, so there is nothing to split

    @property
    def n_classes(self) -> int:
        """Number of classes of the loss; if ``y`` has one, no row has the second."""
        return max(2, self.classes.size)

    @property
    def loss(self) -> Loss:
        return loss_for(self.objective, self.n_classes)

    @property
    def class_prior(self) -> Array:
        """The share of each class in the total weight of all rows."""
        totals = self.totals
        if totals is None:
            totals = np.bincount(self.y, self.sample_weight, self.n_classes)
        share: Array = totals / totals.sum()
        return share

    def check_same_classes(self, name: str, classes: Array) -> None:
        """Refuse to continue a model whose margins belong to other labels."""
        if not np.array_equal(classes, self.classes):
            raise ValueError(
                f"{name}: its classes are {classes}, but those of y are {self.classes}: continue a "
                "model of the same classes"
            )

    def encode(self, eval_set: EvalSet, X: Any, y: Any) -> list[tuple[Any, Array]]:
        """Evaluation sets with labels as integers; the training set keeps its identity."""
        return [
            (X_eval, self.y if X_eval is X and y_eval is y else self._encode(X_eval, y_eval, X))
            for X_eval, y_eval in as_pairs(eval_set)
        ]

    def _encode(self, X_eval: Any, y_eval: Any, X: Any) -> Array:
        expected, found = _n_features(X), _n_features(X_eval)
        if expected != found and None not in (expected, found):
            raise ValueError(f"eval_set: it has {found} features, but X has {expected}")
        labels = as_labels("eval_set", y_eval)
        _check_lengths("eval_set", X_eval, labels)
        if not labels.size:
            raise ValueError("eval_set: it has no rows")
        return encoded_by(self.classes, "eval_set", labels)


class FocalClassifier:
    """Base class of the classifiers, placed before the library's own."""

    focal_gamma: Any
    focal_alpha: Any
    hessian: Any
    class_weight: Any
    loss_: Loss
    class_prior_: Array | None  # None if a file does not record it
    _labels_of_classes: Any
    _margin_option: ClassVar[str]  # the argument of ``predict`` that asks for margins
    _start_option: ClassVar[str]  # the argument of ``fit`` that gives margins to start from
    _namesakes: ClassVar[dict[str, str]]  # what gamma and alpha mean to the library

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.classifier_tags.multi_label = False
        return tags

    @property
    def classes_(self) -> Array:
        """Labels of the classes, sorted; ndarray of shape (n_classes,)."""
        check_is_fitted(self)
        classes: Array = self._labels_of_classes
        return classes

    def decision_function(self, X: Any, *, prior: Any = None, **predict_params: Any) -> Array:
        """Log-odds of the posterior for two classes, log posteriors for more.

        As scikit-learn expects, it is positive where ``predict`` gives the second of two classes.
        The margin (raw score) that the booster computes, and that SHAP values add up to, is
        ``predict(X, output_margin=True)`` with XGBoost and ``predict(X, raw_score=True)`` with
        LightGBM; the two are the same for ``focal_gamma=0, focal_alpha=None``.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Features.
        prior : float, dict or sequence of floats, optional
            As for ``predict_proba``.
        **predict_params
            As for ``predict``.

        Returns
        -------
        ndarray of shape (n,) or (n, n_classes)

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.

        Examples
        --------
        >>> import numpy as np
        >>> from focal_gbm.xgboost import FocalXGBClassifier
        >>> X = np.random.default_rng(0).normal(size=(500, 3))
        >>> model = FocalXGBClassifier(focal_alpha=0.9, n_estimators=5).fit(X, X[:, 0] > 1)
        >>> bool(((model.decision_function(X) > 0) == model.predict(X)).all())
        True
        """
        loss = self._loss_at(prior)
        margin = self.predict(X, **{self._margin_option: True}, **predict_params)  # type: ignore[attr-defined]
        return loss.posterior_margin(margin)

    def _targets(self, X: Any, y: Any, sample_weight: ArrayLike | None) -> Targets:
        """Checked labels, weights and objective."""
        labels = as_labels("y", y)
        check_discrete("y", labels)
        _check_lengths("y", X, labels)
        if not labels.size:
            raise ValueError("y: it has no labels")
        classes, codes = encoded(labels)
        weight = checked_weight("sample_weight", sample_weight, codes)
        weight = times_class_weight(weight, self.class_weight, classes, codes)
        found = np.bincount(codes, weight, max(2, classes.size))
        totals = of_every_class(found)
        objective = self._objective_for(classes, totals)
        return Targets(
            classes,
            codes,
            weight,
            objective,
            totals=None if totals is found else totals,
            is_one_class=np.count_nonzero(found) == 1,
        )

    def _objective_for(self, classes: Array, totals: Array) -> FocalObjective:
        """The objective for the parameters, checked, with a value for alpha."""
        self._check_names()
        gamma = _in_class_order("focal_gamma", self.focal_gamma, classes)
        alpha = _in_class_order("focal_alpha", self.focal_alpha, classes)
        try:
            objective = FocalObjective(gamma, alpha, self.hessian)
            loss_for(objective, totals.size)
        except (TypeError, ValueError):  # raise under the names used here, if these are wrong
            check_gamma(gamma, totals.size, name="focal_gamma")
            check_alpha(alpha, totals.size, name="focal_alpha")
            raise
        return objective.resolve(np.arange(totals.size), totals, n_classes=totals.size)

    def _check_names(self) -> None:
        """Refuse misspelt names, and warn where the library's gamma or alpha may not be meant."""
        params = self.get_params()  # type: ignore[attr-defined]
        for name in params:
            if name.startswith("focal_") and name not in FOCAL_PARAMETERS:
                raise TypeError(
                    f"{name}: there is no such parameter, only focal_gamma and focal_alpha"
                )
        for name, meaning in self._namesakes.items():
            value = params.get(name)
            if value not in (None, 0):
                warn(
                    f"{name}={value!r} is not the {name} of the focal loss, which is "
                    f"focal_{name}, but {meaning}"
                )

    def _set_targets(self, targets: Targets) -> None:
        self._labels_of_classes = targets.classes
        self.loss_ = targets.loss
        self.class_prior_ = targets.class_prior

    def _set_stored(
        self, loss: Loss, classes: Array | None, prior: Array | None, n_classes: int
    ) -> None:
        """Become the classifier that a file describes."""
        if classes is None:  # trained by ``train``
            classes = np.arange(n_classes)
        if max(2, classes.size) != n_classes:
            raise ValueError(
                f"the model has {classes.size} labels, but is one of {n_classes} classes: {classes}"
            )
        self.focal_gamma, self.focal_alpha, self.hessian = loss.gamma, loss.alpha, loss.hessian
        self.loss_, self._labels_of_classes, self.class_prior_ = loss, classes, prior

    def _loss_at(self, prior: Any, *, is_posterior: bool = True) -> Loss:
        """The loss whose posterior is that of data with these shares of the classes."""
        check_is_fitted(self)
        if prior is None:
            return self.loss_
        if not is_posterior:
            raise ValueError(
                f"prior: it is {prior!r}, but only the posterior depends on it, and something else "
                "is asked for: leave one of the two out"
            )
        if self._labels_of_classes.size == 1:
            raise ValueError(
                f"prior: it is {prior!r}, but the model was fitted to a single class: leave it out"
            )
        if self.class_prior_ is None:
            raise ValueError(
                f"prior: it is {prior!r}, but the model's file does not tell the shares of the "
                "classes in the training data: use loss_.posterior(margin, prior=..., "
                "training_prior=...)"
            )
        of_classes = _in_class_order("prior", prior, self._labels_of_classes)
        return self.loss_._at_prior(of_classes, self.class_prior_)

    def _probabilities(self, margin: Array, loss: Loss) -> Array:
        posterior: Array = loss.posterior(margin)
        return posterior if posterior.ndim == 2 else np.column_stack([1 - posterior, posterior])

    def _labels(self, margin: Array, loss: Loss) -> Array:
        probabilities = self._probabilities(margin, loss)[:, : self._labels_of_classes.size]
        labels: Array = self._labels_of_classes[probabilities.argmax(axis=1)]
        return labels


def of_every_class(totals: Array) -> Array:
    """Total weights of the classes; a class without rows gets a millionth of the total.

    Bootstraps, folds and searches train on parts of the data, and a part may lack a class. Its
    probability is then a millionth, as in XGBoost, and the starting margin is finite.
    """
    return totals if totals.all() else np.maximum(totals, 1e-6 * totals.sum())


def _in_class_order(name: str, value: Any, classes: Array) -> Any:
    """A parameter that may be given by label, in the order of the classes."""
    if not isinstance(value, dict):
        return value
    values = by_class(name, value, classes)
    return values if len(values) > 1 else values * 2


def checked_weight(
    name: str, sample_weight: Any, y: Array, *, may_be_zero: bool = False
) -> Array | None:
    if sample_weight is None:
        return None
    sample_weight = np.asarray(unmasked(name, to_host(sample_weight)))
    if sample_weight.dtype.kind == "O":  # from a data frame
        sample_weight = sample_weight.astype(np.float64)
    weight = as_rows(name, sample_weight)
    check_length(name, weight, y)
    check_weights(weight, name)
    if not may_be_zero and not weight.any():
        raise ValueError(f"{name}: all weights are zero")
    return weight


def times_class_weight(
    weight: Array | None, class_weight: Any, classes: Array, codes: Array
) -> Array | None:
    """Row weights times the weights of their classes."""
    if class_weight is None:
        return weight
    n_rows = np.bincount(codes, minlength=classes.size)
    of_rows = class_weights(class_weight, classes, n_rows)[codes]
    if weight is None:
        return of_rows
    weight = weight * of_rows
    check_weights(weight, "sample_weight times class_weight")
    return weight


def check_start(name: str, margin: Any, y: Array, n_classes: int) -> None:
    """Check margins to start from."""
    if margin is None:
        return
    size = y.size * (1 if n_classes == 2 else n_classes)
    margin = as_real(name, to_host(margin))
    if margin.size != size:
        raise ValueError(f"{name}: expected {size} margins, got {margin.size}")
    if not np.isfinite(margin).all():
        raise ValueError(f"{name}: expected finite margins, got {margin[~np.isfinite(margin)][0]}")


def check_at_most(name: str, of_each_set: Any, eval_sets: Sequence[Any]) -> None:
    """Check that nothing is given for evaluation sets that do not exist."""
    if of_each_set is not None and len(of_each_set) > len(eval_sets):
        raise ValueError(
            f"{name}: got {len(of_each_set)}, but there are {len(eval_sets)} evaluation sets"
        )


def item(collection: Any, i: int) -> Any:
    """The item for evaluation set ``i``, from a list or a dictionary."""
    if isinstance(collection, dict):
        return collection.get(i)
    return collection[i] if collection is not None and i < len(collection) else None


def check_named_objective(given: Any, accepted: Sequence[str | None]) -> None:
    """Check the objective that a classifier names, which the focal loss replaces."""
    if given not in accepted:
        raise ValueError(
            f"objective: {given!r} contradicts the focal loss, which is given by focal_gamma and "
            f"focal_alpha: leave it out, or pass one of {accepted}"
        )


def check_num_class(params: dict[str, Any], n_classes: int) -> None:
    given = params.get("num_class")
    one_margin = (0, 1) if n_classes == 2 else ()  # the libraries' own values for it
    if given not in (None, n_classes, *one_margin):
        raise ValueError(f"num_class is {given!r}, but y has {n_classes} classes: leave it out")


def _check_lengths(name: str, X: Any, y: Array) -> None:
    try:
        check_consistent_length(X, y)
    except ValueError as error:
        raise ValueError(f"{name}: X needs one label per row. {error}") from None


def as_pairs(eval_set: Any) -> EvalSet:
    if not isinstance(eval_set, list | tuple):
        raise TypeError(f"eval_set: expected a list of pairs (X, y), got {type(eval_set).__name__}")
    for i, pair in enumerate(eval_set):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise TypeError(
                f"eval_set: expected a list of pairs (X, y), got {type(pair).__name__} at place {i}"
            )
    return eval_set


def _n_features(X: Any) -> int | None:
    return X.shape[1] if len(getattr(X, "shape", ())) == 2 else None
