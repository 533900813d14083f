# Everything runs from .venv, which the first target that needs it makes and fills.
# The stamps in it are older than pyproject.toml or constraints.txt when it has to be filled again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A process a core, up to eight, each with one thread; tests of one file share a process, and with it their fixtures.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 8 --dist loadfile
TORCH := $(shell grep '^torch==' constraints.txt)

N ?= 10000
SEED ?= 0

.PHONY: help demo dev test coverage test-slow test-lowest drill fuzz results docs tutorials lint format types layers clean
.DEFAULT_GOAL := help

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

# torch comes first and by its exact version: asked for through another package's range, pip may take one of several GB
# that is built for other hardware.
$(VENV)/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gvsl needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH) -c constraints.txt
	@touch $@

$(VENV)/.package: $(VENV)/.torch pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps dynamic-network-architectures  # timm brings torchvision
	@touch $@ $(VENV)/.package

$(VENV)/.docs: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs,monai,slow,tutorials]"
	@touch $@

dev: $(VENV)/.dev ## Install gvsl and the tools that test it into .venv.

# A demo that is there stays: the next one goes beside it, as demo-2, demo-3, ...
demo: $(VENV)/.package ## Phantom, store, pre-training, linear probe, report; a few minutes.
	@out=demo; n=1; while [ -e "$$out" ]; do n=$$((n + 1)); out="demo-$$n"; done; \
	$(BIN)/gvsl demo --out "$$out"

test: $(VENV)/.dev ## The tests, but for the slow ones.
	$(PYTEST)

coverage: $(VENV)/.dev ## The tests again, and the share of the code that they reach: 92 % or more.
	$(PYTEST) --cov --cov-report=term

test-slow: $(VENV)/.docs ## The slow tests: the demo, the site and the tutorials among them.
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow  # as torchrun sets it: with other numbers of threads, sums differ in their last bits

# It goes on where a stopped one was; benchmarks/drill.py --keep build/drill --tally shows how far it is.
drill: $(VENV)/.dev ## Kill every command KILLS times in all (200), and compare; hours; a stopped one goes on.
	OMP_NUM_THREADS=1 nice -n 19 $(BIN)/python benchmarks/drill.py $(or $(KILLS),200) --keep build/drill

test-lowest: $(VENV)/.dev ## A quick part of the tests on the lowest versions of the dependencies.
	.ci/lowest

fuzz: $(VENV)/.dev ## Damage N files of every kind and read them: make fuzz N=10000 SEED=0.
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --count $(N) --seed $(SEED)

results: $(VENV)/.dev ## The tables of docs/results.md from the records in docs/records.
	$(BIN)/python docs/results_table.py

docs: $(VENV)/.docs ## The site, in build/site; a warning is an error.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open build/site/index.html; with its search: $(BIN)/mkdocs serve"

tutorials: $(VENV)/.docs ## Run the notebooks of docs/tutorials anew, and keep what they print and draw.
	OMP_NUM_THREADS=1 $(BIN)/python docs/tutorials/run.py docs/tutorials/*.ipynb

lint: $(VENV)/.dev ## ruff: rules and layout.
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(VENV)/.dev ## Let ruff fix what it can.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(VENV)/.dev ## mypy.
	$(BIN)/mypy

layers: $(VENV)/.dev ## import-linter: the layers of imports, and no circles.
	$(BIN)/lint-imports

clean: ## Remove .venv, the caches and the wheels; demos and runs stay.
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
