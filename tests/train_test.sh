#!/bin/bash
# The train tool as a user runs it: a run on one rank and two, stopping and resuming, and bad input, each with one
# sentence and exit code 1. Arguments: folder of the tools, folder of the source.
set -u
bin=$(realpath "$1")
. "$(dirname "${BASH_SOURCE[0]}")/small_faces.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
failures=0
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }

make_small_faces "$bin" 1

cat > net.prototxt <<EOF
name: "small"
layer { name: "data" type: "Data" top: "data" top: "label" transform_param { scale: 0.00392157 }
  data_param { source: "faces_lmdb" batch_size: 6 backend: LMDB } }
layer { name: "fc1" type: "InnerProduct" bottom: "data" top: "fc1"
  inner_product_param { num_output: 16 weight_filler { type: "xavier" } } }
layer { name: "classes" type: "DistPartialFC" bottom: "fc1" bottom: "label" top: "logits" top: "own"
  dist_partial_fc_param { num_output: 6 sample_rate: 0.5 } }
layer { name: "loss" type: "MarginSoftmax" bottom: "logits" bottom: "own" top: "loss"
  margin_softmax_param { scale: 8 } }
EOF
cat > solver.prototxt <<EOF
net: "net.prototxt"
base_lr: 0.05 momentum: 0.9 lr_policy: "fixed"
max_iter: 40 display: 10 snapshot: 20 snapshot_prefix: "run"
EOF

# expect_error NAME TEXT COMMAND...: exit code 1, and one line "train: ... TEXT ...".
expect_error() {
  local name=$1 text=$2
  shift 2
  timeout 60 "$@" > error.log 2>&1
  local code=$?
  [ $code = 1 ] || { fail "$name: exit code $code instead of 1"; cat error.log; }
  grep -q -- "^train: .*$text" error.log || { fail "$name: no line 'train: ...$text...'"; cat error.log; }
  [ "$(grep -c '^train: ' error.log)" = 1 ] || { fail "$name: more than one line of error"; cat error.log; }
}
# wait_for TEXT FILE: until the text is there.
wait_for() {
  for _ in $(seq 300); do grep -q -- "$1" "$2" 2> /dev/null && return; sleep 0.1; done
  fail "no '$1' in $2"; cat "$2"
}
# changed FILE SED: the file with a change, on stdout.
changed() { sed -e "$2" "$1"; }

# One rank, then two: the lines of Caffe's log, snapshots, and the loss falling.
for ranks in 0 2; do
  rm -rf run_iter_*
  timeout 120 "$bin/train" -solver solver.prototxt --ranks=$ranks > train.log 2>&1 || { fail "train on $ranks"; cat train.log; }
  for line in '^I[0-9]\{4\} [0-9:.]* *[0-9]* [a-z_]*.cpp:[0-9]*\] Solving small' 'Iteration 10 (.* iter/s, .*s/10 iters), loss = ' \
    '    Train net output #0: loss = .* (\* 1 = .* loss)' 'Iteration 30, lr = 0.05' 'Snapshotting to binary proto file run_iter_20.caffemodel' \
    'Iteration 40, loss = ' 'Optimization Done.' 'samples/s'; do
    grep -q -- "$line" train.log || { fail "no line '$line' on $ranks ranks"; cat train.log; }
  done
  for file in run_iter_{20,40}.{caffemodel,solverstate,centers/classes.0.weight.f32}; do
    [ -s $file ] || fail "no $file on $ranks ranks"
  done
done

# What two ranks wrote goes on on one.
changed solver.prototxt 's/max_iter: 40/max_iter: 50/' > longer.prototxt
timeout 60 "$bin/train" --solver=longer.prototxt --snapshot=latest > resume.log 2>&1 || { fail resume; cat resume.log; }
grep -q 'Restoring previous solver status from run_iter_40.solverstate' resume.log || fail "latest is not iteration 40"
[ -s run_iter_50.solverstate ] || fail "no snapshot after resuming"
timeout 60 "$bin/train" --solver=solver.prototxt --weights=run_iter_50.caffemodel,run_iter_50.centers --profile > tune.log 2>&1 ||
  { fail weights; cat tune.log; }
grep -q 'Finetuning from run_iter_50.centers' tune.log || fail "no weights from a folder"
grep -q $'fc1\tbackward: .* ms.' tune.log || { fail "no profile"; cat tune.log; }

# Signals: a hang-up takes a snapshot and goes on, an interrupt takes one and stops.
changed solver.prototxt 's/max_iter: 40/max_iter: 100000000/; s/snapshot: 20//; s/display: 10/display: 1000/' > endless.prototxt
for ranks in 0 2; do
  rm -rf run_iter_* signals.log  # the log of the run before would end the waiting at once
  "$bin/train" --solver=endless.prototxt --ranks=$ranks > signals.log 2>&1 &
  pid=$!
  wait_for 'Iteration 1000 ' signals.log
  kill -HUP $pid
  wait_for 'Snapshotting solver state' signals.log
  kill -INT $pid
  wait $pid || fail "interrupted run on $ranks ranks: exit code $?"
  grep -q 'Optimization stopped early.' signals.log || { fail "not stopped early on $ranks ranks"; tail signals.log; }
  [ "$(ls run_iter_*.solverstate | wc -l)" = 2 ] || fail "not two snapshots on $ranks ranks"
done

# A rank that is killed takes the others with it.
"$bin/train" --solver=endless.prototxt --ranks=3 > killed.log 2>&1 &
pid=$!
wait_for 'Iteration 1000 ' killed.log
ranks=$(pgrep -P "$(pgrep -P $pid)")
kill -KILL "$(echo "$ranks" | tail -1)"
begin=$SECONDS
wait $pid && fail "a killed rank: exit code 0"
[ $((SECONDS - begin)) -lt 20 ] || fail "the others ended after $((SECONDS - begin)) seconds"
for rank in $ranks; do
  for _ in $(seq 50); do kill -0 "$rank" 2> /dev/null && sleep 0.1; done  # mpirun does not wait for their ends
  kill -0 "$rank" 2> /dev/null && fail "rank $rank still runs"
done
grep -qi 'signal' killed.log || { fail "no message about the killed rank"; cat killed.log; }

# Ranks without MPI, which the environment makes ranks: the losses are those of --ranks=2.
losses() { sed -n 's/.*Iteration \([0-9]*\).*, loss = \([0-9.]*\).*/\1 \2/p' "$1"; }
port=$((20000 + RANDOM % 10000))  # below those that systems give to connections
# start RANK SIZE FLAGS...: that rank, with pid $! and the log rank_RANK.log.
start() { RANK=$1 WORLD_SIZE=$2 MASTER_ADDR=localhost MASTER_PORT=$port "$bin/train" "${@:3}" > rank_$1.log 2>&1 & }
# code_of PID SECONDS: its exit code, or 99 where it does not end.
code_of() {
  for _ in $(seq $(($2 * 10))); do kill -0 "$1" 2> /dev/null || { wait "$1"; return; }; sleep 0.1; done
  kill -KILL "$1"
  return 99
}
rm -rf run_iter_*
timeout 120 "$bin/train" --solver=solver.prototxt --ranks=2 > train.log 2>&1 || { fail "train on two ranks"; cat train.log; }
rm -rf run_iter_*
start 1 2 --solver=solver.prototxt
pid=$!
start 0 2 --solver=solver.prototxt
code_of $! 120 || { fail "rank 0 without MPI"; cat rank_0.log; }
code_of $pid 20 || { fail "rank 1 without MPI"; cat rank_1.log; }
[ "$(losses rank_0.log | wc -l)" -ge 5 ] && [ "$(losses rank_0.log)" = "$(losses train.log)" ] ||
  { fail "losses without MPI"; losses rank_0.log; losses train.log; }
[ -s run_iter_40.centers/classes.0.weight.f32 ] || fail "no snapshot without MPI"

# The end of one, or its error, is the end of the other, in seconds and with one line that says why.
for killed in 0 1; do
  port=$((port + 1))
  other=$((1 - killed))
  rm -f rank_?.log
  start $killed 2 --solver=endless.prototxt
  pid=$!
  start $other 2 --solver=endless.prototxt
  wait_for 'Iteration 1000 ' rank_0.log
  kill -KILL $pid
  wait $pid 2> /dev/null
  code_of $! 10
  code=$?
  [ $code = 1 ] && [ "$(grep '^train: ' rank_$other.log)" = "train: rank $other: rank $killed is gone: its connection has ended, as it does when a process is killed" ] ||
    { fail "without MPI, rank $killed killed: code $code"; tail rank_$other.log; }
done
for wrong in "3 --solver=solver.prototxt" "2 --solver=absent.prototxt"; do
  port=$((port + 1))
  # shellcheck disable=SC2086
  start 1 $wrong
  pid=$!
  start 0 2 --solver=solver.prototxt
  code_of $! 20
  codes=$?
  code_of $pid 20
  codes=$codes$?
  [ $codes = 11 ] && [ "$(grep -c '^train: ' rank_0.log rank_1.log | tr '\n' ' ')" = "rank_0.log:1 rank_1.log:1 " ] ||
    { fail "without MPI, rank 1 $wrong: codes $codes"; tail rank_?.log; }
done
export WORLD_SIZE=2 MASTER_ADDR=localhost
expect_error "half an environment" "lacks RANK, MASTER_PORT" "$bin/train" --solver=solver.prototxt
export MASTER_PORT=$port
RANK=2 expect_error "no such rank" 'RANK is "2"; expected a number from 0 to 1' "$bin/train" --solver=solver.prototxt
RANK=0 expect_error "ranks and an environment" "--ranks was given where" "$bin/train" --solver=solver.prototxt --ranks=2
unset WORLD_SIZE MASTER_ADDR MASTER_PORT

# Bad input.
with_net() { changed net.prototxt "$1" > bad_net.prototxt; changed solver.prototxt 's/"net.prototxt"/"bad_net.prototxt"/' > bad.prototxt; }
expect_error "missing solver" "absent.prototxt" "$bin/train" --solver=absent.prototxt
expect_error "no flag" "solver is missing" "$bin/train"
expect_error "argument" "unexpected argument" "$bin/train" train --solver=solver.prototxt
expect_error "gpu and ranks" "--ranks and --gpu" "$bin/train" --solver=solver.prototxt --gpu=0 --ranks=2
expect_error "effect" "sigint_effect" "$bin/train" --solver=solver.prototxt --sigint_effect=pause
"$bin/train" --sovler=solver.prototxt > error.log 2>&1
[ $? = 1 ] || fail "unknown flag: not exit code 1"
changed solver.prototxt 's/base_lr/base_rl/' > bad.prototxt
expect_error "typo in the solver" "bad.prototxt:2.*base_rl" "$bin/train" --solver=bad.prototxt
changed solver.prototxt 's/"net.prototxt"/"absent_net.prototxt"/' > bad.prototxt
expect_error "missing net" "absent_net.prototxt" "$bin/train" --solver=bad.prototxt
changed solver.prototxt 's/"fixed"/"stairs"/' > bad.prototxt
expect_error "unknown policy" "stairs.*multistep" "$bin/train" --solver=bad.prototxt
changed solver.prototxt 's/"run"/"absent_folder\/run"/' > bad.prototxt
expect_error "snapshots to nowhere" "absent_folder/run" "$bin/train" --solver=bad.prototxt
with_net 's/InnerProduct"/InnerProdukt"/'
expect_error "unknown layer type" "InnerProdukt" "$bin/train" --solver=bad.prototxt
with_net 's/num_output: 16/num_outputs: 16/'
expect_error "typo in a field" "bad_net.prototxt:5.*num_outputs" "$bin/train" --solver=bad.prototxt
with_net 's/bottom: "data"/bottom: "dada"/'
expect_error "wrong bottom" "dada" "$bin/train" --solver=bad.prototxt
with_net 's/inner_product_param {/relu_param { negative_slope: 0.1 } &/'
expect_error "another type's parameters" "fc1.*has a relu_param.*expected inner_product_param" "$bin/train" --solver=bad.prototxt
with_net '$ a layer { name: "sum" type: "Eltwise" bottom: "fc1" bottom: "data" top: "sum" }'
expect_error "shapes that do not fit" "'sum' (Eltwise).*6x3x8x8.*6x16" "$bin/train" --solver=bad.prototxt
with_net 's/num_output: 6 /num_output: 4 /'
expect_error "label too large" "'classes' (DistPartialFC): sample 4 has label 4; expected 0 to 3" "$bin/train" --solver=bad.prototxt
with_net 's/"faces_lmdb"/"absent_lmdb"/'
expect_error "missing database" "absent_lmdb" "$bin/train" --solver=bad.prototxt
with_net 's/num_output: 16/num_output: 17/'
snapshot=$(ls run_iter_*.solverstate | tail -1)
expect_error "weights of another shape" "fc1.*17" "$bin/train" --solver=bad.prototxt --weights="${snapshot%.solverstate}.caffemodel"
with_net 's/"fc1"/"fc9"/g'
expect_error "weights of another net" "weights for 1 layers, none of which is in the net" "$bin/train" --solver=bad.prototxt --weights="${snapshot%.solverstate}.caffemodel"
: > empty.caffemodel
expect_error "empty weights" "'empty.caffemodel' has no layers; expected the weights of a net" "$bin/train" --solver=solver.prototxt --weights=empty.caffemodel
expect_error "snapshot and weights" "both given" "$bin/train" --solver=solver.prototxt --weights=a --snapshot=b
expect_error "missing snapshot" "absent.solverstate" "$bin/train" --solver=solver.prototxt --snapshot=absent.solverstate
head -c 500 "$snapshot" > cut.solverstate
expect_error "cut snapshot" "cut.solverstate" "$bin/train" --solver=solver.prototxt --snapshot=cut.solverstate
for file in "$snapshot" "${snapshot%.solverstate}".{caffemodel,centers/classes.0.{weight.f32,momentum.f32,txt}}; do
  cp "$file" whole
  head -c $(($(stat -c %s whole) / 2)) whole > "$file"
  expect_error "half of $file" "$file" "$bin/train" --solver=solver.prototxt --snapshot="$snapshot"
  cp whole "$file"
done
timeout 60 "$bin/train" --solver=solver.prototxt --snapshot="$snapshot" > resume.log 2>&1 || { fail "whole again"; cat resume.log; }

# A number that is not finite stops the run and names where it arose first.
with_net 's/scale: 0.00392157/scale: 1e38/'
expect_error "infinite data" "loss is .*nan at iteration 0: .*layer 'data' (Data), so it is in the data" "$bin/train" --solver=bad.prototxt
with_net 's/type: "xavier"/type: "constant" value: 3e38/'
expect_error "infinite output" "loss is .*nan at iteration 0: .*an output of layer 'fc1'" "$bin/train" --solver=bad.prototxt
timeout 60 "$bin/train" --solver=bad.prototxt --ranks=2 > error.log 2>&1
[ $? = 1 ] && grep -q "^train: rank 0: .*an output of layer 'fc1'" error.log || { fail "infinite output on two ranks"; cat error.log; }
changed solver.prototxt 's/base_lr: 0.05/base_lr: 3e38/' > bad.prototxt
expect_error "infinite weights" "nan at iteration 1: weight 0 of layer 'classes'.*lower base_lr" "$bin/train" --solver=bad.prototxt
timeout 60 "$bin/train" --solver=absent.prototxt --ranks=2 > error.log 2>&1
[ $? = 1 ] && grep -q "^train: rank 0: .*absent.prototxt" error.log || { fail "error on two ranks"; cat error.log; }

# A full disk, for which a limit on the size of files stands: the older snapshot stays good.
rm -rf run_iter_*
timeout 60 "$bin/train" --solver=solver.prototxt > train.log 2>&1
rm -rf run_iter_40.*
before=$(cat run_iter_20.caffemodel run_iter_20.solverstate run_iter_20.centers/* | cksum)
(trap "" XFSZ; ulimit -f 4; PMIX_MCA_gds=hash timeout 60 "$bin/train" --solver=solver.prototxt --snapshot=latest 2>&1; echo "code $?") | cat > full.log
grep -q '^train: the snapshot of iteration 40 failed: ' full.log && grep -q 'code 1' full.log || { fail "full disk"; cat full.log; }
[ "$before" = "$(cat run_iter_20.caffemodel run_iter_20.solverstate run_iter_20.centers/* | cksum)" ] || fail "the older snapshot changed"
[ -z "$(ls -d run_iter_40* *.unfinished* 2> /dev/null)" ] || { fail "a failed snapshot left files"; ls -d run_iter_*; }

[ $failures = 0 ] && echo "train_test: all passed"
exit $failures
