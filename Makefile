PYTHON ?= python3
BIN = .venv/bin

# OpenMP's threads otherwise spin at every barrier, which stalls short fits for seconds where
# another program wants the same processors.
export OMP_WAIT_POLICY = passive

.PHONY: demo test coverage lint docs dist benchmarks asv gpu clean

# Does focal loss help to find the eights among scikit-learn's digits?
demo: .venv/demo
	$(BIN)/focal-gbm compare - --repeats 1 --trials 8

# In three processes, as tests of Ray and Spark mostly wait; one has all tests of a file.
test: lint
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# Slower than the tests alone, with Python 3.11 by half.
coverage: .venv/test
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --cov

lint: .venv/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The manual, in docs/_build/html, with the examples run: minutes. Warnings are errors.
docs: .venv/docs
	$(BIN)/python -m sphinx -b html -W --keep-going docs docs/_build/html

# What is uploaded to PyPI, in dist/: built, checked, installed in new environments and used there.
dist: .venv/dist
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	.ci/install dist/*

# DATA is a folder of data sets; the speed in ten minutes, the quality on a reduced setting in fifteen.
benchmarks: .venv/bench
	env -u OMP_WAIT_POLICY $(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/quality.py --data $(DATA) --reduced --results benchmarks/reduced.csv
	$(BIN)/python benchmarks/quality_report.py --results benchmarks/reduced.csv --plot benchmarks/reduced.png

# The speed of the last commit against the one before, in ten minutes. Fails where it is a tenth less.
asv: .venv/bench
	$(BIN)/asv --config benchmarks/asv/asv.conf.json machine --yes
	env -u OMP_WAIT_POLICY $(BIN)/asv --config benchmarks/asv/asv.conf.json \
		continuous --interleave-rounds HEAD~1 HEAD

# On a machine with an NVIDIA GPU.
gpu: .venv/gpu
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python benchmarks/gpu.py

# Each stamp stands for an environment that has the extra of its name.
.venv/demo: pyproject.toml | .venv/pyvenv.cfg
	$(BIN)/pip install --quiet --editable '.[compare]'
	touch $@

.venv/dist: pyproject.toml | .venv/pyvenv.cfg
	$(BIN)/pip install --quiet 'build>=1.3' 'twine>=7'
	touch $@

.venv/docs: pyproject.toml | .venv/pyvenv.cfg
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@ .venv/demo

.venv/test: pyproject.toml | .venv/pyvenv.cfg
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@ .venv/docs .venv/dist .venv/demo

.venv/bench: pyproject.toml benchmarks/requirements.txt | .venv/pyvenv.cfg
	$(BIN)/pip install --quiet --editable '.[bench]' --requirement benchmarks/requirements.txt
	touch $@ .venv/demo

.venv/gpu: pyproject.toml | .venv/pyvenv.cfg
	$(BIN)/pip install --quiet --editable '.[test,bench,cuda]'
	touch $@ .venv/test .venv/docs .venv/demo

.venv/pyvenv.cfg:
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv dist docs/_build docs/api docs/gallery
