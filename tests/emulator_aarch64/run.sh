#!/bin/bash
# Builds the emulator and its small test for aarch64 and runs it: under qemu-user, or directly on such a machine.
set -eu
cd "$(dirname "$0")/../.."
out=build-aarch64
mkdir -p $out
compiler=aarch64-linux-gnu-g++ runner=qemu-aarch64-static
if [ "$(uname -m)" = aarch64 ]; then compiler=g++ runner=; fi
$compiler -std=c++20 -O2 -g1 -Wall -Wextra -Werror -Wno-unknown-pragmas -fno-math-errno -ffp-contract=off -static -I. \
  tests/emulator_aarch64/emulator_test.cpp kernels/emulator/emulator.cpp kernels/emulator/fiber.cpp -o $out/emulator_test
$runner $out/emulator_test
