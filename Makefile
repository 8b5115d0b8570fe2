# `make help` lists every target. CI calls the same ones.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Everything that is built or downloaded lies in one folder, so that nothing is left elsewhere.
export XDG_CACHE_HOME ?= $(HOME)/.cache
CACHE := $(XDG_CACHE_HOME)/modelyard
CHECKOUT := $(shell pwd | sha1sum | cut -c1-8)
export UV_CACHE_DIR ?= $(CACHE)/uv
export UV_PROJECT_ENVIRONMENT ?= $(CACHE)/venv/$(CHECKOUT)
export PYTHONPYCACHEPREFIX ?= $(CACHE)/pycache
export RUFF_CACHE_DIR ?= $(CACHE)/ruff
export MYPY_CACHE_DIR ?= $(CACHE)/mypy/$(CHECKOUT)
export HYPOTHESIS_STORAGE_DIRECTORY ?= $(CACHE)/hypothesis
PYTHON := $(UV_PROJECT_ENVIRONMENT)/bin/python
# The cluster tool installs programs that are published as wheels with it.
export UV := $(CACHE)/tools/uv-0.13/bin/uv

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  \033[36m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV):
	@echo "· uv (first time only)"
	@python3 -m venv $(CACHE)/tools/uv-0.13
	@$(CACHE)/tools/uv-0.13/bin/python -m pip install --quiet "uv>=0.13,<0.14"

.PHONY: setup
setup: $(UV) ## Install the locked Python environment into the cache
	@$(UV) sync --quiet --frozen --all-extras

.PHONY: check
check: setup ## Format, lint, types, import contracts, unit tests (under 90 s)
	@$(PYTHON) tools/testrun.py check

.PHONY: test
test: setup ## All tests, from nothing: check, then a real cluster
	@$(PYTHON) tools/testrun.py check cluster

.PHONY: demo
demo: setup ## The main job from nothing, live: operator, model, canary, promotion, rollback
	@$(PYTHON) -m demo

.PHONY: up
up: setup ## Start the local cluster with its add-ons, or repair it
	@$(PYTHON) -m localcluster up --addons all

.PHONY: shell
shell: setup ## A shell where the cluster's network, kubectl and helm are at hand
	@$(PYTHON) -m localcluster exec -- bash

.PHONY: down
down: setup ## Remove the local cluster; the cache stays
	@$(PYTHON) -m localcluster down

.PHONY: bench
bench: setup ## Measure the runtime beside its peers, half an hour; writes benchmarks/results
	@$(PYTHON) benchmarks/runtime/bench.py

.PHONY: bench-analysis
bench-analysis: setup ## Simulate 1,000 canaries in each of many cells, half an hour
	@$(PYTHON) benchmarks/analysis/bench.py

.PHONY: bench-routes
bench-routes: up ## How soon each proxy follows a change of weights, a quarter of an hour
	@PYTHONPATH=tests $(PYTHON) benchmarks/routes/bench.py

.PHONY: soak
soak: setup ## Ten minutes of load, reloads, vanishing clients and malformed requests
	@$(PYTHON) benchmarks/runtime/soak.py

.PHONY: chaos
chaos: setup ## Long property runs and the full crash matrix
	@$(PYTHON) tools/testrun.py chaos

.PHONY: routes
routes: up ## Run the tests behind every proxy, half an hour; writes the table of docs/reference/routes.md
	@MODELYARD_ROUTES=benchmarks/results/routes.json $(PYTHON) -m pytest -q tests/cluster/proxies
	@$(PYTHON) tools/render_routes.py

.PHONY: mutants
mutants: setup ## Change the rollout machine in 2,600 ways, an hour; lists those no test notices
	@$(UV) run --no-sync --with mutmut==3.8.1 python tools/mutants.py

.PHONY: format
format: setup ## Format the code and fix what the linter can fix
	@$(UV_PROJECT_ENVIRONMENT)/bin/ruff check --fix --quiet .
	@$(UV_PROJECT_ENVIRONMENT)/bin/ruff format --quiet .

.PHONY: lock
lock: $(UV) ## Update uv.lock
	@$(UV) lock --upgrade
