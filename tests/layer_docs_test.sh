#!/bin/bash
# docs/layers.md is what layer_docs prints.
# usage: layer_docs_test.sh BIN_DIR SOURCE_DIR
set -euo pipefail
page=$(mktemp)
trap 'rm -f "$page"' EXIT
messages=$1/../proto/crema.desc
"$1/layer_docs" --source="$2" --messages="$messages" > "$page"
if ! diff "$2/docs/layers.md" "$page"; then
  echo "docs/layers.md is out of date; run: layer_docs --source=SOURCE_DIR > docs/layers.md"
  exit 1
fi
if "$1/layer_docs" --source=/nonexistent --messages="$messages" > "$page" 2>&1; then
  echo "layer_docs found layers where there are none"
  exit 1
fi
grep -q "there is no folder layers in '/nonexistent'" "$page"
