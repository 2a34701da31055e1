#!/bin/bash
# evaluate, convert_pairs, report and check_net as a user runs them, on drawn faces; and, where shared/data is there,
# the accuracy of a net trained by others on real ones.
# usage: evaluate_test.sh BIN_DIR SOURCE_DIR
set -u
bin=$(realpath "$1")
source_dir=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
failures=0
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }
# expect_error NAME TEXT TOOL ARGUMENTS...: exit code 1, and one line "TOOL: ... TEXT ...".
expect_error() {
  local name=$1 text=$2 tool=$3 code
  shift 3
  timeout 60 "$bin/$tool" "$@" > error.log 2>&1
  code=$?
  [ $code = 1 ] || { fail "$name: exit code $code instead of 1"; cat error.log; }
  grep -q -- "^$tool: .*$text" error.log || { fail "$name: no line '$tool: ...$text...'"; cat error.log; }
  [ "$(grep -c "^$tool: " error.log)" = 1 ] || { fail "$name: not one line of error"; cat error.log; }
}
# run NAME TOOL ARGUMENTS...: must succeed; what it prints is in NAME.log.
run() {
  local name=$1 tool=$2
  shift 2
  timeout 300 "$bin/$tool" "$@" > "$name.log" 2>&1 || { fail "$name"; cat "$name.log"; }
}
# What an evaluation measured, without what differs between ways to get there.
figures() { grep -v '^\(net\|weights\|pairs\|speed\) ' "$1.log"; }
same_figures() { [ "$(figures "$1")" = "$(figures "$2")" ] || { fail "$1 and $2 differ"; figures "$1"; figures "$2"; }; }
# A figure of an evaluation, a number.
figure() { sed -n "s/^$2 *\([0-9.]*\).*/\1/p" "$1.log"; }
is_png() { [ "$(head -c 8 "$1" | od -An -tx1 | tr -d ' ')" = 89504e470d0a1a0a ] || fail "$1 is no PNG"; }

model=$source_dir/models/quickstart
deploy=$model/deploy.prototxt
run faces make_faces --identities=2 --test_identities=8 --images=4 --pairs=40 --seed=3 faces
untrained=(--model="$deploy" --untrained)
plain=(--pairs=faces/pairs.txt --root=faces)

# A list and the database of the same pairs.
run list evaluate "${untrained[@]}" "${plain[@]}" --roc=roc.csv --picture=roc.png --report=evaluation
for line in 'pairs  *40 (20 same, 20 different) of ' 'input  *B, G, R, (pixel - 127.5) \* 0.0078125' \
  'embedding  *blob embedding, 128 values$' 'accuracy  *[0-9.]* % ± [0-9.]* % over 10 folds' \
  'TAR at FAR 1e-2 not measured: it needs 100 different pairs, here are 20' 'AUC  *0\.' 'EER  *[0-9.]* %'; do
  grep -q "^$line" list.log || { fail "no line '$line'"; cat list.log; }
done
run convert convert_pairs --root=faces faces/pairs.txt pairs_lmdb
grep -q 'wrote 40 pairs' convert.log || fail "$(cat convert.log)"
[ "$(mdb_stat pairs_lmdb | sed -n 's/.*Entries: //p')" = 80 ] || fail "not two records for each pair"
rm -f pairs_lmdb/lock.mdb
run database evaluate "${untrained[@]}" --pairs=pairs_lmdb
same_figures list database
[ -e pairs_lmdb/lock.mdb ] && fail "reading a database wrote a lock beside it"
run batches evaluate "${untrained[@]}" "${plain[@]}" --batch=7
same_figures list batches

# The same pairs in LFW's form, in two folds, and as lines.
awk '{ kind[$3] = kind[$3] " " $1 " " $2 }
  function number(path,  at) { split(path, at, "/"); return at[2] + 1 }
  function words(path,  at) { split(path, at, "/"); return at[1] "\t" number(path) }
  function tell(same, k, a, b) {
    split(kind[same], path, " ")
    a = path[2 * k - 1]; b = path[2 * k]
    print a, b, same > "folds.txt"
    print words(a) "\t" (same ? number(b) : words(b))
  }
  END { print "2\t10"
    for (fold = 0; fold < 2; ++fold)
      for (same = 1; same >= 0; --same)
        for (k = 1; k <= 10; ++k) tell(same, 10 * fold + k) }' faces/pairs.txt > lfw.txt
for image in faces/*/*.jpg; do
  person=$(basename "$(dirname "$image")") number=$(basename "$image" .jpg)
  mkdir -p "lfw/$person"
  cp "$image" "lfw/$person/${person}_$(printf %04d $((10#$number + 1))).jpg"
done
run lfw evaluate "${untrained[@]}" --pairs=lfw.txt --root=lfw
run folds evaluate "${untrained[@]}" --pairs=folds.txt --root=faces --folds=2
grep -q 'over 2 folds' lfw.log || fail "a list's own folds are not kept"
same_figures lfw folds

# The ROC: from nothing accepted to all, both rates never falling.
head -1 roc.csv | grep -qx 'threshold,far,tar' || fail "roc.csv starts with $(head -1 roc.csv)"
tail -1 roc.csv | grep -q ',1,1$' || fail "roc.csv ends with $(tail -1 roc.csv)"
awk -F , 'NR > 1 { if ($2 < far || $3 < tar || $2 > 1 || $3 > 1) exit 1; far = $2; tar = $3 }' roc.csv || fail "roc.csv falls"
is_png roc.png

# --flip adds the mirrored image's embedding, so an image and its mirror image become one.
draw() { awk -v mirror="$1" 'BEGIN { print "P3 112 112 255"; for (y = 0; y < 112; ++y) for (c = 0; c < 112; ++c) {
    x = mirror ? 111 - c : c; print (x * 2) % 256, (x * y) % 256, (x * x + 3 * y) % 256 } }'; }
draw 0 > image.ppm
draw 1 > mirrored.ppm
awk 'BEGIN { print "P3 112 112 255"; for (i = 0; i < 12544; ++i) print i % 251, i % 13 * 16, 40 }' > other.ppm
printf 'image.ppm mirrored.ppm 1\nimage.ppm other.ppm 0\n' > mirror.txt
run plain evaluate "${untrained[@]}" --pairs=mirror.txt --folds=1 --report=plain
run flip evaluate "${untrained[@]}" --pairs=mirror.txt --folds=1 --report=flip --flip
grep -q 'image and mirror image added' flip.log || fail "--flip is not told"
distance() { awk -F , 'NR == 2 { print ($4 < 1e-6) }' "$1/scores.csv"; }
[ "$(distance plain)$(distance flip)" = 01 ] || { fail "--flip"; cat plain/scores.csv flip/scores.csv; }

# What a run leaves: the training net is cut at its embedding and gives what the deploy net gives on the same input.
run records convert_imageset --encoded faces/ faces/train.txt train_lmdb
sed "s/num_output: 1000/num_output: 2/; s/batch_size: 64/batch_size: 8/" "$model/train.prototxt" > train.prototxt
echo 'net: "train.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 2 display: 1 snapshot_prefix: "run"' > solver.prototxt
run train train --solver=solver.prototxt
weights=run_iter_2.caffemodel
run training_net evaluate --model=train.prototxt --weights=$weights "${plain[@]}"
run deploy_net evaluate --model="$deploy" --weights=$weights "${plain[@]}" --rgb --scale=0.007843138 --mean_value=127.5,127.5,127.5
[ "$(figures training_net | grep -v ^input)" = "$(figures deploy_net | grep -v ^input)" ] ||
  { fail "the training net and the deploy net differ"; cat training_net.log deploy_net.log; }

# The page: everything that it shows is in it.
run baseline evaluate "${untrained[@]}" "${plain[@]}" --flip --report=baseline
run report report --log=train.log --evaluation=evaluation --baseline=baseline --title='Ann & <Bob>' --out=index.html
for text in 'Ann &amp; &lt;Bob&gt;' 'Loss over the iterations' 'accepted over the share' 'Right verdicts in green' \
  '<th>this net</th><th>baseline</th>' "<th>accuracy</th><td>$(sed -n 's/^accuracy *//p' list.log)</td>"; do
  grep -qF "$text" index.html || fail "no '$text' in index.html"
done
grep -oE '(src|href|srcset|data|action|poster)="[^"]{0,20}|url\([^)]{0,20}|@import|<(script|link|iframe|object|embed|base)[ >]' index.html |
  grep -v '^src="data:image/png;b' && fail "index.html refers to something outside itself"
grep -o 'src="data:image/png;base64,[^"]*' index.html | cut -d , -f 2 > pictures
[ "$(wc -l < pictures)" -ge 4 ] || fail "$(wc -l < pictures) pictures in index.html"
while read -r picture; do
  echo "$picture" | base64 -d > picture.png || fail "a picture is not base64"
  is_png picture.png
done < pictures

# Bad input, each with one sentence.
given() { printf '%s\n' "$1" > bad.txt; }
first=$(awk 'NR == 1 { print $1 }' faces/pairs.txt)
long=$(printf 'a%.0s' {1..300})
expect_error "no model" "--model is missing" evaluate --untrained "${plain[@]}"
expect_error "no weights" "--weights is missing" evaluate --model="$deploy" "${plain[@]}"
expect_error "no pairs" "--pairs is missing" evaluate "${untrained[@]}"
expect_error "argument" "given 'more'" evaluate "${untrained[@]}" "${plain[@]}" more
"$bin/evaluate" --modle=x > error.log 2>&1
[ $? = 1 ] || fail "an unknown flag: exit code not 1"
expect_error "missing net" "absent.prototxt" evaluate --model=absent.prototxt --untrained "${plain[@]}"
expect_error "missing weights" "absent.caffemodel" evaluate --model="$deploy" --weights=absent.caffemodel "${plain[@]}"
expect_error "missing list" "there is no absent" evaluate "${untrained[@]}" --pairs=absent
expect_error "long name" "name too long" evaluate "${untrained[@]}" --pairs="$long"
expect_error "missing images" "line 1 of faces/pairs.txt: there is no image absent/" evaluate "${untrained[@]}" --pairs=faces/pairs.txt --root=absent
expect_error "wrong blob" "has no blob 'fc9'.* embedding" evaluate "${untrained[@]}" "${plain[@]}" --blob=fc9
expect_error "mean" "--mean_value is 'grey'" evaluate "${untrained[@]}" "${plain[@]}" --mean_value=grey
expect_error "two means" "2 mean values for 3 channels" evaluate "${untrained[@]}" "${plain[@]}" --mean_value=1,2
expect_error "batch" "--batch is 0" evaluate "${untrained[@]}" "${plain[@]}" --batch=0
expect_error "folds" "only 40 pairs" evaluate "${untrained[@]}" "${plain[@]}" --folds=41
expect_error "nowhere" "absent/roc.csv" evaluate "${untrained[@]}" "${plain[@]}" --roc=absent/roc.csv
expect_error "folder" "without a data.mdb" evaluate "${untrained[@]}" --pairs=faces
given "$first $first 2"
expect_error "bad line" "line 1 of bad.txt: .*the last being '2'" evaluate "${untrained[@]}" --pairs=bad.txt --root=faces
printf '1\t1\n00002\t1\t2\n00002\t1\n' > bad.txt
expect_error "bad line of LFW's" "line 3 of bad.txt: found 2 columns" evaluate "${untrained[@]}" --pairs=bad.txt --root=lfw
given "$first $first 1"
expect_error "one kind" "different" evaluate "${untrained[@]}" --pairs=bad.txt --root=faces --folds=1
: > bad.txt
expect_error "no line" "bad.txt has no pairs" evaluate "${untrained[@]}" --pairs=bad.txt
head -c 3000 "faces/$first" > cut.jpg
echo 'no image' > text.jpg
printf 'P6 20 30 255\n%1800s' x > small.ppm
printf 'image.ppm text.jpg 1\nimage.ppm other.ppm 0\n' > bad.txt
expect_error "undecodable" "the image text.jpg cannot be decoded" evaluate "${untrained[@]}" --pairs=bad.txt --folds=1
printf 'image.ppm small.ppm 1\nimage.ppm other.ppm 0\n' > bad.txt
expect_error "size of one" "small.ppm is 20x30 where 112x112" evaluate "${untrained[@]}" --pairs=bad.txt --folds=1
run resized evaluate "${untrained[@]}" --pairs=bad.txt --folds=1 --resize
printf 'small.ppm small.ppm 1\nsmall.ppm small.ppm 0\n' > bad.txt
expect_error "size of all" "112" evaluate "${untrained[@]}" --pairs=bad.txt --folds=1
sed '/name: "fc"/,/num_output/ s/num_output: 128/num_output: 64/' "$deploy" > other.prototxt
expect_error "weights of another shape" "$weights.*64" evaluate --model=other.prototxt --weights=$weights "${plain[@]}"
sed 's/name: "\([a-z]\)/name: "x\1/' "$deploy" > other.prototxt
expect_error "weights of another net" "belong to another net" evaluate --model=other.prototxt --weights=$weights "${plain[@]}"
head -c 3000 $weights > cut.caffemodel
expect_error "cut weights" "'cut.caffemodel' is truncated" evaluate --model="$deploy" --weights=cut.caffemodel "${plain[@]}"
expect_error "a list for weights" "faces/pairs.txt" evaluate --model="$deploy" --weights=faces/pairs.txt "${plain[@]}"
expect_error "a list for a net" "faces/pairs.txt:1:" evaluate --model=faces/pairs.txt --untrained "${plain[@]}"
mkdir cut_lmdb
for bytes in 100 9000 100000; do
  head -c $bytes pairs_lmdb/data.mdb > cut_lmdb/data.mdb
  expect_error "database cut to $bytes" "cut_lmdb/data.mdb is truncated" evaluate "${untrained[@]}" --pairs=cut_lmdb
done
sed 's/ 1$/ 7/' faces/train.txt > labels.txt
run labels convert_imageset --encoded faces/ labels.txt labels_lmdb
expect_error "no pairs in a database" "pair databases" evaluate "${untrained[@]}" --pairs=labels_lmdb

convert=(convert_pairs --root=faces)
expect_error "no arguments" "0 arguments" convert_pairs
expect_error "missing list" "absent" "${convert[@]}" absent new_lmdb
expect_error "database there" "pairs_lmdb exists already" "${convert[@]}" faces/pairs.txt pairs_lmdb
expect_error "bad line" "line 1 of faces/train.txt" "${convert[@]}" faces/train.txt new_lmdb
expect_error "one side" "resize_width 3" "${convert[@]}" --resize_width=3 faces/pairs.txt new_lmdb
expect_error "under a file" "train.txt/new_lmdb" "${convert[@]}" faces/pairs.txt faces/train.txt/new_lmdb
printf 'image.ppm text.jpg 1\n' > bad.txt
expect_error "undecodable" "text.jpg cannot be decoded" convert_pairs bad.txt new_lmdb
# A full disk, for which a limit on the size of files stands.
(trap '' XFSZ; ulimit -f 40; timeout 60 "$bin/convert_pairs" --root=faces faces/pairs.txt new_lmdb 2>&1; echo "code $?") > full.log
grep -q '^convert_pairs: the database new_lmdb.*: ' full.log && grep -q 'code 1' full.log || { fail "full disk"; cat full.log; }
[ -z "$(ls -d new_lmdb* 2> /dev/null)" ] || fail "a failed conversion left $(ls -d new_lmdb*)"

expect_error "nothing" "--log and --evaluation are missing" report
expect_error "missing log" "absent" report --log=absent
expect_error "no log" "faces/pairs.txt has no line" report --log=faces/pairs.txt
expect_error "missing evaluation" "absent/figures.txt" report --evaluation=absent
expect_error "baseline alone" "--baseline needs" report --log=train.log --baseline=baseline
cp -r evaluation half
rm half/roc.png
expect_error "half an evaluation" "half/roc.png" report --evaluation=half
echo 'nothing' > half/figures.txt
expect_error "bad figures" "'nothing' where" report --evaluation=half
expect_error "nowhere" "absent/index.html" report --log=train.log --out=absent/index.html

# check_net prints totals, and says what is wrong with a net.
run check check_net --model="$deploy"
grep -q '^total  *194,080  *25,785,600$' check.log || { fail check_net; cat check.log; }
run check_training check_net --model=train.prototxt --phase=TRAIN --input=4,3,112,112
changed() { sed "$1" "$deploy" > bad.prototxt; }
expect_error "no model" "--model is missing" check_net
expect_error "missing net" "absent" check_net --model=absent
expect_error "phase" "--phase is 'train'" check_net --model="$deploy" --phase=train
expect_error "input" "--input is '3,112'" check_net --model=train.prototxt --input=3,112
changed '0,/"PReLU"/ s/"PReLU"/"PRelu"/'
expect_error "unknown type" "PRelu" check_net --model=bad.prototxt
changed '0,/num_output/ s/num_output/num_outputs/'
expect_error "typo" "bad.prototxt:[0-9]*.*num_outputs" check_net --model=bad.prototxt
changed '0,/bottom: "conv1"/ s/bottom: "conv1"/bottom: "conv9"/'
expect_error "wrong bottom" "conv9" check_net --model=bad.prototxt
expect_error "too small" "gdc" check_net --model=train.prototxt --input=1,3,40,40

# A net that others trained, on real faces: OpenCV's dnn gives 99.23 % on the same pairs.
for up in "$source_dir/../shared/data" "$source_dir/../../shared/data"; do
  [ -s "$up/faces/lfw_dev_pairs.txt" ] && [ -s "$up/caffe/mobilefacenet_y1/mobilefacenet_y1.caffemodel" ] && shared=$(realpath "$up")
done
if [ -z "${shared:-}" ]; then
  echo "evaluate_test: without the accuracy on real faces, since shared/data is absent"
else
  unset OMP_NUM_THREADS
  export OMP_WAIT_POLICY=passive  # beside other tests, threads that wait must not keep the others from running
  net=$shared/caffe/mobilefacenet_y1/mobilefacenet_y1
  run y1 evaluate --model="${net}_deploy.prototxt" --weights="$net.caffemodel" --rgb --mean_value=127.5 --scale=0.0078125 \
    --blob=fc1 --pairs="$shared/faces/lfw_dev_pairs.txt" --root="$shared/faces/lfw_dev"
  grep '^accuracy\|^TAR\|^speed' y1.log
  grep -q 'over 5 folds' y1.log || fail "not five folds"
  awk -v accuracy="$(figure y1 accuracy)" 'BEGIN { exit !(accuracy >= 99) }' || { fail "less than 99 %"; cat y1.log; }
fi

[ $failures = 0 ] && echo "evaluate_test: all passed"
exit $failures
