// Signing in the browser. A form with data-sign="PATH" is not sent as it is: its fields
// go to PATH, which drafts a statement; this script reads the statement itself, compares
// it with what the page and the form say, computes what is signed from its bytes, asks
// the passkey, and only then sends the form, with the statement and its signature.
//
//   data-sign       where the statement is drafted
//   data-expect     JSON: what the predicate must say, by dotted path; of the form, and of
//                   the button that was pressed
//   data-expect-field (of a field)  the dotted path that must say what the field does
"use strict";
(() => {
  const type = "application/vnd.in-toto+json";
  const text = new TextEncoder();

  const decode = (s) => Uint8Array.from(atob(s.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const encode = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const hex = (buffer) => [...new Uint8Array(buffer)].map((b) => b.toString(16).padStart(2, "0")).join("");

  // What a signature is made over: DSSE's pre-authentication encoding.
  const preAuthentication = (payload) => {
    const head = text.encode(`DSSEv1 ${text.encode(type).length} ${type} ${payload.length} `);
    const out = new Uint8Array(head.length + payload.length);
    out.set(head);
    out.set(payload, head.length);
    return out;
  };

  const at = (value, path) => path.split(".").reduce((v, name) => (v !== null && typeof v === "object" && Object.hasOwn(v, name) ? v[name] : undefined), value);

  // Refuses a statement that says something else than was asked.
  const compare = (form, submitter, draft, statement) => {
    const predicate = statement.predicate;
    if (statement._type !== "https://in-toto.io/Statement/v1" || predicate === null || typeof predicate !== "object") throw new Error("this is no statement");
    const seen = [];
    const want = (path, value) => {
      const said = at(predicate, path);
      const is = said === undefined ? "" : typeof said === "object" ? JSON.stringify(said) : String(said);
      if (is !== String(value)) throw new Error(`the statement says ${path} = "${is}", the page said "${value}"`);
      if (is !== "" && !seen.some(([p]) => p === path)) seen.push([path, is]);
    };
    for (const [path, value] of Object.entries(JSON.parse(form.dataset.expect ?? "{}"))) want(path, value);
    for (const [path, value] of Object.entries(JSON.parse(submitter?.dataset.expect ?? "{}"))) want(path, value);
    for (const field of form.querySelectorAll("[data-expect-field]")) want(field.dataset.expectField, field.value.trim().replace(/\r\n?/g, "\n"));
    for (const [path, value] of Object.entries(draft.expect ?? {})) want(path, value);
    return seen;
  };

  const ask = (facts, digest) => new Promise((resolve) => {
    const dialog = document.getElementById("sign");
    dialog.querySelector("[data-sign-facts]").replaceChildren(...facts.flatMap(([name, value]) => {
      const dt = document.createElement("dt"), dd = document.createElement("dd");
      dt.textContent = name;
      dd.textContent = value;
      return [dt, dd];
    }));
    dialog.querySelector("[data-sign-digest]").textContent = `${digest.slice(0, 8)} … ${digest.slice(-8)}`;
    dialog.querySelector("[data-sign-digest]").title = digest;
    dialog.querySelector("[data-sign-state]").textContent = "The digest of what is signed, computed in this browser.";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "sign"), { once: true });
    dialog.returnValue = "";
    dialog.showModal();
  });

  const fail = (message) => {
    const card = document.createElement("div"), strong = document.createElement("strong");
    card.className = "card error";
    strong.textContent = message;
    card.append(strong);
    document.getElementById("problem").replaceChildren(card);
    document.getElementById("problem").scrollIntoView({ block: "nearest" });
  };

  const hidden = (form, name, value) => {
    form.querySelector(`input[type="hidden"][name="${name}"]`)?.remove();
    const input = document.createElement("input");
    input.type = "hidden";
    input.name = name;
    input.value = value;
    form.append(input);
  };

  const sign = async (form, submitter, fields) => {
    if (!window.PublicKeyCredential) throw new Error("this browser has no passkeys at this address");
    const answer = await fetch(form.dataset.sign, {
      method: "POST", body: fields, credentials: "same-origin", redirect: "error",
      headers: { Accept: "application/json", "X-CSRF-Token": document.querySelector('meta[name="csrf"]').content },
    });
    const draft = await answer.json();
    if (!answer.ok) throw new Error(draft.detail + (draft.hint ? " – " + draft.hint : ""));
    const payload = decode(draft.payload);
    const statement = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(payload));
    const facts = compare(form, submitter, draft, statement);
    const challenge = await crypto.subtle.digest("SHA-256", preAuthentication(payload));
    if (!await ask([["statement", String(statement.predicateType)], ...facts], hex(challenge))) return;
    const credential = await navigator.credentials.get({ publicKey: {
      challenge, rpId: draft.rpId, userVerification: "required",
      allowCredentials: draft.credentials.map((c) => ({ type: "public-key", id: decode(c.id) })),
    } });
    hidden(form, "payload", draft.payload);
    hidden(form, "draft", draft.draft);
    hidden(form, "credential", encode(credential.rawId));
    hidden(form, "authenticator_data", encode(credential.response.authenticatorData));
    hidden(form, "client_data", encode(credential.response.clientDataJSON));
    hidden(form, "signature", encode(credential.response.signature));
    if (submitter?.name) hidden(form, submitter.name, submitter.value);
    if (submitter?.hasAttribute("formaction")) form.action = submitter.formAction;
    form.submit();
  };

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.dataset.sign) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const fields = new URLSearchParams(new FormData(form, event.submitter));
    const buttons = [...form.querySelectorAll("button")];
    buttons.forEach((b) => { b.disabled = true; });
    try {
      await sign(form, event.submitter, fields);
    } catch (error) {
      fail(error.name === "NotAllowedError" ? "the passkey did not sign" : error.message);
    } finally {
      buttons.forEach((b) => { b.disabled = false; });
    }
  }, true);
})();
