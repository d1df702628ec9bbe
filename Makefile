# Everything a checkout needs: Python >= 3.11, a C++ compiler and make. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m

# The stamps carry the checkout's place, because the environment points back at it: a copied or moved
# checkout would otherwise go on testing the sources it was copied from.
HERE := $(shell pwd | cksum | cut -d ' ' -f 1)
TOOLS := $(VENV)/tools-$(HERE)
STAMP := $(VENV)/installed-$(HERE)

# The core is built with the environment's own, pinned tools, which pip must find there before it comes to Recurra. They
# stay in their place, unlike those of an isolated build, so that only what has changed is compiled again.
BUILD_TOOLS := cmake nanobind ninja scikit-build-core
INSTALL := $(RUN) pip install --constraint constraints.txt
STRICT := --config-settings=cmake.define.RECURRA_STRICT=ON

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export NO_MKDOCS_2_WARNING := 1

.PHONY: help setup demo test test-all sanitize checks lint format docs wheel clean

help: ## list the targets
	@echo 'make TARGET, where TARGET is one of'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s%s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## the virtual environment in .venv, with the pinned versions and the core (every target below sees to it)
	@:

$(TOOLS): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Recurra needs Python 3.11 or later, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1); name another one: make PYTHON=python3.12" >&2; \
	  exit 1; }
	@echo 'setting up .venv (once; a minute or more, most of it for PyTorch)'
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) $(BUILD_TOOLS) >$(VENV)/tools.log 2>&1 || { cat $(VENV)/tools.log >&2; exit 1; }
	@rm -f $(VENV)/tools-* $(VENV)/installed-*
	@touch $@

$(STAMP): $(TOOLS) $(wildcard native/*.txt native/*.cpp native/*.hpp)
	@echo 'building the core and installing'
	@rm -f src/recurra/_native*.so
	@$(INSTALL) --no-build-isolation $(STRICT) --editable '.[dev]' >$(VENV)/install.log 2>&1 || { \
	  cat $(VENV)/install.log >&2; exit 1; }
	@touch $@

demo: $(STAMP) ## train a network on handwritten digits, five times; ends with its accuracy and its report
	@$(VENV)/bin/recurra train digits --seeds 5 --force --out runs/digits

test: checks ## all checks and tests (what continuous integration runs)
	@$(RUN) pytest --quiet

test-all: checks ## the same, long tests included
	@$(RUN) pytest --quiet -m 'exhaustive or not exhaustive'

sanitize: $(STAMP) ## the core's own tests, with the compiler's checks of addresses, undefined behaviour and threads
	@mkdir -p build
	@$(VENV)/bin/python native/tests/programs.py build/programs.txt
	@for kind in address,undefined thread; do \
	  echo "the core's tests with -fsanitize=$$kind"; \
	  build=build/sanitize-$${kind%%,*}; \
	  { $(VENV)/bin/cmake -S native -B $$build -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(VENV)/bin/ninja \
	      -DRECURRA_STRICT=ON -DRECURRA_SANITIZE=$$kind -DRECURRA_PROGRAMS=$(CURDIR)/build/programs.txt && \
	    $(VENV)/bin/cmake --build $$build; } >$$build.log 2>&1 || { cat $$build.log >&2; exit 1; }; \
	  $(VENV)/bin/ctest --test-dir $$build --output-on-failure --no-tests=error --parallel 2; \
	done

checks: lint docs

lint: $(STAMP) ## style and types
	@$(RUN) ruff check --quiet
	@$(RUN) ruff format --check --quiet || { echo 'the files above are not formatted; make format does it' >&2; exit 1; }
	@$(RUN) pyright

format: $(STAMP) ## format the code and mend what can be mended
	@$(RUN) ruff check --fix
	@$(RUN) ruff format

docs: $(STAMP) ## the documentation, into site/
	@$(RUN) mkdocs build --strict >$(VENV)/docs.log 2>&1 || { grep -v '^INFO' $(VENV)/docs.log >&2; exit 1; }

wheel: $(STAMP) ## the wheel and the source archive, into dist/
	@$(RUN) build --no-isolation
	@ls dist

clean: ## remove everything that was built, the virtual environment included; runs/ stays
	rm -rf $(VENV) build dist site .pytest_cache .ruff_cache .hypothesis
	rm -f src/recurra/_native*.so
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
