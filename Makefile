# `make run` and `make test` need Python >= 3.11 and make (GNU, from 3.81), nothing else.

# The first that is new enough and can make a virtual environment is taken.
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11

PIP := .venv/bin/python -m pip --disable-pip-version-check
LOCK := build/lock/bin/python -m uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	--generate-hashes --only-binary :all: --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock"

# Empty when .venv is whole: venv writes `activate` last, and an upgrade of the system may have taken the interpreter.
venv := $(shell test -x .venv/bin/python && test -f .venv/bin/activate || echo venv)

.PHONY: help run test proof lint format bench bench-scale bench-deadlines bench-streams bench-against profile chaos lock clean venv

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' Makefile

run: .venv/installed-run ## serve on $PORT (3000), keeping the data in ./data unless REDIS_URL is set
	@exec .venv/bin/python -m session_service serve

test: lint ## lint, check types, run the tests; PYTEST_ARGS goes to pytest
	.venv/bin/python -m pytest --numprocesses 2 --dist loadfile $(PYTEST_ARGS)

proof: .venv/installed-test ## run the long proofs, such as 100,000 interleavings of all scripts
	.venv/bin/python -m pytest -m proof --timeout 1200 $(PYTEST_ARGS)

lint: .venv/installed-test ## ruff and mypy
	.venv/bin/python -m ruff check
	.venv/bin/python -m ruff format --check
	.venv/bin/python -m mypy

format: .venv/installed-test ## put the code in ruff's format, with what it can fix
	.venv/bin/python -m ruff check --fix
	.venv/bin/python -m ruff format

bench: .venv/installed-run ## measure beside a ceiling and peers, about 10 minutes; BENCH_ARGS goes to it
	.venv/bin/python -m benchmarks.bench $(BENCH_ARGS)

bench-scale: .venv/installed-run ## time and memory at 1,000,000 sessions beside 1,000
	.venv/bin/python -m benchmarks.scale $(BENCH_ARGS)

bench-deadlines: .venv/installed-run ## a million sessions run out in a minute while a node is killed; 3 minutes
	.venv/bin/python -m benchmarks.deadlines $(BENCH_ARGS)

bench-streams: .venv/installed-run ## 5,000 streams on one node, 500 of which are not read
	.venv/bin/python -m benchmarks.streams $(BENCH_ARGS)

chaos: .venv/installed-test ## break the store and the nodes under load, often; two hours, CHAOS_ARGS="--scale 0.1" for less
	.venv/bin/python -m chaos.chaos $(CHAOS_ARGS)

bench-against: .venv/installed-run ## CPU time a request beside that of another commit; make bench-against REF=v0.1.0
	.venv/bin/python -m benchmarks.against $(REF) $(BENCH_ARGS)

profile: .venv/installed-run ## where a request's time goes
	.venv/bin/python -m benchmarks.profile $(BENCH_ARGS)

lock: $(venv) ## resolve requirements/*.txt anew from pyproject.toml
	.venv/bin/python -m venv --clear build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCK) pyproject.toml -o requirements/run.txt
	$(LOCK) pyproject.toml --group test -c requirements/run.txt -o requirements/test.txt
	.venv/bin/python -c 'import tomllib as t; print(*t.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(LOCK) - -o requirements/build.txt

clean: ## remove all that was made, except data/
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed-%: requirements/%.txt $(venv)
	@echo "Installing $< into .venv"
	@$(PIP) install --quiet --require-hashes -r $<
	@touch $@

venv:
	@for python in $(PYTHON); do \
		$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		rm -rf .venv; exec $$python -m venv .venv; \
	done; \
	echo "None of these is Python >= 3.11 with venv: $(PYTHON)." \
		"Install one (Debian: apt install python3-venv) or name it: make PYTHON=/path/to/python" >&2; \
	exit 1
