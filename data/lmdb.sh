#!/bin/bash
# Makes DIR/train_lmdb and DIR/pairs_lmdb of the images that DIR/train.txt and DIR/pairs.txt list below ROOT.
# Needs the tools on the PATH. A database that is there is kept; an interrupted run leaves no half of one.
# Usage: data/lmdb.sh ROOT DIR
set -euo pipefail
if [[ $# -ne 2 ]]; then
  echo "lmdb.sh: expected two folders; usage: data/lmdb.sh ROOT DIR" >&2
  exit 1
fi
root=$1 out=$2

size=(--resize_height=112 --resize_width=112)
if [[ ! -d $out/train_lmdb ]]; then
  convert_imageset --encoded --shuffle "${size[@]}" "$root/" "$out/train.txt" "$out/train_lmdb"
fi
if [[ ! -d $out/pairs_lmdb ]]; then
  convert_pairs --root="$root" "${size[@]}" "$out/pairs.txt" "$out/pairs_lmdb"
fi
