#!/bin/bash
# Splits a folder of images, one sub-folder for each person, by person, and makes the databases: DIR/train.txt,
# pairs.txt, train_lmdb and pairs_lmdb. Needs the tools on the PATH. What is whole already is kept.
# Usage: data/folder/make.sh FACES DIR [FLAGS of split_faces]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [[ $# -lt 2 || $1 == -* || $2 == -* ]]; then
  echo "make.sh: expected two folders; usage: data/folder/make.sh FACES DIR [FLAGS of split_faces]" >&2
  exit 1
fi
faces=$1 out=$2
shift 2
if [[ ! -e $out/train.txt ]]; then
  rm -rf "$out.partial"
  split_faces --test_fraction=0.1 --pairs=3000 --seed=0 "$@" "$faces" "$out.partial"
  mkdir -p "$out"
  rmdir "$out" # anything else in it is not ours to replace
  mv "$out.partial" "$out"
fi
"$here/../lmdb.sh" "$faces" "$out/train.txt" "$faces" "$out/pairs.txt" "$out"
