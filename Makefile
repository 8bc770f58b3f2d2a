# The verbs of this repository. `make help` lists them; arguments go through ARGS="...".
# Everything is installed into .venv of this checkout; nothing else on the machine is touched.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-config
ARGS   ?=
RUST_SOURCES := $(shell find rust -name '*.rs') Cargo.toml Cargo.lock pyproject.toml

ifndef WUP_STARTED
WUP_STARTED := $(shell date +%s.%N)
endif
export WUP_STARTED
export PATH := $(CURDIR)/$(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the verbs
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- environment ------------------------------------------------------------------------------------

$(VENV)/.uv: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "wup needs Python 3.11 or newer; set PYTHON=")'
	@command -v cargo >/dev/null || { echo "wup needs a Rust toolchain (cargo)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/.runtime: $(VENV)/.uv requirements/runtime.txt
	$(UV) --require-hashes -r requirements/runtime.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	$(UV) --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.core: $(VENV)/.runtime $(RUST_SOURCES)
	$(BIN)/maturin develop --uv --locked --profile quick --quiet
	@touch $@

.PHONY: setup
setup: $(VENV)/.core ## Make .venv with the runtime and the native core

.PHONY: setup-dev
setup-dev: $(VENV)/.core $(VENV)/.dev ## The same, with the tools for tests, lint and benches

# --- run --------------------------------------------------------------------------------------------

.PHONY: demo
demo: setup ## Simulated venues to a live consolidated book: no account, nothing installed
	@$(BIN)/wup demo $(ARGS)

.PHONY: up
up: setup ## All stages against the real venues (see README for settings)
	@$(BIN)/wup up $(ARGS)

# --- check ------------------------------------------------------------------------------------------

.PHONY: test
test: test-rust test-python ## Rust and Python tests, all but the browser's

.PHONY: test-rust
test-rust: ## Rust unit, property and allocation tests
	cargo test --locked --quiet

.PHONY: test-python
test-python: setup-dev ## Python tests on real servers and sockets; ends with the table wire rule -> test
	$(BIN)/pytest -n 2 --dist loadfile -m "not browser and not slow" $(or $(ARGS),--rules)

.PHONY: conformance
conformance: setup-dev ## The tests of the wire contract's rules, and the table rule -> test
	$(BIN)/pytest -n 2 --dist loadfile --rules --rules-only

.PHONY: test-browser
test-browser: setup-dev ## The web page in the system's Chromium, over simulated venues; pictures in screenshots/
	$(BIN)/pytest -n 2 --dist loadfile -m browser $(ARGS)

.PHONY: lint
lint: setup-dev ## Formatting, lints and types, Rust and Python
	cargo fmt --check
	cargo fmt --check --manifest-path benches/load/Cargo.toml
	cargo clippy --locked --all-targets -- -D warnings
	PYO3_PYTHON=$(CURDIR)/$(BIN)/python cargo clippy --locked --lib --features python -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest wup._core

.PHONY: fuzz
fuzz: ## Fuzz every parser of bytes, SECONDS each (20)
	fuzz/run.sh $(or $(SECONDS),20)

.PHONY: bench
bench: setup-dev ## Benchmarks: the core, beside its peers, and the orderbook service; each prints the machine
	cargo bench --locked --benches
	$(BIN)/maturin develop --uv --locked --release --quiet
	$(BIN)/pytest benches/core/bench_core.py --benchmark-columns=median,iqr,ops
	$(BIN)/python benches/core/peers.py
	$(BIN)/python benches/venues.py
	$(BIN)/python benches/bus.py
	$(BIN)/python benches/aggregator.py
	$(BIN)/python benches/venue_client.py
	$(BIN)/python benches/orderbook.py
	$(BIN)/python benches/orderbook_http.py
	$(BIN)/python benches/recorder.py
	$(BIN)/python benches/replay.py
	$(BIN)/python benches/js_client.py
	@touch $(VENV)/.core

.PHONY: bench-gateway
bench-gateway: setup-dev ## Fan-out of the gateway with up to 5,000 clients, beside two plain servers: five minutes
	$(BIN)/maturin develop --uv --locked --release --quiet
	@touch $(VENV)/.core
	$(BIN)/python benches/gateway/bench.py $(ARGS)

.PHONY: soak
soak: setup-dev ## The long forms of the seeded runs and of recovery: about two hours
	WUP_MODEL_SEEDS=2000 WUP_MODEL_NATS_SEEDS=50 $(BIN)/pytest -n 2 tests/orderbook/test_model.py --timeout 1800
	WUP_MAPPING_SEEDS=1000 $(BIN)/pytest -n 2 tests/mapping/test_versions_never_mix.py --timeout 1800
	WUP_FAULT_SEEDS=200 $(BIN)/pytest -n 2 tests/sim/test_random_faults.py --timeout 1800
	MARKET_RUN_SEEDS=4000 SOCKET_RUN_SEEDS=60 $(BIN)/pytest -n 2 --dist load tests/venues/test_market_run.py tests/venues/test_socket_run.py
	WUP_GATEWAY_SEEDS=1000 $(BIN)/pytest tests/gateway/test_random_virtual.py --timeout 3600
	$(BIN)/pytest -n 2 -m slow --timeout 1800
	WUP_IDENTITY_SECS=600 $(BIN)/pytest tests/recorder/test_identity.py -k long
	$(BIN)/python tests/aggregator/soak.py --minutes 60
	$(BIN)/python tests/end_to_end/recovery.py --kills 20 --venue-kills 5

.PHONY: wheel
wheel: setup-dev ## A release wheel in dist/, and whether everything is in it (PROFILE=quick: sooner built)
	@rm -rf dist
	$(BIN)/maturin build --quiet --locked --profile $(or $(PROFILE),release) --interpreter $(BIN)/python --out dist
	$(BIN)/python tests/wheel.py dist/*.whl

.PHONY: lock
lock: $(VENV)/.uv ## Resolve the requirements anew, with hashes
	$(BIN)/uv pip compile --quiet --no-config --universal --generate-hashes --no-header -o requirements/uv.txt requirements/uv.in
	$(BIN)/uv pip compile --quiet --no-config --universal --generate-hashes --no-header --extra embedded --group build -o requirements/runtime.txt pyproject.toml
	$(BIN)/uv pip compile --quiet --no-config --universal --generate-hashes --no-header --extra embedded --group build --group test --group lint --group bench -o requirements/dev.txt pyproject.toml

.PHONY: clean
clean: ## Remove .venv and build output
	rm -rf $(VENV) target dist
