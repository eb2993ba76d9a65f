# Two commands for a newcomer: `make run`, `make test`. The others: `make help`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# Every target but files.
.PHONY: $(shell sed -n 's/^\([a-z][a-z-]*\):.*/\1/p' Makefile)

PYTHON ?= python3
BIN := .venv/bin
# Processes that `make test` runs tests in: many tests wait more than they compute.
WORKERS ?= 3
# Programs that `make test` and `make bench` call, and the Debian packages they come in.
TEST_PROGRAMS := curl:curl chromium:chromium node:nodejs javac:default-jdk-headless php:php-cli openssl:openssl \
  nghttpd:nghttp2-server nginx:nginx-light wrk:wrk h2load:nghttp2-client haproxy:haproxy prometheus:prometheus \
  promtool:prometheus systemd-analyze:systemd
COMPILED_TESTS := tests/test_conformance.py tests/test_conformance_replies.py tests/test_corpus.py tests/test_responses_corpus.py tests/test_upstream_faults.py \
  tests/test_real_callers.py tests/test_stop.py tests/test_chaos.py tests/test_parallel_shop.py tests/test_canary.py \
  tests/test_many_calls.py tests/test_retries.py tests/test_serve.py tests/test_routes.py tests/test_http2_faults.py \
  tests/test_http2_peers.py tests/test_tracing.py tests/test_buffers.py tests/test_caller_faults.py tests/test_overload.py \
  tests/test_checklist_live.py tests/test_upstream_tls.py tests/test_logs.py tests/test_replystream.py tests/test_thinning.py \
  tests/test_leftovers.py
EXAMPLE_PROGRAMS := node:nodejs npm:npm javac:default-jdk-headless php:php-cli phpunit:phpunit
BENCH_PROGRAMS := nginx:nginx-light haproxy:haproxy caddy:caddy wrk:wrk h2load:nghttp2-client openssl:openssl

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/.run ## Run the proxy: against a simulated Talon.One, or against TALON_PROXY_UPSTREAM__URL if that is set
	@if [ -n "$$TALON_PROXY_UPSTREAM__URL$$TALON_PROXY_CONFIG" ]; \
	then exec $(BIN)/python -m proxy serve; else exec $(BIN)/python -m proxy demo --stay; fi

demo: .venv/.run ## Show a shop's calls going through the proxy to a simulated Talon.One
	@$(BIN)/python -m proxy demo

test: lint types tests test-compiled ## Run everything: lint, types, tests, and those on sockets again on the compiled proxy

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.test
	$(BIN)/mypy

tests: .venv/.test test-packages
	PYTHONDEVMODE=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

# What ships in the image: the modules that every call passes through, compiled. Built from a copy, because the compiler
# leaves its results beside the source.
compiled: build/compiled ## Compile the proxy into build/compiled, as the image does

build/compiled: $(shell find proxy -name '*.py') pyproject.toml .venv/.test | compile-packages
	@rm -rf build && mkdir -p build/source && cp -r proxy pyproject.toml README.md LICENSE build/source
	@echo "compiling, about a minute"
	@HATCH_BUILD_HOOKS_ENABLE=1 $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation \
	  --target build/compiled build/source

# Where the proxy cannot be compiled, `make test` goes on without; what is missing has been named by then.
test-compiled: .venv/.test test-packages
	@$(can_compile) || $(call install,$(COMPILE_PACKAGES),$(CANNOT_COMPILE)) || true
	@if $(can_compile); then $(MAKE) --no-print-directory tests-compiled; \
	else echo "skipped: the tests on the compiled proxy" >&2; fi

tests-compiled: build/compiled
	PYTHONPATH=build/compiled $(BIN)/pytest -q --import-mode=append -p no:cacheprovider $(COMPILED_TESTS)

image: .venv/.test compile-packages ## Do what the Dockerfile says without a container engine, and run the result
	$(BIN)/python -m tests.image

machine: .venv/.test ## Search the traffic room for defects at random (EXAMPLES=2000 STEPS=80 SEED=…)
	@seed=$(or $(SEED),$$RANDOM); echo "SEED=$$seed"; \
	EXAMPLES=$(or $(EXAMPLES),2000) STEPS=$(or $(STEPS),80) \
	  $(BIN)/pytest -q -o timeout=0 --hypothesis-seed=$$seed tests/test_traffic_machine.py

corpus: .venv/.test ## Play all requests that have broken other servers, whole and byte by byte (../shared/corpus, where it is)
	CORPUS=full $(BIN)/pytest -q -rs -o timeout=0 tests/test_corpus.py tests/test_responses_corpus.py

# On one core: a fuzzer takes what it gets. Its wheels are for Linux on x86 and ARM, and CPython.
fuzz: .venv/.fuzz ## Look for bytes that break a promise, each target in turn (FUZZ_SECONDS=60 TARGETS="requests frames")
	nice $(BIN)/python -m tests.fuzz --seconds $(or $(FUZZ_SECONDS),60) $(TARGETS)

# Strict: a package of which PyPI tells nothing is not one without weaknesses.
audit: .venv/.audit ## Ask PyPI's advisories for known weaknesses of what is locked
	.venv/audit/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off --desc off \
	  $(foreach lock,$(wildcard *.lock tests/*.lock),-r $(lock))

format: .venv/.test ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

examples: .venv/.test example-packages .venv/examples/jest/node_modules ## Run the examples for testing a shop against the simulator: Jest, JUnit, PHPUnit
	EXAMPLES=1 $(BIN)/python -X dev -m pytest -q tests/test_examples.py

# By npm, because Debian's jest wants Debian's node. Only what a lock would pin is left open; no script of a package is run.
.venv/examples/jest/node_modules: tests/examples/jest/package.json .venv/.test
	@mkdir -p .venv/examples/jest && cp $< .venv/examples/jest
	npm install --prefix .venv/examples/jest --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error
	@touch $@

bench: build/compiled bench-packages ## Measure against nginx, HAProxy, Caddy and others, 20 minutes (BENCH_ARGS='--help', RESULTS=directory)
	$(BIN)/python -m tests.bench $(if $(RESULTS),--results $(RESULTS)) $(BENCH_ARGS)

bench-docs: .venv/.test ## Write README's figures anew from what `make bench conflicts RESULTS=tests/bench/results` found
	$(BIN)/python -m tests.bench.page

profile: build/compiled bench-packages ## Show where the CPU time of a call goes (PROFILE_ARGS='--help')
	$(BIN)/python -m pip install -q --disable-pip-version-check py-spy
	PATH="$$PATH:$(BIN)" $(BIN)/python -m tests.bench.profile $(PROFILE_ARGS)

calls: build/compiled ## Send 100,000 calls through the proxy: connections opened, reuse, memory (CALLS=…)
	PYTHONPATH=build/compiled:. $(BIN)/python -P -m tests.soak --calls $(or $(CALLS),100000)

checklist: .venv/.test ## Ten minutes of a mixed shop with the checklist on: memory, CPU, verdicts (CHECKLIST_ARGS='--minutes 1')
	$(BIN)/python -m tests.checklist_soak $(CHECKLIST_ARGS)

switches: .venv/.test ## Switch hosts, rotate keys and break reloads under load, on real processes (SWITCHES='--help')
	$(BIN)/python -m tests.switches $(SWITCHES)

outage: .venv/.test ## Let Talon.One be down for a minute under load: attempts, fast failures, recovery (OUTAGE='--help')
	$(BIN)/python -m tests.outage $(OUTAGE)

conflicts: build/compiled bench-packages ## Play a shop with parallel updates: directly, through nginx, through 1 to 8 proxies
	PYTHONPATH=build/compiled:. $(BIN)/python -P -m tests.conflicts $(if $(RESULTS),--json $(RESULTS)/conflicts.json) $(CONFLICTS_ARGS)
	PYTHONPATH=build/compiled:. $(BIN)/python -P -m tests.conflicts --dry-counts $(CONFLICTS_ARGS)
	PYTHONPATH=build/compiled:. $(BIN)/python -P -m tests.conflicts.hotkey

observe: .venv/.test test-packages ## Run a shop, proxies and a Prometheus with our rules, and say where to look, until Ctrl-C
	@$(BIN)/python -m tests.observing

chaos: build/compiled ## Send 20,000 writes from callers who leave to a Talon.One that misbehaves (CHAOS_ARGS='--help')
	PYTHONPATH=build/compiled:. $(BIN)/python -P -m tests.chaos $(CHAOS_ARGS)

overload: build/compiled ## Offer twice what may go at a time, and hold crowds of idle and slow callers (OVERLOAD='--help')
	PYTHONPATH=build/compiled:. $(BIN)/python -P -m tests.overload $(OVERLOAD)

soak: build/compiled ## Mixed calls for HOURS=… (fractions too): memory, descriptors, tasks, reuse, loop lag, what was lost
	PYTHONPATH=build/compiled:. $(BIN)/python -P -m tests.endurance --hours $(or $(HOURS),1) $(SOAK)

docs: .venv/.test ## Write the sample configuration, its schema, the tables of settings, metrics, logs, errors, alerts and checklist rules anew
	$(BIN)/python -m proxy.settings.document
	$(BIN)/python -m proxy.observe.document
	$(BIN)/python -m proxy.observe.errortable
	$(BIN)/python -m tests.alerts
	$(BIN)/python -m proxy.talon.checklist.document

lock: .venv/.test ## Resolve the dependencies anew
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-annotate --custom-compile-command 'make lock' pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-annotate --custom-compile-command 'make lock' pyproject.toml --group dev -c requirements.lock -o tests/requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-annotate --custom-compile-command 'make lock' --group fuzz -o tests/requirements-fuzz.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-annotate --custom-compile-command 'make lock' --group audit -o tests/requirements-audit.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-annotate --custom-compile-command 'make lock' --group compile -c tests/requirements.lock -o deploy/compile.lock

clean: ## Remove what the other commands made
	rm -rf .venv .fuzz .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit("talon-proxy needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(call install,python3-venv,Python cannot make virtual environments)
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.run: requirements.lock | .venv/.python
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

.venv/.test: tests/requirements.lock pyproject.toml | .venv/.run
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r tests/requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# In an environment of its own: its dependencies are nobody else's.
.venv/.audit: tests/requirements-audit.lock | .venv/.python
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	@touch $@

.venv/.fuzz: tests/requirements-fuzz.lock | .venv/.test
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r tests/requirements-fuzz.lock
	@touch $@

# $(call install,PACKAGES,WHY): install Debian packages where we may, else say which are missing, and go on or stop.
define install
{ if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
    echo "installing $(1)"; \
    { apt-get install -y -qq --no-install-recommends $(1) || { apt-get update -qq && apt-get install -y -qq --no-install-recommends $(1); }; } >/dev/null; \
  else echo "$(2). Install with: sudo apt-get install $(1)" >&2; false; fi; }
endef

COMPILE_PACKAGES := gcc libc6-dev python3-dev
CANNOT_COMPILE := The proxy cannot be compiled without a C compiler and the headers of Python
define can_compile
{ command -v gcc && $(PYTHON) -c 'import sysconfig, pathlib, sys; sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists())'; } >/dev/null
endef

test-packages:
	@missing=""; for pair in $(TEST_PROGRAMS); do command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; done; \
	command -v php >/dev/null && php -m | grep -qx curl || missing="$$missing php-curl"; \
	[ -z "$$missing" ] || $(call install,$$missing,Tests with real callers and servers need more programs) || echo "those tests will be skipped" >&2

compile-packages:
	@$(can_compile) || $(call install,$(COMPILE_PACKAGES),$(CANNOT_COMPILE))

bench-packages:
	@missing=""; for pair in $(BENCH_PROGRAMS); do command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; done; \
	[ -z "$$missing" ] || $(call install,$$missing,The benchmark needs its contenders)

example-packages:
	@missing=""; for pair in $(EXAMPLE_PROGRAMS); do command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; done; \
	command -v php >/dev/null && php -m | grep -qx curl || missing="$$missing php-curl"; \
	[ -n "$$JUNIT_JARS" ] || [ -e /usr/share/java/junit-platform-console.jar ] || missing="$$missing junit5"; \
	[ -z "$$missing" ] || $(call install,$$missing,The examples need more programs)
