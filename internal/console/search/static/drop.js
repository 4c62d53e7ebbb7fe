// Hashes a file that is chosen or dropped, here, and searches for the digest.
"use strict";
(function () {
  const PIECE = 4 << 20;
  let turn = 0;

  async function search(box, file) {
    const mine = ++turn;
    const state = box.querySelector("[data-drop-state]");
    const hash = new globalThis.GreatsealSHA256();
    try {
      for (let at = 0; at < file.size; at += PIECE) {
        hash.update(new Uint8Array(await file.slice(at, at + PIECE).arrayBuffer()));
        if (mine !== turn) return; // another file was chosen
        if (file.size > PIECE) state.textContent = "hashing " + file.name + ": " + Math.floor(100 * Math.min(1, (at + PIECE) / file.size)) + " %";
        await new Promise((go) => setTimeout(go, 0)); // so that the page stays alive
      }
    } catch (e) {
      state.textContent = file.name + " could not be read";
      return;
    }
    const digest = hash.hex();
    state.textContent = "SHA-256 of " + file.name + ": " + digest;
    const to = new URL("/console/search", location.origin);
    to.searchParams.set("digest", digest);
    location.assign(to);
  }

  document.addEventListener("change", (event) => {
    const input = event.target.closest && event.target.closest("[data-drop-file]");
    if (input && input.files.length > 0) search(input.closest("[data-drop]"), input.files[0]);
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      const box = event.target.closest && event.target.closest("[data-drop]");
      if (!box) return;
      event.preventDefault();
      box.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length > 0) search(box, event.dataTransfer.files[0]);
    });
  }
})();
