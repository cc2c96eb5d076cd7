# Every target that changes nothing in the tree says so; `make help` lists them all.

TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

.PHONY: help demo check test soak fuzz verify fix bench matrix

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## run one bundle under every handler of this machine [BUNDLE=DIR] [HANDLER=name]
	@scripts/install-host-needs
	cargo build --locked --release -p manyrun-examples --bin demo
	@"$(TARGET)/release/demo" $(if $(BUNDLE),--bundle "$(BUNDLE)") $(if $(HANDLER),--handler "$(HANDLER)")

check: ## the quick tier: all tests on debug builds, short campaigns
	@scripts/run-tests check

test: ## everything on every runtime, with what is missing installed first
	@scripts/run-tests test

soak: ## long campaigns of lives and crashes on each runtime, tests repeated to find flakes
	@scripts/soak

fuzz: ## feed each reader of configuration what breaks it, T seconds each [T=600] [TARGETS='crio native']
	@scripts/fuzz $(or $(T),600) $(TARGETS)

verify: ## formatting, lints, documentation, architecture; never writes to the tree
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cd fuzz && cargo fmt --check
	@# Nothing is linked, so that no C++ compiler is needed for the library of the fuzzer.
	cd fuzz && CUSTOM_LIBFUZZER_PATH=/nonexistent/libfuzzer.a cargo clippy --locked --all-targets --target-dir "$(abspath $(TARGET))" -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
	cargo test --locked -p manyrun-tests --test architecture
	@if cargo deny --version >/dev/null 2>&1; then \
		cargo deny --locked check bans licenses sources; \
	else \
		echo "verify: licences were not checked, for cargo-deny is not installed: cargo install cargo-deny"; \
	fi

fix: ## apply formatting and what clippy can repair; writes
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all
	cd fuzz && cargo fmt

bench: ## hold lives, execs, states, signals, stats and the reading of handlers to their targets, against the bare programs
	@scripts/install-host-needs
	cargo build --locked --release -p manyrun-tests -p manyrun-bench-baseline -p manyrun-bench-shim-baseline -p runtime-vm --bins
	@"$(TARGET)/release/bench"

matrix: ## print what each handler of this machine can do, as the table of the README
	@cargo build --quiet --locked -p runtime-vm
	@cargo run --quiet --locked -p manyrun-examples --bin capability_matrix
