#!/bin/bash
# fit_check_sign, U-Boot's verifier of image trees, and avb_check, Android's libavb
# behind a few lines of C, both from Debian's source of U-Boot.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$JUDGES/bin
stamp=$JUDGES/lib/uboot/stamp
want=$(cat "$here/uboot.sh" "$here"/avb/* | sha256sum)
[ -x "$bin/fit_check_sign" ] && [ -x "$bin/avb_check" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && exit 0
mkdir -p "$bin" "$JUDGES/lib/uboot"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# The machine's own mirrors, for sources.
mkdir -p "$tmp/etc/parts" "$tmp/lists/partial"
cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | sed -nE 's/^deb /deb-src /p' | grep -i debian >"$tmp/etc/sources.list" || true
for f in /etc/apt/sources.list.d/*.sources; do
	[ -f "$f" ] && grep -qi debian "$f" && sed -E 's/^Types:.*/Types: deb-src/' "$f" >"$tmp/etc/parts/$(basename "$f")"
done
apt=(apt-get -qq -o Dir::Etc::SourceList="$tmp/etc/sources.list" -o Dir::Etc::SourceParts="$tmp/etc/parts" -o Dir::State::Lists="$tmp/lists" -o APT::Sandbox::User=root)
"${apt[@]}" update
(cd "$tmp" && "${apt[@]}" source u-boot >/dev/null 2>&1)
src=$(echo "$tmp"/u-boot-*/)
make -s -C "$src" tools-only_defconfig >/dev/null
make -s -C "$src" -j"$(nproc)" tools-only NO_SDL=1 >/dev/null 2>"$tmp/log" || { tail -20 "$tmp/log"; exit 1; }
install -m 755 "$src/tools/fit_check_sign" "$bin/"
avb=$JUDGES/lib/uboot/avb
rm -rf "$avb" && mkdir -p "$avb" && cp "$src"/lib/libavb/*.[ch] "$avb/" && rm -f "$avb"/avb_sysdeps_posix.c "$avb"/avb_sysdeps.h
cp "$here"/avb/* "$avb/"
: >"$avb/log.h" # U-Boot's, of which nothing is used
gcc -O2 -w -DAVB_COMPILATION -I"$avb" -o "$bin/avb_check" "$avb"/avb_{check,crypto,descriptor,rsa,sha256,sha512,util,vbmeta_image,version}.c
echo "$want" >"$stamp"
