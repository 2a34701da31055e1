#!/bin/bash
# Steps of the classifier alone (D = 512, SGD with momentum), in Crema and in PyTorch (Debian's python3-torch, jemalloc),
# in turn, as one table with each case's floor: 6 * batch * rows * D flops at the rate of a square matrix product, and
# each row drawn and its momentum read and written once at the bandwidth of a triad, both measured in the same run.
# Usage: bench/partial_fc.sh [--install] [--classes=N,...] [--rates=R,...] [--batches=N,...] [--precisions=P,...]
#                            [--steps=N] [--peers=dense,rows] [--storage=MEMORY|FILE] [--dir=FOLDER] [--most_gb=N]
#   --install   install python3-torch and libjemalloc2 first (Debian packages)
#   --most_gb   leave out cases whose rows and momenta need more memory (20); with storage FILE there is no limit
# Build first: cmake --build --preset cpu --target bench_partial_fc
set -euo pipefail
cd "$(dirname "$0")/.."

bench=build/cpu/bench/bench_partial_fc
python=/usr/bin/python3 # Debian's, which python3-torch belongs to
classes=100000,1000000 rates=0.01,0.1,1.0 batches=64,128 precisions=FP32,BF16 steps=10 peers=dense,rows
storage=MEMORY dir=. most_gb=20 install=0
for argument in "$@"; do
  case $argument in
    --install) install=1 ;;
    --classes=* | --rates=* | --batches=* | --precisions=* | --steps=* | --peers=* | --storage=* | --dir=* | --most_gb=*)
      argument=${argument#--}
      declare "${argument%%=*}=${argument#*=}"
      ;;
    *)
      echo "partial_fc.sh: unexpected argument '$argument'; see the head of this file" >&2
      exit 1
      ;;
  esac
done
[[ -x $bench ]] || {
  echo "partial_fc.sh: $bench is not there; build it: cmake --build --preset cpu --target bench_partial_fc" >&2
  exit 1
}
if [[ $install == 1 ]]; then
  as_root=()
  [[ $(id -u) -eq 0 ]] || as_root=(sudo)
  "${as_root[@]}" apt-get -qq update
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends python3-torch \
    libjemalloc2 >/dev/null
fi
# What PyTorch frees stays with the process, in huge pages: else it is cleared by the system in each step, which takes
# longer than the step.
export MALLOC_CONF=thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1
jemalloc=$(ldconfig -p 2>/dev/null | awk '/libjemalloc\.so\.2/ { print $NF; exit }') || true
"$python" -c 'import torch' 2>/dev/null || {
  echo "$python has no torch (--install gets it): Crema alone."
  peers=
}

# The value that a line of key=value words, or a line of JSON, has for a key; empty where it has none.
value_of() {
  sed -nE "s/.*(^|[ {\"])$2(=|\": *)([-0-9.]+).*/\3/p" <<<"$1"
}
compute() { # an awk expression of numbers
  awk "BEGIN { printf \"%.${2:-0}f\", ($1) }" # in brackets, or awk takes > for a file
}

machine=$("$bench" --machine)
gflops=$(value_of "$machine" gflops) bf16_gflops=$(value_of "$machine" bf16_gflops) gbytes=$(value_of "$machine" gbytes)
echo "Matrix product $gflops GFLOP/s, of bfloat16 centres $bf16_gflops, triad $gbytes GB/s, $(value_of "$machine" threads) threads; storage $storage;" \
  "medians of $steps steps ($(date -u +%Y-%m-%d))."
echo
echo "| classes | rate | batch | precision | rows | ms | floor ms | ms / floor | draw | gather | multiply | softmax | update | peak MB | beyond rows MB | torch dense ms | MB | torch rows ms | MB |"
echo "|--------:|-----:|------:|-----------|-----:|---:|---------:|-----------:|-----:|-------:|---------:|--------:|-------:|--------:|---------------:|---------------:|---:|--------------:|---:|"
for c in ${classes//,/ }; do
  for batch in ${batches//,/ }; do
    for rate in ${rates//,/ }; do
      torch_cells=
      for update in dense rows; do
        theirs=
        # PyTorch's dense form holds rows, gradient and momentum.
        if [[ ,$peers, == *,$update,* && $(compute "$c * 512 * 12 / 1e9 < $most_gb") == 1 ]]; then
          theirs=$(LD_PRELOAD=$jemalloc "$python" bench/peers/partial_fc_torch.py --classes "$c" --rate "$rate" \
            --batch "$batch" --steps "$steps" --update "$update")
        fi
        torch_cells+=" $(value_of "$theirs" ms) | $(value_of "$theirs" peak_mb) |"
      done
      for precision in ${precisions//,/ }; do
        bytes=$([[ $precision == BF16 ]] && echo 2 || echo 4)
        if [[ $storage == MEMORY && $(compute "$c * 512 * 2 * $bytes / 1e9 > $most_gb") == 1 ]]; then continue; fi
        ours=$("$bench" --classes="$c" --rate="$rate" --batch="$batch" --steps="$steps" \
          --head="precision: $precision storage: $storage storage_dir: '$dir'")
        rows=$(compute "int($c * $rate)")
        rate_of_products=$([[ $precision == BF16 ]] && echo "$bf16_gflops" || echo "$gflops")
        floor=$(compute "6 * $batch * $rows * 512 / $rate_of_products / 1e6 + $rows * 512 * 4 * $bytes / $gbytes / 1e6" 1)
        split=
        for part in draw gather multiply softmax update; do split+=" $(value_of "$ours" $part) |"; done
        echo "| $c | $rate | $batch | $precision | $rows | $(value_of "$ours" ms) | $floor |" \
          "$(compute "$(value_of "$ours" ms) / $floor" 2) |$split $(value_of "$ours" peak_mb) |" \
          "$(value_of "$ours" own_mb) |$torch_cells"
      done
    done
  done
done
