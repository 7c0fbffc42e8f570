# make run    a virtual environment, the pinned packages, and the demo   (make run ARGS=--once)
# make test   set-up, then format, lint, types and the whole test suite; what .ci/run calls
# make check  format, lint and types alone
# make bench  the benchmarks, each beside its floor
# make soak   ten minutes of random clients at a server that is killed   (make soak ARGS='60 50 10')
# make docs   the documentation as pages, in build/docs

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
TESTS ?= tests
# The client of Socket.IO that the tests ask; without npm they are skipped, and say so.
NODE := tests/dialects/node
CLIENT := $(if $(shell command -v npm),$(NODE)/node_modules/.package-lock.json)
PINNED := --constraint constraints.txt --editable '.[dev]'
# Processes that share the tests. A debugger needs JOBS=0.
JOBS ?= 2

# The tests start hundreds of processes, and each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test check bench soak docs format

run: $(READY)
	$(BIN)/quiesce demo $(ARGS)

# Real processes, browsers and servers share two processors here. What fails beside others is run
# once more with the machine to itself, and has failed if it does so again.
test: check $(CLIENT)
	$(BIN)/pytest -n $(JOBS) $(TESTS) $(ARGS) || \
	  { [ $$? -eq 1 ] && $(BIN)/pytest --last-failed --last-failed-no-failures none $(TESTS) $(ARGS); }

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m tests.bench $(ARGS)

soak: $(READY)
	$(BIN)/python -m tests.crash.soak $(ARGS)

docs: $(READY)
	$(BIN)/python -m api.site build/docs

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(NODE)/node_modules/.package-lock.json: $(NODE)/package-lock.json
	npm ci --prefix $(NODE) --silent --no-audit --no-fund
	touch $@

# uv installs in seconds what takes pip minutes. It does not read pip's configuration, so where only
# that leads to an index, pip does it.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(PINNED) || \
	  $(BIN)/pip install --quiet --disable-pip-version-check $(PINNED)
	touch $@
