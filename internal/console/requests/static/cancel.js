// Withdraws a request. What the passkey signs is made here from the request's ID.
"use strict";
(() => {
  const text = new TextEncoder();
  const decode = (s) => Uint8Array.from(atob(s), (c) => c.charCodeAt(0));
  const encode = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const cancel = async (form) => {
    if (!/^[0-9a-f]{64}$/.test(form.dataset.cancel)) throw new Error("that is no request");
    const challenge = await crypto.subtle.digest("SHA-256", text.encode("login\ngreatseal cancel v1\n" + form.dataset.cancel));
    const credential = await navigator.credentials.get({ publicKey: {
      challenge, rpId: form.dataset.rp, userVerification: "required",
      allowCredentials: JSON.parse(form.dataset.keys).map((id) => ({ type: "public-key", id: decode(id) })),
    } });
    const fields = {
      credential: credential.rawId, authenticator_data: credential.response.authenticatorData,
      client_data: credential.response.clientDataJSON, signature: credential.response.signature,
    };
    for (const [name, value] of Object.entries(fields)) {
      const input = document.createElement("input");
      input.type = "hidden";
      input.name = name;
      input.value = encode(value);
      form.append(input);
    }
    form.submit();
  };
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.dataset.cancel) return;
    event.preventDefault();
    try {
      await cancel(form);
    } catch (error) {
      const card = document.createElement("div");
      card.className = "card error";
      card.textContent = error.name === "NotAllowedError" ? "the passkey did not sign" : error.message;
      document.getElementById("problem").replaceChildren(card);
    }
  });
})();
