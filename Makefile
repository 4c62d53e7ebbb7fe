# Greatseal. Two commands matter: "make demo" and "make test".
export GOTOOLCHAIN = auto
SHELL = /bin/bash
GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
PACKAGES = $(shell sed 's/\#.*//' tools/judges/packages/*)

.PHONY: build demo test console-test deps judges oracles lint generate fuzz

build: ## both binaries into bin/
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-X github.com/greatseal-io/greatseal/internal/cli.Version=$(VERSION)" -o bin/greatseal ./cmd/greatseal
	CGO_ENABLED=1 $(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/greatseal-keeper ./cmd/greatseal-keeper

demo: build ## the whole way of a signature, and of a record, with attacks on both failing
	bin/greatseal demo

test: judges ## everything, against real servers, tokens and verifiers
	$(GO) vet ./...
	$(GO) test -timeout 30m ./...

console-test: judges ## the console in a real browser, with a real provider; what it shows is in screens/
	$(GO) test -timeout 30m ./internal/browser/... ./internal/console/... ./internal/sso/...

deps: ## what the tests need of Debian; does nothing where it is all there
	@missing=; for p in $(PACKAGES); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		echo "installing:$$missing"; \
		apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; \
	fi

judges: deps ## verifiers that Debian does not have, into .cache/judges
	@mkdir -p .cache/judges/bin
	@for s in $$(ls tools/judges/*.sh 2>/dev/null); do JUDGES=$(CURDIR)/.cache/judges bash $$s </dev/null || { echo "$$s failed"; exit 1; }; done

oracles: judges ## every format judged by its own ecosystem, a line for each
	$(GO) run ./internal/oracles

lint: ## gofmt, vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "not formatted: $$out"; exit 1; }
	$(GO) vet ./...
	cd tools && $(GO) build -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	bin/staticcheck ./...

generate: build ## what is generated and checked in: OpenAPI, man pages, dependency lists
	$(GO) test ./internal/api ./internal/cli ./internal/keeper ./cmd/greatseal-keeper -run 'Generated|Dependencies|OpenAPI|Man' -update

fuzz: ## every fuzz target for a minute
	@for f in $$(git grep -l '^func Fuzz' -- '*_test.go'); do \
		for t in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(.*/\1/p' $$f); do \
			echo "$$(dirname $$f) $$t"; $(GO) test ./$$(dirname $$f) -run '^$$' -fuzz "^$$t$$" -fuzztime 60s -fuzzminimizetime 5s || exit 1; \
		done; \
	done
