// Checks the log in the browser: the entry's leaf and its path to the root (RFC 9162
// section 2.1.3.2), the checkpoint's signature (C2SP signed-note, Ed25519), and that the
// log of now begins with the one that this browser saw before (section 2.1.4.2).
"use strict";
(() => {
  const hex = (b) => [...b].map((x) => x.toString(16).padStart(2, "0")).join("");
  const bytes = (b64) => Uint8Array.from(atob(b64), (c) => c.charCodeAt(0));
  const same = (a, b) => a.length === b.length && a.every((x, i) => x === b[i]);
  const join = (...parts) => {
    const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
    let at = 0;
    for (const p of parts) { out.set(p, at); at += p.length; }
    return out;
  };
  const sha256 = async (b) => new Uint8Array(await crypto.subtle.digest("SHA-256", b));
  const leafOf = (entry) => sha256(join(Uint8Array.of(0), entry));
  const nodeOf = (l, r) => sha256(join(Uint8Array.of(1), l, r));
  const odd = (n) => n % 2 === 1;
  const half = (n) => Math.floor(n / 2);
  const count = (n) => Number.isSafeInteger(n) && n >= 0;

  const rootOfInclusion = async (leaf, index, size, path) => {
    if (!count(index) || !count(size) || index >= size) throw new Error("the proof is for another log");
    let fn = index, sn = size - 1, r = leaf;
    for (const p of path) {
      if (sn === 0) throw new Error("the proof is too long");
      if (odd(fn) || fn === sn) {
        r = await nodeOf(p, r);
        while (!odd(fn) && fn !== 0) { fn = half(fn); sn = half(sn); }
      } else r = await nodeOf(r, p);
      fn = half(fn); sn = half(sn);
    }
    if (sn !== 0) throw new Error("the proof is too short");
    return r;
  };

  const consistent = async (oldSize, oldRoot, newSize, newRoot, hashes) => {
    if (!count(oldSize) || !count(newSize) || oldSize > newSize) return false;
    if (oldSize === newSize) return hashes.length === 0 && same(oldRoot, newRoot);
    if (oldSize === 0) return hashes.length === 0;
    let fn = oldSize - 1, sn = newSize - 1;
    while (odd(fn)) { fn = half(fn); sn = half(sn); }
    const path = fn === 0 ? [oldRoot, ...hashes] : [...hashes];
    if (path.length === 0) return false;
    let fr = path[0], sr = path[0];
    for (const c of path.slice(1)) {
      if (sn === 0) return false;
      if (odd(fn) || fn === sn) {
        fr = await nodeOf(c, fr);
        sr = await nodeOf(c, sr);
        while (!odd(fn) && fn !== 0) { fn = half(fn); sn = half(sn); }
      } else sr = await nodeOf(sr, c);
      fn = half(fn); sn = half(sn);
    }
    return sn === 0 && same(fr, oldRoot) && same(sr, newRoot);
  };

  // openNote checks a signed note and returns its tree.
  const openNote = async (note, origin, key) => {
    const cut = note.indexOf("\n\n");
    if (cut < 0) throw new Error("the checkpoint is no signed note");
    const text = note.slice(0, cut + 1);
    const lines = text.split("\n");
    if (lines.length !== 4 || lines[0] !== origin || lines[3] !== "" || !/^(0|[1-9][0-9]{0,15})$/.test(lines[1])) throw new Error("the checkpoint is another log's, or malformed");
    const id = (await sha256(join(new TextEncoder().encode(origin + "\n"), Uint8Array.of(1), key))).slice(0, 4);
    const pub = await crypto.subtle.importKey("raw", key, "Ed25519", false, ["verify"]);
    for (const line of note.slice(cut + 2).split("\n")) {
      const at = line.lastIndexOf(" ");
      if (line.slice(0, at) !== "— " + origin) continue;
      const sig = bytes(line.slice(at + 1));
      if (!same(sig.slice(0, 4), id)) continue;
      if (sig.length !== 68 || !(await crypto.subtle.verify("Ed25519", pub, sig.slice(4), new TextEncoder().encode(text)))) throw new Error("the checkpoint's signature does not verify");
      return { size: Number(lines[1]), root: bytes(lines[2]) };
    }
    throw new Error("the checkpoint does not carry the log's signature");
  };

  const ask = async (path) => {
    const answer = await fetch(path, { headers: { Accept: "application/json" }, credentials: "same-origin" });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.detail ?? "the server answered " + answer.status);
    return body;
  };

  const verify = async (card, say) => {
    const { origin, key } = card.dataset;
    const slot = "greatseal-log " + origin;
    const before = JSON.parse(localStorage.getItem(slot) ?? "null");
    if (before && before.key !== key) throw new Error("the log's key is not the one that this browser saw before: " + before.key + ". Ask an officer, and compare with greatseal charter show");
    const index = document.querySelector("[data-entry]")?.dataset.entry;
    let size, root;
    if (index !== undefined) {
      const p = await ask("/console/log/proof/" + index);
      ({ size, root } = await openNote(p.note, origin, bytes(key)));
      if (p.inclusion.index !== Number(index) || p.inclusion.size !== size) throw new Error("the proof is for another entry or another checkpoint");
      const leaf = await leafOf(bytes(p.entry));
      const shown = document.querySelector("[data-entry] .digest code")?.title;
      if (shown !== hex(leaf)) throw new Error("the entry's bytes hash to " + hex(leaf).slice(0, 16) + "…, not to the leaf on this page");
      say(`the entry's bytes hash to the leaf ${hex(leaf).slice(0, 16)}…`);
      if (!same(await rootOfInclusion(leaf, p.inclusion.index, size, p.inclusion.hashes.map(bytes)), root)) throw new Error("the leaf is not under the checkpoint's root");
      say(`the leaf is entry ${index} of ${size} under the root ${hex(root).slice(0, 16)}…`);
    } else {
      ({ size, root } = await openNote((await ask("/console/log/growth?old=0")).note, origin, bytes(key)));
    }
    if (before && before.size > 0) {
      // Another replica may be a moment behind: then it is this head that the other extends.
      const seen = { size: before.size, root: bytes(before.root) }, now = { size, root };
      const [first, then] = seen.size <= size ? [seen, now] : [now, seen];
      const { consistency: c } = await ask(`/console/log/growth?old=${first.size}&new=${then.size}`);
      if (c.old !== first.size || c.new !== then.size || !(await consistent(first.size, first.root, then.size, then.root, c.hashes.map(bytes)))) throw new Error("the log was rewritten: it is not the one whose first " + before.size + " entries this browser saw");
      say(`the log is the one of which this browser saw ${before.size} entries before`);
    }
    say(`the checkpoint over ${size} entries carries the signature of ${origin}`);
    if (!before) say("this browser had not seen this log before: compare the key " + key + " with greatseal charter show");
    if (!before || size >= before.size) localStorage.setItem(slot, JSON.stringify({ key, size, root: btoa(String.fromCharCode(...root)) }));
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-verify]");
    if (!button) return;
    const card = button.closest("[data-log]");
    const list = card.querySelector("[data-verified]");
    const say = (text, kind = "good", word = "verified") => {
      const item = document.createElement("li");
      const badge = document.createElement("span");
      badge.className = "badge badge-" + kind;
      badge.textContent = word;
      item.append(badge, " " + text);
      list.append(item);
    };
    button.disabled = true;
    list.replaceChildren();
    try {
      await verify(card, say);
    } catch (e) {
      say(e.message, "bad", "refused");
    }
    button.disabled = false;
  });
})();
