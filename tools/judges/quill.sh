#!/bin/bash
# quill: another signer of Mach-O files; what it signs is verified here.
set -euo pipefail
version=v0.5.1
module=github.com/anchore/quill
stamp=$JUDGES/lib/quill-$version
[ -x "$JUDGES/bin/quill" ] && [ -e "$stamp" ] && exit 0
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOTOOLCHAIN=auto GOWORK=off CGO_ENABLED=0
cd "$work"
dir=$(go mod download -json "$module@$version" | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
cp -r "$dir" src
chmod -R u+w src
mkdir -p "$JUDGES/bin" "$JUDGES/lib"
(cd src && go build -mod=mod -o "$JUDGES/bin/quill" ./cmd/quill)
touch "$stamp"
