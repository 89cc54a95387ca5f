"use strict";
// Shows what /events tells: see src/page/events.rs.
const SPAN_MS = 10 * 60 * 1000; // of the line
const GAP_MS = 10 * 1000; // silence that is shown as a gap
const RR_SPAN_MS = 5 * 60 * 1000; // of RMSSD
const RR_PAIRS_MIN = 60; // fewer successive pairs tell nothing
const STALE_MS = 15 * 1000; // a value that is older is shown as a past one
const SILENT_MS = 7 * 1000; // an overview comes every two seconds

const byId = (id) => document.getElementById(id);
const sensors = new Map();
let highest = Number(localStorage.getItem("highest")) || 190;
// What the gateway's clock is ahead of this machine's, which may be wrong or be set; time is told by what passes.
let ahead = 0;
let toldAt = performance.now();
const now = () => Date.now() + ahead;

// The gateway tells its clock with each overview. Where it was set back, what was heard before is of another time.
function setClock(nowMs) {
  toldAt = performance.now();
  const before = now();
  ahead = nowMs - Date.now();
  if (before - now() > GAP_MS) {
    for (const known of sensors.values()) {
      known.points = known.points.filter(([at]) => at <= now());
      known.rr = [];
    }
  }
}

function span(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
  return `${Math.floor(seconds / 86400)} days`;
}

function sensor(name) {
  if (!sensors.has(name)) {
    const card = byId("card").content.cloneNode(true).firstElementChild;
    card.querySelector("h2").textContent = name;
    sensors.set(name, { card, points: [], rr: [], contact: null, view: null, drawnAt: 0 });
    const names = [...sensors.keys()].sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
    const after = names[names.indexOf(name) + 1];
    byId("sensors").insertBefore(card, after ? sensors.get(after).card : null);
  }
  return sensors.get(name);
}

function zone(rate) {
  const share = Math.floor((rate / highest) * 100);
  const words = ["below the zones", "Zone 1, very light", "Zone 2, light", "Zone 3, moderate", "Zone 4, hard", "Zone 5, very hard"];
  return `${words[Math.min(5, Math.max(0, Math.floor(share / 10) - 4))]} (${share} % of ${highest})`;
}

// RMSSD over successive intervals of the last minutes; an interval that differs from the one before by more than a
// fifth is an artefact, and pairs with it do not count. Nothing is shown where more than one in twenty is.
function rmssd(rr) {
  let squares = 0, pairs = 0, artefacts = 0;
  for (let i = 1; i < rr.length; i++) {
    if (!rr[i].follows) continue;
    const difference = rr[i].ms - rr[i - 1].ms;
    if (Math.abs(difference) > 0.2 * rr[i - 1].ms) { artefacts++; continue; }
    squares += difference * difference;
    pairs++;
  }
  if (pairs < RR_PAIRS_MIN || artefacts > 0.05 * (pairs + artefacts)) return null;
  return Math.sqrt(squares / pairs);
}

function path(points, end) {
  const start = end - SPAN_MS;
  const shown = points.filter(([at]) => at >= start);
  if (shown.length === 0) return { d: "", range: "" };
  let low = Infinity, high = -Infinity;
  for (const [, rate] of shown) { low = Math.min(low, rate); high = Math.max(high, rate); }
  const bottom = low - 3, height = Math.max(20, high - low + 6);
  let d = "", last = -Infinity;
  for (const [at, rate] of shown) {
    const x = ((at - start) / SPAN_MS) * 300, y = 78 - ((rate - bottom) / height) * 76;
    d += `${at - last > GAP_MS ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
    // A reading alone is a dot.
    if (at - last > GAP_MS) d += "h.8";
    last = at;
  }
  return { d, range: `${low} to ${high} bpm` };
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function draw(name) {
  const { card, points, rr, contact, view } = sensors.get(name);
  const last = points[points.length - 1];
  const age = last ? now() - last[0] : Infinity;
  const linked = performance.now() - toldAt < SILENT_MS;
  const flows = view === null || view.streams;
  const fresh = linked && flows && age < STALE_MS && contact !== false;
  card.classList.toggle("away", !fresh);
  set(card.querySelector(".number"), last ? String(last[1]) : "–");
  const state = !linked ? "no connection to the gateway" : !flows ? view.why || "not configured any more"
    : contact === false ? "no skin contact" : "readings flow";
  const old = last && age >= STALE_MS ? `, last value ${span(Math.floor(age / 1000))} ago` : "";
  set(card.querySelector(".state"), state + old);
  set(card.querySelector(".zone"), fresh ? zone(last[1]) : "");
  const { d, range } = path(points, now());
  card.querySelector("path").setAttribute("d", d);
  set(card.querySelector(".range"), range);
  card.querySelector("svg").setAttribute("aria-label", range ? `Heart rate of the last ten minutes: ${range}` : "No heart rate in the last ten minutes");
  const facts = [];
  const variability = rmssd(rr);
  if (variability !== null) facts.push(`RMSSD ${variability.toFixed(0)} ms (5 min)`);
  if (view?.battery_percent != null) facts.push(`battery ${view.battery_percent} %`);
  if (view?.rssi_dbm != null) facts.push(`signal ${view.rssi_dbm} dBm`);
  set(card.querySelector(".facts"), facts.join(" · "));
}

function hear({ sensor: name, at_ms: at, kind, heart_rate: rate, rr_ms: rr = [], contact = null }) {
  if (kind !== "reading") return;
  const known = sensor(name);
  const last = known.points[known.points.length - 1];
  if (rate > 0 && (!last || at > last[0])) known.points.push([at, rate]);
  known.points = known.points.filter(([then]) => then >= at - SPAN_MS);
  // An interval follows the one before, unless there was a gap or no contact; off the skin there is none.
  const followsLast = known.rr.length > 0 && at - known.rr[known.rr.length - 1].at < 3000 && known.contact !== false;
  known.contact = contact;
  if (contact !== false) rr.forEach((ms, index) => known.rr.push({ at, ms, follows: index > 0 || followsLast }));
  known.rr = known.rr.filter((one) => Math.abs(at - one.at) <= RR_SPAN_MS);
  draw(name);
}

const sinkWords = {
  missing: "none configured", unknown: "nothing sent yet", accepts: "accepts", throttles: "takes no more for now",
  unreachable: "cannot be reached", refuses: "refuses until somebody acts",
};

function overview(seen) {
  setClock(seen.now_ms);
  set(byId("gateway"), seen.gateway);
  document.title = `${seen.gateway} – heart rates`;
  const list = byId("attention").querySelector("ul");
  if (list.dataset.shown !== JSON.stringify(seen.attention)) {
    list.dataset.shown = JSON.stringify(seen.attention);
    list.replaceChildren(...seen.attention.map((sentence) => Object.assign(document.createElement("li"), { textContent: sentence })));
  }
  byId("attention").hidden = seen.attention.length === 0;
  for (const view of seen.sensors) {
    if (view.wanted || sensors.has(view.sensor)) sensor(view.sensor).view = view;
  }
  byId("none").hidden = sensors.size > 0;
  const { sink, queue } = seen;
  const accepted = sink.last_accepted_s === null ? "" : `, last ${span(sink.last_accepted_s)} ago`;
  set(byId("sink"), `${sink.kind}: ${sinkWords[sink.state] ?? sink.state}${sink.code ? ` (${sink.code})` : ""}${accepted}`);
  const oldest = queue.oldest_s === null ? "" : `, the oldest ${span(queue.oldest_s)} old`;
  set(byId("queue"), `${queue.depth} items${oldest}`);
  const { received, delivered, queued, dead_lettered: dead, evicted } = queue.totals;
  set(byId("ledger"), `${received} received = ${delivered} delivered + ${queued} queued + ${dead} dead-lettered + ${evicted} evicted`);
  set(byId("clock"), seen.clock_synchronized ? "synchronized" : "not synchronized");
  set(byId("disk"), seen.disk_free_bytes === null ? "–" : `${(seen.disk_free_bytes / 2 ** 30).toFixed(1)} GiB free`);
  for (const name of sensors.keys()) draw(name);
}

// What was not heard cannot be told from what followed.
function forgetIntervals() {
  for (const known of sensors.values()) known.rr = [];
}

function connect() {
  const events = new EventSource("events");
  const said = byId("connection");
  events.addEventListener("open", () => set(said, "live"));
  events.addEventListener("error", () => {
    set(said, "the gateway does not answer; trying again");
    // After an answer that is no stream (a proxy's 502) it does not do so by itself.
    if (events.readyState === EventSource.CLOSED) setTimeout(connect, 5000);
  });
  events.addEventListener("missed", forgetIntervals);
  events.addEventListener("recent", ({ data }) => {
    forgetIntervals();
    for (const [name, points] of Object.entries(JSON.parse(data))) {
      if (points.length === 0) continue;
      const known = sensor(name);
      known.points = points.filter(([, rate]) => rate > 0);
    }
  });
  events.addEventListener("heard", ({ data }) => hear(JSON.parse(data)));
  events.addEventListener("overview", ({ data }) => overview(JSON.parse(data)));
}

byId("highest").value = highest;
byId("highest").addEventListener("change", ({ target }) => {
  if (target.checkValidity() && target.value) {
    highest = Number(target.value);
    localStorage.setItem("highest", target.value);
    for (const name of sensors.keys()) draw(name);
  }
});
connect();
// Also when nothing comes any more: a value grows old.
setInterval(() => {
  for (const name of sensors.keys()) draw(name);
  if (performance.now() - toldAt > SILENT_MS) set(byId("connection"), "the gateway does not answer; trying again");
}, 1000);
