# Everything there is to run. `make help` lists it.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help build demo demo-clean run-server run-branch run-client run-bridge test screenshots sim sim-faults soak soak-strangers fuzz bench bench-peers lint fmt clean

# Where cargo builds: it is asked, since an environment variable or a configuration may say so, and only when needed.
TARGET = $(shell cargo metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
PROGRAMS = $(TARGET)/debug

# The branch that `make run-branch` starts.
NAME ?= Delhi
PORT ?= 9101
MENU_PORT ?= 1070

# The port of the page that `make demo` and `make run-bridge` show.
BRIDGE_PORT ?= 5000

# More flags of the branch, such as FLAGS=--teaching.
FLAGS ?=

# How long `make soak` goes on.
SOAK_SECONDS ?= 60

# How often `make soak` kills a primary and promotes its replica.
PROMOTIONS ?= 30

# How long `make soak-strangers` lets hostile clients at a bank. What its programs have freed they give back at once: what
# is measured is to be what they hold, and not what the C library's allocator keeps for later.
STRANGERS_SECONDS ?= 300
GIVE_BACK := MALLOC_TRIM_THRESHOLD_=131072 MALLOC_MMAP_THRESHOLD_=131072

# How many inputs `make fuzz` gives to each property,
CASES ?= 200000

# and for how long it runs each target of tests/fuzz under libFuzzer.
FUZZ_SECONDS ?= 60

# How many seeds `make sim` runs.
SEEDS ?= 20000

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# All three are always named, whichever of them is built: what they need is then built alike for one and for all, and
# a library that `make run-server` has built is not built again for `make run-client` or `make demo`.
PACKAGES := -p bank-server -p bank-client -p bank-bridge

# TLS is the longest to build after SQLite: what is run from here on this machine has it only where it is asked for.
TLS_WANTED = $(findstring --tls,$(FLAGS))$(BANK_TLS)$(BANK_TLS_CERT)$(BANK_TLS_KEY)$(BANK_TLS_CA)
FEATURES = $(if $(TLS_WANTED),,--no-default-features)

build: ## Build the programs, with all they can do
	@cargo build $(PACKAGES)

# Builds what is run: `$(call build-programs,bank-server bank-client)`.
build-programs = cargo build $(PACKAGES) $(FEATURES) $(addprefix --bin ,$(1))

demo: ## Run a whole bank for a lecture: three branches, their customers, the dashboard
	@$(call build-programs,bank-server bank-client bank-bridge)
	@exec $(PROGRAMS)/bank-bridge demo --dir demo-bank --port $(BRIDGE_PORT)

demo-clean: ## Forget the demo's bank
	@test ! -e demo-bank || $(call build-programs,bank-bridge)
	@test ! -e demo-bank || $(PROGRAMS)/bank-bridge demo --dir demo-bank --forget

run-server: ## Run the branch Mumbai on bank.db, with two sample accounts (FLAGS=--teaching for lessons)
	@$(call build-programs,bank-server)
	@echo "Branch Mumbai on bank.db. Now, in another terminal: make run-client"
	@echo "Sample accounts: 1001 (password 1001), 1002 (password 1002); administrator: 0 (password root). Ctrl-C stops the branch."
	@echo "A page in the browser on this branch: make run-bridge. A whole bank of three branches: make demo."
	@exec $(PROGRAMS)/bank-server --name Mumbai --db bank.db --preload $(FLAGS)

run-branch: ## Run another branch: NAME=Delhi PORT=9101 MENU_PORT=1070
	@$(call build-programs,bank-server bank-client)
	@echo "Branch $(NAME) on $(NAME).db, linked to Mumbai. In another terminal: $(PROGRAMS)/bank-client transfer 1001 $(NAME)/1002 50"
	@exec $(PROGRAMS)/bank-server --name $(NAME) --port $(PORT) --menu-port $(MENU_PORT) --peers Mumbai=127.0.0.1:9100 --preload $(FLAGS)

run-client: ## Sit down at the menu of the branch on this machine
	@$(call build-programs,bank-client)
	@$(PROGRAMS)/bank-client; status=$$?; \
	case $$status in 0|1|130) ;; *) exit $$status ;; esac

run-bridge: ## Show the running branches in a browser: BRIDGE_PORT=5000
	@$(call build-programs,bank-bridge)
	@exec $(PROGRAMS)/bank-bridge --port $(BRIDGE_PORT)

# The simulator is apart because it breaks rules of the protocol on purpose, by a feature that the programs
# are built without; the browser tests and those of PostgreSQL because they need one, which they find or install.
TESTED := --workspace --exclude simulator --exclude browser-tests --exclude postgres-tests

# The bridge's limits are tried by hundreds of connections at a time, which are given up when nobody has a processor for
# them: those tests run by themselves.
#
# Programs and tests are built in one go, so that they share the libraries that they are built from.
test: ## Run every test
	cargo build $(TESTED) --all-targets
	cargo test $(TESTED) -- --skip bridge_limits::
	cargo test -p bank-tests --test end_to_end -- bridge_limits::
	cargo test -p simulator
	tests/browser/run
	cargo test -p bank-server --features mdns,twilio --lib --test integration -- sms mdns
	cargo build -p bank-server --features mdns
	cargo test -p bank-tests --test end_to_end discovery::branches_on_one_network -- --ignored
	tests/postgres/run

screenshots: build ## Take the pictures in docs/screenshots anew
	cargo run -q -p browser-tests --bin screenshots -- docs/screenshots

# With ENGINE=postgres it is three branches of three processes over a cluster of three PostgreSQL servers.
ifeq ($(ENGINE),postgres)
soak: build ## Torture three branches and a copy for SOAK_SECONDS=60 seconds; PROMOTIONS=30 kills of a primary; or ENGINE=postgres
	SOAK_SECONDS=$(SOAK_SECONDS) tests/postgres/run soak:: -- --ignored --nocapture
else
soak: build ## Torture three branches and a copy for SOAK_SECONDS=60 seconds; PROMOTIONS=30 kills of a primary; or ENGINE=postgres
	SOAK_SECONDS=$(SOAK_SECONDS) cargo test -p bank-tests --test end_to_end torture:: -- --nocapture
	PROMOTIONS=$(PROMOTIONS) cargo test -p bank-tests --test end_to_end replication_promotion::nothing_acknowledged -- --nocapture
	PROMOTIONS=$(PROMOTIONS) cargo test -p bank-tests --test end_to_end linearizability::replaced_by_its_replica -- --nocapture
endif

soak-strangers: ## Let hostile clients at a bank beside ordinary users, in release builds, for STRANGERS_SECONDS=300
	cargo build --release -p bank-server -p bank-bridge
	$(GIVE_BACK) STRANGERS_SECONDS=$(STRANGERS_SECONDS) cargo test --release -p bank-tests --test end_to_end soak_strangers:: -- --include-ignored --nocapture

sim: ## Simulate SEEDS=20000 seeds of the whole bank; one that goes wrong is kept as a file for the lab
	@cargo run --release -q -p simulator -- bank --seeds $(SEEDS) --keep $(TARGET)/simulator

sim-faults: ## Put each fault that was there once back into a scratch copy, and have the simulator find it
	cargo test -p simulator --test integration put_back:: -- --ignored --nocapture

fuzz: ## Fuzz what strangers send: each target for FUZZ_SECONDS=60, guided by coverage; CASES=200000 for each property
	FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run
	PROPTEST_CASES=$(CASES) cargo test -p protocol -p bank-client --lib --bins

bench: ## Measure a branch against the in-process ceiling, and what open pages cost, in release builds
	@cargo build --release -p bank-server -p bank-bridge -p bank-bench
	@$(TARGET)/release/bank-bench report
	@$(TARGET)/release/bank-bench streams

bench-peers: ## Measure a branch beside PostgreSQL, and TigerBeetle where TIGERBEETLE= names its program, in release builds
	@cargo build --release -p bank-server
	@cargo build --release -p bank-bench --features peers
	@$(TARGET)/release/bank-bench peers $(if $(TIGERBEETLE),--tigerbeetle $(TIGERBEETLE))

lint: ## Check formatting, lints and documentation
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p bank-server --all-targets --features mdns,twilio -- -D warnings
	cargo clippy -p bank-server -p postgres-tests --all-targets --features bank-server/postgres,postgres-tests/postgres -- -D warnings
	cargo clippy -p bank-bench --all-targets --features peers -- -D warnings
	cargo clippy -p bank-server -p bank-client -p bank-bridge --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

fmt: ## Format the code
	cargo fmt --all

clean: ## Remove what was built (databases stay)
	cargo clean
