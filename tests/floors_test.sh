#!/bin/bash
# The floors of the house: a file includes only its own floor and those below, the wings of floor 3 do not know
# each other, layers do not know each other, and a vendor's headers stay in their place.
# usage: floors_test.sh BIN_DIR SOURCE_DIR
set -euo pipefail
source_dir=$2

# Prints one line for each thing wrong in the tree $1.
check_floors() (
  cd "$1"
  find include src layers tools \( -name '*.cpp' -o -name '*.hpp' -o -name '*.cu' \) | LC_ALL=C sort |
    xargs awk '
    BEGIN {
      split("base 0 device 1 cpu 1 cuda 1 comm 2 work 2 data 3 head 3 eval 3 net 4 solver 6", pairs, " ")
      for (k = 1; k in pairs; k += 2) floor_of_folder[pairs[k]] = pairs[k + 1]
      vendor["dnnl"] = vendor["cblas"] = "src/cpu"
      vendor["mpi"] = "src/comm"
      vendor["cudnn"] = vendor["cublas"] = "src/cuda"
      vendor["cuda"] = "src/cuda src/comm"
      vendor["nccl"] = "src/comm"
      vendor["lmdb"] = "src/data tools"
      vendor["opencv2"] = "src/data src/eval tools"
    }
    function wrong(text) { print FILENAME ":" FNR ": " text }
    # The wing of floor 3 that the first line of a public header names.
    function wing_in(line) {
      return line ~ /the data wing/ ? "data" : line ~ /the head wing/ ? "head" : line ~ /the evaluation wing/ ? "eval" : ""
    }
    FNR == 1 {
      split(FILENAME, part, "/")
      folder = part[1] == "src" ? "src/" part[2] : part[1]
      wing[FILENAME] = ""
      if (part[1] == "layers") floor[FILENAME] = 5
      else if (part[1] == "tools") floor[FILENAME] = 7
      else if (part[1] == "include") {
        floor[FILENAME] = match($0, /^\/\/ Floor [0-9]/) ? substr($0, 10, 1) : 99
        wing[FILENAME] = wing_in($0)
        if (floor[FILENAME] == 99) wrong("its first line does not say \"// Floor N\"")
        if (floor[FILENAME] == 3 && wing[FILENAME] == "") wrong("its first line does not name its wing")
      } else if (part[2] in floor_of_folder) {
        floor[FILENAME] = floor_of_folder[part[2]]
        wing[FILENAME] = floor[FILENAME] == 3 ? part[2] : ""
        if (FILENAME ~ /\.hpp$/ && $0 !~ "^// Floor " floor[FILENAME] "[.,]")
          wrong("its first line does not say \"// Floor " floor[FILENAME] "\"")
      } else {
        floor[FILENAME] = 99
        wrong("src/" part[2] " is on no floor")
      }
    }
    /^[ \t]*#[ \t]*include/ {
      name = $0
      sub(/^[^<"]*[<"]/, "", name)
      sub(/[>"].*$/, "", name)
      for (prefix in vendor)
        if (name ~ "^" prefix "[._/]" && index(" " vendor[prefix] " ", " " folder " ") == 0)
          wrong("includes " name ", which belongs to " vendor[prefix])
      if ($0 !~ /"/ || name == "crema.pb.h") next
      if (folder == "layers" && name !~ /^(crema|net)\//) wrong("includes " name "; a layer includes crema/ and net/ only")
      ++includes
      from[includes] = FILENAME
      at[includes] = FNR
      target[includes] = name
    }
    END {
      for (k = 1; k <= includes; ++k) {
        file = from[k]
        name = target[k]
        header = name ~ /^crema\// ? "include/" name : name ~ /\// ? "src/" name : "tools/" name
        if (!(header in floor)) print file ":" at[k] ": includes " name ", which is not there"
        else if (floor[header] + 0 > floor[file] + 0)
          print file ":" at[k] ": is on floor " floor[file] " and includes " name " of floor " floor[header]
        else if (wing[file] != "" && wing[header] != "" && wing[file] != wing[header])
          print file ":" at[k] ": is in the wing " wing[file] " and includes " name " of the wing " wing[header]
      }
    }'
)

found=$(check_floors "$source_dir")
if [ -n "$found" ]; then
  echo "$found"
  exit 1
fi

# The check sees what it is there for.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
expect_wrong() {  # FILE LINE: a line added to a file is found
  rm -rf "${copy:?}"/*
  cp -r "$source_dir"/{include,src,layers,tools} "$copy"
  echo "$2" >> "$copy/$1"
  if ! check_floors "$copy" | grep -q "^$1:"; then
    echo "'$2' in $1 was not found"
    exit 1
  fi
}
expect_wrong src/device/tensor.cpp '#include "crema/net.hpp"'
expect_wrong src/eval/pairs.cpp '#include "crema/head.hpp"'
expect_wrong src/net/net.cpp '#include "crema/solver.hpp"'
expect_wrong layers/relu.cpp '#include "solver/optimizer.hpp"'
expect_wrong layers/relu.cpp '#include "prelu.cpp"'
expect_wrong layers/relu.cpp '#include <dnnl.hpp>'
expect_wrong src/solver/solver.cpp '#include <mpi.h>'
expect_wrong layers/relu.cpp '#include <cuda_runtime.h>'
expect_wrong src/comm/mpi.cpp '#include <cudnn.h>'
expect_wrong src/net/net.cpp '#include <opencv2/core.hpp>'
expect_wrong src/net/net.cpp '#include "net/missing.hpp"'
expect_wrong include/crema/tensor.hpp '#include "crema/context.hpp"'
