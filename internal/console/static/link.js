// Moves the code behind the # into the form, out of the address and the history.
"use strict";
(() => {
  const code = location.hash.slice(1);
  if (!code) return;
  history.replaceState(null, "", location.pathname);
  const form = document.getElementById("link");
  form.elements.code.value = code;
  form.submit();
})();
