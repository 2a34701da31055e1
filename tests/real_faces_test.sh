#!/bin/bash
# The recipe for real faces (models/quickstart/train_on_list.sh) runs on the real faces of shared/data, cut short.
# usage: real_faces_test.sh BIN_DIR SOURCE_DIR
set -u
bin=$(realpath "$1")
source_dir=$(realpath "$2")
faces=
for up in "$source_dir/../shared/data/faces" "$source_dir/../../shared/data/faces"; do
  [ -s "$up/train_small.txt" ] && faces=$(realpath "$up")
done
if [ -z "$faces" ]; then
  echo "real_faces_test: skipped, since shared/data/faces is absent"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export PATH=$bin:$PATH
failures=0
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }
script=$source_dir/models/quickstart/train_on_list.sh

head -n 400 "$faces/train_small.txt" > list.txt
# Fifty pairs of each kind from LFW's list.
awk -F '\t' 'function image(name, k) { return sprintf("%s/%s_%04d.jpg", name, name, k) }
  NF == 3 && same++ < 50 { print image($1, $2), image($1, $3), 1 }
  NF == 4 && other++ < 50 { print image($1, $2), image($3, $4), 0 }' "$faces/lfw_dev_pairs.txt" > pairs.txt
[ "$(wc -l < pairs.txt)" = 100 ] || fail "$(wc -l < pairs.txt) pairs"
timeout 300 "$script" "$faces" list.txt "$faces/lfw_dev" pairs.txt 0.1 6 > run.log 2>&1 || { fail "$script"; tail -n 40 run.log; }
grep -q 'Test net output #0: accuracy = ' rate_0.1.log || fail "no accuracy while training"
[ "$(grep -c '^accuracy .* over 10 folds' rate_0.1.evaluation.txt)" = 2 ] || { fail "not two evaluations"; cat rate_0.1.evaluation.txt; }
"$script" too few > usage.log 2>&1 && fail "exit code 0 with two arguments"
grep -q 'found 2 arguments; expected ROOT LIST' usage.log || fail "no usage: $(cat usage.log)"

[ $failures = 0 ] && echo "real_faces_test: all passed"
exit $failures
