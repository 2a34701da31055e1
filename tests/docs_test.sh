#!/bin/bash
# The pages of docs/ say what is so: every ```sh block runs as it is written, page after page in one folder; a block
# below a line that ends in "`NAME`:" is the file NAME; the layer of add_a_layer.md builds and keeps the contract; and no
# relative link of a page leads nowhere.
# usage: docs_test.sh BIN_DIR SOURCE_DIR
set -u
bin=$(realpath "$1")
source_dir=$(realpath "$2")
build=$(dirname "$bin")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/run" "$work/scripts"
cd "$work/run" || exit 1
export PATH=$bin:$PATH OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
failures=0
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }

# The page's script: its ```sh blocks, and for each block with a name the making of that file.
script_of() {
  awk '
    in_block && /^```/ { if (name != "") print "END_OF_BLOCK"; in_block = 0; last = ""; next }
    in_block { if (name != "" || shell) print; next }
    /^```/ {
      in_block = 1
      shell = $0 == "```sh"
      name = ""
      if (!shell && match(last, /`[^`]+`:$/)) {
        name = substr(last, RSTART + 1, RLENGTH - 3)
        print "mkdir -p \"$(dirname \"" name "\")\"\ncat > \"" name "\" << '\''END_OF_BLOCK'\''"
      }
      next
    }
    NF > 0 { last = $0 }' "$1"
}

# Blocks of a language, one after another.
blocks_of() { awk -v open="\`\`\`$2" '/^```/ { inside = $0 == open; next } inside' "$1"; }

run_page() {
  local page=$1 began=$SECONDS script=$work/scripts/$1.sh
  script_of "$source_dir/docs/$page.md" > "$script"
  timeout 300 bash -e -o pipefail -x "$script" > "$work/$page.log" 2>&1
  local code=$?
  if [ $code = 0 ]; then
    echo "docs/$page.md: $(grep -c . "$script") lines ran in $((SECONDS - began)) s"
  else
    fail "docs/$page.md: exit code $code"
    tail -n 40 "$work/$page.log"
  fi
}

pages="convert train resume ranks partial_fc plan evaluate caffe add_a_layer"
for page in $pages; do run_page $page; done
for file in index.html train.html trained/figures.txt; do
  [ -s $file ] || fail "the pages made no $file"
done

# Every page with commands has been run, but those that measure for long, or need a GPU or images from elsewhere.
for page in "$source_dir"/docs/*.md; do
  name=$(basename "$page" .md)
  [[ " $pages bench real_faces " == *" $name "* ]] && continue
  blocks_of "$page" sh | grep -q . && fail "docs/$name.md has commands that nobody runs"
done

# What evaluate.md shows of evaluate has the form of what it prints.
for figure in accuracy 'TAR at FAR 1e-2' AUC EER 'best threshold'; do
  grep -q "^$figure " "$work/evaluate.log" || fail "evaluate prints no '$figure'"
  blocks_of "$source_dir/docs/evaluate.md" text | grep -q "^$figure " || fail "evaluate.md shows no '$figure'"
done

# Every flag that a page names in a table is one of some tool.
for tool in train evaluate convert_imageset plan check_net to_partial_fc; do
  "$bin/$tool" --helpshort 2>&1
  "$bin/$tool" --help 2>&1
done | sed -n 's/^ *-\([a-z_]*\) (.*/\1/p' | sort -u > "$work/flags"
for page in convert train evaluate plan caffe; do
  for flag in $(grep '^| `--' "$source_dir/docs/$page.md" | grep -o -- '--[a-z_]*' | sort -u); do
    grep -qx "${flag#--}" "$work/flags" || fail "docs/$page.md names the flag $flag, which no tool has"
  done
done

# The layer of add_a_layer.md, against the headers and the library of this build.
check_layer() {
  local page=$source_dir/docs/add_a_layer.md openmp=-fopenmp sanitize
  sanitize=$(sed -n 's/^CREMA_SANITIZE:[^=]*=//p' "$build/CMakeCache.txt")
  grep -q '^CREMA_OPENMP:[^=]*=OFF' "$build/CMakeCache.txt" && openmp="-fopenmp-simd -Wno-unknown-pragmas"
  local flags="-std=c++20 -Wall -Wextra -Wshadow -Werror $openmp ${sanitize:+-fsanitize=$sanitize}"
  mkdir -p layer && cd layer || return 1
  cp "$source_dir/.clang-format" . && cp ../layers/celu.cpp . || return 1
  clang-format --dry-run --Werror celu.cpp || return 1

  # As it stands, with its message in the configuration. The library has the messages of this build, so this only compiles.
  blocks_of "$page" proto > page.proto
  awk 'NR == FNR { if (/^ .*CELUParameter/) field = field $0 "\n"; else message = message $0 "\n"; next }
    { print } /^message LayerParameter {/ { printf "%s", field } END { printf "%s", message }' \
    page.proto "$source_dir/proto/crema.proto" > crema.proto
  mkdir -p proto && protoc --cpp_out=proto crema.proto || return 1
  # shellcheck disable=SC2086
  g++ $flags -fsyntax-only -isystem proto -I"$source_dir/include" celu.cpp || return 1

  # With a number for its parameter: it runs, and the contract's test runs the page's rows that need no parameter.
  sed 's/spec().celu_param().alpha()/1.5f/' celu.cpp > fixed_celu.cpp
  cmp -s celu.cpp fixed_celu.cpp && { echo "celu.cpp does not read its parameter"; return 1; }
  cp "$source_dir"/tests/{contract.hpp,contract_test.cpp,test_place.hpp} .
  awk 'NR == FNR { if (!/celu_param/) rows = rows $0 "\n"; next }
    { print } /^inline .*ActivationRows/ { inside = 1 } inside && /^  return {/ { printf "%s", rows; inside = 0 }' \
    ../tests/contract_rows.hpp "$source_dir/tests/contract_rows.hpp" > contract_rows.hpp
  cat > value_test.cpp << 'CPP'
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "crema/net.hpp"

TEST(CELUOfThePage, GivesTheRightValues) {
  crema::NetParameter spec;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "layer { name: 'in' type: 'Input' top: 'x' input_param { shape { dim: 1 dim: 4 } } }"
      "layer { name: 'it' type: 'CELU' bottom: 'x' top: 'y' }",
      &spec));
  crema::Workplace place;
  crema::Net net(place, spec, crema::NetOptions());
  const std::vector<float> x = {-2, 0, 0.5f, 3};
  net.SetInput("x", x);
  net.Forward(place);
  const std::vector<float> y = net.BlobValues("y");
  ASSERT_EQ(y.size(), x.size());
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], x[i] > 0 ? x[i] : 1.5 * (std::exp(x[i] / 1.5) - 1), 1e-6);
}
CPP
  # shellcheck disable=SC2086
  g++ $flags -isystem "$build/proto" -I"$source_dir/include" -DCREMA_SOURCE_DIR="\"$source_dir\"" fixed_celu.cpp \
    contract_test.cpp value_test.cpp -o layer_test -L"$build" -Wl,-rpath,"$build" -lcrema -lgtest -lgtest_main -lglog \
    -lprotobuf -lpthread || return 1
  ./layer_test --gtest_filter='*/CELU*:CELUOfThePage.*:Registry.HasARowForEachType' > layer.log 2>&1 &&
    grep -q 'GradientsAreThoseOfFiniteDifferences/CELU' layer.log || { cat layer.log; return 1; }
}
began=$SECONDS
if (check_layer); then
  echo "the layer of docs/add_a_layer.md: built and tested in $((SECONDS - began)) s"
else
  fail "the layer of docs/add_a_layer.md"
fi

# Relative links, those of code blocks left out.
shopt -s nullglob
for page in "$source_dir"/README.md "$source_dir"/docs/*.md "$source_dir"/{models,data}/*/README.md; do
  links=$(awk '/^```/ { inside = !inside } !inside' "$page" | tr '\n' ' ' | grep -o '\][(][^() ]*[)]' | sed 's/^](//; s/)$//')
  for link in $links; do
    case $link in http://* | https://* | mailto:* | '#'*) continue ;; esac
    [ -e "$(dirname "$page")/${link%%#*}" ] || fail "${page#"$source_dir"/} links $link, which is absent"
  done
done

[ $failures = 0 ] && echo "docs_test: all passed"
exit $failures
