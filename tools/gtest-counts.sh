# For scripts that run test programs: source this. gtest_counts LOG STATUS sets passed, failed, skipped.
# A program that died before its summary is counted by the tests that it finished, and one failure for the death.
gtest_counts() {
  local log=$1 status=$2
  passed=$(sed -n 's/^\[  PASSED  \] \([0-9]\+\) tests\?\.$/\1/p' "$log" | tail -n 1)
  if [ -n "$passed" ]; then
    failed=$(sed -n 's/^\[  FAILED  \] \([0-9]\+\) tests\?, listed below:$/\1/p' "$log" | tail -n 1)
    skipped=$(sed -n 's/^\[  SKIPPED \] \([0-9]\+\) tests\?, listed below:$/\1/p' "$log" | tail -n 1)
    failed=${failed:-0} skipped=${skipped:-0}
    if [ "$status" != 0 ] && [ "$failed" = 0 ]; then failed=1; fi
  else
    passed=$(grep -c '^\[       OK \]' "$log")
    failed=$(($(grep -c '^\[  FAILED  \].* ms)$' "$log") + 1))
    skipped=$(grep -c '^\[  SKIPPED \].* ms)$' "$log")
  fi
}
