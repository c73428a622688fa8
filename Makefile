# Everything is made inside .venv; PYTHON names another interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
# One host device per core: tasks, seeds and blocks of coordinates are spread over devices.
export JAX_NUM_CPU_DEVICES ?= $(shell nproc 2>/dev/null || echo 1)
# Python compiles once what gets imported, even where it is told not to: tests start many processes, 4 s dearer each.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test lint benchmark clean

# --no-compile: Python itself compiles what gets imported, a small part of what gets installed
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --no-compile --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --no-compile --editable .[dev]
	touch $@

demo: .venv/installed
	$(BIN)/tutelage demo

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test: lint
	$(BIN)/pytest --numprocesses=auto --dist=worksteal

benchmark: .venv/installed-dev
	$(BIN)/python benchmarks/unroll.py
	$(BIN)/python benchmarks/epoch.py
	$(BIN)/python benchmarks/tasks.py
	$(BIN)/python benchmarks/optimizers.py
	$(BIN)/python benchmarks/convolutions.py
	$(BIN)/python benchmarks/step.py

clean:
	rm -rf .venv demo
