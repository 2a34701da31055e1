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
cmake --build --preset cpu --target make_faces split_faces convert_imageset train evaluate report |
  tail -n 1 || fail "building failed"
PATH=$repository/build/cpu/bin:$PATH
cd "$work"

# Each of these is made under another name and renamed, so that an interrupted run leaves no half of it.
step "images: $work/images"
if [[ ! -d images ]]; then
  rm -rf images.partial
  if [[ -n $faces ]]; then
    split_faces --test_fraction=0.1 --pairs=$pairs --seed=0 "$faces" images.partial
  else
    make_faces --identities=$identities --images=$images --size=112 --test_identities=$test_identities \
      --pairs=$pairs --seed=0 images.partial
  fi
  mv images.partial images
fi
root=${faces:-$work/images}

step "databases: $work/train_lmdb, $work/pairs_lmdb"
convert() { # LIST DB FLAGS...
  [[ -d $2 ]] && return
  rm -rf "$2.partial"
  convert_imageset --encoded --resize_height=112 --resize_width=112 "${@:3}" "$root/" "$1" "$2.partial"
  mv "$2.partial" "$2"
}
# The two images of pair k become records 2k and 2k + 1, with label 1 if they show the same person, else 0.
awk -F '\t' 'NF < 3 { split($0, field, " ") } NF >= 3 { for (i = 1; i <= 3; ++i) field[i] = $i }
  { print field[1], field[3]; print field[2], field[3] }' images/pairs.txt >pairs_records.txt
convert images/train.txt train_lmdb --shuffle
convert pairs_records.txt pairs_lmdb

step "training"
model=$repository/models/quickstart
classes=$(awk '$NF > most { most = $NF } END { print most + 1 }' images/train.txt)
records=$(wc -l <pairs_records.txt)
sed "/dist_partial_fc_param/,/}/ s/num_output: .*/num_output: $classes/" "$model/train.prototxt" >train.prototxt
sed "s/^test_iter: .*/test_iter: $((records / 100))/" "$model/solver.prototxt" >solver.prototxt
if [[ -n $short ]]; then
  sed -i 's/^max_iter: .*/max_iter: 60/; s/^test_interval: .*/test_interval: 30/' solver.prototxt
fi
iterations=$(sed -n 's/^max_iter: *//p' solver.prototxt)
echo "$(wc -l <images/train.txt) images of $classes people, $iterations iterations"
train --solver=solver.prototxt 2>&1 | tee train.log

step "evaluation"
evaluate --model=train.prototxt --weights="quickstart_iter_$iterations.caffemodel" --pairs=images/pairs.txt \
  --root="$root" --resize --report=evaluation | tee evaluation.txt
report --log=train.log --evaluation=evaluation --out=index.html

step "done"
cat evaluation.txt
echo "Open $work/index.html"
