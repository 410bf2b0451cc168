# Two commands matter: `make demo` shows Posthouse at work, `make test` checks it.
.DEFAULT_GOAL := help
.PHONY: help setup build demo test proof bench check sanitize fuzz clean

help: ## This list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
setup: ## Install what is missing (Debian 12; root or sudo)
	@ops/dev/setup
build: setup ## Release build of posthoused, posthouse and the tools
	@ops/dev/build
demo: ## Three nodes form a cluster; two real agents talk from node to node
	@ops/dev/demo $(if $(KEEP),--keep)
test: ## Everything at reduced counts, at most 20 minutes on two cores
	@ops/dev/test
proof: ## The full counts (hours); each result becomes a row of docs/proofs.md
	@ops/dev/proof $(if $(TRY),--try) $(STEPS)
bench: build ## Speed, beside the numbers in docs/benchmarks.md
	@ops/dev/bench
check: ## Format, import law, tidiness, docs
	@ops/dev/check
sanitize: ## The suite under the thread and the address sanitizer
	@ops/dev/sanitize thread
	@ops/dev/sanitize address
fuzz: ## Mutated input for every decoder
	@ops/dev/fuzz
clean: ## Remove what was built (keeps .venv)
	rm -rf .build build
