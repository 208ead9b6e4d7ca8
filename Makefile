# One target per chore. `make demo` and `make test` set up their own environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
# setuptools warns of each editable installation.
PIP := PYTHONWARNINGS=ignore $(BIN)/pip install --quiet
PYTEST := $(BIN)/python -m pytest --numprocesses=2 --dist=worksteal --durations=5

.PHONY: demo demo-start noise-experiment bench docs dist fuzz test test-all test-start crash-test test-matrix lint clean

.venv/package: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v < (3, 13) else "nice_tf needs Python 3.10 to 3.12, $(PYTHON) is %d.%d; name another one: make PYTHON=python3.11" % v)'
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip
	$(PIP) --editable .
	@touch $@

.venv/installed: .venv/package  ## the tools of development, too
	$(PIP) --editable '.[dev]'
	@touch $@

demo: demo-start .venv/package  ## train on the bundled digits, evaluate, write samples, export
	$(BIN)/python train.py --flagfile=configs/digits.flags --epochs=50 --workdir=runs/demo
	$(BIN)/python export.py --workdir=runs/demo --export_dir=runs/demo/export
	@echo
	@echo 'Sampled digits: runs/demo/samples.png. Exported model, for TensorFlow Serving: runs/demo/export. What to try next:'
	@echo '  . .venv/bin/activate'
	@echo '  nice-tf report --workdir=runs/demo                         all about this run on one page'
	@echo '  nice-tf inpaint --workdir=runs/demo --masks=top,random_75  hidden parts of digits, filled'
	@echo '  nice-tf --help                                             all commands'
	@echo 'A table of your own, and flows in Python: README.md'

demo-start:
	@echo 'make demo: installs TensorFlow in .venv (a minute or two, silently), trains and exports: under 5 minutes on two idle cores'

noise-experiment: .venv/package  ## the digits with and without dequantization noise, side by side
	$(BIN)/nice-tf noise_experiment --flagfile=configs/digits_plain.flags --workdir=runs/noise --epochs=100

bench: .venv/package  ## training and sampling beside other libraries; minutes, on a machine that does nothing else
	$(PIP) --editable '.[bench]'
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/sampling.py

docs: .venv/package  ## the site, pages and API reference, as build/site/index.html
	$(PIP) --editable '.[docs]'
	mkdir -p build/pages
	for page in README.md CONTRIBUTING.md CHANGELOG.md CITATION.cff LICENSE .nav.yml docs; do ln -sfn ../../$$page build/pages; done
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

dist: .venv/package  ## source distribution and wheel in dist, and whether an index would take them
	$(PIP) build twine
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

# In three parts: TensorFlow gives a process's memory back only at its end, and two processes for all tests take 24 GB.
define RUN_TESTS
$(PYTEST) $(1) tests/test_[a-d]*.py
$(PYTEST) $(1) tests/test_[e-m]*.py
$(PYTEST) $(1) tests/test_[n-z]*.py
endef

test: test-start lint  ## lint, then the tests, except the slow ones that another one covers on a smaller scale
	$(call RUN_TESTS,-m 'not slow')

test-all: lint  ## lint, then every test; an hour
	$(call RUN_TESTS)

test-start:
	@echo 'make test: 20 to 45 minutes on two cores; the first time it installs its tools in .venv before that'

fuzz: .venv/installed  ## odd flags, damaged files and odd requests, 1,000 of each; minutes
	$(BIN)/python tests/fuzz.py --number=1000

crash-test: .venv/installed  ## every state that a kill can leave, and two processes on one folder; half an hour, needs a C compiler
	$(BIN)/python tests/crash_states.py
	$(BIN)/python tests/process_pairs.py --number=20

# Each of Python and TensorFlow, oldest and newest, in an environment of its own: make test-matrix TESTS=tests/test_flow.py
MATRIX := $(foreach python,3.10 3.11 3.12,$(foreach tensorflow,2.18 2.21,$(python)-$(tensorflow)))

test-matrix: $(MATRIX:%=.matrix/%)  ## every test with the oldest and newest TensorFlow on every Python; hours, needs python3.10 to 3.12

.matrix/%: FORCE
	python$(word 1,$(subst -, ,$*)) -m venv $@
	$@/bin/pip install --quiet --upgrade pip
	$@/bin/pip install --quiet --editable '.[dev]' 'tensorflow==$(word 2,$(subst -, ,$*)).*'
	$@/bin/python -m pytest --numprocesses=2 --dist=worksteal $(TESTS)

FORCE:

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf .venv .matrix build dist *.egg-info
