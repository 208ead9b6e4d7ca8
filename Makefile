# One target per chore. `make demo` and `make test` set up their own environment in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo noise-experiment bench test lint clean

.venv/installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v < (3, 13) else "nice_tf needs Python 3.10 to 3.12, $(PYTHON) is %d.%d; name another one: make PYTHON=python3.11" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

demo: .venv/installed  ## train on the bundled digits, evaluate, write samples, export
	$(BIN)/python train.py --flagfile=configs/digits.flags
	$(BIN)/python export.py --workdir=runs/digits --export_dir=runs/digits/export

noise-experiment: .venv/installed  ## the digits with and without dequantization noise, side by side
	$(BIN)/python -m nice_tf.apps.noise_experiment --flagfile=configs/digits.flags --workdir=runs/noise --epochs=100

bench: .venv/installed  ## training and sampling beside other libraries; minutes, on a machine that does nothing else
	$(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/sampling.py

test: lint  ## lint, then every test
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal

lint: .venv/installed
	$(BIN)/ruff check .

clean:
	rm -rf .venv build dist *.egg-info
