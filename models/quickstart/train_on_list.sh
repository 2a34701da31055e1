#!/bin/bash
# Trains the quickstart net on a list of images and evaluates it, trained and untrained, on a list of pairs of other
# people, in the current folder. Needs the tools on the PATH. Databases that are there are kept.
# Usage: models/quickstart/train_on_list.sh ROOT LIST PAIRS_ROOT PAIRS RATE [ITERATIONS]
#   LIST   lines "path label" of images below ROOT, 112x112 or resized to that; PAIRS as evaluate reads it
#   RATE   sample_rate of the classifier, 0 to 1; ITERATIONS of 64 images, 5000 where absent
set -euo pipefail
if [[ $# -lt 5 || $# -gt 6 ]]; then
  echo "train_on_list.sh: found $# arguments; expected ROOT LIST PAIRS_ROOT PAIRS RATE [ITERATIONS]" >&2
  exit 1
fi
root=$1 list=$2 pairs_root=$3 pairs=$4 rate=$5 iterations=${6:-5000}
model=$(cd "$(dirname "$0")" && pwd)

"$model/../../data/lmdb.sh" "$root" "$list" "$pairs_root" "$pairs" .
classes=$(awk '$NF > most { most = $NF } END { print most + 1 }' "$list")
images=$(mdb_stat pairs_lmdb | sed -n 's/^ *Entries: //p')

# Few images for each person, so the images are also changed at random.
sed "/dist_partial_fc_param/,/}/ { s/num_output: .*/num_output: $classes/; s/sample_rate: .*/sample_rate: $rate/ }
  0,/rgb: true/ s/rgb: true/rgb: true color_jitter: 0.3 grayscale: 0.1 low_resolution: 0.2/" \
  "$model/train.prototxt" >"rate_$rate.prototxt"
sed "s/^net: .*/net: \"rate_$rate.prototxt\"/; s/^max_iter: .*/max_iter: $iterations/
  s/^test_iter: .*/test_iter: $((images / 100))/; s/^test_interval: .*/test_interval: $iterations/
  s/^snapshot_prefix: .*/snapshot_prefix: \"rate_$rate\"/" "$model/solver.prototxt" >"rate_$rate.solver.prototxt"
train --solver="rate_$rate.solver.prototxt" 2>&1 | tee "rate_$rate.log"

for weights in --untrained "--weights=rate_${rate}_iter_$iterations.caffemodel"; do
  evaluate --model="rate_$rate.prototxt" "$weights" --pairs=pairs_lmdb
done | tee "rate_$rate.evaluation.txt"
