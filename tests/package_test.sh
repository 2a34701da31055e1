#!/usr/bin/env bash
# Another project finds the installed package, links crema::crema and has every layer.
set -euo pipefail
build=$(dirname "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$build" --prefix "$work/prefix" >/dev/null
mkdir "$work/user"
cat >"$work/user/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.25)
project(user LANGUAGES CXX)
find_package(crema REQUIRED)
add_executable(user user.cpp)
target_compile_features(user PRIVATE cxx_std_20)
target_link_libraries(user PRIVATE crema::crema)
CMAKE
cat >"$work/user/user.cpp" <<'CPP'
#include <cstdio>
#include "crema/net.hpp"
int main() {
  bool found = false;
  for (const auto* type : crema::LayerTypes()) found |= type->name == "DistPartialFC";
  std::printf("%zu layer types\n", crema::LayerTypes().size());
  return found ? 0 : 1;
}
CPP
# A program that loads a library with a sanitizer has to have it from its start.
sanitize=$(sed -n 's/^CREMA_SANITIZE:[^=]*=//p' "$build/CMakeCache.txt")
cmake -S "$work/user" -B "$work/user/build" -DCMAKE_PREFIX_PATH="$work/prefix" \
  -DCMAKE_CXX_FLAGS="${sanitize:+-fsanitize=$sanitize}" >/dev/null
cmake --build "$work/user/build" >/dev/null
"$work/user/build/user"
