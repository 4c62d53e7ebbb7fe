#!/bin/bash
# notation: verifies signatures of the Notary Project in registries, and makes its own.
set -euo pipefail
version=v1.3.2
module=github.com/notaryproject/notation
stamp=$JUDGES/lib/notation-$version
[ -x "$JUDGES/bin/notation" ] && [ -e "$stamp" ] && exit 0
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOTOOLCHAIN=auto GOWORK=off CGO_ENABLED=0
cd "$work"
dir=$(go mod download -json "$module@$version" | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
cp -r "$dir" src
chmod -R u+w src
mkdir -p "$JUDGES/bin" "$JUDGES/lib"
(cd src && go build -mod=mod -trimpath -o "$JUDGES/bin/notation" ./cmd/notation)
touch "$stamp"
