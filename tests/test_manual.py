"""The blocks of Python on the manual's pages run as they stand, each page by itself."""

import pages
import places
import pytest

# test_spark.py and test_ray.py run those on Spark and Ray, which may not be there.
ELSEWHERE = {"spark", "ray"}
WITH_BLOCKS = [path for path in pages.MANUAL if list(pages.blocks(path))]


@pytest.mark.parametrize(
    "path", [path for path in WITH_BLOCKS if path.stem not in ELSEWHERE], ids=lambda path: path.stem
)
def test_blocks_run(path):
    pages.run(path, but=[] if places.HAS_GPU else ['"cuda"'])


def test_pages_are_found():
    assert {"getting_started", "native", "spark", "ray"} <= {path.stem for path in WITH_BLOCKS}
