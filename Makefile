# Everything there is to run. `make help` lists it.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help build run-server run-branch run-client test soak lint fmt clean

PROGRAMS := target/debug

# The branch that `make run-branch` starts.
NAME ?= Delhi
MENU_PORT ?= 1070

# How long `make soak` lasts.
SOAK_SECONDS ?= 60

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the programs
	@cargo build --workspace --bins

run-server: build ## Run the branch Mumbai on bank.db, with two sample accounts
	@echo "Branch Mumbai on bank.db. Now, in another terminal: make run-client"
	@echo "Sample accounts: 1001 (password 1001), 1002 (password 1002); administrator: 0 (password root). Ctrl-C stops the branch."
	@exec $(PROGRAMS)/bank-server --name Mumbai --db bank.db --preload

run-branch: build ## Run another branch: NAME=Delhi MENU_PORT=1070
	@exec $(PROGRAMS)/bank-server --name $(NAME) --menu-port $(MENU_PORT) --preload

run-client: build ## Sit down at the menu of the branch on this machine
	@$(PROGRAMS)/bank-client; status=$$?; \
	case $$status in 0|1|130) ;; *) exit $$status ;; esac

test: build ## Run every test
	cargo test --workspace
	cargo test -p bank-server --features twilio sms

soak: build ## Kill and stop three branches under load: SOAK_SECONDS=60
	SOAK_SECONDS=$(SOAK_SECONDS) cargo test -p bank-tests --test torture -- --nocapture

lint: ## Check formatting, lints and documentation
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p bank-server --all-targets --features twilio -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

fmt: ## Format the code
	cargo fmt --all

clean: ## Remove what was built (databases stay)
	cargo clean
