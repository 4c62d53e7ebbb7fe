#!/bin/bash
# oidc-provider: a second OpenID provider that the tests of sign-on log in at. Unlike Dex
# it ends sessions, and tells those who signed people in with it.
set -euo pipefail
version=9.13.3
lib=$JUDGES/lib/oidc-provider-$version
here=$(cd "$(dirname "$0")" && pwd)
if [ -x "$JUDGES/bin/oidc_provider" ] && [ -e "$lib/done" ] && cmp -s "$here/oidc-provider/provider.mjs" "$lib/provider.mjs"; then exit 0; fi
mkdir -p "$JUDGES/bin" "$lib"
[ -e "$lib/done" ] || (cd "$lib" && npm install --silent --no-audit --no-fund --ignore-scripts "oidc-provider@$version")
cp "$here/oidc-provider/provider.mjs" "$lib/provider.mjs"
printf '#!/bin/sh\nexec node "$(dirname "$0")/../lib/%s/provider.mjs" "$@"\n' "$(basename "$lib")" >"$JUDGES/bin/oidc_provider"
chmod +x "$JUDGES/bin/oidc_provider"
touch "$lib/done"
