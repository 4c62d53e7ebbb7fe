// Live parts of pages. An element with data-live="PATH" listens to the events there.
// "changed" makes it, and whatever it holds with hx-trigger="changed", ask anew; "say"
// is read out to those who do not see the page. Events carry no markup.
"use strict";
(() => {
  const streams = new Map();
  const say = (text) => { document.getElementById("live").textContent = text; };
  // Parts whose answer was under way when something changed again: that answer may be of
  // before, and the part that asked is gone when it comes.
  const stale = new Set();
  const refresh = (part) => {
    if (part.classList.contains("htmx-request")) stale.add(part.id);
    else htmx.trigger(part, "changed");
  };
  const open = (element) => {
    const source = new EventSource(element.dataset.live);
    streams.set(element, source);
    source.addEventListener("changed", () => {
      if (element.matches('[hx-trigger~="changed"]')) refresh(element);
      element.querySelectorAll('[hx-trigger~="changed"]').forEach(refresh);
    });
    source.addEventListener("say", (event) => say(String(JSON.parse(event.data))));
    source.addEventListener("end", () => { source.close(); });
    source.addEventListener("open", () => { element.dataset.liveState = "on"; });
    source.addEventListener("error", () => { element.dataset.liveState = "off"; });
  };
  const scan = () => {
    for (const [element, source] of streams) {
      if (!element.isConnected) { source.close(); streams.delete(element); }
    }
    document.querySelectorAll("[data-live]").forEach((element) => { if (!streams.has(element)) open(element); });
  };
  document.addEventListener("DOMContentLoaded", scan);
  document.addEventListener("htmx:afterSettle", () => {
    scan();
    for (const id of [...stale]) {
      stale.delete(id);
      const part = document.getElementById(id);
      if (part) refresh(part);
    }
  });
  addEventListener("pagehide", () => { for (const source of streams.values()) source.close(); streams.clear(); });
  addEventListener("pageshow", (event) => { if (event.persisted) scan(); });
})();
