#!/bin/bash
# Makes DIR/train_lmdb of the images that LIST names below ROOT, and DIR/pairs_lmdb of the pairs of PAIRS below PAIRS_ROOT.
# Needs the tools on the PATH. A database that is there is kept; an interrupted run leaves no half of one.
# Usage: data/lmdb.sh ROOT LIST PAIRS_ROOT PAIRS DIR
set -euo pipefail
if [[ $# -ne 5 ]]; then
  echo "lmdb.sh: found $# arguments; expected ROOT LIST PAIRS_ROOT PAIRS DIR" >&2
  exit 1
fi
root=$1 list=$2 pairs_root=$3 pairs=$4 out=$5

size=(--resize_height=112 --resize_width=112)
if [[ ! -d $out/train_lmdb ]]; then
  convert_imageset --encoded --shuffle "${size[@]}" "$root/" "$list" "$out/train_lmdb"
fi
if [[ ! -d $out/pairs_lmdb ]]; then
  convert_pairs --root="$pairs_root" "${size[@]}" "$pairs" "$out/pairs_lmdb"
fi
