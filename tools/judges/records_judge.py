#!/usr/bin/env python3
"""An independent reading of docs/spec/records.md: judges, and makes, signed roots.

  records_judge.py verify LIST SIGNED-ROOT TRUSTED-CERTIFICATES.pem TIME
  records_judge.py sign LIST SIGNED-ROOT KEY.pem CERTIFICATES.pem SCHEME TIME
  records_judge.py prove SIGNATURE RECORD.json TRUSTED-CERTIFICATES.pem TIME

TIME is in Unix seconds. Everything is read from the specification with the standard
library; openssl verifies and makes signatures and judges certificates.
"""

import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile

MAGIC = b"greatseal records 1\n"


class Bad(Exception):
    pass


def need(ok, what):
    if not ok:
        raise Bad(what)


# CBOR, RFC 8949, the deterministic subset: unsigned numbers, bytes, text, arrays,
# maps with small keys in order, booleans.


def decode(b):
    v, at = item(b, 0)
    need(at == len(b), "bytes after the end")
    need(encode(v) == b, "not the one encoding")
    return v


def item(b, at):
    need(at < len(b), "cut off")
    major, info = b[at] >> 5, b[at] & 31
    at += 1
    if major == 7:
        need(info in (20, 21), "a simple value")
        return info == 21, at
    if info < 24:
        n = info
    else:
        need(info < 28, "a length")
        size = 1 << (info - 24)
        n = int.from_bytes(b[at : at + size], "big")
        at += size
    if major == 0:
        return n, at
    if major in (2, 3):
        need(at + n <= len(b), "cut off")
        v = b[at : at + n]
        return (v if major == 2 else v.decode()), at + n
    if major == 4:
        out = []
        for _ in range(n):
            v, at = item(b, at)
            out.append(v)
        return out, at
    need(major == 5, "a major type")
    out = {}
    for _ in range(n):
        k, at = item(b, at)
        need(type(k) is int and k not in out, "a key")
        out[k], at = item(b, at)
    return out, at


def head(major, n):
    if n < 24:
        return bytes([major << 5 | n])
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if n < 1 << 8 * size:
            return bytes([major << 5 | info]) + n.to_bytes(size, "big")
    raise Bad("a number")


def encode(v):
    if v is True or v is False:
        return b"\xf5" if v else b"\xf4"
    if type(v) is int:
        return head(0, v)
    if type(v) is bytes:
        return head(2, len(v)) + v
    if type(v) is str:
        return head(3, len(v.encode())) + v.encode()
    if type(v) is list:
        return head(4, len(v)) + b"".join(map(encode, v))
    return head(5, len(v)) + b"".join(encode(k) + encode(v[k]) for k in sorted(v))


# The tree, as RFC 6962 section 2.1 defines it: by halves.

DOMAIN = b"greatseal record v1"


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def leaf(statement):
    return sha(b"\0", bytes([len(DOMAIN)]), DOMAIN, statement)


def top(leaves):
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha(b"\1", top(leaves[:k]), top(leaves[k:]))


def seal(n, h):
    return sha(b"\2", bytes([len(DOMAIN)]), DOMAIN, n.to_bytes(8, "big"), h)


def climb(h, index, n, path):
    """The top over the leaf h, by halves, from the end of the path."""
    if n == 1:
        need(not path, "a path too long")
        return h
    need(path, "a path too short")
    k = 1
    while 2 * k < n:
        k *= 2
    if index < k:
        return sha(b"\1", climb(h, index, k, path[:-1]), path[-1])
    return sha(b"\1", path[-1], climb(h, index - k, n - k, path[:-1]))


# Lists and jobs.


def pieces(b):
    need(b.startswith(MAGIC), "no list")
    at, out = len(MAGIC), []
    while at < len(b):
        n = int.from_bytes(b[at : at + 4], "big")
        need(n > 0 and at + 4 + n <= len(b), "the list is cut off")
        out.append(b[at + 4 : at + 4 + n])
        at += 4 + n
    need(len(out) > 1, "an empty list")
    return decode(out[0]), out[1:]


def job_of(b):
    first, statements = pieces(b)
    ss = [decode(s) for s in statements]
    for s in ss:
        need(s[1] == 1 and s[3] == first[2] and s[4] == first[3], "a statement of another list")
    tables = sorted({s[5][1] for s in ss}, key=str.encode)
    configs = {}
    for s in ss:
        need(configs.setdefault(s[8][1], s[8]) == s[8], "two configurations of one name")
    return {
        1: 1,
        2: first[1],
        3: first[2],
        4: first[3],
        5: sorted({s[2] for s in ss}, key=str.encode),
        6: [{1: t, 2: sum(s[5][1] == t for s in ss)} for t in tables],
        7: [configs[c] for c in sorted(configs, key=str.encode)],
        8: len(ss),
        9: sum(s[7] for s in ss),
        10: min(s[6] for s in ss),
        11: max(s[6] for s in ss),
        12: min(s[11] for s in ss),
        13: 0 if any(s[12] == 0 for s in ss) else max(s[12] for s in ss),
        14: len(b),
        15: seal(len(ss), top([leaf(s) for s in statements])),
    }


def message(root):
    return encode({1: "greatseal signed root v1", 2: root[2], 3: root[3], 4: root[4], 5: sha(root[5][0])})


# openssl.


def openssl(*args, data=None):
    p = subprocess.run(("openssl",) + args, input=data, capture_output=True)
    need(p.returncode == 0, "openssl %s: %s" % (args[0], p.stderr.decode(errors="replace")))
    return p.stdout


def pem(der):
    return "-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n" % base64.encodebytes(der).decode()


def options(scheme):
    """The arguments of openssl pkeyutl for a scheme, and the hash, if any."""
    if scheme == "ed25519":
        return ["-rawin"], None
    family, _, digest = scheme.rpartition("-")
    o = ["-pkeyopt", "digest:" + digest]
    if family == "rsa-pss":
        o += ["-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest"]
    else:
        need(family in ("rsa-pkcs1", "ecdsa"), "scheme " + scheme)
    return o, digest


def with_message(dir, root):
    o, digest = options(root[4])
    path = os.path.join(dir, "message")
    with open(path, "wb") as f:
        m = message(root)
        f.write(hashlib.new(digest, m).digest() if digest else m)
    return o, path


def check_signature(root, trusted, at):
    with tempfile.TemporaryDirectory() as dir:
        files = {"leaf": pem(root[5][0]), "rest": "".join(map(pem, root[5][1:])), "sig": root[6]}
        for name, data in files.items():
            files[name] = os.path.join(dir, name)
            with open(files[name], "wb") as f:
                f.write(data if type(data) is bytes else data.encode())
        args = ["verify", "-attime", at, "-CAfile", trusted, "-purpose", "any"]
        if len(root[5]) > 1:
            args += ["-untrusted", files["rest"]]
        openssl(*args, files["leaf"])
        need(b"Code Signing" in openssl("x509", "-in", files["leaf"], "-noout", "-ext", "extendedKeyUsage"), "not for code signing")
        o, path = with_message(dir, root)
        openssl("pkeyutl", "-verify", "-certin", "-inkey", files["leaf"], "-in", path, "-sigfile", files["sig"], *o)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def verify(list_file, root_file, trusted, at):
    root = decode(read(root_file))
    need(sorted(root) == [1, 2, 3, 4, 5, 6, 7] and root[1] == 1, "no signed root")
    need(decode(root[2]) == job_of(read(list_file)), "the job is not that of the list")
    check_signature(root, trusted, at)


def sign(list_file, root_file, key, certificates, scheme, at):
    ders = [base64.b64decode(c.split("-----END")[0]) for c in read(certificates).decode().split("-----BEGIN CERTIFICATE-----")[1:]]
    root = {1: 1, 2: encode(job_of(read(list_file))), 3: int(at), 4: scheme, 5: ders, 7: b""}
    with tempfile.TemporaryDirectory() as dir:
        o, path = with_message(dir, root)
        root[6] = openssl("pkeyutl", "-sign", "-inkey", key, "-in", path, *o)
    with open(root_file, "wb") as f:
        f.write(encode(root))


def field(name, value):
    n = name.encode()
    tail = b"\1" + value.encode() if value else b"\0"
    return sha(b"greatseal field v1", len(n).to_bytes(2, "big"), n, tail)


def prove(signature_file, record_file, trusted, at):
    sig, rec = decode(read(signature_file)), json.loads(read(record_file))
    s, root = decode(sig[1]), decode(sig[4])
    job = decode(root[2])
    path = [sig[3][i : i + 32] for i in range(0, len(sig[3]), 32)]
    need(0 <= sig[2] < job[8] and seal(job[8], climb(leaf(sig[1]), sig[2], job[8], path)) == job[15], "not among those that were signed")
    need(s[5] == {1: rec["table"], 2: rec["key"]}, "another record")
    for f in s[9]:
        need(f[2] == field(f[1], rec["fields"].get(f[1], "")), "field " + f[1])
    have = [[a["name"], a["type"], a["size"], a["sha256"]] for a in rec["attachments"]]
    need(sorted(have) == sorted([a[1], a[2], a[3], a[4].hex()] for a in s[10]), "attachments")
    check_signature(root, trusted, at)


def main():
    commands = {"verify": verify, "sign": sign, "prove": prove}
    try:
        commands[sys.argv[1]](*sys.argv[2:])
    except (Bad, KeyError, IndexError, TypeError, ValueError) as e:
        sys.exit("records_judge: %s: %s" % (type(e).__name__, e))


if __name__ == "__main__":
    main()
