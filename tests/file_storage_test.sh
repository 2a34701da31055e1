#!/bin/bash
# Class centres in a file: a run that is killed 20 times at random moments, in steps and in snapshots, and goes on from
# its latest whole snapshot each time, ends with the bytes of one that was left alone; nothing is left of its working
# files. A snapshot that takes the place of an older one, and writes the rows drawn since alone, is like a new one.
# Arguments: folder of the tools, folder of the source.
set -u
bin=$(realpath "$1")
. "$(dirname "${BASH_SOURCE[0]}")/small_faces.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export OMP_NUM_THREADS=1
RANDOM=11
fail() { echo "FAILED: $*"; exit 1; }

mkdir centres
make_small_faces "$bin" 9000
cat > net.prototxt <<EOF
name: "file"
layer { name: "data" type: "Data" top: "data" top: "label" transform_param { scale: 0.00392157 }
  data_param { source: "faces_lmdb" batch_size: 6 backend: LMDB } }
layer { name: "fc1" type: "InnerProduct" bottom: "data" top: "fc1"
  inner_product_param { num_output: 64 weight_filler { type: "xavier" } } }
layer { name: "classes" type: "DistPartialFC" bottom: "fc1" bottom: "label" top: "logits" top: "own"
  dist_partial_fc_param { num_output: 50000 sample_rate: 0.01 precision: BF16
    storage: FILE storage_dir: "centres" resident_mb: 4 } }
layer { name: "loss" type: "MarginSoftmax" bottom: "logits" bottom: "own" top: "loss"
  margin_softmax_param { scale: 16 m3: 0.2 } }
EOF
solver() { # prefix, snapshots to keep
  echo "net: 'net.prototxt' base_lr: 0.05 momentum: 0.9 weight_decay: 0.0005 lr_policy: 'fixed' max_iter: 300
    display: 100 snapshot: 10 snapshot_keep: $2 snapshot_prefix: '$1'" > "$1.prototxt"
}
solver whole 0
solver kept 2
solver killed 2
"$bin/train" --solver=whole.prototxt > whole.log 2>&1 || { cat whole.log; fail "the run that is left alone"; }
"$bin/train" --solver=kept.prototxt > kept.log 2>&1 || { cat kept.log; fail "the run that keeps two snapshots"; }
[ "$(ls -d kept_iter_*.centers)" = $'kept_iter_290.centers\nkept_iter_300.centers' ] || fail "two snapshots were to stay: $(ls)"
parts=$(sed -nE "s/.*takes the place of iteration 280's: ([0-9]+) of ([0-9]+) runs.*/\1 < \2/p" kept.log)
[ -n "$parts" ] && [ "$(awk "BEGIN { print ($parts) }")" = 1 ] || fail "the last snapshot wrote '$parts' of its rows"
for iteration in 290 300; do
  for file in "whole_iter_$iteration.centers"/*; do
    cmp "$file" "kept${file#whole}" || fail "a snapshot in the place of another differs"
  done
done

kills=0
for attempt in $(seq 200); do
  from=()
  compgen -G 'killed_iter_*.solverstate' > /dev/null && from=(--snapshot=latest)
  "$bin/train" --solver=killed.prototxt "${from[@]}" > killed.log 2>&1 &
  process=$!
  if [ $kills -lt 20 ]; then
    sleep "0.$((RANDOM % 80 + 10))"
    kill -9 $process 2> /dev/null && kills=$((kills + 1))
    wait $process 2> /dev/null
    [ -e killed_iter_300.solverstate ] && rm -rf killed_iter_*  # it was faster than that: once more from the start
    continue
  fi
  wait $process || { cat killed.log; fail "it does not go on after kill number $kills"; }
  break
done
[ $kills = 20 ] || fail "only $kills kills"
for file in iter_300.caffemodel iter_300.centers/classes.0.{weight,momentum}.bf16 iter_300.centers/classes.0.last_drawn.i32; do
  cmp "whole_$file" "killed_$file" || fail "$file differs"
done
[ -z "$(ls -A centres)" ] || fail "working files are left: $(ls centres)"
ls -d -- *.unfinished 2> /dev/null && fail "unfinished snapshots are left"
echo "20 kills survived in $attempt runs"
