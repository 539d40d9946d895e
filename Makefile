# Everything a person types: `make demo`, `make test`, `make venv`. Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The other end of what is supported: the newest Python and the newest releases that were tried.
NEWEST := python3.13
NEWEST_VENV := .venv-newest
NEWEST_BIN := $(NEWEST_VENV)/bin
NEWEST_STAMP := $(NEWEST_VENV)/.installed
# Every runtime that a bundle is written for: too large for each test run.
TARGETS_VENV := .venv-targets
TARGETS_BIN := $(TARGETS_VENV)/bin
TARGETS_STAMP := $(TARGETS_VENV)/.installed
TARGETS_EXTRAS := dev,targets
# Run, not looked up: a version manager's shim lies on the path for interpreters that it won't start.
NEWEST_RUNS = $(shell $(NEWEST) -c '' >/dev/null 2>&1 && echo yes)

.PHONY: help venv demo docs test test-newest test-targets rehearsals lint clean

help:
	@echo "make demo   run the whole method on the flights data; the run is left in runs/demo/"
	@echo "make test   lint, format check, types and tests; the tests again on the newest releases"
	@echo "            where a $(NEWEST) runs"
	@echo "make test-targets   the tests of other runtimes, with PyTorch, FBGEMM and keras-rs installed"
	@echo "make rehearsals     Colab, a TPU VM and the image, each by a stand-in; runs and bundles between"
	@echo "            the oldest and the newest releases"
	@echo "make docs   build the documentation site into site/, links checked, warnings as errors"
	@echo "make venv   only make the environment, in $(VENV)"
	@echo "make clean  remove the environment, caches and runs/demo/"

# An environment: of what interpreter, where, from which constraints, with which extras. Made anew
# whenever what it is made from changes, so that it is never a mixture of two states.
define environment
	$(1) -m venv --clear $(2)
	$(2)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(3) --editable '.[$(4)]'
	@touch $(2)/.installed
endef

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "error: $(PYTHON) is Python %d.%d; OptEmbed-JAX needs 3.11 to 3.13: make PYTHON=python3.11 ..." % v)'
	$(call environment,$(PYTHON),$(VENV),constraints.txt,dev)

venv: $(STAMP)

demo: $(STAMP)
	rm -rf runs/demo
	$(BIN)/python -m experiments.pipeline --flagfile=experiments/configs/demo.flags --workdir=runs/demo
	$(BIN)/python -m experiments.export --workdir=runs/demo --bundle=runs/demo/bundle --storage=auto --sample=runs/demo/rows.csv
	$(BIN)/python -m experiments.predict --bundle=runs/demo/bundle --input=runs/demo/rows.csv --output=runs/demo/scores.csv

docs: $(STAMP)
	$(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck experiments/cloud/launch_tpu_vm.sh rehearsals/*.sh

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal
	@$(if $(NEWEST_RUNS),$(MAKE) --no-print-directory test-newest,echo "No $(NEWEST) runs here: the newest releases (constraints-newest.txt) are not tested.")

$(NEWEST_STAMP): setup.cfg pyproject.toml constraints-newest.txt
	$(call environment,$(NEWEST),$(NEWEST_VENV),constraints-newest.txt,dev)

test-newest: $(NEWEST_STAMP)
	$(NEWEST_BIN)/mypy
	$(NEWEST_BIN)/python -m pytest -n 2 --dist worksteal

$(TARGETS_STAMP): setup.cfg pyproject.toml constraints.txt
	$(call environment,$(PYTHON),$(TARGETS_VENV),constraints.txt,$(TARGETS_EXTRAS))

test-targets: $(TARGETS_STAMP)
	$(TARGETS_BIN)/python -m pytest -n 2 tests/targets tests/experiments/export_test.py tests/experiments/predict_test.py tests/experiments/several_values_test.py

# What CI has no time or no network for: each makes its own environment, of several hundred megabytes.
rehearsals: $(STAMP) $(NEWEST_STAMP)
	rehearsals/colab.sh
	rehearsals/tpu_vm.sh
	rehearsals/image.sh
	rehearsals/versions.sh

clean:
	rm -rf site $(VENV) $(NEWEST_VENV) $(TARGETS_VENV) runs/demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
