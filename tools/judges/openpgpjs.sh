#!/bin/bash
# OpenPGP.js: a second implementation of OpenPGP version 6.
set -euo pipefail
version=6.2.2
dir=$JUDGES/lib/openpgpjs
[ -e "$dir/done-$version" ] && exit 0
mkdir -p "$dir"
command -v npm >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends npm
npm install --prefix "$dir" --no-save --no-audit --no-fund --ignore-scripts --silent "openpgp@$version"
touch "$dir/done-$version"
