#!/bin/bash
# tools/quickstart.sh, cut short: on synthetic faces, once more on the same, and on a folder of one's own images.
# usage: quickstart_test.sh BIN_DIR SOURCE_DIR
set -u
bin=$(realpath "$1")
source_dir=$(realpath "$2")
if [ "$bin" != "$source_dir/build/cpu/bin" ]; then
  echo "quickstart_test: skipped, since quickstart.sh builds and runs build/cpu and not $bin"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export OMP_WAIT_POLICY=passive  # beside other tests, threads that wait must not keep the others from running
failures=0
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }
quickstart() { timeout 400 "$source_dir/tools/quickstart.sh" "$@"; }
# expect_error TEXT TOOL ARGUMENTS...: exit code 1, and TOOL says TEXT in the only line of error.
expect_error() {
  local text=$1 tool=$2 code
  shift 2
  quickstart "$@" > /dev/null 2> error.log
  code=$?
  [ $code = 1 ] || { fail "$*: exit code $code instead of 1"; cat error.log; }
  [ "$(wc -l < error.log)" = 1 ] && grep -q -- "^$tool: .*$text" error.log || { fail "$*: not one line '$tool: ...$text...'"; cat error.log; }
}
# check_run FOLDER LOG: what a run leaves.
check_run() {
  local text
  for text in 'Loss over the iterations' 'What the test passes measured' 'accepted over the share' 'Right verdicts in green'; do
    grep -q "alt=\"[^\"]*$text[^\"]*\" src=\"data:image/png;base64,iVBORw0KGgo" "$1/index.html" || fail "no picture '$text' in $1/index.html"
  done
  grep -oE '(src|href)="(https?:|/|file:)[^"]{0,40}' "$1/index.html" && fail "$1/index.html refers to something outside itself"
  for text in '^accuracy  *[0-9.]* % ± [0-9.]* % over 10 folds$' '^TAR at FAR 1e-3 not measured: it needs 1000 different pairs' '^AUC'; do
    grep -q "$text" "$1/evaluation.txt" || { fail "no '$text' in $1/evaluation.txt"; cat "$1/evaluation.txt"; }
  done
  tail -n 1 "$2" | grep -qxF "Open $(realpath "$1")/index.html" || fail "$2 ends with $(tail -n 1 "$2")"
}

quickstart --short "--work=$work/a folder" > first.log 2>&1 || { fail "first run"; tail -n 30 first.log; }
run="a folder/synthetic-short"
check_run "$run" first.log
grep -q '^TAR at FAR 1e-2 [0-9.]* %$' "$run/evaluation.txt" || fail "no TAR at FAR 1e-2: $(cat "$run/evaluation.txt")"
grep -q '^360 images of 60 people, 60 iterations$' first.log || fail "not 360 images of 60 people"
# People to evaluate on are not trained on.
cut -d / -f 1 "$run/data/train.txt" | sort -u > trained
tr ' ' '\n' < "$run/data/pairs.txt" | sed -n 's/\/.*//p' | sort -u > tested
[ "$(wc -l < trained) $(comm -12 trained tested | wc -l)" = "60 0" ] || fail "people are trained on and tested"

# A second run keeps the images and the databases. Its training is cut off, since it is the first one's.
ls -lR --time-style=full-iso "$run/data" | sha1sum > before
setsid "$source_dir/tools/quickstart.sh" --short "--work=$work/a folder" > second.log 2>&1 &
second=$!
for _ in $(seq 600); do grep -q 'Iteration 0 ' second.log && break; kill -0 $second 2> /dev/null || break; sleep 0.1; done
grep -q 'Iteration 0 ' second.log || { fail "second run"; tail -n 30 second.log; }
kill -TERM -- -$second
wait $second 2> /dev/null
ls -lR --time-style=full-iso "$run/data" | sha1sum | cmp -s - before || fail "the second run changed the data"

# One's own images: other sizes, and blanks in names.
"$bin/make_faces" --identities=30 --test_identities=30 --images=4 --pairs=2 --size=80 --seed=1 "my faces" > faces.log 2>&1 ||
  { fail make_faces; cat faces.log; }
rm "my faces"/*.txt
mv "my faces/00000" "my faces/Ann Lee"
mv "my faces/00059" "my faces/Bob van Dam"
touch "my faces/Ann Lee/notes.txt"
quickstart "--faces=my faces" --short > faces.log 2>&1 || { fail "own faces"; tail -n 30 faces.log; }
run="quickstart/faces-my faces-short"
check_run "$run" faces.log
[ "$(cat "$run/data/train.txt" "$run/data/pairs.txt" | grep -c '^\(Ann Lee\|Bob van Dam\)/\|	\(Ann Lee\|Bob van Dam\)/')" -ge 8 ] ||
  fail "people with blanks in their names are left out"
grep -q '^pairs  *[1-9].*, data/pairs_lmdb$' "$run/evaluation.txt" || fail "no pairs: $(cat "$run/evaluation.txt")"

# Bad input.
expect_error "unknown argument '--sort'" quickstart.sh --sort
expect_error "unknown argument '--work='" quickstart.sh --short --work=
expect_error "--faces=absent is not a folder" quickstart.sh --short --faces=absent
mkdir empty
expect_error "empty" split_faces --short --faces=empty
quickstart --help | grep -q '^Usage: tools/quickstart.sh ' || fail "no help"

[ $failures = 0 ] && echo "quickstart_test: all passed"
exit $failures
