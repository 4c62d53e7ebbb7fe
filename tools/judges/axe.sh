#!/bin/bash
# axe-core: judges whether pages can be used with a keyboard and a screen reader.
set -euo pipefail
version=4.14.1
file=$JUDGES/lib/axe/axe.min.js
[ -e "$JUDGES/lib/axe/$version" ] && [ -e "$file" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
command -v npm >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends npm
cd "$work"
npm pack --silent "axe-core@$version" >/dev/null
tar xzf axe-core-*.tgz
mkdir -p "$JUDGES/lib/axe"
cp package/axe.min.js "$file"
touch "$JUDGES/lib/axe/$version"
