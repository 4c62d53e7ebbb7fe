#!/bin/bash
# sigstore-js: the verifier of npm; it reads bundles that cosign and oci have in common.
set -euo pipefail
version=3.1.1
lib=$JUDGES/lib/sigstore-js-$version
[ -x "$JUDGES/bin/sigstore_verify" ] && [ -e "$lib/done" ] && exit 0
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$JUDGES/bin" "$lib"
(cd "$lib" && npm install --silent --no-audit --no-fund --ignore-scripts "@sigstore/verify@$version")
cp "$here/sigstore/verify.js" "$lib/verify.js"
printf '#!/bin/sh\nexec node "$(dirname "$0")/../lib/%s/verify.js" "$@"\n' "$(basename "$lib")" >"$JUDGES/bin/sigstore_verify"
chmod +x "$JUDGES/bin/sigstore_verify"
touch "$lib/done"
