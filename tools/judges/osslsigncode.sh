#!/bin/bash
# osslsigncode 2.9, which knows scripts: of Debian's backports, where this machine has
# an older one.
set -euo pipefail
version=2.9-1~bpo12+1
good() { "$1" --version 2>&1 | sed -n 's/^osslsigncode \([0-9.]*\).*/\1/p' | { read -r v && [ "$(printf '%s\n' 2.9 "$v" | sort -V | head -1)" = 2.9 ]; }; }
for p in "$JUDGES/bin/osslsigncode" osslsigncode; do
	if command -v "$p" >/dev/null && good "$p"; then exit 0; fi
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache" "$work/parts" "$JUDGES/bin"
# The mirror of Debian that this machine is set up with, asked for backports.
key=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=$({ cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true; } | sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' | grep -m1 "/debian/*$")
echo "deb [signed-by=$key] $mirror bookworm-backports main" >"$work/parts/backports.list"
cd "$work"
apt=(apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/parts" -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache")
"${apt[@]}" update
"${apt[@]}" download "osslsigncode=$version"
dpkg-deb -x osslsigncode_*.deb x
install -m 755 x/usr/bin/osslsigncode "$JUDGES/bin/osslsigncode"
good "$JUDGES/bin/osslsigncode"
