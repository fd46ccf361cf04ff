# Thin: each target calls the tool that does the work. `make` alone lists them.
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 600
export JOBS ?= $(shell tools/jobs)

.PHONY: help deps deps-build deps-test deps-lint build test demo serve install sanitize fuzz lint \
  bench peers bench-peers bench-serve bench-train soak

help:          ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

deps:          ## install what building and running need: packages, libtorch, the default model
	@tools/deps build libtorch model

deps-build:
	@tools/deps build libtorch

deps-test:     ## install what testing needs beyond that: the fuzzing compiler, a browser
	@tools/deps test

deps-lint:
	@tools/deps lint

build: deps-build ## build/adze, optimised
	@tools/build adze

test: deps deps-test ## build everything, run every test, fuzz each reader for 5 s
	@tools/test

demo: deps build ## answer a prompt with the default model
	@tools/demo

serve: deps build ## serve the default model: OpenAI's routes and a page to chat in (SERVE_FLAGS)
	@build/adze serve $(SERVE_FLAGS)

install: build ## copy the program and its libraries below PREFIX (/usr/local)
	@cmake --install build/release --prefix "$(PREFIX)"

sanitize: deps-build ## unit tests under address, undefined-behaviour and thread sanitizers
	@tools/sanitize

fuzz: deps-build deps-test ## fuzz each reader for FUZZ_SECONDS (600)
	@tools/fuzz $(FUZZ_SECONDS)

soak: deps build ## load and faults against the server, 200 kill -9 of training runs (8 minutes)
	@tools/soak

lint: deps-build deps-lint ## format and clang-tidy of the files that differ from LINT_BASE
	@tools/lint

bench: deps build ## adze's speed on this machine, and its share of the machine's peaks
	@bench/speed.py

peers: deps build ## build what adze is measured against (10 minutes), find its best settings
	@tools/peers llama.cpp python >/dev/null
	@bench/peers.py --calibrate

bench-peers: deps build ## adze beside llama.cpp by turns: a table, ratios as the last line
	@bench/peers.py

bench-serve: deps build ## adze serve beside llama-server, 16 clients: ratios as the last line
	@bench/serve.py

bench-train: deps build ## adze train beside PyTorch, by turns: ratios as the last line (20 minutes)
	@tools/peers python >/dev/null
	@bench/train.py
