#!/bin/bash
# apksigner 35, which knows scheme v3.1: of Debian trixie, where this machine has an
# older one. It is one file for Java.
set -euo pipefail
version=35.0.2-1
stamp=$JUDGES/lib/apksigner-$version
[ -x "$JUDGES/bin/apksigner35" ] && [ -e "$stamp" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache" "$work/parts" "$JUDGES/bin" "$JUDGES/lib"
# The mirror of Debian that this machine is set up with, asked for another release.
key=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=$({ cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true; } | sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' | grep -m1 "/debian/*$")
echo "deb [signed-by=$key] $mirror trixie main" >"$work/parts/trixie.list"
cd "$work"
apt=(apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/parts" -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache")
"${apt[@]}" update
"${apt[@]}" download "apksigner=$version"
dpkg-deb -x apksigner_*.deb x
cp x/usr/share/java/apksigner-*.jar "$JUDGES/lib/apksigner35.jar"
printf '#!/bin/sh\nexec java -XX:TieredStopAtLevel=1 -jar "$(dirname "$0")/../lib/apksigner35.jar" "$@"\n' >"$JUDGES/bin/apksigner35"
chmod +x "$JUDGES/bin/apksigner35"
touch "$stamp"
