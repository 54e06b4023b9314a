"""Draws the picture of the front page, `_static/reliability.png`, from its example in the gallery.

python docs/front_picture.py
"""

import runpy
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")
FOLDER = Path(__file__).parent

names = runpy.run_path(str(FOLDER.parent / "examples" / "loss" / "plot_reliability.py"))
path = FOLDER / "_static" / "reliability.png"
path.parent.mkdir(exist_ok=True)
# Without Matplotlib's version the same picture is the same file.
names["figure"].savefig(path, dpi=100, metadata={"Software": None})
print(f"wrote {path.name}")
