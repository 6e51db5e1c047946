# Every target can be run again at any time and needs no root: what is there is not made twice.
#
#   make demo        stream a completion from Gemma 3 270M, after fetching and building what it needs
#   make test        formatting, lints and the whole test suite, real models included
#   make web-test    the page of `onward serve` in a headless Chromium
#   make bench       measure kernels
#   make evidence    write what the kernels' machine code says to kernels/EVIDENCE.md
#   make peers       measure whole models beside llama.cpp, which is built for it (10 minutes)
#   make gpu         check and time the kernels on this machine's GPU (half an hour), into bench/results
#   make gpu-bundle  pack that for a Linux x86-64 machine that has a GPU, but no internet and no Rust
#   make toolchain   nvcc and libclang into target/toolchain, unless you have your own
#   make models      the models of the demo and the tests into the cache
#   make clients     the official Python client of the server's API, for its tests
#
# Needed: Rust, Python 3 with pip, a C and C++ compiler, make.

CARGO ?= cargo
PYTHON ?= python3
PROMPT ?= The first thing the lighthouse keeper noticed that morning was

.DEFAULT_GOAL := help
.PHONY: help demo test suite web-test web-test-tools bench evidence peers gpu gpu-bundle toolchain clients models models-demo models-bench fmt lint clean

help:
	@sed -n '3,/^$$/s/^# \{0,1\}//p' Makefile

demo: toolchain models-demo
	$(CARGO) run --release --package onward -- generate -n 64 --seed 3 --repeat-penalty 1.1 "$(PROMPT)"

test: toolchain models clients lint suite

# The programs are built first: tests run them, on the emulated device too.
suite:
	$(CARGO) build --package onward --package onward-bench --features onward/emulated,onward-bench/emulated
	$(CARGO) build --package onward-c
	$(CARGO) build --package onward-engine --example complete
	CARGO="$(CARGO)" $(PYTHON) scripts/test.py

web-test-tools:
	@$(PYTHON) scripts/web.py --tools

web-test: toolchain models web-test-tools
	$(CARGO) build --package onward
	$(PYTHON) scripts/web.py

bench: toolchain models-bench
	$(CARGO) bench --package onward-bench

evidence: toolchain
	$(CARGO) run --package onward-bench --bin onward-evidence -- --output kernels/EVIDENCE.md

gpu:
	@$(PYTHON) scripts/gpu.py

gpu-bundle: toolchain
	CARGO="$(CARGO)" $(PYTHON) scripts/gpu_bundle.py

# What speaks to the server in its tests.
CLIENT_PYTHON := target/clients/bin/python

clients: $(CLIENT_PYTHON)

$(CLIENT_PYTHON):
	$(PYTHON) -m venv target/clients
	$@ -m pip install --quiet openai==3.57.0 || (rm -rf target/clients; exit 1)

# llama.cpp as its Python binding vendors it, compiled for this machine.
PEERS_PYTHON := target/peers/bin/python
PEERS_MODELS ?= $(wildcard $(or $(ONWARD_CACHE),$(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME)/onward),$(HOME)/.cache/onward)/models/*.gguf)

$(PEERS_PYTHON):
	$(PYTHON) -m venv target/peers
	CMAKE_ARGS=-DGGML_NATIVE=ON $@ -m pip install --no-binary llama-cpp-python llama-cpp-python==0.3.36 || (rm -rf target/peers; exit 1)

peers: toolchain models-bench $(PEERS_PYTHON)
	$(CARGO) build --release --package onward --package onward-bench
	target/release/onward-peers --python $(PEERS_PYTHON) $(PEERS_MODELS)

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
	$(CARGO) clippy --workspace --all-targets --features onward/emulated,onward-bench/emulated -- -D warnings
	$(CARGO) clippy --package onward --no-default-features -- -D warnings

# target/toolchain goes too; the models in the cache stay.
clean:
	$(CARGO) clean
	rm -rf target/toolchain
