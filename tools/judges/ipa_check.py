"""Judges an application of iOS without anything of Greatseal: python3 ipa_check.py A.ipa root.pem

For every bundle it computes the list of resources again, by the rules that the list
has, and compares it with the list; for every program it computes page hashes and special
slots again and has openssl verify the CMS signature over the CodeDirectory. It knows
thin files with one CodeDirectory (SHA-256).
"""
import hashlib
import os
import plistlib
import re
import struct
import subprocess
import sys
import tempfile
import zipfile

STANDARD = {  # rules2 of shallow bundles, without weights
    r".*\.dSYM($|/)", r"^(.*/)?\.DS_Store$", r"^.*", r"^.*\.lproj/", r"^.*\.lproj/locversion.plist$", r"^Base\.lproj/",
    r"^Info\.plist$", r"^PkgInfo$", r"^embedded\.provisionprofile$", r"^version\.plist$",
}


def load(path):
    """Files of the application by their paths in it, and those that are links."""
    files, links = {}, {}
    with zipfile.ZipFile(path) as z:
        assert z.testzip() is None, "broken archive"
        for i in z.infolist():
            m = re.match(r"Payload/[^/]+\.app/(.+)", i.filename)
            if not m or i.is_dir():
                continue
            if (i.external_attr >> 16) & 0o170000 == 0o120000:
                links[m[1]] = z.read(i).decode()
            else:
                files[m[1]] = z.read(i)
    return files, links


def decide(rules, path):
    best, weight = None, -1.0
    for pattern, rule in rules.items():
        w = 1.0 if rule is True else float(rule.get("weight", 1))
        if re.search(pattern, path) and w > weight:
            best, weight = ({} if rule is True else rule), w
    return best


def judge_list(base, program, files, links):
    d = plistlib.loads(files[base + "_CodeSignature/CodeResources"])
    assert set(d) == {"files", "files2", "rules", "rules2"}, d.keys()
    assert set(d["rules2"]) == STANDARD, "rules of its own"
    want1, want2 = {}, {}
    for path in list(files) + list(links):
        if not path.startswith(base) or path == program or path == base + "_CodeSignature/CodeResources":
            continue
        rel = path[len(base):]
        for rules, want in ((d["rules"], want1), (d["rules2"], want2)):
            rule = decide(rules, rel)
            if rule is None or rule.get("omit") or (want is want1 and path in links):
                continue
            if want is want1:
                value = hashlib.sha1(files[path]).digest()
                want[rel] = {"hash": value, "optional": True} if rule.get("optional") else value
                continue
            line = {"symlink": links[path]} if path in links else {"hash2": hashlib.sha256(files[path]).digest()}
            if rule.get("optional"):
                line["optional"] = True
            want[rel] = line
    assert d["files2"] == want2, "files2 of %r: %s" % (base, [k for k in set(want2) | set(d["files2"]) if want2.get(k) != d["files2"].get(k)])
    assert d["files"] == want1, "files of %r" % base


def judge_program(path, b, base, files, root):
    assert struct.unpack("<I", b[:4])[0] in (0xFEEDFACF, 0xFEEDFACE), path
    ncmds = struct.unpack("<I", b[16:20])[0]
    at, sig = 32 if b[:1] == b"\xcf" else 28, None
    for _ in range(ncmds):
        cmd, size = struct.unpack("<II", b[at:at + 8])
        if cmd == 0x1D:
            sig = struct.unpack("<II", b[at + 8:at + 16])
        at += size
    assert sig and sig[0] + sig[1] == len(b), "no signature at the end of " + path
    s = b[sig[0]:]
    magic, _, count = struct.unpack(">III", s[:12])
    assert magic == 0xFADE0CC0
    blobs = {}
    for i in range(count):
        slot, off = struct.unpack(">II", s[12 + 8 * i:20 + 8 * i])
        blobs[slot] = s[off:off + struct.unpack(">I", s[off + 4:off + 8])[0]]
    cd, cms = blobs[0], blobs[0x10000][8:]
    (_, _, _, _, hash_at, _, nspecial, ncode, limit, hsize, htype, _, page) = struct.unpack(">IIIIIIIIIBBBB", cd[8 - 8:40])
    assert htype == 2 and hsize == 32 and limit == sig[0], path
    size = 1 << page
    slot = lambda i: cd[hash_at + 32 * i:hash_at + 32 * (i + 1)]
    assert ncode == (limit + size - 1) // size
    for i in range(ncode):
        assert hashlib.sha256(b[i * size:min(limit, (i + 1) * size)]).digest() == slot(i), "page %d of %s" % (i, path)
    special = {2: blobs.get(2), 5: blobs.get(5), 7: blobs.get(7)}
    if base is not None:
        special[1] = files[base + "Info.plist"]
        special[3] = files[base + "_CodeSignature/CodeResources"]
    for i in range(1, nspecial + 1):
        content = special.get(i)
        want = hashlib.sha256(content).digest() if content is not None else bytes(32)
        assert slot(-i) == want, "special slot %d of %s" % (i, path)
    assert base is None or nspecial >= 3, path
    with tempfile.TemporaryDirectory() as d:
        for n, c in (("cd", cd), ("cms", cms)):
            with open(os.path.join(d, n), "wb") as f:
                f.write(c)
        subprocess.run(
            ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", os.path.join(d, "cms"), "-content", os.path.join(d, "cd"),
             "-CAfile", root, "-purpose", "any", "-attime", sys.argv[3], "-out", os.devnull],
            check=True, capture_output=True)


def main():
    files, links = load(sys.argv[1])
    bundles = {}
    for path, b in files.items():
        if os.path.basename(path) == "Info.plist":
            d = plistlib.loads(b)
            base = path[:-len("Info.plist")]
            if base + d.get("CFBundleExecutable", "/") in files:
                bundles[base + d["CFBundleExecutable"]] = base
    assert "" in bundles.values(), "no application"
    n = 0
    for path, b in files.items():
        if b[:4] in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe") and "/_WatchKitStub/" not in path:
            judge_program(path, b, bundles.get(path), files, sys.argv[2])
            n += 1
    for program, base in bundles.items():
        judge_list(base, program, files, links)
    print("%d programs, %d bundles: OK" % (n, len(bundles)))


main()
