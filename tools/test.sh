#!/bin/bash
# Sets up, builds and tests everything.
# Usage: tools/test.sh [PRESET]     PRESET: cpu (default; builds for GPUs as well where nvcc, cuDNN and NCCL are), asan or tsan
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

has_gpu_libraries() {
  command -v nvcc >/dev/null && printf '#include <cudnn.h>\n#include <nccl.h>\n' | nvcc -E -x cu - >/dev/null 2>&1
}
if [ "$preset" = cpu ] && has_gpu_libraries; then
  echo "== the build for GPUs, of one architecture"
  cmake --preset cuda -B build/cuda_test -DCMAKE_CUDA_ARCHITECTURES=80 -DCREMA_TESTS=OFF >/dev/null || fail "configuring with CUDA"
  cmake --build build/cuda_test --target train device_query bench_gpu || fail "building with CUDA"
  bash tests/cuda_test.sh build/cuda_test/bin . || fail "tests/cuda_test.sh"
  echo "== the rehearsal of the code for GPUs, on the CPU"
  cmake --preset rehearsal >/dev/null || fail "configuring the rehearsal"
  cmake --build --preset rehearsal || fail "building the rehearsal"
  ctest --preset rehearsal || fail "the rehearsal"
elif [ "$preset" = cpu ]; then
  echo "== the build for GPUs and its rehearsal are skipped: nvcc, cuDNN or NCCL is not there"
fi
echo "PASSED: built and tested with preset $preset in $((SECONDS - began)) s"
