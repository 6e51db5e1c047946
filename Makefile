# Every target can be run again at any time and needs no root: what is there is not made twice.
#
#   make demo        stream a completion from Gemma 3 270M, after fetching and building what it needs
#   make test        formatting, lints and the whole test suite, real models included
#   make bench       measure kernels and end-to-end speed
#   make toolchain   nvcc and libclang into target/toolchain, unless you have your own
#   make models      the models of the demo and the tests into the cache
#
# Needed: Rust, Python 3 with pip, a C and C++ compiler, make.

CARGO ?= cargo
PYTHON ?= python3
PROMPT ?= The first thing the lighthouse keeper noticed that morning was

.DEFAULT_GOAL := help
.PHONY: help demo test suite bench toolchain models models-demo models-bench fmt lint clean

help:
	@sed -n '3,/^$$/s/^# \{0,1\}//p' Makefile

demo: toolchain models-demo
	$(CARGO) run --release --package onward -- generate -n 64 --seed 3 --repeat-penalty 1.1 "$(PROMPT)"

test: toolchain models lint suite

# The command line tool is built first: tests run it.
suite:
	$(CARGO) build --package onward
	CARGO="$(CARGO)" $(PYTHON) scripts/test.py

bench: toolchain models-bench
	$(CARGO) bench --package onward-bench

toolchain:
	@$(PYTHON) scripts/toolchain.py

models-demo:
	@$(PYTHON) scripts/models.py gemma-3-270m

models:
	@$(PYTHON) scripts/models.py gemma-3-270m qwen2.5-coder-0.5b

models-bench:
	@$(PYTHON) scripts/models.py gemma-3-270m qwen2.5-coder-0.5b qwen2.5-coder-1.5b

fmt:
	$(CARGO) fmt --all

# The build without CUDA is one that people make: it must pass as well.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --package onward --no-default-features -- -D warnings

# target/toolchain goes too; the models in the cache stay.
clean:
	$(CARGO) clean
	rm -rf target/toolchain
