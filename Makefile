# Every target that people use carries its help behind `##`. Nothing here needs more than make, a shell and Python 3.11.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
SHELL := /bin/sh

BIN := .venv/bin
PYTHON_IN_VENV := $(BIN)/python
COMPILE := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11
NAME ?= dev

.PHONY: help venv up demo-rollout down cluster cluster-status images generate format lint keep-release requirements \
        test test-unit test-apiserver test-engine test-cluster test-soak

help: ## show what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---- trying it

up: venv ## a local cluster with the chart, a real engine and three TaskModels, and one question to each
	@$(PYTHON_IN_VENV) -m tests.cluster.demo up

demo-rollout: venv ## on what `make up` has brought up, under load: a better version, a worse one, one that turns slow (6 minutes)
	@$(PYTHON_IN_VENV) -m tests.cluster.demo rollout

down: venv ## end the local cluster and remove all that it left (NAME=… for another than dev)
	@$(PYTHON_IN_VENV) -m tests.cluster.local down --name $(NAME)

cluster: venv ## only the local cluster: kubeconfig in .cluster/kubeconfig
	@$(PYTHON_IN_VENV) -m tests.cluster.local up --name $(NAME)

cluster-status: venv ## which components of the local cluster run, and where their logs are
	@$(PYTHON_IN_VENV) -m tests.cluster.local status --name $(NAME)

images: venv ## build the images from this checkout and put them onto the local cluster
	@$(PYTHON_IN_VENV) -m tests.cluster.local images --name $(NAME)

# ---- working on it

venv: .venv/installed ## the Python environment of development and tests

.venv/installed: requirements/dev.txt requirements/uv.txt pyproject.toml
	@.ci/bootstrap

generate: venv ## write what is made from the code: CRDs, the references of the API, the settings and the commands
	@$(PYTHON_IN_VENV) -m taskfleet.api.generate
	@$(PYTHON_IN_VENV) -m taskfleet.cli.settings_reference
	@$(PYTHON_IN_VENV) -m taskfleet.cli.command_reference

format: venv ## format the code and repair what the linter can repair
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lint: venv ## format, lint, types, import layers, and drift of generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --package taskfleet
	$(BIN)/mypy tests examples
	$(BIN)/lint-imports
	$(PYTHON_IN_VENV) -m taskfleet.api.generate --check

keep-release: venv ## keep this checkout as the last release, which upgrades are tested from (CONTRIBUTING.md, Releasing)
	@$(PYTHON_IN_VENV) -m tests.released

requirements: venv ## pin all dependencies anew, with hashes (UPGRADE=--upgrade for newer versions)
	@set -e; export UV_CUSTOM_COMPILE_COMMAND="make requirements"; PATH="$$PWD/$(BIN):$$PATH"; \
	$(COMPILE) $(UPGRADE) requirements/uv.in -o requirements/uv.txt; \
	$(COMPILE) $(UPGRADE) requirements/go.in -o requirements/go.txt; \
	$(COMPILE) $(UPGRADE) requirements/build.in -o requirements/build.txt; \
	$(COMPILE) $(UPGRADE) pyproject.toml --extra all -o requirements/image.txt; \
	$(COMPILE) $(UPGRADE) pyproject.toml requirements/build.in --extra all --group dev -o requirements/dev.txt; \
	$(COMPILE) $(UPGRADE) pyproject.toml --group train -o requirements/train.txt; \
	$(COMPILE) $(UPGRADE) requirements/simulator.in -o requirements/simulator.txt

# ---- testing it

test: lint ## lint and all tests from nothing, on clusters of their own; ends with their count
	@$(PYTHON_IN_VENV) -m tests.tiers

test-soak: lint ## lint and all tests with the long windows that `make test` shortens (hours)
	@TASKFLEET_SOAK=1 $(PYTHON_IN_VENV) -m tests.tiers

test-unit: venv ## only the pure and fast tests
	@$(PYTHON_IN_VENV) -m tests.tiers unit

test-apiserver: venv ## only the tests against a real API server
	@$(PYTHON_IN_VENV) -m tests.tiers apiserver

test-engine: venv ## only the contract tests of simulator and real engine
	@$(PYTHON_IN_VENV) -m tests.tiers engine

test-cluster: venv ## only the tests on real clusters (taken down at the end)
	@$(PYTHON_IN_VENV) -m tests.tiers cluster
