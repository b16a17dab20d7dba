# What a developer does with mta-front. Each target sets up what it needs: Python packages in .venv, pinned by
# constraints.txt; for tests also programs from Debian, by apt-get when root. On a bare Debian, python3 and make are enough.

PYTHON ?= python3
SECONDS ?= 60
ARGS ?=
JOBS ?= auto
BIN := .venv/bin
SETUP := pyproject.toml constraints.txt tools/setup.sh

.DEFAULT_GOAL := help
.PHONY: help run test e2e chaos lint bench fuzz splits constraints clean programs

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' Makefile

run: .venv/.for-run ## start the development server on 127.0.0.1
	@$(BIN)/mta-front serve

test: .venv/.for-dev programs ## run every test; ARGS="-k spool" for some, JOBS=1 one by one
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

e2e: .venv/.for-dev programs ## run the end-to-end tests in full size (minutes)
	@$(BIN)/python -m pytest --full tests/e2e $(ARGS)

chaos: .venv/.for-dev programs ## kill -9 at random under load, and count; ARGS="--rounds 50"
	@$(BIN)/python -m tests.chaos $(ARGS)

lint: .venv/.for-dev ## check style and types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

bench: .venv/.for-run programs ## measure the core, the server, TLS and slow clients; ARGS=core for one
	@$(BIN)/python -m bench $(ARGS)

fuzz: .venv/.for-fuzz ## feed random input to each fuzz target for SECONDS=60
	@for target in tests/fuzz/fuzz_*.py; do \
		echo "== $$target: $(SECONDS) s"; \
		name=$${target#tests/fuzz/fuzz_}; \
		$(BIN)/python -m tests.fuzz "$${name%.py}" -max_total_time=$(SECONDS) || exit 1; \
	done

splits: .venv/.for-dev ## play each wire dialog at 3,000 random splits
	@$(BIN)/python -m tests.smtp.splits $(ARGS)

constraints: ## pin the newest versions that fit pyproject.toml
	@tools/pin.sh "$(PYTHON)"

clean: ## remove .venv, caches and reports; ./var, which may hold mail, stays
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/out tests/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

programs:
	@tools/programs.sh

.venv/.for-%: $(SETUP)
	@tools/setup.sh "$*" "$(PYTHON)"
