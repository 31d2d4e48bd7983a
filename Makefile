# Everything runs in .venv, made from constraints.txt. Only Python >= 3.11, git and make have to be there before.
PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup reproduce test lint format bench clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv and install progloc with what develops it

# The stamp is written last, so that an install that failed or was interrupted is done again.
$(STAMP): pyproject.toml constraints.txt
	rm -f $@
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --constraint constraints.txt --editable '.[dev]'
	touch $@

reproduce: setup  ## run the paper's seven architectures, small, and report them (ARGS="--seeds 3")
	$(BIN)/progloc reproduce --suite quick $(ARGS)

test: setup  ## run the tests (ARGS="tests/unit -k schedule")
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 $(ARGS)

lint: setup  ## check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: setup  ## mend style and formatting in place
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup  ## time training steps with and without the penalty (ARGS="--lengths 128,1024 --compile")
	$(BIN)/progloc doctor --bench $(ARGS)

clean:  ## remove .venv, caches and builds; results stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
