// What every page can do besides showing itself: tokens for htmx, copying, local times,
// keys.
"use strict";
(() => {
  const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";

  document.addEventListener("htmx:configRequest", (event) => {
    if (event.detail.verb !== "get") event.detail.headers["X-CSRF-Token"] = meta("csrf");
    // What a page asks for by itself, at intervals or because something has changed, does
    // not keep its session.
    const cause = event.detail.triggeringEvent;
    if (!cause || cause.type === "changed") event.detail.headers["Greatseal-Unattended"] = "1";
  });
  // A problem that was shown goes when something else has worked.
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful) document.getElementById("problem").replaceChildren();
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) {
      const before = button.textContent;
      try {
        await navigator.clipboard.writeText(button.dataset.copy);
        button.textContent = "copied";
      } catch {
        button.textContent = "not allowed";
      }
      setTimeout(() => { button.textContent = before; }, 1500);
    }
    if (event.target.closest("[data-keys]")) document.getElementById("keys").showModal();
  });

  // Times are written in UTC; what they are here, and how far off, is their title.
  const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const away = (at) => {
    const seconds = Math.round((at - Date.now()) / 1000);
    const [unit, length] = units.find(([, n]) => Math.abs(seconds) >= n) ?? ["second", 1];
    return relative.format(Math.round(seconds / length), unit);
  };
  document.addEventListener("pointerover", (event) => {
    const time = event.target.closest?.("time[datetime]");
    if (!time) return;
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.getTime())) time.title = at.toLocaleString() + " here, " + away(at);
  });

  // Lists: j and k move between the rows' links.
  const rows = () => [...document.querySelectorAll("main [data-row], main tbody tr")].filter((r) => r.querySelector("a[href]"));
  const move = (step) => {
    const all = rows();
    if (all.length === 0) return;
    const here = all.findIndex((r) => r.contains(document.activeElement));
    const next = here < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, here + step));
    all[next].querySelector("a[href]").focus();
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog[open]")) return;
    switch (event.key) {
      case "/": {
        const field = document.querySelector("[data-search], input[type=search]");
        if (field) field.focus();
        else if (document.querySelector('a[href="/console/search"]')) location.assign("/console/search");
        else return;
        break;
      }
      case "j": move(1); break;
      case "k": move(-1); break;
      case "?": document.getElementById("keys").showModal(); break;
      default: return;
    }
    event.preventDefault();
  });
})();
