# Everything a checkout needs: Python >= 3.11, a C++ compiler and make. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m

# The stamp carries the checkout's place, because the environment points back at it: a copied or moved
# checkout would otherwise go on testing the sources it was copied from.
STAMP := $(VENV)/installed-$(shell pwd | cksum | cut -d ' ' -f 1)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export NO_MKDOCS_2_WARNING := 1

.PHONY: help setup demo test test-all checks lint format docs wheel clean

help: ## list the targets
	@echo 'make TARGET, where TARGET is one of'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s%s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## the virtual environment in .venv, with the pinned versions (every target below sees to it)
	@:

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Recurra needs Python 3.11 or later, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1); name another one: make PYTHON=python3.12" >&2; \
	  exit 1; }
	@echo 'setting up .venv (once; a minute or more, most of it for PyTorch)'
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) pip install --constraint constraints.txt --editable '.[dev]' >$(VENV)/install.log 2>&1 || { \
	  cat $(VENV)/install.log >&2; exit 1; }
	@rm -f $(VENV)/installed-*
	@touch $@

demo: $(STAMP) ## train a network on handwritten digits, five times; ends with its accuracy and its report
	@$(VENV)/bin/recurra train digits --seeds 5 --force --out runs/digits

test: checks ## all checks and tests (what continuous integration runs)
	@$(RUN) pytest --quiet

test-all: checks ## the same, long tests included
	@$(RUN) pytest --quiet -m 'exhaustive or not exhaustive'

checks: lint docs

lint: $(STAMP) ## style and types
	@$(RUN) ruff check --quiet
	@$(RUN) ruff format --check --quiet || { echo 'the files above are not formatted; make format does it' >&2; exit 1; }
	@$(RUN) pyright

format: $(STAMP) ## format the code and mend what can be mended
	@$(RUN) ruff check --fix
	@$(RUN) ruff format

docs: $(STAMP) ## the documentation, into site/
	@$(RUN) mkdocs build --strict --quiet

wheel: $(STAMP) ## the wheel and the source archive, into dist/
	@$(RUN) build --no-isolation
	@ls dist

clean: ## remove everything that was built, the virtual environment included; runs/ stays
	rm -rf $(VENV) build dist site .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
