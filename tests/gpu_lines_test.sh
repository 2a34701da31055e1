#!/bin/bash
# Counts the lines that only a real GPU can exercise: what the preprocessor gives to nvcc and keeps from the rehearsal.
# docs/gpu.md must give the same number. Arguments: folder of the tools, folder of the source.
set -u
cd "$2" || exit 1
lines=$(find include src layers -name '*.[ch]pp' -print0 | xargs -0 awk '
  FNR == 1 { depth = 0 }
  /^#if/ {
    ++depth
    kind[depth] = /CREMA_REHEARSAL/ ? (/__CUDACC__/ ? "both" : "rehearsal") : /ifndef __CUDA_ARCH__/ ? "host" : /__CUDACC__|__CUDA_ARCH__/ ? "gpu" : ""
    inside[depth] = kind[depth] == "gpu"
    next
  }
  /^#else/ { inside[depth] = kind[depth] == "rehearsal" || kind[depth] == "host"; next }
  /^#endif/ { inside[depth] = 0; --depth; next }
  { for (d = 1; d <= depth; ++d) if (inside[d] && !/^ *(\/\/|$)/) { print FILENAME ":" FNR ": " $0; next } }')
echo "$lines"
count=$(echo "$lines" | grep -c .)
grep -q "^$count lines" docs/gpu.md || { echo "FAILED: $count lines are for a real GPU alone; docs/gpu.md says another number"; exit 1; }
echo "gpu_lines_test: all passed"
