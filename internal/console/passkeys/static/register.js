// Registers a passkey. The fingerprint is computed here, from what the authenticator
// returned, and compared with what the server has kept.
"use strict";
(() => {
  const decode = (s) => Uint8Array.from(atob(s.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const encode = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const text = new TextEncoder();
  const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));

  // The end of the CBOR item that begins at position at: integers, strings, arrays and
  // maps, which is what a public key is made of.
  const skip = (b, at) => {
    const major = b[at] >> 5, info = b[at] & 31;
    let value = info, next = at + 1;
    if (info >= 24) {
      const size = { 24: 1, 25: 2, 26: 4 }[info];
      if (!size) throw new Error("the authenticator's public key cannot be read");
      value = 0;
      for (let i = 0; i < size; i++) value = value * 256 + b[next++];
    }
    switch (major) {
      case 0: case 1: return next;
      case 2: case 3: return next + value;
      case 4: for (let i = 0; i < value; i++) next = skip(b, next); return next;
      case 5: for (let i = 0; i < 2 * value; i++) next = skip(b, next); return next;
    }
    throw new Error("the authenticator's public key cannot be read");
  };

  const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
  const base32 = (bytes) => {
    let out = "", bits = 0, value = 0;
    for (const b of bytes) {
      value = (value << 8) | b;
      bits += 8;
      while (bits >= 5) { bits -= 5; out += alphabet[(value >> bits) & 31]; }
      value &= (1 << bits) - 1;
    }
    return out;
  };

  const fingerprint = async (data) => {
    const length = data[53] * 256 + data[54];
    const id = data.subarray(55, 55 + length), key = data.subarray(55 + length, skip(data, 55 + length));
    const head = text.encode("greatseal passkey fingerprint v1\n");
    const all = new Uint8Array(head.length + 64);
    all.set(head);
    all.set(await sha256(id), head.length);
    all.set(await sha256(key), head.length + 32);
    return base32((await sha256(all)).subarray(0, 15)).match(/.{4}/g).join(" ");
  };

  const show = (className, ...parts) => {
    const card = document.createElement("div");
    card.className = "card " + className;
    card.append(...parts);
    document.getElementById("registered").replaceChildren(card);
    card.scrollIntoView({ block: "nearest" });
  };
  const paragraph = (className, content) => {
    const p = document.createElement("p");
    p.className = className;
    p.append(content);
    return p;
  };

  const call = async (path, fields) => {
    const answer = await fetch(path, {
      method: "POST", body: new URLSearchParams(fields), credentials: "same-origin", redirect: "error",
      headers: { Accept: "application/json", "X-CSRF-Token": document.querySelector('meta[name="csrf"]').content },
    });
    const out = await answer.json();
    if (!answer.ok) throw new Error(out.detail + (out.hint ? " – " + out.hint : ""));
    return out;
  };

  const register = async (form) => {
    if (!window.PublicKeyCredential) throw new Error("this browser has no passkeys at this address");
    const begun = await call(form.dataset.begin, {});
    const o = begun.publicKey;
    const credential = await navigator.credentials.create({ publicKey: {
      ...o, challenge: decode(o.challenge), user: { ...o.user, id: decode(o.user.id) },
      excludeCredentials: o.excludeCredentials.map((c) => ({ ...c, id: decode(c.id) })),
    } });
    const response = credential.response;
    const own = await fingerprint(new Uint8Array(response.getAuthenticatorData()));
    const kept = await call(form.dataset.finish, {
      ticket: begun.ticket, attestation_object: encode(response.attestationObject), client_data: encode(response.clientDataJSON),
      transports: (response.getTransports?.() ?? []).join(" "), label: form.elements.label.value, replaces: form.elements.replaces?.value ?? "",
    });
    if (kept.fingerprint !== own) {
      throw new Error(`the server has kept another passkey (${kept.fingerprint}) than this browser has registered (${own}): tell an officer`);
    }
    const link = document.createElement("a");
    link.href = kept.path;
    link.textContent = "what becomes of it";
    show("", paragraph("", "Registered. It signs nothing until the charter has it. Read this fingerprint to an officer, face to face or by phone:"),
      paragraph("mono fingerprint", own), paragraph("hint", "Computed in this browser from what your authenticator returned."), paragraph("", link));
    form.reset();
  };

  document.querySelectorAll("form[data-begin]").forEach((form) => form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      await register(form);
    } catch (error) {
      const known = { NotAllowedError: "the authenticator did not register a passkey", InvalidStateError: "that authenticator has a passkey of yours already" };
      show("error", paragraph("", known[error.name] ?? error.message));
    } finally {
      button.disabled = false;
    }
  }));
})();
