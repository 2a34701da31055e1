#!/bin/bash
# Verification accuracy of nets trained at several sample rates and seeds, as a table of means and standard deviations
# over the seeds. The net is the quickstart's for images of 64x64. What is done already in DIR is kept, so an
# interrupted run goes on, and a second one only prints.
# Usage: bench/accuracy.sh DIR synthetic [--flags]           10,000 drawn people of 6 images each
#        bench/accuracy.sh DIR ROOT LIST PAIRS_ROOT PAIRS [--flags]   lists as models/quickstart/train_on_list.sh takes
#   --rates=R,...       sample rates; "0.1-BLOCKS" draws blocks of neighbouring rows (1.0,0.3,0.1,0.1-BLOCKS,0.03,0)
#   --seeds=N,...       random seeds (0,1,2)
#   --iterations=N      of 64 images (1500)
# Needs the tools in build/cpu/bin.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
PATH=$repository/build/cpu/bin:$PATH
rates=1.0,0.3,0.1,0.1-BLOCKS,0.03,0 seeds=0,1,2 iterations=1500
arguments=()
for argument in "$@"; do
  case $argument in
    --rates=* | --seeds=* | --iterations=*)
      argument=${argument#--}
      declare "${argument%%=*}=${argument#*=}"
      ;;
    *) arguments+=("$argument") ;;
  esac
done
set -- "${arguments[@]}"
if [[ ! ($# == 2 && $2 == synthetic) && $# != 5 ]]; then
  echo "accuracy.sh: expected DIR synthetic, or DIR ROOT LIST PAIRS_ROOT PAIRS; see the head of this file" >&2
  exit 1
fi
mkdir -p "$1"
work=$(cd "$1" && pwd)
if [[ $# == 2 ]]; then
  if [[ ! -e $work/faces ]]; then
    rm -rf "$work/faces.partial"
    make_faces --identities=10000 --images=6 --size=64 --test_identities=200 --pairs=3000 --seed=0 "$work/faces.partial"
    mv "$work/faces.partial" "$work/faces"
  fi
  root=$work/faces list=$work/faces/train.txt pairs_root=$work/faces pairs=$work/faces/pairs.txt
else
  root=$2 list=$(realpath "$3") pairs_root=$4 pairs=$(realpath "$5")
fi
size=(--resize_height=64 --resize_width=64)
[[ -d $work/train_lmdb ]] ||
  convert_imageset --encoded --shuffle "${size[@]}" "$root/" "$list" "$work/train_lmdb" 2>"$work/convert.log"
[[ -d $work/pairs_lmdb ]] || convert_pairs --root="$pairs_root" "${size[@]}" "$pairs" "$work/pairs_lmdb"
cd "$work"
classes=$(awk '$NF > most { most = $NF } END { print most + 1 }' "$list")
model=$repository/models/quickstart

# Trains and evaluates one net; the evaluation is left in $run.txt.
train_one() {
  local rate=$1 seed=$2 draw=ROWS
  [[ $rate == *-BLOCKS ]] && draw=BLOCKS
  sed "/dist_partial_fc_param/,/}/ { s/num_output: .*/num_output: $classes/
      s/sample_rate: .*/sample_rate: ${rate%-BLOCKS} draw: $draw/ }
    s/kernel_size: 7/kernel_size: 4/
    0,/rgb: true/ s/rgb: true/rgb: true color_jitter: 0.3 grayscale: 0.1 low_resolution: 0.2/" \
    "$model/train.prototxt" >"$run.prototxt"
  sed "s/^net: .*/net: \"$run.prototxt\"/; s/^max_iter: .*/max_iter: $iterations/; /^test_/d
    s/^snapshot_prefix: .*/snapshot_prefix: \"$run\"/; s/^random_seed: .*/random_seed: $seed/" \
    "$model/solver.prototxt" >"$run.solver.prototxt"
  train --solver="$run.solver.prototxt" >"$run.log" 2>&1
  evaluate --model="$run.prototxt" --weights="${run}_iter_$iterations.caffemodel" --pairs=pairs_lmdb >"$run.partial"
  mv "$run.partial" "$run.txt"
  rm -rf "${run}_iter_$iterations".*
}

echo "$(wc -l <"$list") images of $classes people at 64x64, $iterations iterations of 64, seeds $seeds;" \
  "pairs: $(basename "$pairs") ($(date -u +%Y-%m-%d))."
echo
echo "| sample_rate | accuracy % | TAR % at FAR 1e-2 |"
echo "|-------------|-----------:|------------------:|"
for rate in ${rates//,/ }; do
  results=()
  for seed in ${seeds//,/ }; do
    run=rate_${rate}_seed_${seed}_iterations_$iterations
    [[ -e $run.txt ]] || train_one "$rate" "$seed"
    results+=("$run.txt")
  done
  awk -v rate="$rate" '
    function add(x, k) { sum[k] += x; squares[k] += x * x; count[k]++ }
    function cell(k, mean, rest) {
      mean = sum[k] / count[k]; rest = squares[k] - count[k] * mean * mean
      return sprintf("%.2f ± %.2f", mean, count[k] > 1 ? sqrt((rest > 0 ? rest : 0) / (count[k] - 1)) : 0)
    }
    /^accuracy/ { add($2 + 0, "accuracy") }
    /^TAR at FAR 1e-2/ { add($5 + 0, "tar") }
    END { printf "| %s | %s | %s |\n", rate, cell("accuracy"), cell("tar") }' "${results[@]}"
done
