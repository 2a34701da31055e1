#!/bin/bash
# From a bare Debian 12 machine to a trained and evaluated face recogniser: installs packages, builds, makes or takes
# images, converts them to LMDB, trains, evaluates on people that were not trained on, and writes an index.html.
# What is there already is kept: a second run only trains and evaluates.
# Usage: tools/quickstart.sh [--faces=DIR] [--work=DIR] [--short]
#   --faces=DIR  train on a folder with one sub-folder of images per person instead of synthetic faces
#   --work=DIR   work folder; ./quickstart where absent
#   --short      a small set and few iterations, to see that everything works (for the tests)
set -euo pipefail

faces= work= short=
for argument in "$@"; do
  case $argument in
    --faces=?*) faces=${argument#*=} ;;
    --work=?*) work=${argument#*=} ;;
    --short) short=1 ;;
    -h | --help)
      sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
      exit 0
      ;;
    *)
      echo "quickstart.sh: unknown argument '$argument'; known are --faces=DIR, --work=DIR and --short" >&2
      exit 1
      ;;
  esac
done
if [[ -n $faces && ! -d $faces ]]; then
  echo "quickstart.sh: --faces=$faces is not a folder" >&2
  exit 1
fi
if [[ -n $faces ]]; then faces=$(cd "$faces" && pwd); fi

# Sizes of the synthetic set, and the length of the training.
identities=1000 images=20 test_identities=200 pairs=3000
if [[ -n $short ]]; then
  identities=60 images=6 test_identities=20 pairs=200
fi

began=$SECONDS
step() { printf '\n== %s  (%d s)\n' "$1" $((SECONDS - began)); }
fail() {
  echo "quickstart.sh: $1" >&2
  exit 1
}

repository=$(cd "$(dirname "$0")/.." && pwd)
work=${work:-$PWD/quickstart}
work=$work/$([[ -n $faces ]] && echo "faces-$(basename "$faces")" || echo synthetic)${short:+-short}
mkdir -p "$work"
work=$(cd "$work" && pwd)

step "packages"
"$repository/tools/setup.sh"

step "build"
cd "$repository"
cmake --preset cpu >/dev/null || fail "configuring failed"
cmake --build --preset cpu --target make_faces split_faces convert_imageset convert_pairs train evaluate report \
  >"$work/build.log" 2>&1 || { tail -n 40 "$work/build.log" && fail "building failed; all of it is in $work/build.log"; }
PATH=$repository/build/cpu/bin:$PATH
cd "$work"

step "images and databases: $work/data"
if [[ -n $faces ]]; then
  "$repository/data/folder/make.sh" "$faces" data --pairs=$pairs
else
  "$repository/data/synthetic/make.sh" data --identities=$identities --images=$images \
    --test_identities=$test_identities --pairs=$pairs
fi

step "training"
model=$repository/models/quickstart
classes=$(awk '$NF > most { most = $NF } END { print most + 1 }' data/train.txt)
sed "/dist_partial_fc_param/,/}/ s/num_output: .*/num_output: $classes/; s/\"\(train\|pairs\)_lmdb\"/\"data\/\1_lmdb\"/" \
  "$model/train.prototxt" >train.prototxt
# Two images for each pair, 100 images in a batch.
test_batches=$(($(wc -l <data/pairs.txt) * 2 / 100))
sed "s/^test_iter: .*/test_iter: $((test_batches > 0 ? test_batches : 1))/" "$model/solver.prototxt" >solver.prototxt
if [[ -n $short ]]; then
  sed -i 's/^max_iter: .*/max_iter: 60/; s/^test_interval: .*/test_interval: 30/' solver.prototxt
fi
iterations=$(sed -n 's/^max_iter: *//p' solver.prototxt)
echo "$(wc -l <data/train.txt) images of $classes people, $iterations iterations"
train --solver=solver.prototxt 2>&1 | tee train.log

step "evaluation"
evaluate --model=train.prototxt --weights="quickstart_iter_$iterations.caffemodel" --pairs=data/pairs_lmdb \
  --report=evaluation | tee evaluation.txt
report --log=train.log --evaluation=evaluation --out=index.html

step "done"
cat evaluation.txt
echo "Open $work/index.html"
