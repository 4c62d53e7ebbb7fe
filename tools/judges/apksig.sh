#!/bin/bash
# The packages of apksig's own tests, good ones and bad ones, as the source of Debian's
# androguard carries them: into lib/apksig.
set -euo pipefail
version=3.4.0~a1-6
out=$JUDGES/lib/apksig
[ "$(cat "$out/version" 2>/dev/null)" = "$version" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/parts"
# The sources that this machine is set up with, asked for source packages.
for f in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
	case $f in
	*.sources) sed 's/^Types:.*/Types: deb-src/' "$f" >"$work/parts/$(basename "$f")" ;;
	*) [ -f "$f" ] && sed -n 's/^deb /deb-src /p' "$f" >"$work/parts/$(basename "$f" .list).list" ;;
	esac
done
apt=(apt-get -qq -o APT::Sandbox::User=root -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$work/parts" -o "Dir::State::lists=$work/lists")
cd "$work"
"${apt[@]}" update >/dev/null
"${apt[@]}" source --download-only --tar-only "androguard=$version" >/dev/null
mkdir -p "$out"
tar -xzf androguard_*.orig.tar.gz -C "$out" --strip-components=4 --wildcards '*/examples/signing/apksig/*.apk'
echo "$version" >"$out/version"
