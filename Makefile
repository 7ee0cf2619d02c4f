# What a person types. The build itself is CMakeLists.txt.
#   make help

BUILD  ?= build
JOBS   ?= $(shell nproc 2>/dev/null || echo 2)
SEEDS  ?= 1
DEVICE ?= cpu
# What else to tell CMake, e.g. CMAKE_ARGS="-DCUDAToolkit_ROOT=/opt/cuda -DREALFAKE_CUDA_ARCHS=90"
CMAKE_ARGS ?=

SHELL := /bin/bash
.DEFAULT_GOAL := build
.PHONY: build demo test test-long bench asan gpu-check emulator-aarch64 fonts format format-check clean help

install = tools/install-dependencies.sh
# Objects are cached where ccache is; else a first build is made shorter by precompiled headers.
launcher = $$(command -v ccache >/dev/null && echo -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
first = $$(command -v ccache >/dev/null || echo -DREALFAKE_PCH=ON) -DREALFAKE_TESTS=OFF
# $(call configure,FOLDER,OPTIONS): a folder that is configured already keeps its generator.
configure = [ -e $(1)/CMakeCache.txt ] && g= || g="-G Ninja"; \
	cmake -S . -B $(1) $$g $(launcher) $(2) $(CMAKE_ARGS) >$(1).configure.log 2>&1 \
	|| { cat $(1).configure.log; exit 1; }; \
	grep -E 'CUDA:' $(1).configure.log; mv $(1).configure.log $(1)/configure.log
configured = [ -e $(BUILD)/build.ninja ] || [ -e $(BUILD)/Makefile ]
compile = cmake --build $(1) -j $(JOBS) --target $(2)

# `make demo` on a new machine leaves CUDA and the tests out; the mark tells `make` to look for CUDA again.
# Anything else that was chosen for the folder stays as it is.
choose = if [ -e $(BUILD)/.program-only ]; then o="-DREALFAKE_CUDA=AUTO"; rm -f $(BUILD)/.program-only; fi

## build          the program, build/realfake; first installs what is missing (apt)
build:
	@$(install) build
	@o=; { $(configured); } || o="$(first)"; $(choose); $(call configure,$(BUILD),$$o)
	@$(call compile,$(BUILD),realfake)

## demo           the whole of Real-Fake on real digits: SEEDS=3, DEVICE=cpu, emulated or cuda
demo:
	@$(install) build
	@if [ $(DEVICE) = cuda ]; then o="-DREALFAKE_CUDA=ON"; \
	  { $(configured); } || o="$$o $(first)"; rm -f $(BUILD)/.program-only; \
	  $(call configure,$(BUILD),$$o); \
	elif ! { $(configured); }; then \
	  $(call configure,$(BUILD),$(first) -DREALFAKE_CUDA=OFF); touch $(BUILD)/.program-only; fi
	@$(call compile,$(BUILD),realfake)
	$(BUILD)/realfake demo --seeds $(SEEDS) --device $(DEVICE)

## test           builds and runs the tests (under 12 minutes); TESTS="kernels model" selects, FILTER is gtest's
test:
	@$(install) build test
	@o="-DREALFAKE_TESTS=ON"; $(choose); $(call configure,$(BUILD),$$o)
	@$(call compile,$(BUILD),all)
	@tools/run-tests.sh $(BUILD) quick $(TESTS)

## test-long      the tests that take minutes (suites named ...Long)
test-long:
	@$(install) build test
	@o="-DREALFAKE_TESTS=ON"; $(choose); $(call configure,$(BUILD),$$o)
	@$(call compile,$(BUILD),all)
	@tools/run-tests.sh $(BUILD) long $(TESTS)

## asan           readers of files and the emulator's kernels under AddressSanitizer and UBSan
asan:
	@$(install) build test
	@$(call configure,build-asan,--preset asan)
	@$(call compile,build-asan,tests_kernels tests_model tests_data)
	@tools/run-tests.sh build-asan readers

## gpu-check      every GPU test and compute-sanitizer on the ops, where there is a GPU; else says so
gpu-check:
	@tools/gpu-check.sh $(BUILD)

## emulator-aarch64   the emulator built for 64-bit Arm and run under qemu-user
emulator-aarch64:
	@[ $$(uname -m) = aarch64 ] || $(install) aarch64
	@tests/emulator_aarch64/run.sh

## fonts          installs the free fonts that `realfake pretrain` draws printed digits from
fonts:
	@$(install) fonts

## bench          times the ops at SD 1.5's shapes and the tiny networks, on DEVICE
bench: build
	@$(BUILD)/realfake bench --op all --device $(DEVICE)
	@for n in $(networks); do $(BUILD)/realfake bench --network $$n --device $(DEVICE) || exit; done

networks = unet vae-decoder vae-encoder text-encoder image-encoder resnet8 lora-step resnet8-step

sources = $(shell git ls-files -co --exclude-standard '*.h' '*.cpp' '*.cu' '*.cuh' 2>/dev/null)

## format         lays out the sources (clang-format 14)
format:
	@$(install) format
	@clang-format -i $(sources)

## format-check   fails if a source is laid out otherwise
format-check:
	@$(install) format
	@clang-format --dry-run --Werror $(sources) && echo "format: $(words $(sources)) files as they should be"

## clean          removes what was built; runs/ stays
clean:
	rm -rf build build-asan build-aarch64

## help           this list
help:
	@sed -n 's/^## /  /p' Makefile
