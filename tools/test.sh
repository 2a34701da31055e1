#!/bin/bash
# Sets up, builds and tests everything.
# Usage: tools/test.sh [PRESET]     PRESET: cpu (default), asan or tsan
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-cpu}
began=$SECONDS

fail() {
  echo "FAILED: $1, after $((SECONDS - began)) s" >&2
  exit 1
}

tools/setup.sh || fail "setting up"
echo "== format"
find include src layers tools tests bench -regex '.*\.[ch]pp' -print0 | xargs -0 clang-format --dry-run --Werror || fail "clang-format"

echo "== configure and build (preset $preset)"
cmake --preset "$preset" >/dev/null || fail "configuring"
cmake --build --preset "$preset" || fail "building"

echo "== tests"
ctest --preset "$preset" || fail "testing"
echo "PASSED: built and tested with preset $preset in $((SECONDS - began)) s"
