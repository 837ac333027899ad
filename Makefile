# SPDX-License-Identifier: Apache-2.0

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --match 'v*' --dirty 2>/dev/null | sed 's/^v//')
ifeq ($(strip $(VERSION)),)
VERSION := 0.1.0-dev
endif

# The version is stamped below, so Go need not ask git, which refuses to answer
# in a clone that belongs to somebody else.
export GOFLAGS := $(GOFLAGS) -buildvcs=false
GOBUILD := go build -trimpath -ldflags '-X main.version=$(VERSION)'

# Where the programs are that others start: the PAM module has it in it.
PREFIX ?= /usr
LIBEXECDIR ?= $(PREFIX)/libexec/pamprompt

CC ?= gcc
CFLAGS ?= -O2 -g
MODULE_FLAGS := -std=gnu11 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden \
	-fstack-protector-strong -D_FORTIFY_SOURCE=2 -Wl,--no-undefined,-z,relro,-z,now

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z -]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: ## install what building and testing need, if something is missing
	@scripts/setup.sh

.PHONY: build
build: ## put the binaries into build/
	@scripts/setup.sh build
	CGO_ENABLED=0 $(GOBUILD) -o build/pamprompt-broker ./cmd/pamprompt-broker
	CGO_ENABLED=0 $(GOBUILD) -o build/pamprompt-client ./cmd/pamprompt-client
	@env -u GOOS -u GOARCH CGO_ENABLED=0 $(GOBUILD) -o build/here/pamprompt-client ./cmd/pamprompt-client # to be run
	@for shell in bash zsh fish; do build/here/pamprompt-client completion $$shell >build/completion.$$shell; done
	@scripts/man.sh '$(VERSION)' build/man
	CGO_ENABLED=0 $(GOBUILD) -o build/pamprompt-conv ./cmd/pamprompt-conv
	CGO_ENABLED=1 $(GOBUILD) -o build/pamprompt-worker ./cmd/pamprompt-worker
	$(CC) $(CFLAGS) $(MODULE_FLAGS) -DPAMPROMPT_CONV='"$(LIBEXECDIR)/pamprompt-conv"' -o build/pam_pamprompt.so pam/*.c -lpam

.PHONY: install
install: ## install what was built below DESTDIR, with the PREFIX that it was built with (/usr)
	@test -x build/pamprompt-worker || { echo 'make build comes first' >&2; exit 1; }
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' LIBEXECDIR='$(LIBEXECDIR)' scripts/install.sh

.PHONY: deb rpm
deb rpm: build ## make a package, in build/
	@scripts/package.sh $@ '$(VERSION)'

.PHONY: demo
demo: ## open a session with a password and a one-time code, and watch it
	@scripts/setup.sh demo
	@$(MAKE) -s build
	@demo/demo.sh

# TEST narrows it down: make test TEST=./broker/... RUN=TestAnswer
TEST ?= ./...
RUN ?= .

.PHONY: test
test: ## run every test, with the race detector; PAMPROMPT_ROOTS keeps the systems that are booted
	@scripts/setup.sh test
	@go build -o build/testsummary ./scripts/testsummary
	@scripts/test.sh '$(RUN)' $(TEST) | build/testsummary

.PHONY: test-system
test-system: ## run those alone that boot whole systems with the package installed
	@$(MAKE) test TEST=./tests/boot

# SOAK is how long callers come and go; the loads beside that take some minutes more.
SOAK ?= 30m

.PHONY: soak
soak: ## put load on it for SOAK=30m and look for what grows; QUICK=1 takes 40 seconds, as in make test
	@PAMPROMPT_SOAK='$(if $(QUICK),,$(SOAK))' $(MAKE) test TEST=./tests/soak

.PHONY: check
check: ## run everything that reads the code instead of running it
	@scripts/setup.sh check
	@scripts/check.sh

.PHONY: generate
generate: ## generate api/worker/worker.pb.go from worker.proto
	@scripts/setup.sh check
	@scripts/generate.sh

.PHONY: fmt
fmt: ## format the Go files
	@gofmt -l -w -s $$(scripts/files.sh go)

# FUZZTIME is how long each target runs.
FUZZTIME ?= 10s

.PHONY: fuzz
fuzz: ## run every fuzz target for a short time
	@scripts/setup.sh build
	@scripts/fuzz.sh $(FUZZTIME)

.PHONY: clean
clean: ## remove build/
	rm -rf build
