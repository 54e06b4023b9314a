"""What to install where a library is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

# Extras are named after their libraries, except these.
_EXTRAS = {
    "distributed": "dask",
    "matplotlib": "plot",
    "pyspark": "spark",
    "skl2onnx": "onnx",
    **dict.fromkeys(("optuna", "pandas", "pyarrow", "tqdm"), "compare"),
}


@contextmanager
def needed_by(name: str, *libraries: str) -> Iterator[None]:
    """Name what to install if one of the libraries is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in (*libraries, "sklearn"):
            raise
        extra = _EXTRAS.get(missing, libraries[0] if missing == "sklearn" else missing)
        raise ModuleNotFoundError(
            f"{name} needs {missing}, which is not installed: pip install 'focal_gbm[{extra}]'",
            name=error.name,
        ) from error
