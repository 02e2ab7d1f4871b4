# One command each. Everything lives in .venv; only make and Python 3.11+ with venv are needed.
# A command that is repeated costs nothing: set-up is redone only when its inputs change.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SEEDS  ?= 200
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup up test lint bench chaos sim spread clean

help:
	@echo "make up       set-up, then a three-node cluster on this machine"
	@echo "make setup    only $(BIN)/ringwise"
	@echo "make test     lint, strict types and the whole test suite"
	@echo "make bench    the table beside Redis      make sim SEEDS=200   the simulator"
	@echo "make chaos    what clients see while a node fails, eight ways (about ten minutes)"
	@echo "make spread   how evenly keys are placed  make lint            lint and types alone"

setup: $(VENV)/.setup

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Ringwise needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || echo missing);" \
	       "name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "'$(PYTHON)' cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.setup: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Ringwise into $(VENV)"
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Ringwise and its test tools into $(VENV)"
	@$(PIP) install -c constraints.txt -e '.[test]'
	@touch $@ $(VENV)/.setup

up: setup
	@exec $(BIN)/ringwise dev

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: $(VENV)/.test
	@scripts/debian-packages redis-server redis-tools
	@$(MAKE) --no-print-directory lint
	$(BIN)/pytest -n auto --dist loadgroup --max-worker-restart=0

bench: $(VENV)/.test
	@scripts/debian-packages redis-server redis-tools
	$(BIN)/python -m bench

chaos: $(VENV)/.test
	$(BIN)/python -m bench.chaos

sim: setup
	$(BIN)/python -m ringwise.sim --seeds $(SEEDS)

spread: setup
	$(BIN)/python bench/spread.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
