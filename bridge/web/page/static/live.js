// Keeps the page current: whether it is live, the parts marked with data-live, relative times, confirmations in the
// dialog. Every link and form works without this script.

const body = document.body;
const language = document.documentElement.lang;
const status = document.getElementById("live");
const dialog = document.getElementById("dialog");
const on = document.addEventListener.bind(document);

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
let etag = body.dataset.etag;

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
    const time = contactTime?.toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" });
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
    if (!(element instanceof HTMLButtonElement)) element.ariaDisabled = !isLive;
    else if (!element.closest(".htmx-request")) element.disabled = !isLive || element.dataset.press === "used";
  }
}

on("click", (event) => {
  if (!isLive && event.target.closest("a[data-press]")) {
    event.preventDefault();
    event.stopImmediatePropagation();
  }
  if (event.target.closest("[data-close]") && dialog.open) {
    event.preventDefault();
    dialog.close();
  }
}, true);

// Asks the bridge for a part of a page.
export async function ask(url, headers, options) {
  const common = { "HX-Request": "true", "X-Page-Root": body.dataset.root, "X-CSRF-Token": body.dataset.csrf };
  const response = await fetch(url, { headers: { ...common, ...headers }, ...options });
  if (response.status === 401) isSignedOut = true;
  readClock(response.headers);
  return response;
}

// Refreshes the part that shows the bridge's state. A focused field and what is typed there stay.
async function refresh() {
  refreshTimer = 0;
  refreshAt = performance.now();
  const part = document.querySelector("[data-live]");
  const isUse = !part || isSignedOut || refreshAt > usedAt + USE_MS;
  try {
    if (part) {
      const response = await ask(part.dataset.live, { "If-None-Match": etag });
      if (response.ok || response.status === 304) contact();
      if (response.ok) {
        await htmx.swap({ sourceElement: part, target: part, text: await response.text(), swap: "outerMorph" });
        etag = response.headers.get("ETag") ?? "";
      }
    }
    if (isUse) {
      const response = await ask(body.dataset.root + "live");
      if (response.ok) {
        usedAt = refreshAt;
        body.dataset.csrf = response.headers.get("X-CSRF-Token") ?? "";
        isSignedOut = false;
        contact();
      }
    }
  } catch { /* The bridge is away: `showLive` says so. */ }
  if (isSignedOut) showLive();
  if (source && source.url_ !== streamOf()) listen();
}

function refreshSoon() {
  if (refreshTimer || document.hidden) return;
  refreshTimer = setTimeout(refresh, Math.max(0, refreshAt + REFRESH_MS - performance.now()));
}

// The events of this page; a part with a list names its terminals. Without a part, only the heartbeat.
const streamOf = () => document.querySelector("[data-stream]")?.dataset.stream ?? body.dataset.events;
const TYPES = ["snapshot", "bridge", "terminal", "terminal_removed", "persons", "log", "event"];

// Browsers allow six connections to a host for all windows. A hidden tab closes its stream. Of the visible ones the
// three that began last keep theirs; the others ask until they are used again.
const MAX_STREAMS = 3;
const others = new BroadcastChannel("facebridge");
const me = Math.random();
const newer = new Set();

others.onmessage = ({ data: { id, listens } }) => {
  newer[listens ? "add" : "delete"](id);
  if (source && newer.size >= MAX_STREAMS) close();
};

function close() {
  source?.close();
  source = null;
  others.postMessage({ id: me });
}

function listen() {
  close();
  if (document.hidden || isSignedOut) return;
  newer.clear();
  others.postMessage({ id: me, listens: true });
  source = new EventSource(streamOf());
  source.url_ = streamOf();
  for (const type of TYPES) source.addEventListener(type, () => { contact(); refreshSoon(); });
  source.onopen = contact;
  source.addEventListener("heartbeat", contact);
  source.onerror = refreshSoon;
}

setInterval(() => {
  showLive();
  showTimes();
  if (document.hidden || isSignedOut) return;
  const silent = performance.now() - contactAt;
  // Other windows have the streams, a proxy holds this one back, or the bridge is away: ask instead.
  if ((!source || silent > HEARTBEAT_MS) && performance.now() - refreshAt > POLL_MS) refreshSoon();
  // A job shows its progress; no event tells of the connections to broker and store.
  if (document.querySelector("[data-poll]")) refreshSoon();
  // After some errors browsers do not connect again by themselves.
  if (source?.readyState === EventSource.CLOSED) listen();
}, 1000);

// Another tab may have signed in again.
on("visibilitychange", () => isSignedOut ? refreshSoon() : listen());
addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
addEventListener("focus", () => source ?? listen());

// Relative times, such as "5 minutes ago"; the exact time stays as the title.
const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
const exact = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });
const UNITS = [["second", 1, 60], ["minute", 60, 3600], ["hour", 3600, 86400], ["day", 86400, 2592000]];
function showTimes() {
  for (const element of document.querySelectorAll("time[datetime]:not([data-exact])")) {
    const at = new Date(element.dateTime);
    const seconds = (at - Date.now()) / 1000;
    const [unit, size] = UNITS.find(([, , limit]) => Math.abs(seconds) < limit) ?? [];
    const time = exact.format(at);
    const text = unit ? relative.format(Math.round(seconds / size), unit) : time;
    if (element.textContent !== text) element.textContent = text;
    element.title = time;
  }
}

// The bridge's clock minus the browser's, never more than that: each response was sent before it arrived here. The
// largest difference is the best one. With it a press is never dated too late, so a delayed request opens no door.
let clockDifference = -Infinity;

function readClock(headers) {
  const time = Number(headers.get("X-Page-Clock"));
  if (time) clockDifference = Math.max(clockDifference, time - performance.now());
}

on("htmx:before:response", (event) => readClock(event.detail.ctx.response.headers));
// Refreshed parts have no token.
on("submit", ({ target: { elements } }) => {
  if (elements.csrf) elements.csrf.value = body.dataset.csrf;
}, true);

on("htmx:config:request", (event) => {
  event.detail.ctx.request.headers["X-CSRF-Token"] = body.dataset.csrf;
  if (event.target.closest?.("form[data-dated]") && Number.isFinite(clockDifference)) {
    event.detail.ctx.request.body.set("pressed", String(Math.floor(performance.now() + clockDifference)));
  }
});

on("htmx:after:swap", (event) => {
  if (event.detail.ctx?.target === dialog.firstElementChild && !dialog.open) dialog.showModal();
  showTimes();
  showPresses();
});
dialog.addEventListener("close", () => dialog.firstElementChild.replaceChildren());

// A request that failed is never repeated: the page says that the outcome is unknown.
on("htmx:error", (event) => {
  const form = event.target.closest?.("form[data-dated]");
  if (!form) return;
  form.querySelector("[data-unknown]").hidden = false;
  for (const button of form.querySelectorAll("button[data-press]")) button.dataset.press = "used";
  showPresses();
});

showLive();
showTimes();
listen();
