# Everything runs in .venv, made from constraints.txt. Only Python >= 3.11, git and make have to be there before.
PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup reproduce test test-fast test-lowest lint format bench pages docs clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv and install progloc with what develops it

# The stamp is written last, so that an install that failed or was interrupted is done again.
$(STAMP): pyproject.toml constraints.txt
	rm -f $@
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --constraint constraints.txt --editable '.[dev,lint]'
	touch $@

reproduce: setup  ## run the paper's seven architectures, small, and report them (ARGS="--seeds 3")
	$(BIN)/progloc reproduce --suite quick $(ARGS)

test: setup  ## run the tests (ARGS="tests/unit -k schedule")
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 $(ARGS)

test-fast: setup  ## run the tests that take a minute together (ARGS="tests/unit")
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m 'not slow' $(ARGS)

test-lowest:  ## run the tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	test -x .venv-lowest/bin/pip || $(PYTHON) -m venv .venv-lowest
	$(PYTHON) tests/lowest_versions.py > .venv-lowest/constraints.txt
	.venv-lowest/bin/pip install --quiet --constraint .venv-lowest/constraints.txt --editable '.[dev]'
	OMP_NUM_THREADS=1 .venv-lowest/bin/pytest -n 2 $(ARGS)

lint: setup  ## check style, formatting, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: setup  ## mend style and formatting in place
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup  ## time training steps with and without the penalty (ARGS="--lengths 128,1024 --compile")
	$(BIN)/python benchmarks/step_cost.py $(ARGS)

pages: setup  ## write the pages' tables and pictures again, from benchmarks/measured
	for script in write_results write_performance write_audit write_pretrained theory account_speed reuse_speed frontier; do \
		$(BIN)/python benchmarks/$$script.py || exit; \
	done

docs: setup  ## build the site of docs/ in site/, its figures drawn from benchmarks/measured
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/mkdocs build --strict

clean:  ## remove .venv, caches and builds; results stay
	rm -rf .venv .venv-lowest .mypy_cache .import_linter_cache .pytest_cache .ruff_cache .hypothesis build dist site
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
