#!/bin/bash
# Training steps of backbones in Crema, their convolutions alone through oneDNN, and the same nets in PyTorch
# (Debian's python3-torch, channels-last, jemalloc), in turn, as one table; before it, where Crema's time goes.
# Usage: bench/backbone.sh [--install] [--models=NET,...] [--batch=N] [--rounds=N]
#   --install   install python3-torch and libjemalloc2 first (Debian packages, as tools/setup.sh does)
#   --rounds    rounds of Crema and PyTorch in turn, each in a fresh process (3)
# Build first: cmake --build --preset cpu --target bench_backbone
set -euo pipefail
cd "$(dirname "$0")/.."

bench=build/cpu/bench/bench_backbone
python=/usr/bin/python3 # Debian's, which python3-torch belongs to
models=mobilefacenet,iresnet50
batch=32
rounds=3
install=0
for argument in "$@"; do
  case $argument in
    --install) install=1 ;;
    --models=*) models=${argument#*=} ;;
    --batch=*) batch=${argument#*=} ;;
    --rounds=*) rounds=${argument#*=} ;;
    *)
      echo "backbone.sh: unexpected argument '$argument'; see the head of this file" >&2
      exit 1
      ;;
  esac
done
[[ $batch =~ ^[1-9][0-9]*$ && $rounds =~ ^[1-9][0-9]*$ ]] || {
  echo "backbone.sh: --batch and --rounds are numbers from 1" >&2
  exit 1
}
# A machine's setting of OpenBLAS's kernels would not be the reader's.
unset OPENBLAS_CORETYPE

install_peer() {
  local as_root=()
  [[ $(id -u) -eq 0 ]] || as_root=(sudo)
  for words in "update" "install --yes --no-install-recommends python3-torch libjemalloc2"; do
    # shellcheck disable=SC2086
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 \
      $words >"$work/apt.log" 2>&1 || {
      cat "$work/apt.log" >&2
      echo "backbone.sh: apt-get $words failed" >&2
      exit 1
    }
  done
}

# The number that a line of JSON has for a key; empty where it has none.
number_of() {
  sed -n "s/.*\"$2\": *\([0-9.]*\).*/\1/p" <<<"$1"
}

# The median of a file's numbers.
median_of() {
  [[ -s $1 ]] || return 0
  sort -g "$1" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# a / b, where both are there.
ratio_of() {
  awk -v a="${1:-0}" -v b="${2:-0}" -v digits="$3" 'BEGIN { if (a > 0 && b > 0) printf "%.*f", digits, a / b }'
}

rounded() {
  [[ -z $1 ]] || printf '%.*f' "$2" "$1"
}

run_torch() {
  LD_PRELOAD=$jemalloc "$python" bench/peers/backbone_torch.py --net "$1" --batch "$batch" "${@:2}"
}

check_parameters() { # of net $1, Crema's number $2
  local theirs
  theirs=$(number_of "$(run_torch "$1" --count)" parameters)
  [[ $theirs == "$2" ]] || {
    echo "backbone.sh: $1 has $2 parameters in Crema and $theirs in PyTorch: not the same net" >&2
    exit 1
  }
}

# Appends to the files $work/$1.*.
measure() {
  local net=$1 round ours theirs
  for ((round = 1; round <= rounds; ++round)); do
    ours=$("$bench" --json --models="$net" --batch="$batch" --rounds=3 --warmup=1)
    number_of "$ours" step_ms >>"$work/$net.step"
    number_of "$ours" convolutions_ms >>"$work/$net.convolutions"
    number_of "$ours" ratio >>"$work/$net.ratio"
    [[ $has_torch == 1 ]] || continue
    [[ $round -gt 1 ]] || check_parameters "$net" "$(number_of "$ours" parameters)"
    theirs=$(run_torch "$net" --rounds 3 --warmup 1)
    number_of "$theirs" step_ms >>"$work/$net.torch"
    number_of "$theirs" peak_mb >>"$work/$net.torch_mb"
    ratio_of "$(number_of "$ours" step_ms)" "$(number_of "$theirs" step_ms)" 4 >>"$work/$net.to_torch"
    echo >>"$work/$net.to_torch"
  done
  # A process that only trains, for its memory.
  ours=$("$bench" --json --only=step --models="$net" --batch="$batch" --rounds=1 --warmup=1)
  number_of "$ours" peak_mb >>"$work/$net.mb"
}

row_of() {
  local net=$1 mb torch_mb
  mb=$(median_of "$work/$net.mb")
  torch_mb=$(median_of "$work/$net.torch_mb")
  printf '| %-13s | %8s | %13s | %5s | %8s | %11s | %8s | %8s | %12s |\n' "$net" \
    "$(rounded "$(median_of "$work/$net.step")" 1)" "$(rounded "$(median_of "$work/$net.convolutions")" 1)" \
    "$(rounded "$(median_of "$work/$net.ratio")" 3)" "$(rounded "$(median_of "$work/$net.torch")" 1)" \
    "$(rounded "$(median_of "$work/$net.to_torch")" 3)" "$(rounded "$mb" 0)" "$(rounded "$torch_mb" 0)" \
    "$(ratio_of "$mb" "$torch_mb" 2)"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[[ -x $bench ]] || {
  echo "backbone.sh: $bench is not there; build it: cmake --build --preset cpu --target bench_backbone" >&2
  exit 1
}
[[ $install == 0 ]] || install_peer
jemalloc=$(ldconfig -p 2>/dev/null | awk '/libjemalloc\.so\.2/ { print $NF; exit }') || true
has_torch=0
if "$python" -c 'import torch' 2>/dev/null; then
  has_torch=1
  [[ -n $jemalloc ]] || echo "libjemalloc2 is not installed: PyTorch runs without it, and slower."
else
  echo "$python has no torch (--install gets it): Crema alone."
fi

"$bench" --models="$models" --batch="$batch" --rounds=3 --warmup=1
IFS=, read -r -a nets <<<"$models"
for net in "${nets[@]}"; do measure "$net"; done
echo
echo "Crema and PyTorch in turn, $rounds rounds, batch $batch, medians ($(date -u +%Y-%m-%d)):"
echo
echo "| net           | Crema ms | conv alone ms | ratio | torch ms | Crema/torch | Crema MB | torch MB | memory ratio |"
echo "|---------------|---------:|--------------:|------:|---------:|------------:|---------:|---------:|-------------:|"
for net in "${nets[@]}"; do row_of "$net"; done
