#!/bin/bash
# The train tool on the imaginary GPUs of the rehearsal: the quickstart's net on 1, 2 and 4 of them against as many
# ranks on the CPU, and snapshots that go from the one to the other on another number of ranks.
# usage: training_test.sh BIN_DIR SOURCE_DIR
set -u
bin=$(realpath "$1") source=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
unset CREMA_TEST_GPU
failures=0
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }

"$bin/make_faces" --identities=40 --images=4 --size=32 --test_identities=4 --pairs=20 --seed=0 faces > faces.log 2>&1 &&
  "$bin/convert_imageset" --encoded faces/ faces/train.txt train_lmdb > convert.log 2>&1 || { cat faces.log convert.log; exit 1; }

# The quickstart's net for images of 32x32, without its augmentation and its test phase.
sed '/dist_partial_fc_param/,/}/ { s/num_output: .*/num_output: 40/; s/sample_rate: .*/sample_rate: 0.3/ }
  s/kernel_size: 7/kernel_size: 2/; s/batch_size: .*/batch_size: BATCH/' "$source/models/quickstart/train.prototxt" > template.prototxt
for ranks in 1 2 4; do sed "s/batch_size: BATCH/batch_size: $((16 / ranks))/" template.prototxt > net_$ranks.prototxt; done
sed 's/sample_rate: .*/& storage: HOST/' net_2.prototxt > net_2_host.prototxt

# train NAME NET ITERATIONS FLAGS...: trains net_NET, leaves NAME.log and snapshots NAME_iter_*; in mixed precision where
# the name ends in one. The rate is so small that training does not make differences of rounding grow beyond what is
# asked for (at ten times as much they reach 1e-2), and large enough that the loss falls by a twelfth.
train() {
  local name=$1 net=$2 iterations=$3
  shift 3
  sed "s/^net: .*/net: \"net_$net.prototxt\"/; s/^max_iter: .*/max_iter: $iterations/; /^test_/d; /^display/d; /^snapshot/d; s/^base_lr: .*/base_lr: 0.0001/" \
    "$source/models/quickstart/solver.prototxt" > $name.prototxt
  # Without clipping the head updates rows at once, and those in the host's memory are fetched ahead.
  case $name in *at_once*) sed -i 's/^base_lr: .*/base_lr: 0.000003/; /^clip_gradients/d' $name.prototxt ;; esac
  echo "display: 5 snapshot: 10 snapshot_prefix: \"$name\"" >> $name.prototxt
  case $name in *BF16 | *FP16) echo "precision: ${name##*_}" >> $name.prototxt ;; esac
  timeout 300 "$bin/train" --solver=$name.prototxt "$@" > $name.log 2>&1 || { fail "$name"; tail -5 $name.log; }
}
losses() { sed -n 's/.*Iteration \([0-9]*\).*, loss = \([0-9.]*\).*/\1 \2/p' "$1"; }
# same A B [TOLERANCE]: the losses of both logs agree (gpu_net_test compares one step in float64).
same() {
  join <(losses $1.log | sort -u -k1,1) <(losses $2.log | sort -u -k1,1) > both
  [ "$(wc -l < both)" -ge 7 ] || { fail "$1 and $2 have too few losses in common"; tail -n 3 $1.log $2.log; }
  awk -v tolerance=${3:-1e-4} '{ d = $2 - $3; if (d < 0) d = -d
    if (!(d <= tolerance * $2)) bad = 1 } END { exit bad }' both ||
    { fail "losses of $1 and $2 differ"; cat both; }
}

gpus=(- 0 0,1 - 0,1,2,3)
for ranks in 1 2 4; do
  train cpu_$ranks $ranks 30 --ranks=$ranks
  train gpu_$ranks $ranks 30 --gpu=${gpus[$ranks]}
  same cpu_$ranks gpu_$ranks
done

# The same as two processes that no MPI starts; where one is killed, NCCL would wait for it.
port=$((20000 + RANDOM % 10000))
export WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port
sed 's/"gpu_2"/"gpu_tcp"/' gpu_2.prototxt > gpu_tcp.prototxt
RANK=1 timeout 300 "$bin/train" --solver=gpu_tcp.prototxt --gpu=0,1 > gpu_tcp_1.log 2>&1 &
RANK=0 train gpu_tcp 2 30 --gpu=0,1
wait $! || { fail "rank 1 without MPI"; tail gpu_tcp_1.log; }
same cpu_2 gpu_tcp
export MASTER_PORT=$((port + 1))
sed 's/^max_iter: .*/max_iter: 1000000/; s/snapshot: 10//' gpu_tcp.prototxt > endless.prototxt
RANK=1 "$bin/train" --solver=endless.prototxt --gpu=0,1 > killed.log 2>&1 &
killed=$!
RANK=0 timeout 120 "$bin/train" --solver=endless.prototxt --gpu=0,1 > endless.log 2>&1 &
for _ in $(seq 600); do grep -q 'Iteration 5 ' endless.log && break; sleep 0.1; done
other=$!
kill -KILL $killed
begin=$SECONDS
wait $killed 2> /dev/null
wait $other
code=$?
[ $code = 1 ] && [ $((SECONDS - begin)) -lt 20 ] && grep -q 'rank 1 is gone' endless.log ||
  { fail "a killed rank without MPI: code $code after $((SECONDS - begin)) s"; tail endless.log; }
# The same while NCCL connects them: a rank that is killed there, and one that hangs.
export CREMA_REHEARSAL_HANGING_RANK=1
for end in killed stuck; do
  export MASTER_PORT=$((MASTER_PORT + 1))
  RANK=1 "$bin/train" --solver=endless.prototxt --gpu=0,1 > $end.log 2>&1 &
  other=$!
  RANK=0 timeout 120 "$bin/train" --solver=endless.prototxt --gpu=0,1 --gpu_patience=$([ $end = stuck ] && echo 5 || echo 0) > connecting_$end.log 2>&1 &
  waits=$!
  [ $end = killed ] && sleep 5 && kill -KILL $other
  wait $waits
  code=$?
  sentence=$([ $end = stuck ] && echo 'rank 0: .*(ncclCommInitRank) for 5 s: another rank hangs, or has ended' || echo 'rank 1 is gone')
  [ $code = 1 ] && grep -q "$sentence" connecting_$end.log || { fail "a $end rank while NCCL connects: code $code"; cat connecting_$end.log; }
  kill -KILL $other 2> /dev/null
  wait $other 2> /dev/null
done
unset CREMA_REHEARSAL_HANGING_RANK WORLD_SIZE MASTER_ADDR MASTER_PORT

# With the class centres in the memory of the GPUs' host.
train gpu_host 2_host 30 --gpu=0,1
same cpu_2 gpu_host
train cpu_at_once 2 30 --ranks=2
train gpu_at_once 2 30 --gpu=0,1
train gpu_host_at_once 2_host 30 --gpu=0,1
same cpu_at_once gpu_at_once
same gpu_at_once gpu_host_at_once 1e-6

# In mixed precision: on GPUs as on the CPU, which rounds elsewhere, and both near float32. FP16 begins with a few
# updates left out.
for precision in BF16 FP16; do
  train cpu_$precision 2 30 --ranks=2
  train gpu_$precision 2 30 --gpu=0,1
  same cpu_$precision gpu_$precision 5e-3
  same cpu_2 gpu_$precision 1e-2
done
train gpu_host_BF16 2_host 30 --gpu=0,1
same gpu_BF16 gpu_host_BF16 5e-3

# What one GPU wrote goes on on two ranks of the CPU, and what they wrote on four GPUs.
train resumed_on_cpu 2 30 --ranks=2 --snapshot=gpu_1_iter_20.solverstate
train resumed_on_gpus 4 30 --gpu=all --snapshot=cpu_2_iter_20.solverstate
train resumed_on_cpu_FP16 2 30 --ranks=2 --snapshot=gpu_FP16_iter_20.solverstate
for log in resumed_on_cpu resumed_on_gpus resumed_on_cpu_FP16; do
  grep -q 'Iteration 30, loss' $log.log || fail "$log did not come to iteration 30"
done

# A trained net does the same for pairs of faces on either device.
for flag in "" --gpu=0; do
  "$bin/evaluate" $flag --model=net_1.prototxt --weights=gpu_1_iter_30.caffemodel --pairs=faces/pairs.txt --root=faces/ 2> evaluate.err |
    grep -v '^speed' > evaluate$flag.txt
done
[ "$(wc -l < evaluate.txt)" -ge 5 ] && cmp evaluate.txt evaluate--gpu=0.txt || { fail "evaluate"; cat evaluate*.txt evaluate.err; }

# Too little memory: one sentence that names GPU and layer, and before it what the run takes and what would fit.
sed 's/batch_size: .*/batch_size: 4096/' net_1.prototxt > net_large.prototxt
sed 's/net_1\./net_large./' gpu_1.prototxt > large.prototxt
CREMA_REHEARSAL_MEMORY_MB=256 timeout 300 "$bin/train" --solver=large.prototxt --gpu=0 > large.log 2>&1
[ $? = 1 ] && grep -q '^train: .*out of memory on GPU 0 (imaginary GPU of the rehearsal): [0-9]* bytes were asked for' large.log &&
  grep -q '^activations and their gradients  *[0-9.]*$' large.log && grep -q '^most identities, 0.3 GB per rank' large.log ||
  { fail "out of memory"; tail -40 large.log; }

[ $failures = 0 ] && echo "training_test: all passed"
exit $failures
