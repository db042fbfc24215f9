# Each target makes .venv and installs what it needs, in the versions that requirements/ locks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCKS := requirements
# uv itself is one of the locked packages; where a machine has none yet, pip fetches it.
UV := $(BIN)/uv
# Bytecode is kept, whatever the shell says: the tests start hundreds of processes that import the same modules.
unexport PYTHONDONTWRITEBYTECODE

# A worker a core; a worker with nothing left takes over what another has not begun.
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal
# All units, and each face once: the clients and the connector, the driver of HANA, the toolkit's memory, the command.
FAST := tests/unit tests/integration/test_together_ai.py tests/integration/hana/test_memory.py \
	tests/integration/local/hana/test_hdbcli.py tests/integration/test_cli.py \
	"tests/faults/test_matrix.py::test_every_way_to_ask_bears[gzip, in good form]"
RAY_TESTS := tests/integration/hana/ray

.PHONY: demo test test-fast test-all live coverage test-newest test-oldest peers lint bench docs docs-version dist \
	wheels lock clean FORCE
.DELETE_ON_ERROR:

demo: $(STAMP)
	@$(BIN)/hana-ai-together demo $(DEMO_ARGS)

test: $(STAMP)
	$(PYTEST) $(PYTEST_ARGS)

test-fast: $(STAMP)
	$(PYTEST) $(FAST) $(PYTEST_ARGS)

# A cluster has processes of its own, so its tests run one after the other.
test-all: $(VENV)/.ray
	$(PYTEST) -m "not live and not ray" $(PYTEST_ARGS)
	$(BIN)/python -m pytest -n 0 -m ray $(RAY_TESTS) $(PYTEST_ARGS)

# The loopback servers beside the real services that the environment names; docs/live.md says how, and what it costs.
live: $(STAMP)
	$(BIN)/python -m pytest -n 0 -m "" --report live-report.md tests/conformance $(LIVE_ARGS)

coverage: $(STAMP)
	$(PYTEST) --cov --cov-report=term $(PYTEST_ARGS)

# The newest versions within the bounds of setup.cfg, as of now, in an environment of their own.
test-newest:
	@$(MAKE) --no-print-directory VENV=.venv-newest .venv-newest/.versions.txt
	@$(MAKE) --no-print-directory VENV=.venv-newest VERSIONS=.venv-newest/.versions.txt lint test

test-oldest:
	@$(MAKE) --no-print-directory VENV=.venv-oldest VERSIONS=$(LOCKS)/oldest.txt test

# Others' own tests and examples against what is here; git and pip fetch them unless PEER, SDK or SAP names a checkout.
peers: $(STAMP)
	$(BIN)/python -m tests.peers.langchain_together $(PEER)
	$(BIN)/python -m tests.peers.together_sdk $(SDK)
	$(BIN)/python -m tests.peers.sap_examples $(SAP)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/architecture.py
	$(BIN)/python .ci/audit.py

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

# The notebooks run beside the stand-ins, with the toolkit routed; one that fails fails the build.
SERVED := $(BIN)/hana-ai-together serve all -- $(BIN)/hana-ai-together run --

docs: $(VENV)/.docs
	DOCS_EXECUTE=true $(SERVED) $(BIN)/mkdocs build --strict

# The site of this version, as a commit to the branch gh-pages; the menu of versions comes from that branch.
docs-version: $(VENV)/.docs
	DOCS_EXECUTE=true DOCS_VERSIONS=mike $(SERVED) \
		$(BIN)/mike deploy --update-aliases "$$(sed -n 's/^version = \([0-9]*\.[0-9]*\).*/\1/p' setup.cfg)" latest

# The sdist and the wheel, built by the locked tools.
dist: $(VENV)/.release
	@rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist
	$(BIN)/twine check --strict dist/*

# Whether every locked version has a wheel for each supported Python and platform; asks the package index.
wheels: $(STAMP)
	$(BIN)/python .ci/wheels.py

clean:
	rm -rf $(VENV) .venv-newest .venv-oldest build dist site *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.13 ..." if sys.version_info < (3, 11) else 0)'
	@echo "Making the environment $(VENV); the first time this takes about a minute."
	@if command -v uv >/dev/null; then uv venv -q --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV); \
	else $(PYTHON) -m venv $(VENV); fi

$(VENV)/.uv: $(LOCKS)/uv.txt | $(BIN)/python
	@if command -v uv >/dev/null; then uv pip install -q --python $(BIN)/python --require-hashes -r $<; \
	else $(BIN)/python -m pip install -qq --require-hashes -r $<; fi
	@touch $@

# What the environment holds; test-newest and test-oldest put other versions in the place of the first.
VERSIONS := $(LOCKS)/test.txt
INSTALLED := $(VERSIONS) $(LOCKS)/build.txt $(LOCKS)/uv.txt

$(STAMP): $(INSTALLED) setup.py setup.cfg pyproject.toml | $(VENV)/.uv
	@$(UV) pip sync -q --compile-bytecode --python $(BIN)/python --require-hashes $(INSTALLED)
	@$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(BIN)/hana-ai-together weights >/dev/null
	@touch $@

$(VENV)/.%: $(LOCKS)/%.txt $(STAMP)
	@$(UV) pip install -q --python $(BIN)/python --require-hashes -r $<
	@touch $@

# Universal: one file holds the versions of every supported Python on Linux, macOS and Windows.
COMPILE := $(UV) pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock" --no-emit-index-url

.venv-newest/.versions.txt: $(VENV)/.uv FORCE
	$(COMPILE) setup.cfg --extra test -o $@

FORCE:

# What goes into the same environment is bound by test.txt; oldest.txt has an environment of its own.
lock: $(VENV)/.uv
	$(COMPILE) $(LOCKS)/uv.in -o $(LOCKS)/uv.txt
	$(COMPILE) setup.cfg --extra test -o $(LOCKS)/test.txt
	$(COMPILE) $(LOCKS)/build.in -c $(LOCKS)/test.txt -o $(LOCKS)/build.txt
	$(COMPILE) setup.cfg --extra docs -c $(LOCKS)/test.txt -o $(LOCKS)/docs.txt
	$(COMPILE) setup.cfg --extra ray -c $(LOCKS)/test.txt -o $(LOCKS)/ray.txt
	$(COMPILE) $(LOCKS)/bench.in -c $(LOCKS)/test.txt -o $(LOCKS)/bench.txt
	$(COMPILE) $(LOCKS)/release.in -c $(LOCKS)/test.txt -o $(LOCKS)/release.txt
	$(COMPILE) setup.cfg --extra test --resolution lowest-direct -o $(LOCKS)/oldest.txt
	$(MAKE) --no-print-directory $(STAMP)
	$(BIN)/python .ci/compatibility.py
