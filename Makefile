# Everything that this project does, by the same commands on a laptop and in CI. `make` lists them.
# The first Python of a supported version (3.11 to 3.14) that starts; `make PYTHON=…` names another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
  "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && echo $$python && break; \
  done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Processes that tests are spread over: one more than processors (tests/conftest.py), at most four; `make test WORKERS=0`
# uses this one. One that dies ends the run with the name of its test: xdist could wait for it for ever.
WORKERS ?= logical
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses=4 --max-worker-restart=0

# Folders with tests that need a Docker engine (tests/conftest.py keeps them here): reading all tests takes a while.
DOCKER_ROOMS = $(addprefix tests/,containers localstack backends/stepfunctions terraform)

# PyTorch's public index of CPU builds: the default index has builds with gigabytes of CUDA. It is left out
# where pip has a folder of wheels of its own (pip config get global.find-links), or when set empty.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PIP_TORCH = $(if $(shell $(or $(PYTHON),python3) -m pip config get global.find-links 2>/dev/null),,$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)))
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_TORCH)

.DEFAULT_GOAL := help
.PHONY: help demo install install-dev test test-fast test-docker lint format types proto reference docs dist lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

$(VENV)/.installed: requirements/run.txt pyproject.toml
	@test -x $(BIN)/python || test -n "$(PYTHON)" || { echo "Skyfan needs Python 3.11 to 3.14 and found none;" \
	  "install one or name it: make PYTHON=/path/to/python3" >&2; exit 2; }
	@echo "installing into $(VENV) (once; a minute or two)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements/run.txt
	@$(PIP) --no-deps --editable .
	@touch $@

# Most modules of the tools are never imported: Python compiles those that are, when they are.
$(VENV)/.installed-dev: $(VENV)/.installed requirements/dev.txt
	@echo "installing the tools for tests into $(VENV)"
	@$(PIP) --no-compile -r requirements/dev.txt
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed requirements/docs.txt
	@echo "installing the tools for documentation into $(VENV)"
	@$(PIP) --no-compile -r requirements/docs.txt
	@touch $@

install: $(VENV)/.installed ## install Skyfan into .venv
install-dev: $(VENV)/.installed-dev ## and what tests need

demo: install ## redshifts of 1,000 real galaxies, on this machine (ARGS=--no-resume computes again)
	@$(BIN)/skyfan demo $(ARGS)

test: install-dev ## all tests that need no Docker
	$(PYTEST) -m "not docker" --ignore=tests/terraform $(ARGS)

test-fast: install-dev ## the tests that take seconds
	$(PYTEST) -m "not docker and not slow" --ignore=tests/terraform $(ARGS)

test-docker: install-dev ## the tests that need a Docker engine
	$(PYTEST) -m docker $(DOCKER_ROOMS) $(ARGS)

lint: install-dev ## ruff, and the layers of skyfan
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

format: install-dev ## let ruff fix what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: install-dev ## mypy --strict
	$(BIN)/mypy --strict skyfan services infra/compose/skyfan_compose

proto: install-dev ## generate skyfan/v1 from proto/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. \
	  --mypy_out=quiet:. --mypy_grpc_out=quiet:. proto/skyfan/v1/*.proto

reference: install ## write the reference pages that come from the code
	$(BIN)/python docs/generate.py

docs: $(VENV)/.installed-docs reference ## the documentation as a site, in build/site
	$(BIN)/python -m typer skyfan.cli utils docs --name skyfan --title "Command line" --output docs/reference/cli.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

dist: install-dev ## wheel and source distribution, in dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist

# In a make of its own: with its rules here, a pyproject.toml that `git pull` has just touched would lock everything
# anew, with a tool that a fresh clone has not, before anything else is done.
lock: install-dev ## write the lock files again, after a change of pyproject.toml's dependencies
	@$(MAKE) --no-print-directory -f requirements/lock.mk lock

clean: ## remove what was built; runs/ and data/ stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

include infra/compose.mk
include infra/localstack/localstack.mk
-include benchmarks/bench.mk
include faults.mk
include tests/terraform/terraform.mk
