#!/bin/bash
# cosign: verifies signatures and attestations of images and files, and makes its own.
set -euo pipefail
version=v3.0.2
module=github.com/sigstore/cosign/v3
stamp=$JUDGES/lib/cosign-$version
[ -x "$JUDGES/bin/cosign" ] && [ -e "$stamp" ] && exit 0
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOTOOLCHAIN=auto GOWORK=off CGO_ENABLED=0
cd "$work"
dir=$(go mod download -json "$module@$version" | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
cp -r "$dir" src
chmod -R u+w src
mkdir -p "$JUDGES/bin" "$JUDGES/lib"
(cd src && go build -mod=mod -trimpath -o "$JUDGES/bin/cosign" ./cmd/cosign)
touch "$stamp"
