#!/bin/bash
# Dex: an OpenID provider that the tests of sign-on log in at. Its go.mod has replace
# directives, which "go install" refuses: it is built from a module of our own.
set -euo pipefail
version=v0.0.0-20260303133905-11d2eeb52b42
stamp=$JUDGES/lib/dex/$version
[ -x "$JUDGES/bin/dex" ] && [ -e "$stamp" ] && exit 0
here=$(cd "$(dirname "$0")" && pwd)
export GOTOOLCHAIN=auto GOWORK=off CGO_ENABLED=0
mkdir -p "$JUDGES/bin" "$JUDGES/lib/dex"
(cd "$here/dex" && go build -mod=readonly -trimpath -o "$JUDGES/bin/dex" github.com/dexidp/dex/cmd/dex)
touch "$stamp"
