// The switch between light and dark. The choice is a cookie, so that the next page comes
// with it and nothing flashes.
"use strict";
document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-theme-switch]")) return;
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = "greatseal-theme=" + root.dataset.theme + "; Path=/console/; Max-Age=31536000; SameSite=Lax" + secure;
});
