#!/usr/bin/env python3
"""Verify a signed NuGet package with openssl, apart from the signer's code.

    judge.py PACKAGE ROOTS SECONDS

ROOTS is a PEM file; SECONDS, since 1970, is when to judge certificates. It shares no
code with the signer, but its author: rules of position and attributes are those of
NuGet's own client and its "Package Signatures Technical Specification"; RFC 5652
(section 11.4 for countersignatures), RFC 5035, APPNOTE.TXT.
"""
import base64, hashlib, re, struct, subprocess, sys, tempfile, os

package, roots, seconds = sys.argv[1:]
raw = open(package, "rb").read()
work = tempfile.mkdtemp()


def die(why):
    sys.exit("judge: " + why)


def openssl(*args):
    r = subprocess.run(["openssl", *args], capture_output=True)
    if r.returncode:
        die("openssl %s: %s" % (args[0], r.stderr.decode(errors="replace")))
    return r.stdout


def write(name, data):
    path = os.path.join(work, name)
    with open(path, "wb") as f:
        f.write(data)
    return path


# The archive: end record, directory, and the one entry of the signature.
end = raw.rfind(b"PK\5\6")
if end < 0 or end + 22 + struct.unpack_from("<H", raw, end + 20)[0] != len(raw):
    die("no end record")
count, size, offset = struct.unpack_from("<HII", raw, end + 10)
if offset + size != end:
    die("directory does not end where the end record starts")
entries, at = [], offset
while at < end:
    if raw[at:at + 4] != b"PK\1\2":
        die("directory record")
    name, extra, comment = struct.unpack_from("<HHH", raw, at + 28)
    entries.append((struct.unpack_from("<I", raw, at + 42)[0], at, 46 + name + extra + comment, raw[at + 46:at + 46 + name]))
    at += 46 + name + extra + comment
if len(entries) != count:
    die("count of entries")
mine = [e for e in entries if e[3] == b".signature.p7s"]
if len(mine) != 1:
    die("%d signature files" % len(mine))
local, record, length, _ = mine[0]
for where, start in (("directory record", record + 8), ("local header", local + 6)):
    flags, method, _, _, _, packed, plain = struct.unpack_from("<HHHHIII", raw, start)
    if flags or method or packed != plain:
        die(where + " of the signature has flags, or is compressed")
if struct.unpack_from("<I", raw, record + 38)[0]:
    die("external attributes")
follow = sorted([e[0] for e in entries if e[0] > local] + [offset])[0]
whole = follow - local
p7s = raw[follow - plain:follow]

# The package as it was: without the entry and its record, offsets and counts put right.
before = bytearray(raw[:local] + raw[follow:offset])
for where, start, n, _ in entries:
    if start != record:
        r = bytearray(raw[start:start + n])
        struct.pack_into("<I", r, 42, where - whole if where > local else where)
        before += r
tail = bytearray(raw[end:])
struct.pack_into("<HHII", tail, 8, count - 1, count - 1, size - length, offset - whole)
before += tail

# The CMS, judged by openssl, and its text.
der = write("p7s", p7s)
text = openssl("cms", "-verify", "-binary", "-inform", "DER", "-in", der, "-CAfile", roots, "-purpose", "any", "-attime", seconds)
m = re.fullmatch(rb"Version:1\n\n(2\.16\.840\.1\.101\.3\.4\.2\.[123])-Hash:([A-Za-z0-9+/=]+)\n\n", text)
if not m:
    die("text %r" % text)
digest = {b"1": "sha256", b"2": "sha384", b"3": "sha512"}[m.group(1)[-1:]]
if base64.b64decode(m.group(2), validate=True) != hashlib.new(digest, before).digest():
    die("the package has another digest")


# DER, as much as the attributes need: (tag, content, whole).
def parse(b):
    out, i = [], 0
    while i < len(b):
        start, tag, n = i, b[i], b[i + 1]
        i += 2
        if n & 0x80:
            k = n & 0x7f
            n = int.from_bytes(b[i:i + k], "big")
            i += k
        if i + n > len(b):
            die("DER")
        out.append((tag, b[i:i + n], b[start:i + n]))
        i += n
    return out


def attributes(content):
    out = {}
    for _, a, _ in parse(content):
        oid, values = parse(a)
        if oid[1] in out:
            die("an attribute that stands twice")
        out[oid[1]] = parse(values[1])
    return out


def oid(text):
    return bytes.fromhex(text)


COMMITMENT, ORIGIN, RECEIPT = oid("2a864886f70d0109100210"), oid("2a864886f70d0109100601"), oid("2a864886f70d0109100602")
TIME, DIGEST, TYPE, CERT = oid("2a864886f70d010905"), oid("2a864886f70d010904"), oid("2a864886f70d010903"), oid("2a864886f70d010910022f")
COUNTER, INDEX = oid("2a864886f70d010906"), oid("2b060104018237540201" + "0101")
HASHES = {oid("608648016503040201"): "sha256", oid("608648016503040202"): "sha384", oid("608648016503040203"): "sha512"}

signed = parse(parse(parse(p7s)[0][1])[1][1])[0][1]
fields = parse(signed)
certificates = [c[2] for f in fields if f[0] == 0xA0 for c in parse(f[1])]
signers = parse(fields[-1][1])
if len(signers) != 1:
    die("%d signers" % len(signers))


def judge(info, kind):
    """Judge what a signer's attributes say; returns its fields and unsigned attributes."""
    f = parse(info)
    if f[3][0] != 0xA0:
        die("no signed attributes")
    attrs = attributes(f[3][1])
    if TIME not in attrs or parse(attrs[COMMITMENT][0][1])[0][1] != kind:
        die("signing time or commitment")
    if (INDEX in attrs) != (kind == RECEIPT):
        die("service index")
    issuer, serial = parse(f[1][1])
    leaf = None
    for c in certificates:
        t = parse(parse(parse(c)[0][1])[0][1])
        if t[0][0] == 0xA0:
            t = t[1:]
        if t[0][2] == serial[2] and t[2][2] == issuer[2]:
            leaf = c
    ess = parse(parse(parse(attrs[CERT][0][1])[0][1])[0][1])
    name = "sha256"
    if ess[0][0] == 0x30:
        name, ess = HASHES[parse(ess[0][1])[0][1]], ess[1:]
    if leaf is None or hashlib.new(name, leaf).digest() != ess[0][1]:
        die("signing-certificate-v2")
    pem = openssl("x509", "-inform", "DER", "-in", write("leaf", leaf))
    if b"Code Signing" not in openssl("x509", "-noout", "-ext", "extendedKeyUsage", "-in", write("leaf.pem", pem)):
        die("not for code signing")
    return f, attrs, leaf


primary = signers[0][1]
f = parse(primary)
kind = parse(attributes(f[3][1])[COMMITMENT][0][1])[0][1]
if kind not in (ORIGIN, RECEIPT):
    die("commitment")
f, attrs, _ = judge(primary, kind)
value = f[5][1]
unsigned = attributes(f[6][1]) if len(f) > 6 else {}
for _, info, _ in unsigned.get(COUNTER, []):
    g, attrs, leaf = judge(info, RECEIPT)
    name = HASHES[parse(g[2][1])[0][1]]
    if TYPE in attrs or attrs[DIGEST][0][1] != hashlib.new(name, value).digest():
        die("countersignature is about something else")
    n = g[3][2]
    public = openssl("x509", "-noout", "-pubkey", "-inform", "DER", "-in", write("counter", leaf))
    openssl("dgst", "-" + name, "-verify", write("pub", public), "-signature", write("sig", g[5][1]), write("attrs", b"\x31" + n[1:]))
    pem = b"".join(openssl("x509", "-inform", "DER", "-in", write("c", c)) for c in certificates)
    openssl("verify", "-CAfile", roots, "-untrusted", write("all", pem), "-attime", seconds, write("counter.pem", openssl("x509", "-inform", "DER", "-in", write("counter", leaf))))
print("ok")
