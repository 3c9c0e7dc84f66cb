# Every command of this project. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LAB := PYTHONPATH=lab $(BIN)/python -m lvs_lab
PYTEST := $(BIN)/python -m pytest
INTERPRETERS := 3.11 3.12 3.13
SECTION ?=

.PHONY: help demo lab lab-down test check unit tools bench crds lock clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/ready ## Show it all: a cluster, balanced traffic, a failure and a repair; leaves nothing running
	@$(LAB) preflight
	@$(LAB) tools
	@PYTHONPATH=lab $(BIN)/python -m lvs_lab.demo

lab: $(VENV)/ready ## Bring a cluster with the operator up and leave it running
	@$(LAB) preflight
	@$(LAB) tools
	@$(LAB) up --detach --operator

lab-down: $(VENV)/ready ## End the cluster that `make lab` left running
	@$(LAB) down

test: $(VENV)/ready ## Run every test, setting up what is missing
	@$(LAB) preflight
	@$(MAKE) -j2 test-tools check
	@$(MAKE) -j2 test-real test-unit
	@$(MAKE) test-e2e

# The first two rows run side by side; each line of output says whose it is. The third runs alone: its seven kernels are
# a cluster of their own, and its directors take each other for dead when the processors are busy with other things.
NAMED = 2>&1 | (trap '' INT; exec sed --unbuffered "s/^/$(1) | /")

.PHONY: test-tools test-e2e test-real test-unit
test-tools:
	@$(LAB) tools --with keepalived
test-real:
	@LVS_REQUIRE_ALL=1 $(PYTEST) tests/api tests/contract tests/kernel --durations=5 $(call NAMED,real)
test-unit:
	@$(PYTEST) tests/unit -q $(call NAMED,unit)
	@PYTHON_VENV=$(VENV) bash tests/unit-on-each-interpreter $(INTERPRETERS) $(call NAMED,unit)
test-e2e:
	@LVS_REQUIRE_ALL=1 $(PYTEST) tests/e2e -v --durations=5 $(call NAMED,e2e)

check: $(VENV)/ready ## Lint, types, layers, generated files
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --verbose | tail -n 12
	@$(BIN)/yamllint --strict crds manifests kind
	@$(BIN)/python -m lvs_dr.api.crd --check

unit: $(VENV)/ready ## Run the unit tests on this interpreter: seconds, needs nothing
	@$(PYTEST) tests/unit -q

tools: $(VENV)/ready ## Fetch and build what the lab needs into the user's cache
	@$(LAB) tools

bench: $(VENV)/ready ## Measure (SECTION=latency for one section); results also in build/bench.json
	@$(LAB) preflight
	@$(LAB) tools
	@PYTHONPATH=lab:. $(BIN)/python -m tests.bench $(SECTION)

crds: $(VENV)/ready ## Generate crds/ and docs/api.md from the models
	@$(BIN)/python -m lvs_dr.api.crd

lock: $(VENV)/ready ## Renew requirements/*.txt from pyproject.toml
	@bash requirements/lock

clean: ## Remove what was built in this directory (the cache stays: rm -r ~/.cache/lvs-operator)
	@rm -rf $(VENV) .venv-3.* build .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/ready: pyproject.toml requirements/dev.txt
	@bash requirements/venv $(PYTHON) $(VENV)
	@touch $@
