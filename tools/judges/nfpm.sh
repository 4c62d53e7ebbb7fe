#!/bin/bash
# nfpm: packages made by something else than rpmbuild and dpkg-deb.
set -euo pipefail
version=v2.43.4
stamp=$JUDGES/lib/nfpm-$version
[ -x "$JUDGES/bin/nfpm" ] && [ -e "$stamp" ] && exit 0
mkdir -p "$JUDGES/bin" "$JUDGES/lib"
GOTOOLCHAIN=auto GOWORK=off CGO_ENABLED=0 GOBIN=$JUDGES/bin go install "github.com/goreleaser/nfpm/v2/cmd/nfpm@$version"
touch "$stamp"
