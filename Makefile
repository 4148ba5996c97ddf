# Every command here works in a fresh checkout: it makes .venv and installs what is missing first.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install demo test pytest lint layers types format bench wheel clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY)  ## make .venv and install everything the other commands need

# The stamp is younger than what names the dependencies, so a second run starts at once.
$(READY): setup.cfg pyproject.toml tools/install.sh
	@bash tools/install.sh $(VENV)
	@touch $@

demo: $(READY)  ## napari on the sample CT; without a display, the same under Xvfb, saved to demo-output/
	$(BIN)/napari-uncertsam demo

test: lint layers types pytest  ## everything that CI checks

pytest: $(READY)  ## the tests and the examples in the docstrings
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: $(READY)  ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

layers: $(READY)  ## imports point downwards only
	$(BIN)/lint-imports

types: $(READY)  ## mypy --strict
	$(BIN)/mypy

format: $(READY)  ## put the code into the style that `make lint` wants
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)  ## speed, memory and accuracy: every script in benchmarks/
	@set -e; for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script; done

wheel: $(READY)  ## sdist and wheel in dist/
	$(BIN)/python -m build

clean:  ## remove what was built, but not .venv
	rm -rf build dist demo-output *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
