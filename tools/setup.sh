#!/bin/bash
# Installs the Debian 12 packages that Crema needs; does nothing where they are all there.
# Usage: tools/setup.sh
set -euo pipefail

packages=(
  build-essential cmake ninja-build ccache pkg-config git clang-format
  libprotobuf-dev protobuf-compiler libgoogle-glog-dev libgflags-dev
  liblmdb-dev lmdb-utils libhdf5-dev zlib1g-dev
  libopencv-core-dev libopencv-imgproc-dev libopencv-imgcodecs-dev libopencv-dnn-dev
  libopenblas-openmp-dev libdnnl-dev
  libopenmpi-dev openmpi-bin
  libgtest-dev libgmock-dev libbenchmark-dev libboost-context-dev
)

if ! command -v dpkg-query >/dev/null; then
  echo "setup.sh: this system has no dpkg; install by hand what these Debian packages hold: ${packages[*]}" >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $status == installed ]] || missing+=("$package")
done
if [[ ${#missing[@]} -eq 0 ]]; then
  exit 0
fi

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "setup.sh: run it as root, or install sudo; missing packages: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "Installing ${#missing[@]} packages: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt_get() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@" \
    >"$log" 2>&1 || {
    cat "$log" >&2
    echo "setup.sh: apt-get $* failed" >&2
    exit 1
  }
}
apt_get update
apt_get install --yes --no-install-recommends "${missing[@]}"
