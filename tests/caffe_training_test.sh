#!/bin/bash
# Training nets of 2017 to 2019 by others (SphereFace, AM-Softmax, ArcFace-Caffe; shared/data/caffe/face_nets, skipped where
# it is absent) train on a few real faces: with their margin heads made DistPartialFC and MarginSoftmax by to_partial_fc,
# on two ranks, and as they are, on one.
# usage: caffe_training_test.sh BIN_DIR SOURCE_DIR
set -euo pipefail
bin=$1 source=$2
shared=
for folder in "$source/../shared/data" "$source/../../shared/data"; do
  if [[ -d $folder/caffe/face_nets && -d $folder/faces ]]; then shared=$(cd "$folder" && pwd); fi
done
if [[ -z $shared ]]; then
  echo "shared/data is absent: skipped"
  exit 0
fi
export PATH=$bin:$PATH OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# Sixteen faces of as many people.
awk -v root="$shared/faces/" '!seen[$NF]++ { print root $1, count++ } count == 16 { exit }' "$shared/faces/train_small.txt" \
  >faces.txt
convert_imageset --encoded / faces.txt faces_lmdb >convert.log 2>&1

# The net that is given, on these faces, for a dozen iterations; its losses in losses.txt.
train_on_faces() { # NET BATCH RATE FLAGS...
  local net=$1 batch=$2 rate=$3
  shift 3
  sed -E "s|source: \".*casia_lmdb\"|source: \"faces_lmdb\"|; s|source: \"[^\"]*\.txt\"|source: \"faces.txt\"|
    s|root_folder: \".*\"|root_folder: \"\"|; s|batch_size: [0-9]+|batch_size: $batch|" "$net" >net.prototxt
  cat >solver.prototxt <<END
net: "net.prototxt"
base_lr: $rate
lr_policy: "fixed"
momentum: 0.9
weight_decay: 0.0005
clip_gradients: 10
display: 1
max_iter: 12
snapshot_after_train: false
random_seed: 1
END
  if ! train --solver=solver.prototxt "$@" >train.log 2>&1; then
    tail -n 20 train.log
    echo "$net does not train"
    exit 1
  fi
  sed -nE 's/.*Iteration [0-9]+ .*, loss = (.*)/\1/p' train.log >losses.txt
}
expect_fall() {
  awk -v net="$1" '{ loss[NR] = $1 }
    END {
      first = loss[1] + loss[2] + loss[3]; last = loss[NR] + loss[NR - 1] + loss[NR - 2]
      print net ": loss " loss[1] " to " loss[NR]
      if (NR < 12 || !(last < first)) { print "the loss of " net " does not fall"; exit 1 }
    }' losses.txt
}

nets=$shared/caffe/face_nets
for file in wy1iu+sphereface/train/code/sphereface_model happynear+AMSoftmax/prototxt/face_train_test \
  xialuxi+arcface-caffe/cosin_add_m; do
  to_partial_fc "$nets/$file.prototxt" --sample_rate=0.1 >partial_fc.prototxt
  grep -q 'type: "DistPartialFC"' partial_fc.prototxt
  train_on_faces partial_fc.prototxt 4 0.01 --ranks=2
  expect_fall "$file with DistPartialFC on two ranks"
done
for file in wy1iu+sphereface/train/code/sphereface_model happynear+AMSoftmax/prototxt/face_train_test \
  ydwen+caffe-face/face_example/face_train_test; do
  train_on_faces "$nets/$file.prototxt" 8 0.001
  expect_fall "$file as it is"
done
