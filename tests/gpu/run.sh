#!/bin/bash
# For a machine with GPUs: builds for them, runs the tests on them, the launchers' under compute-sanitizer, and prints a
# table of what the first one can do. docs/gpu.md is the place for the result.
# usage: tests/gpu/run.sh [--build=DIR] [--table] [--small]
#   --build=DIR  a build that is there already; without it, build/gpu is made
#   --table      the table alone
#   --small      sizes that tell nothing of speed, to try the script itself
set -u
cd "$(dirname "$0")/../.." || exit 1
build='' table=no small=no
for argument in "$@"; do
  case $argument in
    --build=*) build=${argument#--build=} ;;
    --table) table=yes ;;
    --small) small=yes ;;
    *) echo "run.sh: unknown argument '$argument'; expected --build=DIR, --table or --small"; exit 1 ;;
  esac
done
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
failures=0
failed() { echo "FAILED: $*"; failures=$((failures + 1)); }

if [ -z "$build" ]; then
  build=build/gpu
  cmake --preset cuda -B $build -DCMAKE_CUDA_ARCHITECTURES=native && cmake --build $build || exit 1
fi
"$build/bin/device_query" || exit 1

if [ $table = no ]; then
  CREMA_TEST_GPU=1 ctest --test-dir "$build" -L gpu --output-on-failure || failed "tests on the GPU"
  if command -v compute-sanitizer > /dev/null; then
    for check in memcheck racecheck; do
      for test in contract_test streaming_head_test; do
        CREMA_TEST_GPU=1 compute-sanitizer --tool $check --error-exitcode 1 "$build/tests/$test" > "$build/$check.log" 2>&1 ||
          failed "$test under $check, see $build/$check.log"
      done
    done
  else
    failed "compute-sanitizer is not there: the launchers were not checked with it"
  fi
fi

# measure WHAT FLAGS...: rows of the table; each in a process of its own, so that its peak memory is its own.
measure() {
  timeout 1800 "$build/bench/bench_gpu" --gpu=0 --measure="$@" || failed "measuring $*"
}
size() { [ $small = yes ] && echo "$1" || echo "$2"; }
batch=$(size 4 128) repeats=$(size 1 20)
echo
echo "| what | size | rate | peak memory |"
echo "|---|---|---|---|"
for precision in FP32 TF32 BF16 FP16; do
  measure gemm --precision=$precision --side="$(size 64 8192)" --repeats=$repeats
  for shape in 64,56 128,28 256,14 512,7; do
    measure convolution --precision=$precision --batch=$batch \
      --channels="$(size 8 ${shape%,*})" --pixels="$(size 4 ${shape#*,})" --repeats=$repeats
  done
  for net in $(size quickstart "iresnet50 iresnet100"); do
    measure step --precision=$precision --net=models/$net/train.prototxt --batch=$batch --classes="$(size 100 93431)" --repeats=$repeats
  done
done
for classes in $(size 1000 "1000000 10000000"); do
  for rate in 0.1 1; do
    for head in "precision: FP32" "precision: BF16" "storage: HOST"; do
      measure head --classes=$classes --rate=$rate --batch="$(size 4 1024)" --head="$head" --repeats=$repeats
    done
  done
done
gpus=$("$build/bin/device_query" | grep -c '^GPU ')
if [ "$gpus" -gt 1 ]; then
  mpirun -n "$gpus" --oversubscribe --bind-to none "$build/bench/bench_gpu" --gpu=0 --measure=allreduce \
    --megabytes="$(size 1 256)" --repeats=$repeats || failed "measuring all-reduce"
fi
[ $failures = 0 ] || { echo "run.sh: $failures steps failed"; exit 1; }
