# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# A thin front: the build is meson's, everything longer than a line is a script.
#
#   make            build/vhost-device-vsock and build/vsockctl (installs missing build tools first)
#   make run        a demonstration with a small guest; ARGS="..." runs the daemon
#   make test       every test; SUITES="unit vu" runs some
#   make verify     the models of models/, all interleavings, and the proofs of proofs/
#   make soak       MINUTES=10 of mixed load on one daemon
#   make install    honours DESTDIR and prefix

BUILD ?= build
prefix ?= /usr/local

.PHONY: all run test test-matrix lint fuzz verify soak bench bench-quick install clean

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

# Checked on every run: it is quick when nothing is missing.
.PHONY: build-deps
build-deps:
	@scripts/install-deps build

$(BUILD)/build.ninja: | build-deps
	meson setup $(BUILD) --prefix=$(prefix)

run: all
ifdef ARGS
	$(BUILD)/vhost-device-vsock $(ARGS)
else
	scripts/run-demo
endif

test: all
	@scripts/install-deps test
	@VDV_BUILD=$(BUILD) scripts/test $(SUITES)

test-matrix: all
	@scripts/test-matrix

lint:
	@scripts/install-deps lint
	@scripts/lint

fuzz:
	@scripts/fuzz

verify:
	@scripts/install-deps verify
	@scripts/verify
	@scripts/prove

soak: all
	@VDV_BIN=$(abspath $(BUILD))/vhost-device-vsock tests/soak/soak.py $(or $(MINUTES),10)

bench bench-quick: all
	@VDV_BUILD=$(BUILD) bench/run $(if $(filter bench-quick,$@),--quick) $(BENCH_ARGS)

install: all
	meson configure $(BUILD) -Dprefix=$(prefix)
	meson install -C $(BUILD)

clean:
	rm -rf $(BUILD)
