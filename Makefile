# The two commands: `make demo` and `make test`. Both set up .venv by themselves; `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
ARGS   ?=
# Some machines forbid it for all of Python: then every process, of hundreds in the tests, compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types architecture unit integration bench render compose-env images images-test bundle engine spire rotations cluster cluster-down cluster-e2e format lock clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*?## ' $(MAKEFILE_LIST) | awk -F':.*?## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(UV):
	@echo "== setting up $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Canopy needs Python >= 3.11; this is $$($(PYTHON) -V). Set PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt

$(VENV)/.ready: $(UV) requirements/dev.txt pyproject.toml
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: $(VENV)/.ready ## the main job, on this machine (ARGS=--once: tell the story and end)
	@$(BIN)/canopy demo $(ARGS)

test: $(VENV)/.ready ## everything that needs no container engine (ARGS=... goes to pytest)
	@$(MAKE) --no-print-directory check
	@$(BIN)/pytest -q -m "not server and not conformance" tests/manifests
	@$(BIN)/pytest -m server -n 2 --dist loadgroup $(ARGS)

check: $(VENV)/.ready ## lint, types, architecture, pure unit tests; no server
	@$(MAKE) --no-print-directory -j2 --output-sync=target types unit-libs unit-services lint architecture

lint: $(VENV)/.ready
	@$(BIN)/ruff check libs services tests bench deploy && $(BIN)/ruff format --check --quiet libs services tests bench deploy
types: $(VENV)/.ready
	@$(BIN)/mypy
architecture: $(VENV)/.ready
	@$(BIN)/lint-imports
unit: $(VENV)/.ready # two runs side by side, of one length: half of the time is imports, and each imports what it tests
	@$(MAKE) --no-print-directory -j2 --output-sync=target unit-libs unit-services
unit-libs:
	@$(BIN)/pytest -q -m "not server" libs tests/architecture services/canopy/cli $(ARGS)
unit-services:
	@$(BIN)/pytest -q -m "not server" --ignore services/canopy/cli services $(ARGS)
integration: $(VENV)/.ready ## only the tests that start real servers
	@$(BIN)/pytest -m server -n 2 --dist loadgroup $(ARGS)

bench: $(VENV)/.ready ## all figures (needs mosquitto-clients; ARGS="--runs 3", --json; bench/*.py --help for each)
	@$(BIN)/python bench/all.py $(ARGS)

conformance: $(VENV)/.ready ## the tests of what we need of Kubernetes, on a real kube-apiserver (Go builds it, once: 10 min)
	@programs=$$(bash tests/cluster/build.sh) && \
	CANOPY_TEST_BASES=$(CURDIR)/deploy/k8s/base $(BIN)/python -m canopy.testing.apiserver --programs "$$programs" -- $(BIN)/pytest -m conformance $(ARGS)

spire: $(VENV)/.ready ## the tests with the real SPIRE server and agent (Go and gcc build them, once: 10 min)
	@bash tests/spire/build.sh >/dev/null
	@$(BIN)/pytest -m spire libs services tests/spire $(ARGS)

rotations: $(VENV)/.ready ## certificates that end under load, ten lives each: those of 100 identities, and of a whole system; 4 minutes
	@$(BIN)/pytest -m rotations -s tests/integration $(ARGS)

cluster: ## a real one-node Kubernetes on this machine (Linux, root; built once, then 15 s); KUBECONFIG=... takes another
	@bash tests/cluster/up.sh
cluster-down: ## end what `make cluster` started (PURGE=1: its images and logs go too)
	@bash tests/cluster/down.sh $(if $(PURGE),--purge)
cluster-e2e: $(VENV)/.ready ## every story of tests/cluster in that cluster, with the images of `make images` (ARGS=-k policies)
	@bash tests/cluster/e2e.sh $(ARGS)

images: $(VENV)/.ready ## an image of each unit, and what else containers need (IMAGES="edge cli" TAG= PLATFORMS= BASE_IMAGE=)
	@$(BIN)/python deploy/images/build.py
images-test: images ## looks into every image, and runs it on a read-only disk
	@$(BIN)/pytest -q -m images tests/images $(ARGS)
bundle: images ## all that a site without a network needs, in one archive with its checksum
	@$(BIN)/python deploy/images/bundle.py
engine: ## a container engine on this machine, if none answers (Debian, as root)
	@bash deploy/images/engine.sh

compose-env: $(VENV)/.ready ## keys and configurations for deploy/compose (ARGS="--hub-servers 3", "--trust-domain fleet.example")
	@$(BIN)/python deploy/compose/prepare.py $(ARGS)

e2e: $(VENV)/.ready ## every story of tests/e2e in containers, and nothing left behind (ARGS="-m short", ARGS="-k rolling")
	@cd tests/e2e && $(abspath $(BIN))/python run.py $(ARGS)

render: ## the manifests as Kubernetes gets them (OVERLAY=dev, ci or production; needs kubectl)
	@kubectl kustomize deploy/k8s/overlays/$(or $(OVERLAY),production)

format: $(VENV)/.ready ## let ruff mend what it can
	@$(BIN)/ruff check --fix --quiet libs services tests bench deploy; $(BIN)/ruff format --quiet libs services tests bench deploy

lock: $(UV) ## pin anew: requirements/*.txt, with hashes and without index addresses
	@$(UV) lock --quiet --upgrade
	@bash requirements/export.sh $(abspath $(UV))

clean: ## remove what the commands above made
	rm -rf $(VENV) .demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
