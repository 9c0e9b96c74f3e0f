# Everything a newcomer needs. `make` alone prints this list.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.dev
RUN_STAMP := $(VENV)/.run
TOOLS := .cache/tools/.ready
LIBS := scripts/console_libs.sh
# Two: one runs what starts fleets, the other the rest (tests/conftest.py).
WORKERS ?= 2
# Dozens of Python processes are started: each would compile what it imports anew.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest -n $(WORKERS)
PYTEST_ARGS ?=
COMPILE := $(BIN)/python scripts/compile_gateway.py

# A Python that is named (make PYTHON=python3.12 test) is the one that .venv has from then on.
ifneq ($(origin PYTHON),file)
$(shell scripts/bootstrap.sh $(PYTHON) $(VENV) && rm -f $(STAMP) $(RUN_STAMP) && touch $(VENV)/.anew)
endif

.DEFAULT_GOAL := help
.PHONY: help up test test-fast check audit bench comparison docs dist pictures lock lock-engine clean fmt

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(RUN_STAMP): requirements/run.txt pyproject.toml scripts/bootstrap.sh
	@scripts/bootstrap.sh $(PYTHON) $(VENV) requirements/run.txt
	@touch $@

$(STAMP): requirements/dev.txt pyproject.toml scripts/bootstrap.sh
	@scripts/bootstrap.sh $(PYTHON) $(VENV) requirements/dev.txt
	@touch $@ $(RUN_STAMP)

$(TOOLS): $(STAMP) scripts/test_tools.sh scripts/export_schemas.py requirements/tools.txt requirements/tools-schemas.txt requirements/tools-npm.txt
	@scripts/test_tools.sh
	@touch $@

up: $(RUN_STAMP) ## serve a real model on real vLLM here, behind the gateway (Ctrl-C stops it)
	@$(COMPILE)
	@$(LIBS)
	@$(BIN)/seawall up

test: $(STAMP) $(TOOLS) ## all tests, real vLLM included
	@$(COMPILE)
	@$(LIBS)
	@$(BIN)/seawall engine install --for cpu
	@$(PYTEST) $(PYTEST_ARGS)

test-fast: $(STAMP) $(TOOLS) ## the tests that need no real engine
	@$(COMPILE)
	@$(LIBS)
	@$(PYTEST) -m "not engine and not slow" $(PYTEST_ARGS)

check: $(STAMP) ## lint, types, import order, docs
	@$(BIN)/ruff format --check src tests $(wildcard bench)
	@$(BIN)/ruff check src tests $(wildcard bench)
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python scripts/check_docs.py

fmt: $(STAMP) ## format the code
	@$(BIN)/ruff format src tests $(wildcard bench) scripts
	@$(BIN)/ruff check --fix src tests $(wildcard bench)

bench: $(STAMP) ## the benchmarks, quick form, with their peers
	@$(COMPILE)
	@for b in $$(grep -l -e --quick bench/*.py); do echo "== $$b"; $(BIN)/python $$b --quick || exit 1; done

comparison: $(STAMP) ## every gateway that we know under the same faults, into docs/comparison.md (20 minutes)
	@$(COMPILE)
	@$(BIN)/python scripts/comparison.py

pictures: $(STAMP) $(TOOLS) ## the docs' screenshots, into docs/pictures/made
	@$(LIBS)
	@$(BIN)/python scripts/pictures.py

lock: $(STAMP) ## pin the dependencies anew, with hashes
	@$(BIN)/uv pip compile -q pyproject.toml --universal --generate-hashes --no-header --no-emit-index-url --no-annotate -o requirements/run.txt
	@$(BIN)/uv pip compile -q pyproject.toml --extra otel --extra cloud --extra scaler --extra postgres --universal --generate-hashes --no-header --no-emit-index-url --no-annotate -o requirements/image.txt
	@$(BIN)/uv pip compile -q pyproject.toml --extra dev --universal --generate-hashes --no-header --no-emit-index-url --no-annotate -o requirements/dev.txt
	@$(BIN)/uv pip compile -q --group compile -c requirements/dev.txt --universal --generate-hashes --no-header --no-emit-index-url --no-annotate -o requirements/compile.txt
	@printf 'auditwheel\npatchelf\nwheel\ncyclonedx-bom\n' | $(BIN)/uv pip compile -q - --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate -o requirements/dist.txt
	@printf 'mkdocs-material\n' | $(BIN)/uv pip compile -q - --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate -o requirements/docs.txt
	@printf 'pip-audit\n' | $(BIN)/uv pip compile -q - --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate -o requirements/audit.txt

audit: $(STAMP) ## known advisories and licences of what we depend on
	@$(BIN)/python scripts/audit.py

docs: $(STAMP) ## the documentation as a site with search, in site/
	@$(BIN)/python scripts/docs_site.py

dist: $(STAMP) ## build sdist, wheels (pure, and compiled for the Pythons that are here) and their bill of materials
	@$(BIN)/python scripts/dist.py

lock-engine: $(STAMP) ## pin the engine's packages anew (vLLM for CPU), with hashes
	@$(BIN)/python scripts/lock_engine.py $(BIN)/uv

clean: ## remove what this folder has built (not the caches in your home)
	@rm -rf $(VENV) dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
