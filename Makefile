# make          build, and test
# make test     what CI runs: format, vet, every test; installs what tests need where it may
# make race     what goes on at once, under the race detector
# make demo     take a bucket, a database and a ticket system out, prove it, tamper with a copy, lose an object, purge
# make bench    measure, beside other tools where they can be had; BENCH_SCALE=0.1 for a tenth of the data
# make fuzz     fuzz every target for FUZZTIME each
# make crash    the exhaustive forms of the tests that make test samples
# make docs     regenerate docs/cli.md and docs/exporters.md
# make fixtures rebuild the golden archives
# make expressions  ask Python again what the expressions of manifests give (python3-jinja2)
# make install  to PREFIX: the binary, its manual page and completions

GO       ?= go
PREFIX   ?= /usr/local
BIN      ?= bin/sallyport
FUZZTIME ?= 30s
RACE     ?= ./dataset/... ./crypto/... ./archive/... ./audit/... ./transfer/... ./verify/... ./reconcile/... ./retention/... \
	./exporters/s3/... ./exporters/dir/... ./exporters/memory/... ./internal/...
KERNELS  ?= ./bench ./archive ./crypto ./dataset ./transfer ./internal/durable ./internal/spool ./exporters/s3 ./exporters/dir ./exporters/rest ./exporters/singer ./reconcile ./verify ./audit

.PHONY: all build test deps check race test-saas demo bench fuzz crash docs fixtures expressions install clean

all: build test

build:
	$(GO) build -trimpath -o $(BIN) ./cmd/sallyport

test: deps check
	bash hack/test.sh ./...
	$(MAKE) race

race:
	bash hack/test.sh -race -short $(RACE)

deps:
	bash hack/deps.sh

check:
	test -z "$$(gofmt -l .)" || { gofmt -l . && false; }
	$(GO) vet ./...

test-saas:
	SALLYPORT_TEST_SAAS=1 bash hack/deps.sh
	SALLYPORT_TEST_SAAS=1 bash hack/test.sh -timeout 60m ./exporters/rest/... ./fixtures/saas ./cmd/sallyport

demo: build
	rm -rf bin/demo
	$(BIN) demo --keep bin/demo

bench:
	$(GO) run ./bench
	$(GO) run ./bench -memory
	$(GO) test -run '^$$' -bench . -benchmem $(KERNELS)

fuzz:
	bash hack/fuzz.sh $(FUZZTIME)

crash:
	SALLYPORT_EXHAUSTIVE=1 bash hack/test.sh -timeout 4h ./...

docs:
	$(GO) run ./cmd/sallyport docs cli > docs/cli.md.new
	$(GO) run ./cmd/sallyport docs exporters > docs/exporters.md.new
	mv docs/cli.md.new docs/cli.md
	mv docs/exporters.md.new docs/exporters.md

fixtures:
	$(GO) generate ./fixtures/...

expressions:
	python3 fixtures/rest/expressions/generate.py > fixtures/rest/expressions/cases.jsonl

install: build
	install -D $(BIN) $(DESTDIR)$(PREFIX)/bin/sallyport
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
		$(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(BIN) man > $(DESTDIR)$(PREFIX)/share/man/man1/sallyport.1
	$(BIN) completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/sallyport
	$(BIN) completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_sallyport
	$(BIN) completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/sallyport.fish

clean:
	rm -rf bin
