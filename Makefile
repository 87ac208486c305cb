# What a person and CI run. `make` alone lists the targets.

SHELL := bash
.DEFAULT_GOAL := help

GO ?= go
# Tools have a module of their own, so that theirs is not the product's graph.
TOOL := $(GO) tool -modfile=tools/go.mod
# npm packages that tests run: a relying party, and a judge of pages.
PACKAGES := cmd/gatehouse/testdata/openid-client cmd/gatehouse/testdata/axe

# The outside programs that at least one test of `make test` must have used. A
# test suite reports a use as described in CONTRIBUTING.md.
PROGRAMS := postgresql openid-client chromium axe-core
# Apache with mod_auth_openidc is known as Debian and its kin package it; its
# tests are left out elsewhere, and the report counts 0 for it.
ifneq ($(wildcard /etc/debian_version),)
PROGRAMS += apache
endif

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

.PHONY: build
build: ## build bin/gatehouse
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/gatehouse ./cmd/gatehouse

.PHONY: setup
setup: ## install what the tests need: PostgreSQL, Chromium, Node.js, a C compiler, Apache
	@tools/setup.sh

.PHONY: check
check: ## gofmt, vet, tidiness, staticcheck, golangci-lint
	@echo "gofmt"
	@unformatted=$$(gofmt -l .) && if [ -n "$$unformatted" ]; then \
		printf 'not formatted (gofmt -w FILE):\n%s\n' "$$unformatted"; exit 1; fi
	@echo "go vet"
	@$(GO) vet ./...
	@echo "go mod tidy -diff"
	@$(GO) mod tidy -diff
	@echo "staticcheck"
	@$(TOOL) staticcheck ./...
	@echo "golangci-lint"
	@$(TOOL) golangci-lint run ./...

# npm writes this file last of all.
%/node_modules/.package-lock.json: %/package.json %/package-lock.json
	@echo "npm ci ($*)"
	@cd $* && npm ci --no-progress --loglevel=error
	@touch $@

.PHONY: packages
packages: $(PACKAGES:%=%/node_modules/.package-lock.json)

# The race detector watches everything but SQLite, which is C translated into Go:
# it makes that five to ten times slower, and what it could find there is not
# ours. Locks that the translation takes still count for our own accesses.
RACE := -race -gcflags='modernc.org/...=-race=false -d=checkptr=0'

.PHONY: test
test: setup ## all tests with the race detector (ARGS="-run X ./storage/..." narrows them)
	@$(MAKE) --no-print-directory packages
	@PROGRAMS="$(if $(ARGS),,$(PROGRAMS))" tools/gotest.sh $(RACE) -timeout 40m $(or $(ARGS),./...)

.PHONY: screenshots
screenshots: ## pictures of all pages into docs/screenshots (Git knows only those that the documents show)
	@GATEHOUSE_SCREENSHOTS=$(CURDIR)/docs/screenshots $(GO) test -count=1 -timeout 20m -run '^TestScreenshots$$' ./web ./cmd/gatehouse

.PHONY: test-long
test-long: setup ## million-row tests, long random sequences, races across processes, test-pool, fuzz
	@$(MAKE) --no-print-directory packages
	@GATEHOUSE_LONG=1 tools/gotest.sh -run Long -timeout 40m $(or $(ARGS),./...)
	@$(if $(ARGS),,$(MAKE) --no-print-directory -k test-pool fuzz)

# Whoever waits for a second connection while he holds the only one waits until
# the call's time is up; the timeout is for what has no such time. What starts
# servers as processes gives them pools of their own, and is left out.
.PHONY: test-pool
test-pool: setup ## handlers, pages and flows once more, with one database connection
	@$(MAKE) --no-print-directory packages
	@GATEHOUSE_TEST_POOL=1 tools/gotest.sh -timeout 10m -skip 'Node|Outlives|Racing|UnderWay|Demo|StartOnAn|RandomSequences|Browser|Keyboard|Accessible' ./oauth ./web ./cmd/gatehouse

.PHONY: fuzz
fuzz: ## every fuzz target for a minute (FUZZTIME=10 is shorter, ARGS="FuzzQuery ./oauth" fewer)
	@tools/fuzz.sh $(ARGS)

# BENCH="rounds=1 seconds=1 only=refresh" narrows what is measured: bench/README.md.
BENCHTEST = GATEHOUSE_BENCH="$(or $(BENCH),1)" $(GO) test ./bench -count 1 -v -run

.PHONY: bench
bench: ## the server beside a bare floor: rates, CPU, memory (bench/README.md)
	@tools/setup.sh bench
	@$(BENCHTEST) '^TestBench$$' -timeout 60m

.PHONY: bench-scale
bench-scale: ## cost of operations at 10,000 to 10,000,000 sessions; one, two and four nodes
	@tools/setup.sh bench
	@$(BENCHTEST) '^TestScale$$' -timeout 6h

.PHONY: bench-nodes
bench-nodes: ## one, two and four nodes with a part of a processor each (as root)
	@tools/setup.sh bench
	@$(BENCHTEST) '^TestNodes$$' -timeout 30m

.PHONY: bench-profiles
bench-profiles: ## CPU and allocation profiles of every scenario, into bench/profiles
	@tools/setup.sh bench
	@$(BENCHTEST) '^TestProfiles$$' -timeout 60m
