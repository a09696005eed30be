# Each target does its own set-up: a machine needs Python 3.11 or newer and make; the tests of pages
# also need Chromium, and those of a pooler pgbouncer.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DOCS_READY := .venv/.docs-ready
DATA := .data
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo serve test lint format docs bench trials clean

help: ## Say what can be made
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

demo: $(READY) ## Place 200 orders, kill workers in the middle, prove every order was charged once
	@$(BIN)/python -m example_project.demo $(ARGS)

serve: $(READY) ## Keep the example shop and a worker running, to look at in a browser
	@$(BIN)/python -m example_project.demo serve $(ARGS)

test: $(READY) ## Run the whole suite, or a part: make test ARGS="-k replay"
	@$(BIN)/python -m pytest $(ARGS)

lint: $(READY) ## Check style, types and the floors of the package
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## Format the code and sort its imports
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

docs: $(DOCS_READY) ## Build the documentation into docs/_build/html
	@$(BIN)/sphinx-build --quiet --fail-on-warning docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(READY) ## Measure, all or a part: make bench ONLY="steps drain" RUNS=1 PEER=celery PROFILE=1
	@PROFILE=$(PROFILE) $(BIN)/python -m benchmarks $(foreach name,$(ONLY),--only $(name)) $(RUNS:%=--runs=%) $(foreach name,$(PEER),--peer $(name))

trials: $(READY) ## Try failover to a standby, and a server that crashes again and again; minutes
	@$(BIN)/python -m pytest -p no:cacheprovider tests/trials/failover.py tests/trials/crashes.py $(ARGS)

clean: ## Stop the demo's server, and remove its data and all that was made here
	@for data in $(wildcard $(DATA)/*); do \
		$(firstword $(wildcard $(BIN)/python) $(PYTHON)) -m django_durable.contrib.embedded \
			remove "$$data" || exit 1; \
	done
	@rm -rf .venv $(DATA) build dist docs/_build .*_cache .hypothesis
	@find . -name __pycache__ -prune -exec rm -rf {} +

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up .venv, which takes a minute ..."
	@$(PYTHON) -m venv .venv
	@$(PIP_INSTALL) --editable '.[embedded,example,lint,test]'
	@touch $@

$(DOCS_READY): $(READY)
	@echo "Installing Sphinx ..."
	@$(PIP_INSTALL) --editable '.[docs]'
	@touch $@
