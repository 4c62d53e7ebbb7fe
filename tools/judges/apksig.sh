#!/bin/bash
# The packages of apksig's own tests, good ones and bad ones, as the source of Debian's
# androguard carries them: into lib/apksig.
set -euo pipefail
version=3.4.0~a1-6
out=$JUDGES/lib/apksig
[ "$(cat "$out/version" 2>/dev/null)" = "$version" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/parts" "$out"
# The mirror of Debian that this machine is set up with, asked for sources.
key=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=$({ cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true; } | sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' | grep -m1 '/debian/*$')
echo "deb-src [signed-by=$key] $mirror bookworm main" >"$work/parts/bookworm.list"
cd "$work"
apt=(apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/parts" -o "Dir::State::lists=$work/lists")
"${apt[@]}" update
"${apt[@]}" source --download-only --tar-only "androguard=$version" >/dev/null
tar -xzf androguard_*.orig.tar.gz -C "$out" --strip-components=4 --wildcards '*/examples/signing/apksig/*.apk'
echo "$version" >"$out/version"
