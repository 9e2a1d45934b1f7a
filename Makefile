# One door for every task. `make` lists them.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: help setup demo test test-lake lint fmt-check clippy deny typos advisories docs docs-reference \
	bench bench-peers sample-data reference release clean

PYTHON ?= python3
TEST_FLAGS ?=
TOOLS := target/venv-tools
PEERS := target/venv-peers
LAKE := target/venv-lake
LAKEFOLD = $(shell cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug/lakefold
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## List the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install the Debian packages that the build needs, if any is missing
	@scripts/setup.sh

# The whole workspace, not -p lakefold-cli: cargo unifies features over what it is asked to build, and a smaller
# selection would compile DataFusion a second time for `make test`.
demo: setup ## Build, embed 5,000 real rows with SQL, show what was written to out/
	cargo build --workspace
	rm -rf out
	$(LAKEFOLD) sql -c "COPY (SELECT package, section, lle_embed(embedding, 2) OVER () AS embedding FROM 'sample_data/debian_packages.parquet') TO 'out/' STORED AS PARQUET"
	ls -l out
	$(LAKEFOLD) sql -c "SELECT count(*) AS rows, count(DISTINCT section) AS sections FROM 'out/'" -c "SELECT * FROM 'out/' ORDER BY package LIMIT 5"

test: setup ## Run every test
	cargo test --workspace $(TEST_FLAGS)

test-lake: setup $(LAKE)/.installed ## Jobs against an S3 server, and other programs as readers of what they wrote
	cargo build --workspace
	LAKEFOLD=$(LAKEFOLD) $(LAKE)/bin/python -m pytest -q tests/lake

lint: fmt-check typos deny clippy ## Formatting, spelling, licences, clippy: cheap ones first

fmt-check:
	cargo fmt --all --check

clippy: setup
	cargo clippy --workspace --all-targets -- -D warnings

typos: $(TOOLS)/.installed
	$(TOOLS)/bin/typos

deny: $(TOOLS)/.installed
	$(TOOLS)/bin/cargo-deny --locked check --hide-inclusion-graph bans licenses sources

advisories: $(TOOLS)/.installed ## Check the dependencies for security advisories (needs the network)
	$(TOOLS)/bin/cargo-deny --locked check advisories

docs: setup ## Build the Rust documentation; a warning is an error
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --lib --no-deps

docs-reference: setup ## Write docs/ function reference anew from the functions' own documentation
	UPDATE_REFERENCE=1 cargo test --workspace --test reference

bench: setup ## Criterion benchmarks of the kernels
	cargo bench -p lakefold-benches

bench-peers: setup $(PEERS)/.installed ## The same work on scikit-learn and FAISS: writes benches/peers/RESULTS.md (an hour)
	$(PEERS)/bin/python benches/peers/run_all.py

sample-data: $(PEERS)/.installed ## Write sample_data/*.parquet anew (maintainers)
	$(PEERS)/bin/python sample_data/generate.py

reference: $(PEERS)/.installed ## Write tests/reference/* anew from scikit-learn and ONNX (maintainers)
	$(PEERS)/bin/python tests/reference/generate.py
	$(PEERS)/bin/python tests/reference/quality.py
	$(PEERS)/bin/python tests/reference/neighbors.py
	$(PEERS)/bin/python tests/reference/attention.py
	$(PEERS)/bin/python tests/reference/onnx_cases.py

# The whole workspace for the same reason as in `demo`; its benchmark programs are what `benches/peers` runs.
release: setup ## Build the optimised binary, and the benchmark programs
	cargo build --release --workspace

clean: ## Remove everything that was built or written by the demo
	cargo clean
	rm -rf target out

$(TOOLS)/.installed: scripts/lint-requirements.txt
	@scripts/setup.sh python
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --requirement $<
	touch $@

$(PEERS)/.installed: benches/peers/requirements.txt
	@scripts/setup.sh python
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --requirement $<
	touch $@

$(LAKE)/.installed: tests/lake/requirements.txt
	@scripts/setup.sh python
	$(PYTHON) -m venv $(LAKE)
	$(LAKE)/bin/pip install --quiet --requirement $<
	touch $@
