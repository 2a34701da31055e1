# Sourced by tests of the tools that train on something small.

# make_small_faces BIN STEP: 24 images of 6 people in the current folder, a colour for each person, a little different in
# each image; person p has the label p * STEP. Makes list.txt and the database faces_lmdb.
make_small_faces() {
  local person image
  mkdir images
  for person in 0 1 2 3 4 5; do
    for image in 0 1 2 3; do
      awk -v p=$person -v i=$image 'BEGIN { print "P3 8 8 255"; for (k = 0; k < 64; ++k)
        print (p * 40 + i * 3 + k) % 256, (p * 90 + i) % 256, (200 + p * 31 - k) % 256 }' > images/${person}_$image.ppm
      echo "${person}_$image.ppm $((person * $2))" >> list.txt
    done
  done
  "$1/convert_imageset" images/ list.txt faces_lmdb > convert.log 2>&1 || { cat convert.log; exit 1; }
}
