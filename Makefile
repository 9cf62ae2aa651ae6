# failoverd; `make help` lists what there is.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help build test lint sim mutants faults fuzz demo bench bench-detect clean
export PATH := $(PATH):$(HOME)/.cargo/bin

# One feature set for clippy and tests, so that dependencies are built once.
CARGO_FLAGS := --locked --features crash-points

# $(call phase,name,command): runs the command and says how long it took.
define phase
@printf '== %s\n' '$(1)'; begun=$$SECONDS; $(2); printf '== %s: %ds\n' '$(1)' $$((SECONDS - begun))
endef

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## The optimized binary: target/release/failoverd
	@cargo build --locked --release --bin failoverd

test: ## Everything that CI runs: install counterparts, format, lint, all tests
	$(call phase,install,tests/fleet/install.sh)
	$(call phase,kubernetes,tests/fleet/kubernetes.sh >/dev/null)
	$(call phase,format,cargo fmt --check)
	$(call phase,clippy,cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings)
	$(call phase,compile tests,cargo test $(CARGO_FLAGS) --no-run)
	$(call phase,tests,$(RUN_TESTS))
	$(call phase,simulator and model,export SIM_SEEDS=10000; $(KERNEL) test --locked --test sim --test model --quiet)
	$(call phase,dependencies,tests/deny.sh)
	$(call phase,documentation,RUSTDOCFLAGS='-D warnings' cargo doc $(CARGO_FLAGS) --no-deps --quiet)
	$(call phase,documentation examples,cargo test $(CARGO_FLAGS) --doc --quiet)

# nextest kills a test that hangs; without it, one limit holds for all of them together.
RUN_TESTS = if cargo nextest --version >/dev/null 2>&1; \
	then cargo nextest run $(CARGO_FLAGS) --no-fail-fast; \
	else timeout --foreground 40m cargo test $(CARGO_FLAGS) --lib --bins --tests --no-fail-fast; fi

# The brain alone, optimised: what plays thousands of seeds is built without the rest of the daemon.
KERNEL = cd tests/kernel && CARGO_TARGET_DIR=$(abspath $(or $(CARGO_TARGET_DIR),target))/kernel cargo

SEEDS ?= 10000
sim: ## Seeds of faults against real brains in virtual time: SEEDS=10000, on from FROM=0, or one with its trace: SEED=17
	@$(if $(SEED),SIM_SEED=$(SEED) SIM_LINES=$(or $(LINES),400),SIM_SEEDS=$(SEEDS) SIM_FROM=$(or $(FROM),0)) bash -c '$(KERNEL) test --locked --test sim -- --nocapture $(if $(SEED),seeds_hold)'

mutants: ## Breaks what decides and what keeps the journal, one expression at a time: does a test notice? FILES="src/core/quorum.rs"
	@tests/mutants/run.sh $(FILES)

faults: ## The fault matrix on real processes (tests/faults/README.md)
	@tests/fleet/install.sh
	@cargo test $(CARGO_FLAGS) --no-run
	@if cargo nextest --version >/dev/null 2>&1; then failed=0; \
	cargo nextest run $(CARGO_FLAGS) --no-fail-fast -E "$$(tests/faults/results.py)" || failed=$$?; \
	tests/faults/results.py "$${CARGO_TARGET_DIR:-target}/nextest/default/junit.xml"; exit $$failed; \
	else echo "make faults: cargo-nextest is missing, so only the tests of tests/faults run" >&2; \
	cargo test $(CARGO_FLAGS) --test it faults:: -- --test-threads=1; fi

lint: ## Format check and clippy
	@cargo fmt --check
	@cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings

demo: ## A regional outage and its failover, on real servers, in a minute
	@tests/fleet/install.sh
	@cargo build --locked --release --bin failoverd --example demo
	@exec "$${CARGO_TARGET_DIR:-target}/release/examples/demo"

fuzz: ## Fuzzes each parser of foreign bytes in turn: make fuzz SECONDS=60
	@tests/fuzz/run.sh $(or $(SECONDS),60) $(TARGETS)

bench: ## Latency, overhead and footprint, each beside a reference of the same run
	@tests/fleet/install.sh benches
	@tests/fleet/kubernetes.sh >/dev/null
	@cargo bench --locked

bench-detect: ## How well outages are seen, beside HAProxy, blackbox_exporter and Sentinel (as root)
	@tests/fleet/install.sh benches
	@cargo bench --locked --bench daemon -- detection

clean: ## Remove what was built (not the caches in ~/.cache/failoverd)
	@cargo clean
