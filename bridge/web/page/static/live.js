// Keeps the page current: whether it is live, the parts marked with data-live, relative times, confirmations in the
// dialog. Every link and form works without this script.

const body = document.body;
const language = document.documentElement.lang;
const status = document.getElementById("live");
const dialog = document.getElementById("dialog");

// The bridge sends a heartbeat every 5 s. Without one the page asks; if that fails too, it is not live.
const HEARTBEAT_MS = 6500;
const SILENCE_MS = 10000;
const POLL_MS = 2000;
const REFRESH_MS = 700;
// A visible page uses its session.
const USE_MS = 300000;

let contactAt = -Infinity;
let contactTime = null;
let isLive = null;
let isSignedOut = false;
let usedAt = 0;
let source = null;
let refreshAt = 0;
let refreshTimer = 0;

function contact() {
  contactAt = performance.now();
  contactTime = new Date();
  showLive();
}

function showLive() {
  const now = !isSignedOut && performance.now() - contactAt < SILENCE_MS;
  if (now !== isLive) {
    isLive = now;
    status.dataset.state = now ? "yes" : contactTime ? "no" : "wait";
    const time = contactTime && contactTime.toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" });
    status.textContent = now ? body.dataset.textLive
      : time ? body.dataset.textNotLive.replace("{time}", time) : body.dataset.textConnecting;
    status.hidden = isSignedOut;
    document.getElementById("signed-out").hidden = !isSignedOut;
  }
  showPresses();
}

// Presses are possible only while the page is live: its state may be wrong otherwise.
function showPresses() {
  for (const element of document.querySelectorAll("[data-press]")) {
    if (element instanceof HTMLButtonElement) {
      if (!element.closest(".htmx-request")) element.disabled = !isLive || element.dataset.press === "used";
    } else if (isLive) element.removeAttribute("aria-disabled");
    else element.setAttribute("aria-disabled", "true");
  }
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-press]");
  if (link && !isLive) {
    event.preventDefault();
    event.stopImmediatePropagation();
  }
  if (event.target.closest("[data-close]") && dialog.open) {
    event.preventDefault();
    dialog.close();
  }
}, true);

// The last text of each part, by URL: the same text changes nothing.
const shown = new Map();

// Refreshes the parts that show the bridge's state. A focused field and what is typed there stay.
async function refresh() {
  refreshTimer = 0;
  refreshAt = performance.now();
  let reached = false;
  const parts = [...document.querySelectorAll("[data-live]")];
  const urls = parts.map((part) => part.dataset.live || location.pathname + location.search);
  if (!parts.length || isSignedOut || refreshAt - usedAt > USE_MS) { parts.push(null); urls.push(body.dataset.root + "live"); }
  for (const [index, part] of parts.entries()) {
    try {
      const response = await fetch(urls[index], { headers: { "HX-Request": "true", "X-Page-Root": body.dataset.root } });
      if (response.status === 401) isSignedOut = true;
      if (!response.ok) continue;
      readClock(response.headers);
      if (!part) {
        usedAt = refreshAt;
        body.dataset.csrf = response.headers.get("X-CSRF-Token") ?? "";
        isSignedOut = false;
      }
      const text = await response.text();
      reached = true;
      if (part?.isConnected && shown.get(urls[index]) !== text) {
        shown.set(urls[index], text);
        await htmx.swap({ sourceElement: part, target: part, text, swap: "outerMorph" });
      }
    } catch { /* The bridge is away: `showLive` says so. */ }
  }
  if (reached) contact();
  if (isSignedOut) showLive();
  if (source && source.url_ !== streamOf()) listen();
}

function refreshSoon() {
  if (refreshTimer || document.hidden) return;
  refreshTimer = setTimeout(refresh, Math.max(0, refreshAt + REFRESH_MS - performance.now()));
}

// The events of this page; a part with a list names its terminals. Without a part, only the heartbeat.
const streamOf = () => document.querySelector("[data-stream]")?.dataset.stream ?? body.dataset.events;
const TYPES = ["snapshot", "bridge", "terminal", "terminal_removed", "persons", "reply", "group_reply", "event"];

// Browsers allow six connections to a host, so a hidden tab closes its stream.
function listen() {
  source?.close();
  source = null;
  if (document.hidden || isSignedOut) return;
  source = new EventSource(streamOf());
  source.url_ = streamOf();
  for (const type of TYPES) source.addEventListener(type, () => { contact(); refreshSoon(); });
  source.addEventListener("heartbeat", contact);
  source.onerror = refreshSoon;
}

setInterval(() => {
  showLive();
  showTimes();
  if (document.hidden || isSignedOut) return;
  const silent = performance.now() - contactAt;
  // A proxy holds the stream back, or the bridge is away: ask instead.
  if (silent > HEARTBEAT_MS && performance.now() - refreshAt > POLL_MS) refreshSoon();
  // A job shows its progress; no event tells of the connections to broker and store.
  if (document.querySelector("[data-poll]")) refreshSoon();
  // After some errors browsers do not connect again by themselves.
  if (source?.readyState === EventSource.CLOSED) listen();
}, 1000);

// Another tab may have signed in again.
document.addEventListener("visibilitychange", () => { if (isSignedOut) refreshSoon(); else listen(); });
addEventListener("pageshow", (event) => { if (event.persisted) listen(); });

// Relative times, such as "5 minutes ago"; the exact time stays as the title.
const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
const exact = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });

function showTimes() {
  for (const element of document.querySelectorAll("time[datetime]:not([data-exact])")) {
    const at = new Date(element.dateTime);
    const seconds = (at - Date.now()) / 1000;
    const size = Math.abs(seconds);
    const text = size < 60 ? relative.format(Math.round(seconds), "second")
      : size < 3600 ? relative.format(Math.round(seconds / 60), "minute")
      : size < 86400 ? relative.format(Math.round(seconds / 3600), "hour")
      : size < 86400 * 30 ? relative.format(Math.round(seconds / 86400), "day") : exact.format(at);
    if (element.textContent !== text) element.textContent = text;
    element.title = exact.format(at);
  }
}

// The bridge's clock minus the browser's, never more than that: each response was sent before it arrived here. The
// largest difference is the best one. With it a press is never dated too late, so a delayed request opens no door.
let clockDifference = -Infinity;

function readClock(headers) {
  const time = Number(headers.get("X-Page-Clock") || NaN);
  if (time) clockDifference = Math.max(clockDifference, time - performance.now());
}

document.addEventListener("htmx:before:response", (event) => readClock(event.detail.ctx.response.headers));
// Refreshed parts have no token.
document.addEventListener("submit", ({ target: { elements } }) => {
  if (elements.csrf) elements.csrf.value = body.dataset.csrf;
}, true);

document.addEventListener("htmx:config:request", (event) => {
  event.detail.ctx.request.headers["X-CSRF-Token"] = body.dataset.csrf;
  if (event.target.closest?.("form[data-dated]") && Number.isFinite(clockDifference)) {
    event.detail.ctx.request.body.set("pressed", String(Math.floor(performance.now() + clockDifference)));
  }
});

document.addEventListener("htmx:after:swap", (event) => {
  if (event.detail.ctx?.target === dialog.firstElementChild && !dialog.open) dialog.showModal();
  showTimes();
  showPresses();
});
dialog.addEventListener("close", () => { dialog.firstElementChild.replaceChildren(); });

// A request that failed is never repeated: the page says that the outcome is unknown.
document.addEventListener("htmx:error", (event) => {
  const form = event.target.closest?.("form[data-dated]");
  if (!form) return;
  form.querySelector("[data-unknown]").hidden = false;
  for (const button of form.querySelectorAll("button[data-press]")) button.dataset.press = "used";
  showPresses();
});

showLive();
showTimes();
listen();
