// Signs somebody in with a passkey: it signs a challenge that the server gives out once.
"use strict";
(() => {
  const decode = (s) => Uint8Array.from(atob(s.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const encode = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const fail = (message) => {
    const card = document.createElement("div");
    card.className = "card error";
    card.textContent = message;
    document.getElementById("problem").replaceChildren(card);
  };
  const signIn = async (form) => {
    if (!window.PublicKeyCredential) throw new Error("this browser has no passkeys at this address");
    const answer = await fetch(form.dataset.passkey, {
      method: "POST", body: new URLSearchParams({ name: form.elements.name.value }), credentials: "same-origin", redirect: "error",
      headers: { Accept: "application/json", "X-CSRF-Token": document.querySelector('meta[name="csrf"]').content },
    });
    const asked = await answer.json();
    if (!answer.ok) throw new Error(asked.detail);
    const credential = await navigator.credentials.get({ publicKey: {
      challenge: decode(asked.challenge), rpId: asked.rpId, userVerification: "required",
      allowCredentials: asked.credentials.map((c) => ({ type: "public-key", id: decode(c.id) })),
    } });
    const fields = {
      nonce: asked.nonce, credential: credential.rawId, authenticator_data: credential.response.authenticatorData,
      client_data: credential.response.clientDataJSON, signature: credential.response.signature,
    };
    for (const [name, value] of Object.entries(fields)) {
      const input = document.createElement("input");
      input.type = "hidden";
      input.name = name;
      input.value = typeof value === "string" ? value : encode(value);
      form.append(input);
    }
    form.submit();
  };
  document.querySelectorAll("form[data-passkey]").forEach((form) => form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await signIn(form);
    } catch (error) {
      fail(error.name === "NotAllowedError" ? "the passkey did not sign" : error.message);
    }
  }));
})();
