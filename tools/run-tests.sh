#!/bin/bash
# Runs test programs of a build folder and ends with the line "N passed, N failed, N skipped"; exits 1 on a failure.
#   tools/run-tests.sh BUILD quick|long|readers [PROGRAM...]      (kernels model data train tools; all of them by default)
# FILTER=... is handed to gtest in place of the mode's own. Logs stay in BUILD/test-logs.
set -u
cd "$(dirname "$0")/.."
. tools/gtest-counts.sh
build=$1 mode=$2
shift 2
[ $# -gt 0 ] || set -- kernels model data train tools
logs=$build/test-logs
mkdir -p "$logs"

# Two threads that wait for each other in a busy loop make a crowded machine many times slower.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=0:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

# What reads files, and the kernels under the emulator.
readers_of() {
  case $1 in
  kernels) echo 'Pool*:InputFile*:AtomicFile*:LineAppender*:GuardedJson*:JsonReader*:Sha256*:Utf8*:Tensor.*:Tester*:*OpEmulated*-*_large' ;;
  model) echo 'Safetensors*:Tokenizer*:UnicodeWords*:Bad*:WeightFiles*' ;;
  data) echo '*' ;;
  *) echo '-*' ;;
  esac
}

total_passed=0 total_failed=0 total_skipped=0 ran=0
for name in "$@"; do
  program=$build/tests/tests_$name
  case $mode in
  quick) filter=${FILTER:-*-*Long.*} ;;
  long) filter=${FILTER:-*Long.*} ;;
  readers) filter=${FILTER:-$(readers_of "$name")} ;;
  *) echo "run-tests: unknown mode '$mode'" >&2; exit 2 ;;
  esac
  [ "$filter" != '-*' ] || continue
  if [ ! -x "$program" ]; then
    echo "tests_$name: FAILED, $program was not built"
    total_failed=$((total_failed + 1))
    continue
  fi
  log=$logs/$mode-$name.log
  start=$SECONDS
  timeout -k 10 "${TEST_SECONDS:-1500}" "$program" --gtest_filter="$filter" --gtest_color=no >"$log" 2>&1 </dev/null
  status=$?
  gtest_counts "$log" $status
  if [ $status != 0 ]; then
    # The output of the tests that failed, or the end of a program that died.
    grep -n -B 12 '^\[  FAILED  \].* ms)$' "$log" | grep -v '\[       OK \]\|\[ RUN      \]\|\[  SKIPPED \]' | tail -n 80
    grep -q '^\[  PASSED  \]' "$log" || tail -n 40 "$log"
    case $status in 124 | 137) echo "tests_$name: stopped after ${TEST_SECONDS:-1500} s" ;; esac
    sed -n '/listed below:$/,$p' "$log" | grep '^\[  FAILED  \]'
  fi
  printf 'tests_%-8s %5d passed, %d failed, %d skipped, %d s (exit %d)\n' \
    "$name" "$passed" "$failed" "$skipped" $((SECONDS - start)) $status
  grep '^cuda: 0 run, [1-9]' "$log" | sed 's/^cuda: 0 run, \([0-9]*\) skipped/  of these, \1 need a GPU, and none answers here (named in '"${log//\//\\/}"')/'
  ran=$((ran + passed + failed + skipped))
  total_passed=$((total_passed + passed))
  total_failed=$((total_failed + failed))
  total_skipped=$((total_skipped + skipped))
done
if [ $((ran + total_failed)) = 0 ] && [ "$mode" != long ]; then
  echo "no test ran"
  total_failed=$((total_failed + 1))
fi
echo "$total_passed passed, $total_failed failed, $total_skipped skipped"
[ $total_failed = 0 ]
