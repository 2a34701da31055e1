#!/bin/bash
# What the tools say where there is no GPU: one sentence and exit code 1, whether the build could use one or not.
# usage: cuda_test.sh BIN_DIR SOURCE_DIR
set -u
bin=$(realpath "$1")
cache=$(dirname "$bin")/CMakeCache.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }

# Runs a command that must fail with exit code 1 and one line, of its own, that says so.
expect_sentence() {
  local pattern=$1
  shift
  "$@" > out.log 2> error.log
  local code=$?
  [ $code = 1 ] || fail "$*: exit code $code"
  [ ! -s out.log ] || fail "$*: it printed something"
  [ "$(wc -l < error.log)" = 1 ] && grep -Eq "^$(basename "$1"): .*$pattern" error.log || {
    fail "$*: one line with '$pattern' was expected"
    cat error.log
  }
}

if ! grep -q '^CREMA_CUDA:BOOL=ON' "$cache"; then
  for gpu in 0 0,1 all; do expect_sentence 'no CUDA support; configure with the preset' "$bin/train" --solver=x --gpu=$gpu; done
  "$bin/device_query" | grep -q '^cpu: .* threads.*oneDNN' || fail "device_query does not list the CPU"
elif "$bin/device_query" > devices.log 2> /dev/null; then
  grep -q '^GPU 0: ' devices.log || fail "device_query lists no GPU 0"
else
  for gpu in 0 0,1 all; do expect_sentence 'no CUDA device was found' "$bin/train" --solver=x --gpu=$gpu; done
  expect_sentence 'no CUDA device was found' "$bin/device_query"
fi

[ $failures = 0 ] && echo "cuda_test: all passed"
exit $failures
