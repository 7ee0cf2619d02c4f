#!/bin/bash
# Checks that need an NVIDIA GPU, on a build with CUDA and tests: every GPU test, none of which may skip, then the tests
# of the ops under each tool of compute-sanitizer. Ends with a table. Without a GPU it says so and exits 0.
#   tools/gpu-check.sh BUILD          tools/gpu-check.sh --present   (exit 0 where there is a GPU)
# SANITIZER_FILTER narrows the tests under compute-sanitizer (default *OpCuda*).
set -u
cd "$(dirname "$0")/.."
. tools/gtest-counts.sh

present() { [ -e /dev/nvidia0 ] || { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }; }
if [ "${1:-}" = --present ]; then
  present
  exit
fi
build=${1:-build}
if ! present; then
  echo "gpu-check: skipped, no NVIDIA GPU here"
  exit 0
fi
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null

logs=$build/gpu-logs
mkdir -p "$logs"
rows=() bad=0
row() { rows+=("$(printf '%-26s %7s %7s %8s %8s' "$@")"); }
# check NAME COMMAND...: runs a test program, adds a row; nothing matched is a failure too.
check() {
  local name=$1 log=$logs/$1.log start=$SECONDS status
  shift
  echo "gpu-check: $name"
  timeout -k 10 "${CHECK_SECONDS:-1500}" "$@" --gtest_color=no >"$log" 2>&1 </dev/null
  status=$?
  gtest_counts "$log" $status
  [ $((passed + failed + skipped)) -gt 0 ] || failed=1
  if [ "$failed" != 0 ]; then
    bad=1
    grep -E '^========= (Error|Invalid|Uninit|Race|ERROR)|^\[  FAILED  \]|^error' "$log" | head -n 30
    grep -q '^\[  PASSED  \]' "$log" || tail -n 20 "$log"
  fi
  row "$name" "$passed" "$failed" "$skipped" $((SECONDS - start))
}

export REQUIRE_CUDA=1
for program in kernels model data train tools; do
  path=$build/tests/tests_$program
  if [ ! -x "$path" ]; then
    echo "gpu-check: $path was not built"
    row "tests_$program" 0 1 0 0
    bad=1
  elif "$path" --gtest_filter='*Cuda*' --gtest_list_tests | grep -q '^  '; then
    # Some tests ask for what happens where no GPU answers: not here.
    check "tests_$program" "$path" --gtest_filter='*Cuda*-*WithoutADevice*'
  fi
done

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer "${CUDAToolkit_ROOT:-/nowhere}/bin/compute-sanitizer" 2>/dev/null | head -n 1)
for tool in memcheck racecheck initcheck synccheck; do
  if [ -z "$sanitizer" ]; then
    row "compute-sanitizer/$tool" - - - -
    continue
  fi
  # Barriers and shared memory are looked at in our own kernels only, not in those of cuBLAS and cuDNN.
  own=()
  case $tool in racecheck | synccheck) own=(--kernel-name kernel_substring=realfake) ;; esac
  check "$tool" "$sanitizer" --tool "$tool" "${own[@]}" --error-exitcode 99 --print-limit 20 \
    "$build/tests/tests_kernels" --gtest_filter="${SANITIZER_FILTER:-*OpCuda*}"
done
[ -n "$sanitizer" ] || echo "gpu-check: compute-sanitizer was not found, its checks are skipped"

printf '\n%-26s %7s %7s %8s %8s\n' check passed failed skipped seconds
printf '%s\n' "${rows[@]}"
exit $bad
