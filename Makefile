# `make` lists the targets.  Everything is installed into .venv, nothing outside the tree.

.DEFAULT_GOAL := help
.SILENT:
MAKEFLAGS += --no-print-directory
SHELL := /bin/sh

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -q
LOCKED := pyproject.toml uv.lock tools/venv.sh

.PHONY: help demo test check lint types bench fault perf lock clean

help: ## list the targets
	grep -E '^[a-z]+:.*## ' Makefile | awk -F':.*## ' '{ printf "  make %-7s %s\n", $$1, $$2 }'

.venv/.run: $(LOCKED)
	tools/venv.sh run
	touch $@

.venv/.dev: $(LOCKED)
	tools/venv.sh dev
	touch .venv/.run $@

demo: .venv/.run ## see it work: a worker and tasks, nothing else to install
	$(BIN)/celeriac demo

lint: .venv/.dev
	$(BIN)/ruff format --check --output-format concise . >&2 || { echo "not formatted: run .venv/bin/ruff format" >&2; exit 1; }
	$(BIN)/ruff check --quiet .

types: .venv/.dev
	$(BIN)/mypy --no-error-summary
	$(BIN)/basedpyright >/dev/null || $(BIN)/basedpyright >&2

check: lint types ## format, lint, types, style and unit tests: under a minute
	$(PYTEST) tests/style tests/unit

test: lint types ## all that must hold before a change lands: under 25 minutes
	tools/servers.sh
	$(PYTEST) -m "not long and not perf"

fault: .venv/.dev ## kill, cut, fill and starve, for minutes
	tools/servers.sh
	$(PYTEST) -m "fault or long"

perf: .venv/.dev ## the budgets of calls, which are exact on any machine
	$(PYTEST) -m perf

bench: .venv/.dev ## timings, as ratios beside Celery in the same run
	tools/servers.sh
	$(BIN)/python benchmarks/run.py

lock: .venv/.dev ## bring uv.lock up to date, from the public index only
	env -u UV_INDEX -u UV_INDEX_URL -u UV_DEFAULT_INDEX -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS \
		$(BIN)/uv lock --no-config --upgrade

clean: ## remove .venv and every cache
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
