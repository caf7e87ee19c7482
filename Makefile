# `make` alone lists the targets. Everything is made in .venv and .cache; nothing else on the system changes,
# except that as root on Debian a missing git, python3-venv, PostgreSQL or Docker Engine is installed.

PYTHON := .venv/bin/python
EQUIPPED := $(PYTHON) -m scripts.equip
PYTEST := $(PYTHON) -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo demo-ha test check unit integration e2e faults soak mutants bench bench-scale setup stubs constraints clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9 -]+:.*## / { gsub(" ", "|", $$1); printf "  make %-30s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## Start the system and show its main job on real Terraform
	@$(EQUIPPED) $(PYTHON) -m scripts.demo

demo-ha: setup ## Show three replicas on PostgreSQL and an object store, killed in turn while tasks perform
	@$(EQUIPPED) $(PYTHON) -m scripts.demo_ha

test: check ## Run all checks and all tests, against real OPA, Docker Engine, git and Terraform
	@$(EQUIPPED) $(PYTEST)

check: setup ## Lint, types, proto, Rego and docs: under a minute
	@$(PYTHON) -m scripts.check

unit integration e2e faults: setup ## Run one kind of test
	@$(EQUIPPED) $(PYTEST) tests/$@

soak: setup ## Break parts at random for SECONDS=900 by SEED, and check every promise
	@$(EQUIPPED) $(PYTHON) -m tests.soak --seconds $(or $(SECONDS),900) --seed "$(SEED)" --keep

mutants: setup ## Put five bugs into a copy of the code, and show that the tests find each
	@$(EQUIPPED) $(PYTHON) -m tests.soak.mutants --keep

bench-scale: setup ## Measure 10 000 stacks, 200 runners and 2000 watchers: some 10 minutes
	@$(EQUIPPED) $(PYTHON) -m benchmarks.scale --keep

bench: setup ## Measure against `docker run` and write benchmarks/latest.json
	@$(EQUIPPED) $(PYTHON) -m benchmarks

setup: ## Make .venv and the stubs, if anything changed
	@scripts/venv.sh
	@$(PYTHON) scripts/stubs.py >&2

stubs: setup ## Generate the stubs of proto/ again

constraints: setup ## Fix the newest versions that pyproject.toml allows in constraints.txt
	@$(PYTHON) -m scripts.constraints

clean: ## Remove all that make made
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist interlock/v1 interlock/_vendor
	find . -name __pycache__ -prune -exec rm -rf {} +
