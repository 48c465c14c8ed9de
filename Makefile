# Every target sets up what it needs first; a second call finds it done.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check

# A stamp is as new as the pyproject.toml it was installed from.
INSTALLED := $(VENV)/.installed
BENCH_INSTALLED := $(VENV)/.installed-bench
DEMO_INSTALLED := $(VENV)/.installed-demo

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint types imports unit bench format clean

help:  ## Show the targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/python
	@echo "Installing hypernodes with all extras and the tools into $(VENV) (once; a few minutes) ..."
	@$(PIP) install --editable '.[all,dev,examples,bench]'
	@touch $@ $(DEMO_INSTALLED)

# The demo needs a tenth of it.
$(DEMO_INSTALLED): pyproject.toml | $(BIN)/python
	@echo "Installing hypernodes with what the examples need into $(VENV) (once) ..."
	@$(PIP) install --editable '.[examples]'
	@touch $@

$(BENCH_INSTALLED): pyproject.toml $(INSTALLED)
	@echo "Installing what the benchmarks compare with ..."
	@$(PIP) install --upgrade --target $(VENV)/ancestor --no-deps hypernodes==0.4.8
	@touch $@

demo: $(DEMO_INSTALLED)  ## Sweep models over handwritten digits: a table and a plot.
	@$(BIN)/python examples/digits_sweep.py

test: lint types imports unit  ## All checks, then all tests with coverage.

lint: $(INSTALLED)  ## Style, by ruff.
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(INSTALLED)  ## Types: inside, by mypy; what users see, by pyright.
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --ignoreexternal --verifytypes hypernodes

imports: $(INSTALLED)  ## Directions of imports, by import-linter.
	$(BIN)/lint-imports

# The last thing on the screen is pytest's own summary.
unit: $(INSTALLED)  ## The tests alone.
	$(BIN)/python -m pytest --cov

bench: $(BENCH_INSTALLED)  ## Compare speed with peers and with the ancestor.
	@$(BIN)/python -m benchmarks

format: $(INSTALLED)  ## Let ruff rewrite what it can.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:  ## Remove the environment and all caches.
	rm -rf $(VENV) build dist .coverage .coverage.* htmlcov .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache
