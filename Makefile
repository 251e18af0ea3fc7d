# `make run` and `make test` need only Python >= 3.11 and GNU make >= 3.81.

# The first one that is new enough and can create a virtual environment is used.
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11

PIP := .venv/bin/python -m pip --disable-pip-version-check
LOCK := build/lock/bin/python -m uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	--generate-hashes --only-binary :all: --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock"

DEPLOY_TESTS := deploy/tests tests/system/test_nginx.py tests/system/test_proxies.py

# Empty if .venv is complete: venv writes `activate` last, and a system upgrade may have removed the interpreter.
venv := $(shell test -x .venv/bin/python && test -f .venv/bin/activate || echo venv)

.PHONY: help run test proof lint format bench bench-scale bench-deadlines bench-streams bench-against bench-access profile chaos docs-test screenshots deploy-test openapi lock clean venv

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' Makefile

run: .venv/installed-run ## serve on $PORT (3000), with the data in ./data unless REDIS_URL is set
	@exec .venv/bin/python -m session_service serve

# Three processes for two cores: nearly half of the time of the tests in system/ is waiting.
test: lint ## lint, check types, run the tests; PYTEST_ARGS is passed to pytest
	.venv/bin/python -m pytest --numprocesses 3 --dist loadfile $(PYTEST_ARGS)

proof: .venv/installed-test ## run the long tests, such as 100,000 interleavings of all scripts
	.venv/bin/python -m pytest -m proof --timeout 1200 $(PYTEST_ARGS)

deploy-test: build/deploy/installed ## check the chart, unit, alerts, compose file and proxies; 3 minutes, and 350 MB of tools
	build/deploy/bin/python -m pytest --numprocesses 2 --dist loadfile $(DEPLOY_TESTS) $(PYTEST_ARGS)

docs-test: .venv/installed-test ## run the commands of README.md and docs/, and list those that cannot run here; 2 minutes
	.venv/bin/python -m tests.docs.commands $(DOCS_ARGS)

screenshots: .venv/installed-test ## take the screenshots of the documents again, with Chromium
	.venv/bin/python -m tests.docs.screenshots

lint: .venv/installed-test ## run ruff and mypy
	.venv/bin/python -m ruff check
	.venv/bin/python -m ruff format --check
	.venv/bin/python -m mypy

format: .venv/installed-test ## format the code, and apply ruff's fixes
	.venv/bin/python -m ruff check --fix
	.venv/bin/python -m ruff format

bench: .venv/installed-run ## compare with a ceiling and other servers, about 10 minutes; BENCH_ARGS is passed on
	.venv/bin/python -m benchmarks.bench $(BENCH_ARGS)

bench-scale: .venv/installed-run ## measure memory and store time at 1,000,000 sessions, and growth from 1,000; 5 minutes
	.venv/bin/python -m benchmarks.scale $(BENCH_ARGS)

bench-deadlines: .venv/installed-run ## expire a million sessions in a minute while a node is killed; 3 minutes
	.venv/bin/python -m benchmarks.deadlines $(BENCH_ARGS)

bench-streams: .venv/installed-run ## serve 5,000 streams on one node, 500 of them without a reader
	.venv/bin/python -m benchmarks.streams $(BENCH_ARGS)

chaos: .venv/installed-test ## break the store and the nodes under load; two hours, CHAOS_ARGS="--scale 0.1" for less
	.venv/bin/python -m chaos.chaos $(CHAOS_ARGS)

bench-against: .venv/installed-run ## compare CPU time per request with another commit; make bench-against REF=v0.1.0
	.venv/bin/python -m benchmarks.against $(REF) $(BENCH_ARGS)

bench-access: .venv/installed-test ## measure the CPU time that access control adds to a request
	.venv/bin/python -m benchmarks.access $(BENCH_ARGS)

profile: .venv/installed-run ## profile a request
	.venv/bin/python -m benchmarks.profile $(BENCH_ARGS)

openapi: .venv/installed-test ## write docs/openapi.yaml, the committed copy of the API document
	.venv/bin/python -m tests.support.api_document

lock: $(venv) ## lock requirements/*.txt again from pyproject.toml
	.venv/bin/python -m venv --clear build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCK) pyproject.toml -o requirements/run.txt
	$(LOCK) pyproject.toml --group test -c requirements/run.txt -o requirements/test.txt
	$(LOCK) pyproject.toml --extra jwt --extra otel -c requirements/test.txt -o requirements/image.txt
	$(LOCK) pyproject.toml --group deploy -c requirements/test.txt -o requirements/deploy.txt
	.venv/bin/python -c 'import tomllib as t; print(*t.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(LOCK) - -o requirements/build.txt

clean: ## remove everything that was built, except data/
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed-%: requirements/%.txt $(venv)
	@echo "Installing $< into .venv"
	@$(PIP) install --quiet --require-hashes -r $<
	@touch $@

# An environment of its own, because the Helm library and the Kubernetes schemas take 350 MB.
build/deploy/installed: requirements/deploy.txt $(venv)
	@echo "Installing $< into build/deploy"
	@.venv/bin/python -m venv --clear build/deploy
	@build/deploy/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

venv:
	@for python in $(PYTHON); do \
		$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		rm -rf .venv; exec $$python -m venv .venv; \
	done; \
	echo "None of these is Python >= 3.11 with venv: $(PYTHON)." \
		"Install one (Debian: apt install python3-venv) or name it: make PYTHON=/path/to/python" >&2; \
	exit 1
