#!/bin/bash
# Draws synthetic people and makes the databases: DIR/train.txt, pairs.txt, train_lmdb and pairs_lmdb.
# Needs the tools on the PATH. What is whole already is kept.
# Usage: data/synthetic/make.sh DIR [FLAGS of make_faces]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [[ $# -lt 1 || $1 == -* ]]; then
  echo "make.sh: expected the folder to make; usage: data/synthetic/make.sh DIR [FLAGS of make_faces]" >&2
  exit 1
fi
out=$1
shift
if [[ ! -e $out/train.txt ]]; then
  rm -rf "$out.partial"
  make_faces --identities=1000 --images=20 --size=112 --test_identities=200 --pairs=3000 --seed=0 "$@" "$out.partial"
  mkdir -p "$out"
  rmdir "$out" # anything else in it is not ours to replace
  mv "$out.partial" "$out"
fi
"$here/../lmdb.sh" "$out" "$out/train.txt" "$out" "$out/pairs.txt" "$out"
