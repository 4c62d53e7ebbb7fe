#!/bin/bash
# relic: a second signer and verifier of Mach-O files, packages and disk images,
# and its sample files, which others made.
set -euo pipefail
version=v8.2.0
module=github.com/sassoftware/relic/v8
stamp=$JUDGES/lib/relic/$version
[ -x "$JUDGES/bin/relic" ] && [ -e "$stamp" ] && exit 0
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOTOOLCHAIN=auto GOWORK=off CGO_ENABLED=0
cd "$work"
dir=$(go mod download -json "$module@$version" | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
cp -r "$dir" src
chmod -R u+w src
mkdir -p "$JUDGES/bin" "$JUDGES/lib/relic"
(cd src && go build -mod=mod -o "$JUDGES/bin/relic" .)
rm -rf "$JUDGES/lib/relic/packages"
cp -r src/functest/packages "$JUDGES/lib/relic/packages"
touch "$stamp"
