#!/bin/bash
# The plan tool as a user runs it: its tables, and bad input, each with one sentence and exit code 1.
# Arguments: folder of the tools, folder of the source.
set -u
bin=$(realpath "$1")
cd "$2" || exit 1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export OMP_NUM_THREADS=2
failures=0
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }
solver=models/iresnet50/solver.prototxt

# expect NAME COMMAND...: exit code 0, and after it `has TEXT`: a line of its output.
expect() {
  local name=$1
  shift
  timeout 60 "$@" > "$log" 2>&1 || { fail "$name: exit code $?"; cat "$log"; }
}
has() { grep -Eq -- "$1" "$log" || { fail "no line '$1'"; cat "$log"; }; }
# expect_error NAME TEXT COMMAND...: exit code 1, and one line "plan: ... TEXT ...", nothing half done before it.
expect_error() {
  local name=$1 text=$2
  shift 2
  timeout 60 "$@" > "$log" 2>&1
  local code=$?
  [ $code = 1 ] || { fail "$name: exit code $code instead of 1"; cat "$log"; }
  [ "$(grep -c '^plan: ' "$log")" = 1 ] || { fail "$name: not one line of error"; cat "$log"; }
  has "^plan: .*$text"
}

# 12.5 million rows of 512 numbers are 25.6 GB, and as much again of momentum; nothing of that size is taken.
# (Sanitizers reserve more than any limit.)
grep -q '^CREMA_SANITIZE:[^=]*=.' "$bin/../CMakeCache.txt" || ulimit -v 8000000
for ranks in 8 64; do
  expect "$ranks ranks" "$bin/plan" --solver=$solver --ranks=$ranks --classes=100000000 --image=3,112,112 \
    --device_memory=32GB
  has "^class centres +$([ $ranks = 8 ] && echo 25600.0 || echo 3200.0)$"
  has '^all-reduce of gradients of weights +[0-9.]+ +[0-9.]+$'
  has '^reduce-scatter of gradients of embeddings +[0-9.]+ +[0-9.]+$'
  has '^storage MEMORY +[0-9,]+ +[0-9,]+$'
  has '^storage HOST, as the GPU.s memory bounds them +(over )?[0-9,]+ +(over )?[0-9,]+$'
  has '^HOST and FILE, of all ranks per million +4.10 GB +2.05 GB$'
done
expect "one rank" "$bin/plan" --solver=$solver --image=3,112,112
has '^communication: none'

expect_error "no solver" '--solver is missing' "$bin/plan"
expect_error "missing solver" "cannot read 'nowhere.prototxt'" "$bin/plan" --solver=nowhere.prototxt
expect_error "no ranks" '--ranks is 0' "$bin/plan" --solver=$solver --ranks=0
expect_error "classes" '--classes is -5' "$bin/plan" --solver=$solver --classes=-5
expect_error "unit" "'32XB' was given" "$bin/plan" --solver=$solver --device_memory=32XB
expect_error "no unit" "'32' was given" "$bin/plan" --solver=$solver --device_memory=32
expect_error "image" "--image is '3,112'" "$bin/plan" --solver=$solver --image=3,112
expect_error "no data" "there is no 'data/ms1mv3/train_lmdb'" "$bin/plan" --solver=$solver
expect_error "argument" "unexpected argument 'more'" "$bin/plan" --solver=$solver more

[ $failures = 0 ] && echo "plan_test: all passed"
exit $failures
