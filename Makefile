# SPDX-License-Identifier: Apache-2.0
# The menu. Meson and ninja do the work; this file only remembers the words.

BUILD ?= build
FUZZ_SECONDS ?= 30
MESON_ARGS ?=
# A new room or test folder is a reason to look at the tree again; ninja sees every other change itself.
MESON_LISTS := $(wildcard meson.build meson_options.txt include/meson.build include/dormouse/*.h \
                 src/meson.build src/*/meson.build tests/meson.build tests/*/meson.build \
                 docs/man/meson.build bench/meson.build dist/systemd/meson.build)

.DEFAULT_GOAL := build
.PHONY: help build demo test check asan tsan clang analyze fuzz bench lint \
        format man install clean

build: $(BUILD)/build.ninja ## build the library and build/dormouse
	@ninja -C $(BUILD)

$(BUILD)/build.ninja: $(MESON_LISTS)
	@tools/bootstrap build
	@tools/configure $(BUILD) $(MESON_ARGS)

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

demo: build ## store and wake real guests and show what it saves
	@tools/demo

test: ## install what is missing, build, and run everything this machine can run
	@tools/bootstrap build test clients guest
	@$(MAKE) --no-print-directory build
	@tools/run-tests $(BUILD) unit fault fuzz lint long e2e slow

check: ## the fast tests, under a minute
	@tools/bootstrap build test
	@$(MAKE) --no-print-directory build
	@tools/run-tests $(BUILD) unit fault fuzz lint

asan: ## all tests without guests under the address and undefined-behaviour sanitizers
	@$(MAKE) --no-print-directory BUILD=build-asan build \
	    MESON_ARGS='-Doptimization=1 -Db_sanitize=address,undefined -Db_lundef=false'
	@tools/run-tests build-asan unit fault fuzz long slow

tsan: ## fast and long tests under the thread sanitizer
	@$(MAKE) --no-print-directory BUILD=build-tsan build \
	    MESON_ARGS='-Doptimization=1 -Db_sanitize=thread -Db_lundef=false'
	@tools/run-tests build-tsan unit fault long

clang: ## fast and long tests of a clang build, warnings are errors
	@tools/bootstrap build test
	@CC=clang $(MAKE) --no-print-directory BUILD=build-clang build MESON_ARGS=-Dwerror=true
	@tools/run-tests build-clang unit fault fuzz long

analyze: ## build with gcc's analyzer, warnings are errors
	@$(MAKE) --no-print-directory BUILD=build-analyze build \
	    MESON_ARGS='-Dwerror=true -Dtests=false -Dc_args=-fanalyzer'

fuzz: ## run each libFuzzer target for FUZZ_SECONDS (30)
	@tools/bootstrap build test
	@CC=clang $(MAKE) --no-print-directory BUILD=build-fuzz build \
	    MESON_ARGS='-Dfuzz=true -Doptimization=1 -Db_sanitize=address,undefined -Db_lundef=false'
	@tools/fuzz build-fuzz $(FUZZ_SECONDS)

bench: build ## measure every claim against its peer, in one run
	@tools/bootstrap bench
	@if [ -x tools/bench ]; then tools/bench; else echo "no benchmarks here"; fi

lint: build ## layers, style, spelling, man pages, clang-tidy
	@tools/bootstrap build test
	@tools/lint $(BUILD)

format: ## write all C in the agreed form
	@tools/format

man: build ## make the man pages
	@ninja -C $(BUILD) man

install: build ## install to the prefix (DESTDIR is honoured)
	@meson install -C $(BUILD)

clean: ## remove all build folders
	@rm -rf build build-asan build-tsan build-clang build-analyze build-fuzz
