#!/bin/bash
# convert_imageset, make_faces and split_faces as a user runs them.
# usage: convert_test.sh BIN_DIR SOURCE_DIR
set -u
bin=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }
# expect_error NAME TEXT COMMAND...: exit code 1, and one line "tool: ... TEXT ...".
expect_error() {
  local name=$1 text=$2 tool
  shift 2
  tool=$(basename "$1")
  timeout 60 "$@" > error.log 2>&1
  local code=$?
  [ $code = 1 ] || { fail "$name: exit code $code instead of 1"; cat error.log; }
  grep -q -- "^$tool: .*$text" error.log || { fail "$name: no line '$tool: ...$text...'"; cat error.log; }
  [ "$(grep -c "^$tool: " error.log)" = 1 ] || { fail "$name: not one line of error"; cat error.log; }
}
convert() { "$bin/convert_imageset" "$@" > convert.log 2>&1 || { fail "convert_imageset $*"; cat convert.log; }; }
entries() { mdb_stat "$1" | sed -n 's/.*Entries: //p'; }
keys() { mdb_dump -p "$1" | sed -n '/^HEADER=END/,$p' | grep '^ ' | sed -n 'p;n'; }
# What follows a key in a dump: the Datum in hexadecimal.
datum() { mdb_dump "$1" | sed -n '/^HEADER=END/,$p' | grep '^ ' | sed -n "$((2 * $2 + 2))p" | tr -d ' '; }
hex() { od -An -v -tx1 "$1" | tr -d ' \n'; }

# Images of 2 x 3 pixels: the pixels' bytes are letters, "R" to "W" in the file's order R, G, B.
mkdir -p images/a
printf 'P6 2 1 255\nRSTUVW' > images/a/one.ppm
printf 'P6 2 1 255\nABCDEF' > images/two.ppm
printf 'no image' > images/bad.ppm
printf 'a/one.ppm 7\nbad.ppm 8\nabsent file.ppm 9\ntwo.ppm 300\n' > list

# Raw: keys, and a Datum byte by byte as Caffe writes it: channels 3, height 1, width 2, data in the order B, G, R,
# label, encoded 0.
convert --backend=lmdb images/ list raw_db
[ "$(entries raw_db)" = 2 ] || fail "raw: $(entries raw_db) records"
[ "$(keys raw_db)" = "$(printf ' 00000000_a/one.ppm\n 00000003_two.ppm')" ] || fail "keys: $(keys raw_db)"
[ "$(datum raw_db 0)" = 080310011802220654575356525528073800 ] || fail "raw datum: $(datum raw_db 0)"
[ "$(datum raw_db 1)" = 080310011802220643464245414428ac023800 ] || fail "raw datum: $(datum raw_db 1)"
[ "$(stat -c %a raw_db)" = 744 ] || fail "mode $(stat -c %a raw_db)"
grep -q 'Cannot read line 2 of list: images/bad.ppm' convert.log || { fail "bad.ppm is not listed"; cat convert.log; }
grep -q 'Cannot read line 3 of list: images/absent file.ppm' convert.log || fail "absent file.ppm is not listed"
grep -q 'Wrote 2 records to raw_db; 2 images could not be read' convert.log || fail "no final count"

# Encoded: the file's own bytes; only data (4), label (5) and encoded (7).
convert -encoded images list encoded_db
[ "$(datum encoded_db 0)" = "2211$(hex images/a/one.ppm)28073801" ] || fail "encoded datum: $(datum encoded_db 0)"
# The size is the same, so nothing changes; with another size or format it does.
convert --encoded --resize_height=1 --resize_width=2 images list same_db
[ "$(datum same_db 0)" = "$(datum encoded_db 0)" ] || fail "same size: other bytes"
convert --encode_type=png --resize_height 4 --resize_width 6 images list png_db
datum png_db 0 | grep -q '^22..89504e470d0a1a0a.*28073801$' || fail "png: $(datum png_db 0)"
convert --gray images list gray_db
datum gray_db 0 | grep -q '^0801100118022202....28073800$' || fail "gray: $(datum gray_db 0)"

# Shuffled: the same records in another order, the same one for the same seed.
seq -f 'two.ppm %g' 0 999 > long_list
for run in "0 a" "0 b" "1 c"; do
  convert --shuffle --seed="${run% *}" images long_list "db_${run#* }"
done
cmp -s db_a/data.mdb db_b/data.mdb || fail "shuffling twice gives two orders"
cmp -s db_a/data.mdb db_c/data.mdb && fail "two seeds give one order"
labels() { mdb_dump "$1" | grep -o '28[0-9a-f]*3800$' | sort | md5sum; }
convert images long_list db_plain
[ "$(labels db_a)" = "$(labels db_plain)" ] || fail "shuffling changes the records"
[ "$(entries db_plain)" = 1000 ] || fail "$(entries db_plain) of 1000 records"

# Bad input leaves nothing behind.
expect_error "there already" "raw_db exists already" "$bin/convert_imageset" images/ list raw_db
expect_error "no list" "absent_list" "$bin/convert_imageset" images/ absent_list db
echo "two.ppm" > bad_list
expect_error "no label" "line 1 of bad_list" "$bin/convert_imageset" images/ bad_list db
printf 'bad.ppm 1\n' > unreadable_list
expect_error "nothing readable" "none of the 1 images" "$bin/convert_imageset" images/ unreadable_list db
printf 'two.ppm 99999999999\n' > large_list
expect_error "large label" "99999999999" "$bin/convert_imageset" images/ large_list db
expect_error "leveldb" "expected --backend=lmdb" "$bin/convert_imageset" --backend=leveldb images/ list db
expect_error "one side" "resize_width" "$bin/convert_imageset" --resize_height=3 images/ list db
expect_error "format" "encode_type" "$bin/convert_imageset" --encode_type=xyz images/ list db
printf 'P6 1 1 255\nRGB' > images/small.ppm
printf 'two.ppm 1\nsmall.ppm 2\n' > sizes_list
expect_error "sizes" "small.ppm is 1x1 where 2x1" "$bin/convert_imageset" --check_size images/ sizes_list db
expect_error "no folder" "nowhere" "$bin/convert_imageset" images/ list nowhere/db
expect_error "arguments" "found 1 arguments" "$bin/convert_imageset" images/
# A full disk, for which a limit on the size of files stands.
(trap '' XFSZ; ulimit -f 40; timeout 60 "$bin/convert_imageset" images/ long_list db 2>&1; echo "code $?") | cat > full.log
grep -q '^convert_imageset: the database db cannot be written' full.log && grep -q 'code 1' full.log ||
  { fail "full disk"; cat full.log; }
[ -z "$(ls -d db db.partial 2> /dev/null)" ] || fail "a failed conversion left $(ls -d db db.partial)"

# Training says what is wrong with a database in one sentence.
cat > net.prototxt << NET
layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "DB" batch_size: 2 backend: LMDB } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 1000 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
NET
echo 'net: "bad_net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 3 snapshot_after_train: false' > solver.prototxt
train_on() { sed "s/DB/$1/" net.prototxt > bad_net.prototxt; }
train_on raw_db
timeout 60 "$bin/train" --solver=solver.prototxt > train.log 2>&1 || { fail "train on raw_db"; cat train.log; }
mkdir cut_db
head -c 20000 db_plain/data.mdb > cut_db/data.mdb
train_on cut_db
expect_error "truncated" "cut_db/data.mdb is truncated" "$bin/train" --solver=solver.prototxt
train_on absent_db
expect_error "missing" "there is no database absent_db" "$bin/train" --solver=solver.prototxt
convert images sizes_list sizes_db
train_on sizes_db
expect_error "other sizes" "record '00000001_small.ppm' of sizes_db is 3x1x1 where 3x1x2" "$bin/train" --solver=solver.prototxt

sed 's/num_output: 1000/num_output: 300/; s/DB/raw_db/' net.prototxt > bad_net.prototxt
expect_error "label" "'loss' (SoftmaxWithLoss).*label 300.*299" "$bin/train" --solver=solver.prototxt

# A record that does not decode is named; skipped and counted where that is asked for. It is the first of two whose
# first byte, in hexadecimal, is changed.
mkdir damaged_db
mdb_dump encoded_db | sed '0,/2211503620/ s/2211503620/2211583620/' | mdb_load damaged_db 2> /dev/null
train_on damaged_db
expect_error "undecodable" "record '00000000_a/one.ppm' of damaged_db cannot be decoded" "$bin/train" --solver=solver.prototxt
sed -i 's/backend: LMDB/backend: LMDB skip_bad_records: true/' bad_net.prototxt
timeout 60 "$bin/train" --solver=solver.prototxt > train.log 2>&1 || { fail "skip_bad_records"; cat train.log; }
grep -q "Skipped a bad record (1 so far): record '00000000_a/one.ppm' of damaged_db" train.log || { fail "the bad record is not told"; cat train.log; }

# A list of images that training reads itself.
on_list() { sed "s/\"Data\"/\"ImageData\"/; s/data_param .*/image_data_param { source: \"$1\" root_folder: \"images\/\" batch_size: 2 } }/" net.prototxt > bad_net.prototxt; }
printf 'a/one.ppm 1\ntwo.ppm 2\n' > good_list
on_list good_list
timeout 60 "$bin/train" --solver=solver.prototxt > train.log 2>&1 || { fail "train on a list"; cat train.log; }
on_list absent_list
expect_error "missing list" "absent_list" "$bin/train" --solver=solver.prototxt
on_list images
expect_error "a folder for a list" "images" "$bin/train" --solver=solver.prototxt
on_list bad_list
expect_error "bad line" "line 1 of bad_list" "$bin/train" --solver=solver.prototxt
on_list list
expect_error "unreadable images" "bad.ppm in line 2 of list" "$bin/train" --solver=solver.prototxt

# Synthetic faces, the same each time; then split again by person.
for set in one two; do
  "$bin/make_faces" --identities=5 --test_identities=4 --images=3 --pairs=20 --size=48 --seed=3 --sheet=sheet.png $set \
    > faces.log 2>&1 || { fail make_faces; cat faces.log; }
done
diff -r one two > /dev/null || fail "make_faces is not reproducible"
[ "$(find one -name '*.jpg' | wc -l)" = 27 ] || fail "$(find one -name '*.jpg' | wc -l) faces"
[ "$(wc -l < one/train.txt)" = 15 ] || fail "train.txt has $(wc -l < one/train.txt) lines"
[ "$(tail -1 one/train.txt)" = "00004/002.jpg 4" ] || fail "train.txt ends with $(tail -1 one/train.txt)"
[ "$(wc -l < one/pairs.txt)" = 20 ] && [ "$(grep -c ' 1$' one/pairs.txt)" = 10 ] || fail "pairs: $(cat one/pairs.txt)"
awk '{ split($1, a, "/"); split($2, b, "/"); if ((a[1] == b[1]) != $3 || a[1] < 5 || b[1] < 5 || $1 == $2) exit 1 }' one/pairs.txt ||
  fail "wrong pairs: $(cat one/pairs.txt)"
[ "$(sort one/pairs.txt | uniq | wc -l)" = 20 ] || fail "a pair stands twice"
[ -s sheet.png ] || fail "no sheet"
convert one/ one/train.txt faces_db
expect_error "faces there" "has a train.txt already" "$bin/make_faces" one
expect_error "no identities" "identities is 0" "$bin/make_faces" --identities=0 three

mkdir -p "people/Ann Lee" people/Bob people/Cy
cp one/00000/*.jpg "people/Ann Lee"
cp one/00001/*.jpg people/Bob
cp one/00002/000.jpg people/Cy
touch people/Bob/notes.txt
"$bin/split_faces" --pairs=6 people split > split.log 2>&1 || { fail split_faces; cat split.log; }
[ "$(cat split/train.txt)" = "Cy/000.jpg 0" ] || fail "people of one image must train: $(cat split/train.txt)"
[ "$(wc -l < split/pairs.txt)" = 6 ] && grep -q "$(printf '^Ann Lee/00.*jpg\tAnn Lee/00.*jpg\t1$')" split/pairs.txt ||
  fail "split pairs: $(cat split/pairs.txt)"
expect_error "split there" "has a train.txt already" "$bin/split_faces" people split
expect_error "no people" "images of 0 people" "$bin/split_faces" split other
expect_error "no folder" "there is no folder absent" "$bin/split_faces" absent other
expect_error "fraction" "test_fraction is 2" "$bin/split_faces" --test_fraction=2 people other
rm people/Bob/00[12].jpg
expect_error "no pairs" "expected at least 2" "$bin/split_faces" people other

[ $failures = 0 ] && echo "convert_test: all passed"
exit $failures
