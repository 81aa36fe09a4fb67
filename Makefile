# Every target that needs the environment makes it first: .venv, from pyproject.toml and constraints.txt.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
  "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && exit; done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
STUDY ?= quickstart
STORAGE ?= runs
PACKAGES := platform search_spaces trainers
BENCHMARKS ?= data_share objective_step leg_overhead study_throughput checkpoint_stall trainer_speed fsdp two_worker_leg \
  searcher_time samplers mixture_step muon_step large_studies large_report simulated_search crossing_coverage \
  confirmed_search prepare_speed prepare_memory law_fits elbo_error multiple_choice trial_costs

.PHONY: help demo setup test test-unit test-all check format lint types bench schema report readme notebooks clean

help:  ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables: PYTHON=/path/to/python3.11 (3.11 or newer), STUDY=$(STUDY), STORAGE=$(STORAGE), BENCHMARKS=\"...\""

demo: $(READY)  ## Set up, run the quickstart study on real text and write its report
	$(BIN)/crossover run quickstart --storage $(STORAGE)
	$(BIN)/crossover report $(STORAGE)/quickstart

setup: $(READY)  ## Make .venv and install the project in it

$(READY): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: Crossover needs Python 3.11 or newer, and $(PYTHON) is $$("$(PYTHON)" --version 2>&1 || true)." >&2; \
	  echo "Install one, or name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  echo "Making $(VENV) with $(PYTHON)"; "$(PYTHON)" -m venv --clear $(VENV); }
	@echo "Installing into $(VENV); the first time takes minutes"
	@# torch by itself first: a CPU build that pip is configured to find is taken, and nothing else can pull another.
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

test: $(READY)  ## Set up and run the fast tests
	$(BIN)/python -m pytest -m "not slow and not end_to_end"

test-unit: $(READY)  ## The tests of single parts, on all processors: a minute or two
	$(BIN)/python -m pytest -n auto -m "not slow and not end_to_end and not ray and not integration"

test-all: $(READY)  ## Every test, also the slow ones and whole studies
	$(BIN)/python -m pytest

check: lint types test  ## What a commit must pass: format, lint, types and the fast tests

format: $(READY)  ## Format the code and repair what lint can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: $(READY)  ## Check format and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# mypy cannot follow the editable install's mapping of crossover.* to the three folders: links show it the same tree.
types: $(READY)  ## Check types, strictly
	@mkdir -p build/types/crossover
	@for name in $(PACKAGES); do ln -sfn ../../../$$name build/types/crossover/$$name; done
	$(BIN)/mypy -p crossover

bench: $(READY)  ## Run the benchmarks; tables on the screen, rows in build/benchmarks (BENCHMARKS="...": some of them)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@for name in $(BENCHMARKS); do $(BIN)/python tests/benchmarks/$$name.py; done

schema: $(READY)  ## Write the JSON Schema of a study, for editors
	$(BIN)/crossover schema > build/study.schema.json
	mv build/study.schema.json search_spaces/studies/study.schema.json

report: $(READY)  ## Write the report of STUDY
	$(BIN)/crossover report $(STORAGE)/$(STUDY)

readme: $(READY)  ## Write what the quickstart found into README.md, docs/findings.md and docs/figures (after make demo)
	$(BIN)/python docs/quickstart.py $(STORAGE)/quickstart

notebooks: $(READY)  ## Run the notebooks on the committed quickstart study and keep what they print
	$(BIN)/python docs/notebooks.py

clean:  ## Remove what is built and cached; .venv and runs stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +
