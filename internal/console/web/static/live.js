// Live parts of pages. An element with data-live="PATH" listens to the events there.
// "changed" makes it, and whatever it holds with hx-trigger="changed", ask anew; "say"
// is read out to those who do not see the page. Events carry no markup.
"use strict";
(() => {
  const streams = new Map();
  const say = (text) => { document.getElementById("live").textContent = text; };
  const open = (element) => {
    const source = new EventSource(element.dataset.live);
    streams.set(element, source);
    source.addEventListener("changed", () => {
      htmx.trigger(element, "changed");
      element.querySelectorAll('[hx-trigger~="changed"]').forEach((part) => htmx.trigger(part, "changed"));
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
  document.addEventListener("htmx:afterSettle", scan);
  addEventListener("pagehide", () => { for (const source of streams.values()) source.close(); streams.clear(); });
  addEventListener("pageshow", (event) => { if (event.persisted) scan(); });
})();
