#!/bin/bash
# Caffe's programs as its users call them: caffe, the upgrade tools, compute_image_mean, extract_features, draw_net; and
# to_partial_fc. On small images made here and, where shared/data is there, on files of others.
# usage: caffe_tools_test.sh BIN_DIR SOURCE_DIR
set -u
bin=$(realpath "$1")
source_dir=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export OMP_NUM_THREADS=1
failures=0
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }
# run NAME TOOL ARGUMENTS...: must succeed; what it prints is in NAME.log.
run() {
  local name=$1 tool=$2
  shift 2
  timeout 300 "$bin/$tool" "$@" > "$name.log" 2>&1 || { fail "$name"; cat "$name.log"; }
}
# has NAME REGEX...: NAME.log has a line for each.
has() {
  local name=$1 line
  shift
  for line in "$@"; do grep -Eq -- "$line" "$name.log" || { fail "$name: no line '$line'"; cat "$name.log"; }; done
}
# expect_error NAME TEXT TOOL ARGUMENTS...: exit code 1, and one line "TOOL: ... TEXT ...".
expect_error() {
  local name=$1 text=$2 tool=$3 code
  shift 3
  timeout 60 "$bin/$tool" "$@" > error.log 2>&1
  code=$?
  [ $code = 1 ] || { fail "$name: exit code $code instead of 1"; cat error.log; }
  grep -q -- "^$tool: .*$text" error.log || { fail "$name: no line '$tool: ...$text...'"; cat error.log; }
}
same() { cmp -s "$1" "$2" || { fail "$1 and $2 differ"; diff "$1" "$2" | head; }; }
prefix='^I[0-9]{4} [0-9:.]{15} +[0-9]+ [a-z_]+\.cpp:[0-9]+\] '
number='[-+.e0-9]+'

source "$source_dir/tests/small_faces.sh"
make_small_faces "$bin" 1

# A net and a solver in the spelling of 2014.
cat > net.prototxt << 'EOF'
name: "small"
layers {
  name: "data" type: DATA top: "data" top: "label" include: { phase: TRAIN }
  data_param { source: "faces_lmdb" backend: LMDB batch_size: 6 scale: 0.00390625 }
}
layers {
  name: "data" type: DATA top: "data" top: "label" include: { phase: TEST }
  data_param { source: "faces_lmdb" backend: LMDB batch_size: 8 scale: 0.00390625 }
}
layers {
  name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
  convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } }
}
layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" }
layers { name: "pool1" type: POOLING bottom: "conv1" top: "pool1" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layers {
  name: "fc" type: INNER_PRODUCT bottom: "pool1" top: "fc"
  inner_product_param { num_output: 6 weight_filler { type: "xavier" } }
}
layers { name: "accuracy" type: ACCURACY bottom: "fc" bottom: "label" top: "accuracy" include: { phase: TEST } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc" bottom: "label" top: "loss" }
EOF
cat > solver.prototxt << 'EOF'
net: "net.prototxt"
test_iter: 3 test_interval: 20
base_lr: 0.05 lr_policy: "fixed" momentum: 0.9 solver_type: NESTEROV
display: 20 max_iter: 40 snapshot_prefix: "small" random_seed: 3 solver_mode: CPU
EOF

# caffe train, with one dash and with two.
run train caffe train -solver solver.prototxt -sigint_effect=none --level 0
has train "${prefix}Upgraded solver.prototxt: solver_type" "${prefix}Upgraded net.prototxt: scale, mean_file.*V1" \
  "${prefix}Iteration 20 \($number iter/s, ${number}s/20 iters\), loss = $number" "${prefix}Optimization Done\."
[ -s small_iter_40.caffemodel ] || fail "caffe train wrote no weights"
expect_error "train without a solver" '--solver is missing' train
timeout 60 "$bin/caffe" train > error.log 2>&1 && fail "caffe train without a solver succeeded"

# caffe test: a line for each batch and output, then means.
run test caffe test -model net.prototxt --weights=small_iter_40.caffemodel -iterations 3
has test "${prefix}Use CPU\." "${prefix}Running for 3 iterations\." "${prefix}Batch 0, accuracy = $number$" \
  "${prefix}Batch 2, loss = $number$" "${prefix}Loss: $number$" "\] accuracy = $number$" \
  "\] loss = $number \(\* 1 = $number loss\)$"
awk '/Batch [0-9]*, accuracy/ { sum += $NF; ++batches } / accuracy = / && !/Batch/ { mean = $NF }
  END { exit !(batches == 3 && mean > 0.5 && (sum / 3 - mean) ^ 2 < 1e-8) }' test.log || { fail "mean accuracy"; cat test.log; }
[ "$(grep -c 'Test net output #0: accuracy = ' train.log)" -ge 2 ] || fail "caffe train did not test"
expect_error "test without a model" '--model is missing' caffe test -weights small_iter_40.caffemodel
expect_error "test without weights" '--weights is missing' caffe test -model net.prototxt
expect_error "no command" 'a command is missing' caffe
expect_error "unknown command" "unknown command 'fly'" caffe fly
expect_error "two commands" "unexpected argument 'test'" caffe train test
expect_error "lenient training" '--lenient is for test and time' caffe train -lenient -solver solver.prototxt
echo 'input: "data" input_dim: 1 input_dim: 3 input_dim: 8' > three.prototxt
expect_error "three of four" 'has 1 of input, but 3 of input_dim; expected four for each' check_net --model=three.prototxt
expect_error "no iterations" "--iterations is 0" caffe time -model net.prototxt -iterations 0
expect_error "phase" "--phase is 'train'" caffe time -model net.prototxt -phase train

# caffe time.
run time caffe time -model=net.prototxt -iterations=2
has time "${prefix}Initial loss: $number$" "${prefix}\*\*\* Benchmark begins \*\*\*$" "${prefix}Testing for 2 iterations\.$" \
  "${prefix}Iteration: 1 forward-backward time: $number ms\.$" "${prefix}Average time per layer: $" \
  "\]      conv1	forward: $number ms\.$" "\]      conv1	backward: $number ms\.$" \
  "${prefix}Average Forward pass: $number ms\.$" "${prefix}Average Backward pass: $number ms\.$" \
  "${prefix}Average Forward-Backward: $number ms\.$" "${prefix}Total Time: $number ms\.$" "\] \*\*\* Benchmark ends \*\*\*$"
run query caffe device_query
run own_query device_query
same query.log own_query.log

# The upgrade tools: what they write needs no upgrade and is the same net.
run upgrade upgrade_net_proto_text net.prototxt new.prototxt
has upgrade 'Upgraded net.prototxt' 'Wrote new.prototxt'
grep -q '^layers' new.prototxt && fail "new.prototxt has old layers"
grep -q 'type: "SoftmaxWithLoss"' new.prototxt || fail "new.prototxt has no loss"
run again upgrade_net_proto_text new.prototxt newer.prototxt
has again 'There is nothing to upgrade in new.prototxt'
same new.prototxt newer.prototxt
run new_test caffe test -model new.prototxt -weights small_iter_40.caffemodel -iterations 3
same <(grep -o 'Batch.*' test.log) <(grep -o 'Batch.*' new_test.log)
run solver upgrade_solver_proto_text solver.prototxt new_solver.prototxt
grep -q '^type: "Nesterov"' new_solver.prototxt || fail "new_solver.prototxt has no type"
grep -q 'solver_type' new_solver.prototxt && fail "new_solver.prototxt has a solver_type"
expect_error "one file" 'found 1 arguments' upgrade_net_proto_text net.prototxt
expect_error "missing file" 'absent' upgrade_net_proto_text absent new2.prototxt
echo 'layer { name: "a" } layers { name: "b" type: RELU }' > both.prototxt
expect_error "both spellings" 'both .layer. and .layers.' upgrade_net_proto_text both.prototxt new2.prototxt

# Weights of 2014: those above in the old layers, with four axes.
proto=(-I"$source_dir/proto" crema.proto)
protoc --decode=crema.NetParameter "${proto[@]}" < small_iter_40.caffemodel |
  awk '/^layer \{/ { inside = 1; text = ""; name = "" } inside { text = text $0 "\n" }
    inside && /^  name: / { name = $2 }
    /^}/ && inside { inside = 0; if (name == "\"conv1\"" || name == "\"fc\"") print_layer(text) }
    function print_layer(layer,   lines, count, i, line) {
      count = split(layer, lines, "\n")
      for (i = 1; i <= count; ++i) {
        line = lines[i]
        if (line ~ /^layer/) line = "layers {"
        if (line ~ /^  type: "Convolution"/) line = "  type: CONVOLUTION"
        if (line ~ /^  type: "InnerProduct"/) line = "  type: INNER_PRODUCT"
        if (line ~ /^  phase: /) line = ""
        if (line ~ /^  param \{/) { while (lines[i] !~ /^  }/) ++i; line = "" }
        print line
      }
    }' > old_weights.txt
protoc --encode=crema.NetParameter "${proto[@]}" < old_weights.txt > old.caffemodel || fail "old.caffemodel"
run old_test caffe test -model net.prototxt -weights old.caffemodel -iterations 3
has old_test 'Upgraded old.caffemodel: layers of 2014'
same <(grep -o 'Batch.*' test.log) <(grep -o 'Batch.*' old_test.log)
run binary upgrade_net_proto_binary old.caffemodel new.caffemodel
run new_weights caffe test -model net.prototxt -weights new.caffemodel -iterations 3
grep -q 'Upgraded new.caffemodel' new_weights.log && fail "new.caffemodel is not new"
same <(grep -o 'Batch.*' test.log) <(grep -o 'Batch.*' new_weights.log)

# compute_image_mean, against the pictures' own numbers; channels are B, G, R.
run mean compute_image_mean faces_lmdb mean.binaryproto
cat images/*.ppm | awk '/^P3/ { next } { r += $1; g += $2; b += $3; ++n }
  END { printf "%.3f\n%.3f\n%.3f\n", b / n, g / n, r / n }' > wanted.txt
sed -n 's/.*mean_value channel \[[012]\]: //p' mean.log | awk '{ printf "%.3f\n", $1 }' > found.txt
same wanted.txt found.txt
has mean 'Processed 24 files' 'Number of channels: 3'
sed 's/scale: 0.00390625/scale: 0.00390625 mean_file: "mean.binaryproto"/' net.prototxt > mean_net.prototxt
sed 's/net.prototxt/mean_net.prototxt/; s/"small"/"mean"/' solver.prototxt > mean_solver.prototxt
run mean_train caffe train -solver mean_solver.prototxt
expect_error "leveldb" "--backend is 'leveldb'" compute_image_mean --backend=leveldb faces_lmdb
expect_error "missing database" 'absent' compute_image_mean absent

# extract_features: what the net's end makes of a blob extracted is what the whole net makes.
run features extract_features small_iter_40.caffemodel net.prototxt pool1,fc pool1_lmdb,fc_lmdb 2 lmdb CPU
has features 'Extracted features of 16 query images for feature blob pool1'
cat > end.prototxt << 'EOF'
layer { name: "data" type: "Data" top: "pool1" data_param { source: "pool1_lmdb" backend: LMDB batch_size: 8 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool1" top: "fc" inner_product_param { num_output: 6 } }
EOF
run end extract_features small_iter_40.caffemodel end.prototxt fc end_lmdb 2 lmdb
mdb_dump fc_lmdb | grep '^ ' > fc.txt
mdb_dump end_lmdb | grep '^ ' > end.txt
[ "$(wc -l < fc.txt)" = 32 ] || fail "not 16 records of features"
same fc.txt end.txt
expect_error "blob" "has no blob 'fc9'" extract_features small_iter_40.caffemodel net.prototxt fc9 fc9_lmdb 2 lmdb
expect_error "one database for two" "x_lmdb is named twice" extract_features small_iter_40.caffemodel net.prototxt \
  fc,pool1 x_lmdb,x_lmdb 2 lmdb
# Files that are something else.
sed 's/"conv1"/"conv9"/g; s/"fc"/"fc9"/g' net.prototxt > other_net.prototxt
expect_error "weights of another net" "none of which is in the net" caffe test -model other_net.prototxt \
  -weights small_iter_40.caffemodel
expect_error "features of another net" "none of which is in the net" extract_features small_iter_40.caffemodel \
  other_net.prototxt fc9 x_lmdb 2 lmdb
expect_error "a mean as weights" "'mean.binaryproto' has no layers" caffe test -model net.prototxt -weights mean.binaryproto
expect_error "a mean to upgrade" "'mean.binaryproto' has no layers" upgrade_net_proto_binary mean.binaryproto x.caffemodel
expect_error "weights as a net" 'small_iter_40.caffemodel is not text' check_net --model=small_iter_40.caffemodel
expect_error "a solver as a net" "this looks like a solver's" draw_net new_solver.prototxt x.dot
expect_error "a net as a solver" "this looks like a net's" upgrade_solver_proto_text net.prototxt x.prototxt
expect_error "leveldb" "is 'leveldb' where lmdb" extract_features small_iter_40.caffemodel net.prototxt fc x_lmdb 2 leveldb
expect_error "databases" 'there are 2 blobs and 1 databases' extract_features small_iter_40.caffemodel net.prototxt \
  fc,pool1 x_lmdb 2 lmdb

# make_deploy, of a net of 2014 whose head has a field that is not known.
sed 's/include: { phase: TEST }/& accuracy_param { odd: 1 }/' net.prototxt > odd.prototxt
expect_error "unknown field" 'AccuracyParameter has no field "odd"' make_deploy --model=odd.prototxt --height=8
expect_error "no size" 'odd.prototxt does not say how large its images are; --height and --width were expected' \
  make_deploy --lenient --model=odd.prototxt
timeout 60 "$bin/make_deploy" --lenient --model=odd.prototxt --height=8 > deploy.prototxt 2> deploy.log || { fail "make_deploy"; cat deploy.log; }
grep -q '^make_deploy: note: .*"odd", which is skipped' deploy.log || { fail "no warning of odd"; cat deploy.log; }
run deploy check_net --model=deploy.prototxt
has deploy '^pool1 .* 1x8x3x3'

# draw_net.
run draw draw_net net.prototxt net.dot
run draw_train draw_net --phase=TRAIN --rankdir=TB net.prototxt train.dot
grep -q '^digraph "small" {' net.dot || fail "net.dot is no graph"
grep -Fq 'label="conv1\nConvolution\nkernel 3, stride 1, pad 0\n8 outputs"' net.dot || { fail "conv1 is not drawn"; cat net.dot; }
grep -q accuracy net.dot || fail "net.dot has no accuracy"
grep -q accuracy train.dot && fail "train.dot has the TEST phase's accuracy"
cat > oblong.prototxt << 'EOF'
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
        pooling_param { pool: AVE kernel_h: 2 kernel_w: 3 stride: 2 } }
EOF
run draw_oblong draw_net oblong.prototxt oblong.dot
grep -Fq 'label="pool\nPooling\nAVE, kernel 2x3, stride 2, pad 0"' oblong.dot || { fail "pool is not drawn"; cat oblong.dot; }
if command -v dot > /dev/null; then dot -Tsvg net.dot > net.svg || fail "dot cannot read net.dot"; fi

# to_partial_fc. The margins are those of SphereFace (m = 4), CosFace (0.35) and ArcFace (0.5).
backbone='name: "face"
layer { name: "data" type: "ImageData" top: "data" top: "label" image_data_param { source: "list" batch_size: 4 } }
layer { name: "fc5" type: "InnerProduct" bottom: "data" top: "fc5" inner_product_param { num_output: 16 } }'
cosines='layer { name: "norm" type: "Normalize" bottom: "fc5" top: "norm" }
layer { name: "fc6" type: "InnerProduct" bottom: "norm" top: "fc6"
        inner_product_param { num_output: 50 normalize: true bias_term: false } }'
scaled() {
  echo "layer { name: 's' type: 'Scale' bottom: 'margin' top: 'scaled' param { lr_mult: 0 }
          scale_param { filler { value: $1 } } }
        layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'scaled' bottom: 'label' top: 'loss' }
        layer { name: 'accuracy' type: 'Accuracy' bottom: 'fc6' bottom: 'label' top: 'accuracy' }"
}
{ echo "$backbone"; cat << 'EOF'
layer { name: "fc6" type: "MarginInnerProduct" bottom: "fc5" bottom: "label" top: "fc6" top: "lambda"
        margin_inner_product_param { num_output: 50 type: QUADRUPLE lambda_min: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "loss" }
EOF
} > sphere.prototxt
{ echo "$backbone"; echo "$cosines"
  echo 'layer { name: "m" type: "LabelSpecificAdd" bottom: "fc6" bottom: "label" top: "margin"
                label_specific_add_param { bias: -0.35 } }'
  scaled 30; } > am.prototxt
{ echo "$backbone"; echo "$cosines"
  echo 'layer { name: "m" type: "CosinAddm" bottom: "fc6" bottom: "label" top: "margin" cosin_add_m_param { m: 0.5 } }'
  scaled 64; } > arc.prototxt
{ echo "$backbone"; cat << 'EOF'
layer { name: "fc6" type: "InnerProduct" bottom: "fc5" top: "fc6" inner_product_param { num_output: 50 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "fc6" bottom: "label" top: "accuracy" }
layer { name: "center" type: "CenterLoss" bottom: "fc5" bottom: "label" top: "center" loss_weight: 0.008
        center_loss_param { num_output: 50 } }
EOF
} > center.prototxt
# partial NAME FILE MARGIN...: the net FILE becomes one that builds in TRAIN, with these lines.
partial() {
  local name=$1 file=$2 line
  shift 2
  timeout 60 "$bin/to_partial_fc" --sample_rate=0.25 "$file" > "$name.new" 2> "$name.err" || { fail "$name"; cat "$name.err"; }
  for line in 'type: "DistPartialFC"' 'type: "MarginSoftmax"' 'sample_rate: 0.25' "$@"; do
    grep -q "^ *$line$" "$name.new" || { fail "$name: no line '$line'"; tail -40 "$name.new"; }
  done
  grep -Eq '^ *type: "(Accuracy|SoftmaxWithLoss|LabelSpecificAdd|CosinAddm|MarginInnerProduct)"' "$name.new" &&
    { fail "$name: the old head is still there"; tail -60 "$name.new"; }
  grep -q '^# In place of' "$name.new" || fail "$name: no comment"
  run "${name}_builds" check_net --model="$name.new" --phase=TRAIN --lenient --input=2,3,112,112
}
partial sphere sphere.prototxt 'm1: 1.3401' 'num_output: 50' 'scale: 64'
sed 's/lambda_min: 5//' sphere.prototxt > whole.prototxt
partial whole whole.prototxt 'm1: 4'
partial am am.prototxt 'm3: 0.35' 'scale: 30' 'bottom: "fc5"'
partial arc arc.prototxt 'm2: 0.5' 'scale: 64'
partial center center.prototxt 'name: "fc6_centers"' 'scale: 64' 'type: "CenterLoss"' 'loss_weight: 0.008'
grep -Eq '^ *m[123]:' center.new && fail "center.new has a margin"
grep -q '^#   InnerProduct .fc6.: .*cosines have no bias$' center.new || fail "center.new does not tell of the bias"
sed 's/{ num_output: 50 } }/{ num_output: 50 bias_term: false } }/' center.prototxt > no_bias.prototxt
partial no_bias no_bias.prototxt 'name: "fc6"' 'scale: 64'
# The classifier's weights of before start the class centres.
{ sed '/ImageData/d; s/^name: .*/name: "small"/' am.prototxt | sed 's/num_output: 50/num_output: 6/'
  echo 'layer { name: "data" type: "Data" top: "data" top: "label"
                data_param { source: "faces_lmdb" backend: LMDB batch_size: 6 } }'; } > trained_am.unordered
{ grep -A1 '"Data"' trained_am.unordered; grep -v '"Data"\|faces_lmdb' trained_am.unordered; } > trained_am.prototxt
partial trained_am trained_am.prototxt 'm3: 0.35' 'num_output: 6'
awk 'BEGIN { printf "layer { name: \"fc6\" type: \"InnerProduct\" blobs { shape { dim: 6 dim: 16 }"
  for (i = 0; i < 96; ++i) printf " data: %g", i % 7 - 3
  print " } }" }' | protoc --encode=crema.NetParameter "${proto[@]}" > fc6.caffemodel
echo 'net: "trained_am.new" base_lr: 0.01 lr_policy: "fixed" max_iter: 2 snapshot_prefix: "partial"' > partial_solver.prototxt
run partial_train caffe train -solver partial_solver.prototxt -weights fc6.caffemodel
has partial_train 'Finetuning from fc6.caffemodel' 'Optimization Done'
grep -q 'Ignoring source layer' partial_train.log && fail "the old classifier's weights were not taken"
{ cat center.prototxt
  echo 'layer { name: "age" type: "InnerProduct" bottom: "fc5" top: "age" inner_product_param { num_output: 9 } }
        layer { name: "age_loss" type: "SoftmaxWithLoss" bottom: "age" bottom: "label" top: "age_loss" }'
} > two_heads.prototxt
expect_error "two heads" "has 2 classifiers without a margin, 'fc6' to 'age'" to_partial_fc two_heads.prototxt
sed '/name: "loss"/d; /name: "accuracy"/d' center.prototxt > no_head.prototxt
expect_error "no loss" 'has no SoftmaxWithLoss or FocalLoss' to_partial_fc no_head.prototxt
sed 's/bottom: "fc6" bottom: "label"/bottom: "fc5" bottom: "label"/; s/"fc5" inner_product/"fc5" relu/
  s/relu_param { num_output: 16 }/relu_param { }/; /name: "fc5"/s/InnerProduct/ReLU/' center.prototxt > no_head.prototxt
expect_error "no head" 'has no classifier that can be spread' to_partial_fc no_head.prototxt
expect_error "rate" '--sample_rate is 2' to_partial_fc --sample_rate=2 am.prototxt

# Files of others.
for up in "$source_dir/../shared/data" "$source_dir/../../shared/data"; do
  [ -d "$up/caffe/training" ] && shared=$(realpath "$up")
done
if [ -z "${shared:-}" ]; then
  echo "caffe_tools_test: without files of others, since shared/data is absent"
else
  nets=$shared/caffe/face_nets
  partial sphereface "$nets/wy1iu+sphereface/train/code/sphereface_model.prototxt" 'm1: 1.3401' 'num_output: 10572'
  partial sphereface64 "$nets/wy1iu+sphereface/train/model_lib/Sphereface-64/sphereface_64_model.prototxt" 'm1: 1.3401'
  partial amsoftmax "$nets/happynear+AMSoftmax/prototxt/face_train_test.prototxt" 'm3: 0.35' 'scale: 30' 'num_output: 10516'
  partial amsoftmax_wo "$nets/happynear+AMSoftmax/prototxt/face_train_test_wo_fn.prototxt" 'm3: 0.4' 'scale: 64'
  partial arcface "$nets/xialuxi+arcface-caffe/cosin_add_m.prototxt" 'm2: 0.5' 'scale: 64' 'num_output: 10575'
  partial center_loss "$nets/ydwen+caffe-face/face_example/face_train_test.prototxt" 'type: "CenterLoss"' 'num_output: 10572'
  partial adacos "$nets/xialuxi+arcface-caffe/AdaCos/adacos_add_m_scale.prototxt" 'm2: 0.5' 'scale: 13.1043'
  # The 64 images of the database, as one file of bytes.
  run uint8 compute_image_mean "$shared/caffe/training/data/uint8_lmdb" uint8.binaryproto
  od -An -v -tu1 -w400 "$shared/caffe/training/data/data_u8_64x3x20x20.u8" |
    awk '{ c = (NR - 1) % 3; for (i = 1; i <= NF; ++i) sum[c] += $i }
      END { for (c = 0; c < 3; ++c) printf "%.2f\n", sum[c] / (64 * 400) }' > wanted.txt
  sed -n 's/.*mean_value channel \[[012]\]: //p' uint8.log | awk '{ printf "%.2f\n", $1 }' > found.txt
  same wanted.txt found.txt
  mtcnn=$shared/caffe/mtcnn
  run mtcnn_time caffe time -model "$mtcnn/det1.prototxt" -iterations 2 -phase TEST
  has mtcnn_time "\]      conv1	forward: $number ms\.$"
  run mtcnn upgrade_net_proto_text "$mtcnn/det1.prototxt" det1.prototxt
  run mtcnn_builds check_net --model=det1.prototxt
  run mtcnn_draw draw_net "$mtcnn/det1.prototxt" det1.dot
  run mtcnn_weights upgrade_net_proto_binary "$mtcnn/det1.caffemodel" det1.caffemodel
  same <(protoc --decode=crema.NetParameter "${proto[@]}" < det1.caffemodel | grep -c 'data: ') \
    <(protoc --decode=crema.NetParameter "${proto[@]}" < "$mtcnn/det1.caffemodel" | grep -c 'data: ')
  mobile=$shared/caffe/mobilefacenet_y1/mobilefacenet_y1
  run mobile_builds check_net --model="${mobile}_deploy.prototxt"
fi

[ $failures = 0 ] && echo "caffe_tools_test: all passed"
exit $failures
