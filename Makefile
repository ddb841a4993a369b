# Oakley. `make help` lists what there is to run.

GO       ?= go
TOOL      = $(GO) tool -modfile=tools/go.mod
FUZZTIME ?= 20s
BENCH    ?= .
# Packages whose tests are run by themselves: they start other people's daemons,
# or virtual machines, in which the race detector would cost minutes. Two run at a
# time: the longest first.
VM        = ./interop/kernel ./internal/dataplane/xfrm ./interop/tools ./internal/vmtest
UNIT      = $$($(GO) list ./... | grep -v -e '^oakley/interop' -e 'internal/vmtest$$' -e 'dataplane/xfrm$$')
export GOTOOLCHAIN = local

.PHONY: help build check lint test unit vm demo interop record bench bench-net soak fuzz clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the programs, static, into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/...

lint: ## gofumpt, go vet, staticcheck and the import rules
	@out=$$($(TOOL) gofumpt -l .) || exit 1; \
	  if [ -n "$$out" ]; then echo "gofumpt would change:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(GO) test -count=1 ./internal/archtest

unit: ## all tests but interop and vm, with the race detector, in random order (namespaces need root)
	CGO_ENABLED=1 $(GO) test -race -shuffle=on -timeout 15m $(UNIT)
	$(GO) test -count=1 -run 'Alloc' ./internal/dataplane/userspace ./internal/esp ./internal/replay ./internal/ipsec ./internal/isakmp

check: lint unit ## what a commit has to pass

test: check ## check, a pairwise part of interop, and vm: under 15 minutes
	$(GO) test -count=1 -timeout 10m ./interop
	$(GO) test -count=1 -timeout 15m $(VM)

vm: ## the kernel's IPsec, and daemons that need it, in a virtual machine
	$(GO) test -count=1 -timeout 15m $(VM)

interop: ## every combination against strongSwan and ike-scan (root)
	$(GO) test -count=1 -timeout 60m -v ./interop -args -full

record: ## the sessions with strongSwan that the replay tests use, anew (root)
	$(GO) test -count=1 -run 'TestRecordedSessionsReplay' ./interop -args -record

demo: build ## the how-to's two gateways and one tunnel, in namespaces, in half a minute
	@bin/vpnlab --isakmpd bin/isakmpd

bench: ## all benchmarks with allocations (BENCH=regexp)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem $(UNIT)

bench-net: build ## TCP through tunnels of ours and of others, as ratios (root; BENCHNET="--rounds 1 --only gcm")
	@bin/vpnbench $(BENCHNET)

soak: ## a thousand SAs rekeyed at random for ten minutes under traffic (root)
	$(GO) test -count=1 -timeout 30m -v ./soak -args -for 10m

fuzz: ## every fuzz target for FUZZTIME (20s)
	@grep -rl --include='*_test.go' '^func Fuzz' internal cmd | while read -r f; do \
	  for t in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$$f"); do \
	    echo "== $$(dirname "$$f") $$t"; \
	    $(GO) test -run '^$$' -fuzz "^$$t\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x "./$$(dirname "$$f")" || exit 1; \
	  done; done

clean: ## remove bin/
	rm -rf bin
