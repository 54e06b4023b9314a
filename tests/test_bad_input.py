"""What a user of the losses can get wrong, and the error that says so."""

import re

import numpy as np
import pytest
import xgboost as xgb
from scipy.sparse import csr_array, csr_matrix

import focal_gbm.lightgbm
import focal_gbm.xgboost
from focal_gbm import BinaryFocalLoss, FocalObjective, SoftmaxFocalLoss

nan, inf = np.nan, np.inf
Y, Z = np.array([0.0, 1.0, 1.0]), np.array([0.1, -0.2, 0.3])

ZZ = np.zeros((2, 3))
loss = BinaryFocalLoss()
softmax = SoftmaxFocalLoss(3)
objective = FocalObjective()


def read_only():
    array = np.empty(3)
    array.flags.writeable = False
    return array


CASES = {
    # parameters
    "gamma negative": (ValueError, "gamma", "-1", lambda: BinaryFocalLoss(gamma=-1)),
    "gamma NaN": (ValueError, "gamma", "nan", lambda: BinaryFocalLoss(gamma=nan)),
    "gamma infinite": (ValueError, "gamma", "inf", lambda: BinaryFocalLoss(gamma=inf)),
    "gamma text": (TypeError, "gamma", "'2'", lambda: BinaryFocalLoss(gamma="2")),
    "gamma None": (TypeError, "gamma", "None", lambda: BinaryFocalLoss(gamma=None)),
    "gamma bool": (TypeError, "gamma", "True", lambda: BinaryFocalLoss(gamma=True)),
    "gamma complex": (TypeError, "gamma", "1j", lambda: BinaryFocalLoss(gamma=1j)),
    "gamma of one class": (ValueError, "gamma", "[1]", lambda: BinaryFocalLoss(gamma=[1])),
    "gamma of three": (ValueError, "gamma", "(1, 2, 3)", lambda: BinaryFocalLoss(gamma=(1, 2, 3))),
    "gamma one negative": (ValueError, "gamma", "(1, -2)", lambda: BinaryFocalLoss(gamma=(1, -2))),
    "gamma 2-D": (TypeError, "gamma", "[[1, 2]]", lambda: BinaryFocalLoss(gamma=[[1, 2]])),
    "gamma too large for a float": (
        ValueError,
        "gamma",
        str(10**400),
        lambda: BinaryFocalLoss(10**400),
    ),
    "gamma too small for a float": (
        ValueError,
        "gamma",
        "got (1, -1000",
        lambda: BinaryFocalLoss((1, -(10**400))),
    ),
    "gamma an array of one": (ValueError, "gamma", "[2.]", lambda: BinaryFocalLoss(np.ones(1) * 2)),
    "gamma an array of text": (TypeError, "gamma", "'2'", lambda: BinaryFocalLoss(np.array("2"))),
    "alpha too large for a float": (
        ValueError,
        "alpha",
        str(10**400),
        lambda: BinaryFocalLoss(alpha=10**400),
    ),
    "alpha 0": (ValueError, "alpha", "0", lambda: BinaryFocalLoss(alpha=0)),
    "alpha 1": (ValueError, "alpha", "1", lambda: BinaryFocalLoss(alpha=1)),
    "alpha negative": (ValueError, "alpha", "-0.5", lambda: BinaryFocalLoss(alpha=-0.5)),
    "alpha NaN": (ValueError, "alpha", "nan", lambda: BinaryFocalLoss(alpha=nan)),
    "alpha text": (TypeError, "alpha", "'balance'", lambda: BinaryFocalLoss(alpha="balance")),
    "alpha bool": (TypeError, "alpha", "True", lambda: BinaryFocalLoss(alpha=True)),
    "alpha of three": (ValueError, "alpha", "(1, 1, 1)", lambda: BinaryFocalLoss(alpha=(1, 1, 1))),
    "alpha one zero": (ValueError, "alpha", "(0, 1)", lambda: BinaryFocalLoss(alpha=(0, 1))),
    "alpha dict": (TypeError, "alpha", "{0: 1}", lambda: BinaryFocalLoss(alpha={0: 1})),
    "gamma ragged": (TypeError, "gamma", "[[1], [1, 2]]", lambda: BinaryFocalLoss([[1], [1, 2]])),
    "alpha huge": (ValueError, "alpha", "1e+300", lambda: BinaryFocalLoss(alpha=(1e300, 1))),
    "hessian unknown": (
        ValueError,
        "hessian",
        "'fisher'",
        lambda: BinaryFocalLoss(hessian="fisher"),
    ),
    "hessian a number": (
        TypeError,
        "hessian",
        "got 1",
        lambda: BinaryFocalLoss(hessian=np.array(1)),
    ),
    "hessian None": (TypeError, "hessian", "None", lambda: BinaryFocalLoss(hessian=None)),
    "objective gamma": (ValueError, "gamma", "-2", lambda: FocalObjective(gamma=-2)),
    "objective alpha": (ValueError, "alpha", "2", lambda: FocalObjective(alpha=2)),
    "objective hessian": (
        ValueError,
        "hessian",
        "'newton'",
        lambda: FocalObjective(hessian="newton"),
    ),
    "objective device": (ValueError, "device", "'cuda:'", lambda: FocalObjective(device="cuda:")),
    "objective other device": (ValueError, "device", "'mps'", lambda: FocalObjective(device="mps")),
    "objective device number": (TypeError, "device", "0", lambda: FocalObjective(device=0)),
    "objective threads 0": (ValueError, "n_threads", "0", lambda: FocalObjective(n_threads=0)),
    "objective threads text": (
        TypeError,
        "n_threads",
        "'2'",
        lambda: FocalObjective(n_threads="2"),
    ),
    "threads negative": (
        ValueError,
        "n_threads",
        "-1",
        lambda: loss.gradient_hessian(Y, Z, n_threads=-1),
    ),
    "threads fraction": (
        TypeError,
        "n_threads",
        "1.5",
        lambda: loss.gradient_hessian(Y, Z, n_threads=1.5),
    ),
    # what is no array
    "weights a dict": (
        TypeError,
        "sample_weight",
        "a dict",
        lambda: loss.gradient_hessian(Y, Z, {0: 1.0, 1: 2.0}),
    ),
    "weights sparse": (
        TypeError,
        "sample_weight",
        "a csr_array, which is sparse: use its toarray()",
        lambda: loss.initial_margin(Y, csr_array(Y)),
    ),
    "weights a generator": (
        TypeError,
        "sample_weight",
        "a generator",
        lambda: loss.loss(Y, Z, (1.0 for _ in Y)),
    ),
    "margins sparse": (
        TypeError,
        "margin",
        "a csr_matrix, which is sparse",
        lambda: loss.posterior(csr_matrix(Z)),
    ),
    "margins a set": (TypeError, "margin", "a set", lambda: loss.posterior({0.5, 1.0})),
    "labels None": (TypeError, "y", "a NoneType", lambda: loss.loss(None, Z)),
    # labels
    "label above 1": (ValueError, "y", "2.0 at row 2", lambda: loss.loss([0, 1, 2], Z)),
    "label -1": (ValueError, "y", "-1.0 at row 0", lambda: loss.gradient_hessian([-1, 1, 1], Z)),
    "label NaN": (ValueError, "y", "nan at row 1", lambda: loss.gradient_hessian([0, nan, 1], Z)),
    "label infinite": (ValueError, "y", "inf", lambda: loss.gradient_hessian([0, 1, inf], Z)),
    "label text": (TypeError, "y", "<U3", lambda: loss.loss(["yes", "no", "no"], Z)),
    "label object": (TypeError, "y", "object", lambda: loss.loss(np.array([0, 1, None]), Z)),
    "label 2-D": (ValueError, "y", "(3, 1)", lambda: loss.gradient_hessian(Y[:, None], Z)),
    "label scalar": (ValueError, "y", "()", lambda: loss.loss(1, Z)),
    "label complex": (TypeError, "y", "complex128", lambda: loss.loss(Y * 1j, Z)),
    # margins
    "margin NaN": (ValueError, "margin", "nan at row 1", lambda: loss.loss(Y, [0, nan, 0])),
    "margin NaN, gradient": (
        ValueError,
        "margin",
        "nan at row 2",
        lambda: loss.gradient_hessian(Y, [0, 0, nan]),
    ),
    "margin NaN, posterior": (ValueError, "margin", "nan", lambda: loss.posterior([0, nan])),
    "margin NaN, scalar": (ValueError, "margin", "nan", lambda: loss.posterior_margin(nan)),
    "margin short": (ValueError, "margin", "got 2", lambda: loss.gradient_hessian(Y, Z[:2])),
    "margin 2-D": (ValueError, "margin", "(3, 2)", lambda: loss.loss(Y, np.zeros((3, 2)))),
    "margin text": (TypeError, "margin", "<U1", lambda: loss.posterior(["a"])),
    "margin dates": (
        TypeError,
        "margin",
        "datetime64",
        lambda: loss.loss(Y, np.zeros(3, "datetime64[s]")),
    ),
    "margin ragged": (ValueError, "margin", "[[1], [1, 2]]", lambda: loss.loss(Y, [[1], [1, 2]])),
    "margin without rows": (ValueError, "margin", "0.5", lambda: objective(1.0, 0.5)),
    "margin masked": (
        ValueError,
        "margin",
        "1 values are masked",
        lambda: loss.loss(Y, np.ma.masked_less(Z, 0)),
    ),
    # weights
    "weight huge": (ValueError, "sample_weight", "1e+300", lambda: loss.loss(Y, Z, [1e300, 1, 1])),
    "weight negative": (ValueError, "sample_weight", "-1.0", lambda: loss.loss(Y, Z, [1, -1, 1])),
    "weight NaN": (
        ValueError,
        "sample_weight",
        "nan",
        lambda: loss.gradient_hessian(Y, Z, [1, 1, nan]),
    ),
    "weight infinite": (
        ValueError,
        "sample_weight",
        "inf",
        lambda: loss.gradient_hessian(Y, Z, [inf, 1, 1]),
    ),
    "weight short": (ValueError, "sample_weight", "got 1", lambda: loss.loss(Y, Z, [1])),
    "weight scalar": (ValueError, "sample_weight", "()", lambda: loss.loss(Y, Z, 2.0)),
    "weight text": (TypeError, "sample_weight", "<U1", lambda: loss.loss(Y, Z, ["a", "b", "c"])),
    "weight of a data set": (
        ValueError,
        "sample_weight",
        "data set",
        lambda: objective(Z, xgb.DMatrix(ZZ.T, Y), Y),
    ),
    "weight of a data set, metric": (
        ValueError,
        "sample_weight",
        "data set",
        lambda: focal_gbm.xgboost.focal_metric(objective)(Z, xgb.DMatrix(ZZ.T, Y), Y),
    ),
    "metric of no rows": (
        ValueError,
        "y",
        "no rows",
        lambda: focal_gbm.lightgbm.focal_metric(objective)(Y[:0], Z[:0]),
    ),
    "weights zero": (
        ValueError,
        "y",
        "total weights by class are 0, 0",
        lambda: loss.initial_margin(Y, [0, 0, 0]),
    ),
    "weight NaN, start": (
        ValueError,
        "sample_weight",
        "nan",
        lambda: loss.initial_margin(Y, [0, nan, 0]),
    ),
    # outputs
    "out one array": (TypeError, "out", "ndarray", lambda: loss.gradient_hessian(Y, Z, out=Z)),
    "out three": (
        ValueError,
        "out",
        "3 arrays",
        lambda: loss.gradient_hessian(Y, Z, out=(Z, Z, Z)),
    ),
    "out lists": (TypeError, "out", "tuple", lambda: loss.gradient_hessian(Y, Z, out=([], []))),
    "out integers": (
        TypeError,
        "out",
        "int64",
        lambda: loss.gradient_hessian(Y, Z, out=(np.empty(3, np.int64), np.empty(3))),
    ),
    "out short": (
        ValueError,
        "out",
        "(2,)",
        lambda: loss.gradient_hessian(Y, Z, out=(np.empty(3), np.empty(2))),
    ),
    "out strided": (
        ValueError,
        "out",
        "strides (16,)",
        lambda: loss.gradient_hessian(Y, Z, out=(np.empty(6)[::2], np.empty(3))),
    ),
    "out read-only": (
        ValueError,
        "out",
        "writeable=False",
        lambda: loss.gradient_hessian(Y, Z, out=(np.empty(3), read_only())),
    ),
    "out over the margins": (
        ValueError,
        "out",
        "overlap",
        lambda: loss.gradient_hessian(Y, Z, out=(Z, np.empty(3))),
    ),
    "out twice": (
        ValueError,
        "out",
        "overlap",
        lambda: loss.gradient_hessian(Y, Z, out=(np.empty(3),) * 2),
    ),
    # one class
    "start, no positives": (
        ValueError,
        "y",
        "total weights by class are 3, 0",
        lambda: loss.initial_margin([0] * 3),
    ),
    "start, no negatives": (
        ValueError,
        "y",
        "total weights by class are 0, 3",
        lambda: loss.initial_margin([1] * 3),
    ),
    "start, no rows": (
        ValueError,
        "y",
        "total weights by class are 0, 0",
        lambda: loss.initial_margin([]),
    ),
    "balanced, one class": (
        ValueError,
        "y",
        "total weights by class are 0, 3",
        lambda: BinaryFocalLoss(alpha="balanced").gradient_hessian([1] * 3, Z),
    ),
    "balanced without labels": (
        ValueError,
        "alpha",
        "'balanced'",
        lambda: BinaryFocalLoss(alpha="balanced").posterior(Z),
    ),
    "balanced metric": (
        ValueError,
        "alpha",
        "'balanced'",
        lambda: focal_gbm.xgboost.focal_metric(FocalObjective(alpha="balanced"))(Y, Z),
    ),
    # softmax
    "classes one": (ValueError, "n_classes", "1", lambda: SoftmaxFocalLoss(1)),
    "classes fraction": (TypeError, "n_classes", "2.5", lambda: SoftmaxFocalLoss(2.5)),
    "classes bool": (TypeError, "n_classes", "True", lambda: SoftmaxFocalLoss(True)),
    "classes beyond float32": (
        ValueError,
        "n_classes",
        "2 to 16777216, got 1000",
        lambda: SoftmaxFocalLoss(10**400),
    ),
    "softmax gamma of two": (ValueError, "gamma", "(1, 2)", lambda: SoftmaxFocalLoss(3, (1, 2))),
    "softmax alpha of two": (
        ValueError,
        "alpha",
        "(1, 2)",
        lambda: SoftmaxFocalLoss(3, alpha=(1, 2)),
    ),
    "softmax alpha a float": (ValueError, "alpha", "0.25", lambda: SoftmaxFocalLoss(3, alpha=0.25)),
    "softmax label 3": (ValueError, "y", "3.0 at row 1", lambda: softmax.loss([0, 3], ZZ)),
    "softmax label -1": (ValueError, "y", "-1.0 at row 0", lambda: softmax.loss([-1, 2], ZZ)),
    "softmax label soft": (
        ValueError,
        "y",
        "0.5 at row 1",
        lambda: softmax.gradient_hessian([0, 0.5], ZZ),
    ),
    "softmax label NaN": (
        ValueError,
        "y",
        "nan at row 1",
        lambda: softmax.gradient_hessian([0, nan], ZZ),
    ),
    "softmax margins short": (ValueError, "margin", "got 2", lambda: softmax.loss([0, 1, 2], ZZ)),
    "softmax margins 1-D": (ValueError, "margin", "(3,)", lambda: softmax.loss(Y, Z)),
    "softmax margins of two": (
        ValueError,
        "margin",
        "(2, 2)",
        lambda: softmax.loss([0, 1], ZZ[:, :2]),
    ),
    "softmax margin NaN": (
        ValueError,
        "margin",
        "nan at row 1",
        lambda: softmax.gradient_hessian([0, 1], [[0, 0, 0], [0, nan, 0]]),
    ),
    "softmax margin infinite": (
        ValueError,
        "margin",
        "inf at row 0",
        lambda: softmax.posterior([[0, inf, 0]]),
    ),
    "softmax weight negative": (
        ValueError,
        "sample_weight",
        "-1.0 at row 1",
        lambda: softmax.gradient_hessian([0, 1], ZZ, [1, -1]),
    ),
    "softmax start": (
        ValueError,
        "y",
        "total weights by class are 1, 0, 2",
        lambda: softmax.initial_margin([0, 2, 2]),
    ),
    "softmax out": (
        ValueError,
        "out",
        "(2, 3), got shape (2, 2)",
        lambda: softmax.gradient_hessian([0, 1], ZZ, out=(ZZ[:, :2].copy(), ZZ.copy())),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_error_names_the_argument_and_the_value(name):
    error, argument, value, call = CASES[name]
    with pytest.raises(error, match=f"^{argument}: .*{re.escape(value)}"):
        call()


def test_arrays_without_dimensions_are_numbers():
    given = BinaryFocalLoss(np.array(1.5), np.array(0.25), np.array("clip"))
    assert repr(given) == repr(BinaryFocalLoss(1.5, 0.25, "clip"))
    given = SoftmaxFocalLoss(np.array(3), np.array(2), np.array("balanced"))
    assert repr(given) == repr(SoftmaxFocalLoss(3, 2.0, "balanced"))
    given = FocalObjective(
        np.float32(1.5), None, np.array("clip"), n_threads=np.array(2), device=np.array("cpu")
    )
    assert given == FocalObjective(1.5, None, "clip", n_threads=2, device="cpu")
    assert given.loss.hessian == "clip"


def test_masked_arrays_of_which_nothing_is_masked():
    found = loss.gradient_hessian(np.ma.array(Y), np.ma.array(Z), np.ma.array(Y))
    assert np.array_equal(found, loss.gradient_hessian(Y, Z, Y))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.float16, np.longdouble])
def test_labels_and_weights_of_any_dtype(dtype):
    expected = loss.gradient_hessian(Y, Z, Y)
    assert np.array_equal(loss.gradient_hessian(Y.astype(dtype), Z, Y.astype(dtype)), expected)
    assert loss.initial_margin(Y.astype(dtype)) == loss.initial_margin(Y)
    assert BinaryFocalLoss(alpha="balanced").resolve(Y.astype(dtype)).alpha == 1 / 3
