"""How Sphinx builds the manual: `make docs`."""

import warnings

import focal_gbm

project = "focal_gbm"
author = "The focal_gbm developers"
project_copyright = author
release = version = focal_gbm.__version__

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
suppress_warnings = ["config.cache"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"skl2onnx\..*")]

html_theme = "pydata_sphinx_theme"
html_title = "focal_gbm"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_show_sourcelink = False
# Pages without pages below them.
html_sidebars = {
    name: []
    for name in ("getting_started", "theory", "coming_from", "pitfalls", "changelog", "stability")
}
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
html_context = {"default_mode": "auto"}

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# Types stand in the docstrings.
autodoc_typehints = "none"
autosummary_generate = True
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False

plot_formats = [("png", 120)]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_include_source = False
plot_rcparams = {"figure.constrained_layout.use": True}

# Shown without being run: those of clusters start processes of their own, the others need packages
# that the extra "docs" does not bring.
NOT_RUN = [
    "automl_with_flaml",
    "dask_cluster",
    "mlflow_models",
    "other_libraries",
    "ray_train",
    "ray_tune",
    "spark_cluster",
]
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "subsection_order": [
        f"../examples/{name}"
        for name in ("loss", "classifiers", "search", "serving", "clusters", "pytorch")
    ],
    "within_subsection_order": "FileNameSortKey",
    "filename_pattern": rf"/(?!{'|'.join(NOT_RUN)})\w+\.py",
    "download_all_examples": False,
    "show_signature": False,
    "doc_module": ("focal_gbm",),
    "backreferences_dir": "gallery/backreferences",
    "write_computation_times": False,
    "abort_on_example_error": True,
    "capture_repr": (),
}

# sphinx-gallery asks the package for names of its modules, and expects an AttributeError.
focal_gbm._ELSEWHERE.clear()

# joblib's, where a library asks for more processes than there are processors.
warnings.filterwarnings("ignore", category=UserWarning, module="joblib")


def leave_out_inherited(app, what, name, obj, skip, options):
    """Methods of the libraries' own classes are documented by the libraries."""
    home = getattr(getattr(obj, "fget", obj), "__module__", None) or ""
    return skip or (what == "class" and not home.startswith("focal_gbm"))


def setup(app):
    app.connect("autodoc-skip-member", leave_out_inherited)
