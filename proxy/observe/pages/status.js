
// --- the status page -----------------------------------------------------------------------------------------------
// Asks /status every two seconds, and once with its history, so that charts do not begin empty. What is charted are
// differences of totals; every five seconds one of them is kept, for a quarter of an hour.

const EVERY = 2000; // milliseconds between two looks
const STEP = 5; // seconds between two samples that are kept
const KEPT = 900; // seconds
const NARROWEST = 120; // seconds that a chart shows at least

let samples = []; // {at: seconds of this browser's clock, and every number by its name}
let last = null; // the status that was told last
let lastAt = 0; // when, by the clock of this browser
let settingsHash = null;
let timer = 0;
let paused = false;
let asking = false;

// --- looking -------------------------------------------------------------------------------------------------------

async function look() {
  clearTimeout(timer);
  if (asking) return;
  asking = true;
  const status = await answer();
  asking = false;
  if (!paused && !document.hidden && at("unlock").hidden) timer = setTimeout(look, EVERY);
  if (status === null) return;
  if (last !== null && status.uptime_seconds < last.uptime_seconds) samples = []; // another process: totals begin anew
  keep(status);
  last = status;
  lastAt = Date.now();
  show(status);
}

/** Give the status; null where there is none, and that has been said. */
async function answer() {
  try {
    return await ask(samples.length === 0 ? "status?history" : "status");
  } catch (error) {
    if (error instanceof Locked) {
      at("told").hidden = true;
      verdict("idle", "This page needs the admin token", []);
      unlock(look);
    } else {
      lost();
    }
    return null;
  }
}

/** Say that nobody answers; what is shown stays, and is marked as old. */
function lost() {
  document.body.classList.add("stale");
  fill(at("stage"), pill("broken", "no answer"));
  const told = last === null ? "It has not answered yet." : `It last did ${span((Date.now() - lastAt) / 1000)} ago; what is below is from then.`;
  verdict("broken", "The proxy does not answer", [
    `${told} It has ended, it hangs, or this browser cannot reach it any more. This page goes on asking.`,
  ]);
}

function keep(status) {
  const now = Date.now() / 1000;
  if (status.history && samples.length === 0) samples = columnsToRows(status.history, now);
  const sample = { at: now, ...numbersOf(status) };
  // The newest is replaced until it is far enough from the one before.
  const before = samples.at(-2);
  if (before && samples.at(-1).at - before.at < STEP - 0.5) samples.pop();
  samples.push(sample);
  while (samples.length && samples[0].at < now - KEPT) samples.shift();
}

function columnsToRows(columns, now) {
  const names = Object.keys(columns).filter((name) => name !== "ago_seconds");
  return columns.ago_seconds.map((ago, row) => Object.fromEntries([["at", now - ago], ...names.map((name) => [name, columns[name][row]])]));
}

function numbersOf(status) {
  const { active, idle, opening } = status.upstream.connections;
  return { ...status.calls, conflicts_avoided: status.traffic.conflicts_avoided, active, idle, opening };
}

// --- showing -------------------------------------------------------------------------------------------------------

function show(status) {
  document.body.classList.remove("stale");
  at("told").hidden = false;
  const { summary } = status;
  verdict(summary.level, summary.headline, summary.reasons);
  for (const question of ["time", "keys", "conflicts"]) {
    say(at(`${question}-short`), summary[question].short);
    say(at(`${question}-more`), summary[question].more);
  }
  showAside(status);
  for (const chart of charts) chart.show();
  facts("upstream", upstreamFacts(status));
  facts("connections", connectionFacts(status));
  facts("calls", callFacts(status));
  facts("lanes", laneFacts(status));
  showLongest(status.traffic.longest);
  showKeys(status);
  showFailures(status.failures);
  showShared(status.traffic.shared_profiles);
  showSettings(status);
}

function verdict(level, headline, reasons) {
  at("verdict").dataset.level = level;
  say(at("headline"), headline);
  document.title = `${headline} – talon-proxy`;
  const box = at("reasons");
  while (box.children.length > reasons.length) box.lastChild.remove();
  while (box.children.length < reasons.length) box.append(make("p"));
  reasons.forEach((reason, place) => say(box.children[place], reason));
}

function showAside(status) {
  const level = { serving: "ok", draining: "attention" }[status.stage] ?? "broken";
  fill(at("stage"), pill(level, status.stage));
  say(at("version"), `${status.version}, up ${span(status.uptime_seconds)}`);
}

/** Fill a list of facts: [term, text or element], those without a value left out. */
function facts(id, pairs) {
  const told = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  fill(at(id), ...told.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)]));
}

const pill = (level, text) => make("span", { class: "pill", "data-level": level }, text);
const code = (text) => make("code", {}, text);
const counted = (counts) => Object.entries(counts).filter(([, number]) => number).map(([name, number]) => `${count(number)} ${name.replaceAll("_", " ")}`).join(", ");

function upstreamFacts({ upstream, traffic: { circuit } }) {
  const states = { closed: ["ok", "closed: calls go through"], open: ["broken", "open: calls are refused at once"], trial: ["attention", "open, one call is trying"] };
  const [level, words] = states[circuit.state];
  return [
    ["URL", code(upstream.url)],
    ["Generation", `${upstream.generation}, ${upstream.state}`],
    ["Protocol", upstream.protocol],
    ["Addresses", upstream.name.addresses.join(", ") || "none known"],
    ["Circuit", make("span", {}, pill(level, words), ` for ${span(circuit.since_seconds)}`)],
    ["Last error", circuit.last_error],
    ["Cannot connect", upstream.unreachable],
    ["Last answer", upstream.last_answer_seconds === null ? "none yet" : `${span(upstream.last_answer_seconds)} ago`],
    ["Set by hand", upstream.override],
    ["Switching", upstream.switching && `to ${upstream.switching.url}: ${upstream.switching.phase}`],
    ["Planned", upstream.planned && `${upstream.planned.url} at ${new Date(upstream.planned.at).toLocaleString()}, ${upstream.planned.state}`],
    ["Being left", upstream.leaving && upstream.leaving.map((old) => `${old.url}, ${old.active} calls`).join("; ")],
    ["Moved?", upstream.moved && upstream.moved.advice],
  ];
}

function connectionFacts({ upstream: { connections }, calls }) {
  return [
    ["Open now", `${connections.active} active, ${connections.idle} idle${connections.held ? `, ${connections.held} held back` : ""}`],
    ["Being opened", String(connections.opening)],
    ["Opened", `${count(connections.opened)} since the start`],
    ["Closed", counted(connections.closed) || "none yet"],
    ["Reuse", connections.opened && calls.exchanges ? `${count(Math.round(calls.exchanges / connections.opened))} calls per connection that was opened` : "no call yet"],
    ["Idle at most", `${connections.idle_limit_seconds} s`],
  ];
}

function callFacts({ calls, traffic, downstream }) {
  const whole = calls.exchanges + calls.coalesced;
  const share = whole ? ` (${(calls.coalesced / whole * 100).toFixed(1)} % of calls)` : "";
  return [
    ["Answered", `${count(calls.answered)}, ${count(calls.by_proxy)} of them by the proxy itself`],
    ["Failed", `${count(calls.failed)} with a 5xx`],
    ["Unknown outcome", make("span", {}, calls.unknown ? pill("attention", count(calls.unknown)) : "0", calls.unknown ? " may or may not have been executed" : "")],
    ["Calls saved", `${count(calls.coalesced)}${share} shared the answer of an identical one`],
    ["Tried again", counted(traffic.retries) || "none"],
    ["Not tried again", counted(traffic.retry_budget_exhausted)],
    ["Ordered less", counted(traffic.unkeyed)],
    ["Under way", `${downstream.in_flight}, on ${downstream.connections} connections of callers`],
    ["Held for them", `${(downstream.buffered_bytes / 1048576).toFixed(1)} MiB of bodies and answers`],
  ];
}

function laneFacts({ traffic }) {
  const { limit } = traffic;
  return [
    ["Conflicts avoided", `at most ${count(traffic.conflicts_avoided)}, since the start`],
    ["Conflicts met", [["resolved", "went away when tried again"], ["returned", "reached the shop"]].map(([outcome, words]) => `${count(Object.values(traffic.conflicts[outcome]).reduce((sum, number) => sum + number, 0))} ${words}`).join(", ")],
    ["Sessions, profiles", `${count(traffic.lanes)} with a write waiting or under way`],
    ["Waiting", traffic.waiting ? `${count(traffic.waiting)} writes, the oldest for ${milliseconds(traffic.oldest_wait_seconds * 1000)}` : "no write"],
    ["At Talon.One", `${limit.inside} calls of at most ${limit.of}${limit.waiting ? `, ${limit.waiting} wait` : ""}`],
  ];
}

function showLongest(lanes) {
  const busy = lanes.filter((lane) => lane.unfinished > 1);
  fill(at("longest"), busy.length ? table("The longest lines; ids are hashed", [["Line of"], ["Id"], ["In line", true]],
    busy.map((lane) => [`${lane.of} (${lane.application ?? lane.environment})`, code(lane.id), lane.unfinished])) : null);
}

function showKeys(status) {
  const used = (application, result) => status.keys_used.filter((row) => row.application === application && row.result === result).reduce((sum, row) => sum + row.answers, 0);
  const rows = Object.entries(status.keys).map(([name, hints]) => [name, code(hints), expiry(status.expiries[name]), count(used(name, "accepted")), refusals(used(name, "rejected"))]);
  fill(at("keys"), rows.length
    ? table("API keys", [["Application"], ["Key"], ["Expires"], ["Calls it signed", true], ["Refused (401)", true]], rows)
    : make("p", {}, "None is configured: callers bring their own."));
}

const refusals = (number) => number ? pill("attention", count(number)) : "0";

function expiry(moment) {
  if (moment === undefined) return make("span", { class: "quiet" }, "not told (applications.<name>.expires)");
  const days = Math.floor((new Date(moment) - Date.now()) / 86400000);
  const day = new Date(moment).toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });
  if (days < 0) return pill("broken", `expired on ${day}`);
  const words = `${day}, in ${days === 1 ? "a day" : days ? `${days} days` : "less than a day"}`;
  return days < 14 ? pill("attention", words) : words;
}

function showFailures(failures) {
  fill(at("failures"), failures.length
    ? table("Failed calls by sort", [["Sort"], ["What it means"], ["Calls", true], ["Last"], ["Status", true], ["Operation"]],
      failures.map((failure) => [failure.category, failure.meaning, count(failure.count), `${span(failure.last_seconds)} ago`, failure.last_status, failure.last_operation]))
    : make("p", {}, "Nothing, since the start."));
}

function showShared(profiles) {
  at("shared-card").hidden = profiles.length === 0;
  if (profiles.length) {
    fill(at("shared"), table("Shared profiles; ids are hashed", [["Profile"], ["Environment"], ["Advice"]],
      profiles.map((profile) => [code(profile.profile), profile.environment, profile.advice])));
  }
}

// --- settings ------------------------------------------------------------------------------------------------------

let settings = [];

function showSettings(status) {
  const restart = status.reload.restart_needed;
  say(at("settings-said"), `Hash ${status.settings}: equal where settings are.${restart ? ` What waits for a restart: ${restart.join(", ")}.` : ""}`);
  if (status.settings === settingsHash) return;
  settingsHash = status.settings;
  if (at("settings-box").open) fetchSettings();
}

async function fetchSettings() {
  try {
    settings = Object.entries((await ask("-/config")).settings);
  } catch {
    settingsHash = null; // with the next look
    return;
  }
  listSettings();
}

function listSettings() {
  const wanted = at("settings-find").value.trim().toLowerCase();
  const all = at("settings-all").checked;
  const found = settings.filter(([key, { value, origin }]) => (all || origin !== "default") && `${key} ${value ?? ""}`.toLowerCase().includes(wanted));
  fill(at("settings"), found.length
    ? table("Settings in effect", [["Setting"], ["Value"], ["From"]], found.map(([key, { value, origin }]) => [code(key), value === null ? make("span", { class: "quiet" }, "none") : code(value), origin]))
    : make("p", {}, all || wanted ? "None like that." : "Every setting has its default."));
}

// --- charts --------------------------------------------------------------------------------------------------------

/** What a chart shows of the time between two samples; null: nothing. */
const between = {
  calls(earlier, later, seconds) {
    const failed = (later.failed - earlier.failed) / seconds;
    return [(later.answered - earlier.answered) / seconds - failed, failed];
  },
  times(earlier, later) {
    const grown = (name) => later[name] - earlier[name];
    const exchanges = grown("exchanges");
    if (exchanges <= 0) return null;
    const calls = exchanges + grown("coalesced");
    return [grown("upstream_seconds") / exchanges, grown("lane_seconds") / calls, grown("pool_seconds") / calls, Math.max(grown("overhead_seconds") - grown("pool_seconds"), 0) / calls].map((seconds) => seconds * 1000);
  },
  saved(earlier, later, seconds) {
    return [(later.coalesced - earlier.coalesced) / seconds, (later.conflicts_avoided - earlier.conflicts_avoided) / seconds];
  },
  connections(_, later) {
    return [later.active, later.idle, later.opening];
  },
};

class Chart {
  /** `series`: [label, class]; stacked, the first one at the bottom, unless `lines`. */
  constructor(title, series, values, format, lines = false) {
    this.title = title;
    this.series = series;
    this.values = values;
    this.format = format;
    this.lines = lines;
    this.pointed = null; // a moment that somebody points at
    this.moment = make("span", { class: "moment" });
    this.drawing = draw("svg", { role: "img", "aria-label": title });
    this.numbers = series.map(() => make("span", { class: "value" }, "–"));
    this.rows = make("div");
    this.box = make("details", {}, make("summary", {}, "As a table"), this.rows);
    const legend = series.map(([label, kind], place) =>
      make("li", { class: `of-${kind}` }, draw("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" }, draw("rect", { width: 10, height: 10, rx: 2 })), label, this.numbers[place]));
    this.element = make("div", { class: "card chart" }, make("h2", {}, title, this.moment), this.drawing, make("ul", {}, ...legend), this.box);
    this.box.addEventListener("toggle", () => this.tabulate());
    this.drawing.addEventListener("pointermove", (event) => this.point(event));
    this.drawing.addEventListener("pointerleave", () => this.point(null));
    new ResizeObserver(() => this.show()).observe(this.drawing);
  }

  point(event) {
    this.pointed = event && event.clientX - this.drawing.getBoundingClientRect().left;
    this.show();
  }

  /** Give {from, to, values} for each time between two samples. */
  steps() {
    const steps = [];
    for (let place = 1; place < samples.length; place += 1) {
      const [earlier, later] = [samples[place - 1], samples[place]];
      const seconds = later.at - earlier.at;
      if (seconds > 0.2) steps.push({ from: earlier.at, to: later.at, values: this.values(earlier, later, seconds) });
    }
    return steps;
  }

  show() {
    const width = this.drawing.clientWidth;
    const height = this.drawing.clientHeight;
    if (!width || !samples.length) return;
    const steps = this.steps();
    const now = samples.at(-1).at;
    const shown = Math.min(KEPT, Math.max(NARROWEST, now - samples[0].at));
    const sum = (values) => values.reduce((total, value) => total + value, 0);
    const most = Math.max(0, ...steps.filter((step) => step.values).map((step) => this.lines ? Math.max(...step.values) : sum(step.values)));
    const top = ceiling(most);
    const labels = [0, top / 2, top].map((value) => [value, value ? this.format(value) : "0"]);
    const left = Math.max(...labels.map(([, text]) => text.length)) * 6.4 + 8;
    const [right, above, below] = [width - 4, 10, height - 18];
    const x = (moment) => left + (1 - (now - moment) / shown) * (right - left);
    const y = (value) => below - value / top * (below - above);
    this.drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const pieces = labels.flatMap(([value, text]) => [
      draw("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }),
      draw("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, text),
    ]);
    for (const [ago, text] of ticks(shown)) {
      pieces.push(draw("text", { x: x(now - ago), y: height - 3, "text-anchor": ago ? "middle" : "end" }, text));
    }
    if (!steps.some((step) => step.values)) {
      pieces.push(draw("text", { x: (left + right) / 2, y: y(top / 4) + 4, "text-anchor": "middle" }, "nothing to show yet"));
    }
    pieces.push(...this.shapes(steps.filter((step) => step.values && step.to > now - shown), x, y));
    const step = this.chosen(steps, (moment) => x(moment));
    if (this.pointed !== null && step) {
      const middle = x((step.from + step.to) / 2);
      pieces.push(draw("line", { class: "cursor", x1: middle, x2: middle, y1: above, y2: below }));
    }
    this.drawing.replaceChildren(...pieces);
    this.read(step);
    this.tabulate();
  }

  shapes(steps, x, y) {
    const shapes = [];
    const bases = steps.map(() => 0);
    this.series.forEach(([, kind], place) => {
      const edges = [];
      const areas = [];
      let joined = null; // where the step before ended
      steps.forEach((step, number) => {
        const base = this.lines ? 0 : bases[number];
        const value = base + step.values[place];
        const [from, to] = [x(step.from).toFixed(1), x(step.to).toFixed(1)];
        edges.push(`${joined === step.from ? "L" : "M"}${from} ${y(value).toFixed(1)}L${to} ${y(value).toFixed(1)}`);
        areas.push(`M${from} ${y(base).toFixed(1)}L${from} ${y(value).toFixed(1)}L${to} ${y(value).toFixed(1)}L${to} ${y(base).toFixed(1)}Z`);
        bases[number] = value;
        joined = step.to;
      });
      const nothing = steps.every((step) => step.values[place] === 0);
      const classes = `of-${kind}`;
      if (!this.lines && !nothing) shapes.push(draw("path", { class: `area ${classes}`, d: areas.join("") }));
      if (this.lines || place === 0) shapes.push(draw("path", { class: `edge ${classes}`, d: edges.join("") }));
    });
    return shapes;
  }

  /** Give the step that is pointed at, else the last. */
  chosen(steps, x) {
    if (this.pointed === null) return steps.at(-1) ?? null;
    return steps.find((step) => x(step.to) >= this.pointed && x(step.from) <= this.pointed) ?? null;
  }

  read(step) {
    const moment = step ? new Date(step.to * 1000).toLocaleTimeString() : "";
    say(this.moment, this.pointed === null ? "" : moment);
    this.numbers.forEach((number, place) => say(number, step?.values ? this.format(step.values[place]) : "–"));
    const told = this.series.map(([label], place) => `${label} ${step?.values ? this.format(step.values[place]) : "nothing"}`);
    this.drawing.setAttribute("aria-label", `${this.title}. Now: ${told.join(", ")}. The table below has the minutes before.`);
  }

  /** Fill the table, a row for each minute. */
  tabulate() {
    if (!this.box.open) return;
    const now = samples.at(-1)?.at ?? 0;
    const rows = [];
    for (let minute = 0; minute < KEPT / 60; minute += 1) {
      const within = samples.filter((sample) => sample.at <= now - minute * 60 && sample.at >= now - (minute + 1) * 60 - STEP);
      if (within.length < 2) break;
      const [earlier, later] = [within[0], within.at(-1)];
      const values = this.values(earlier, later, later.at - earlier.at);
      rows.push([new Date(later.at * 1000).toLocaleTimeString(), ...this.series.map((_, place) => values ? this.format(values[place]) : "–")]);
    }
    fill(this.rows, table(`${this.title}, minute by minute, the last one first`, [["Until"], ...this.series.map(([label]) => [label, true])], rows));
  }
}

/** Give a round number that is at least as large, and whose half is round too. */
function ceiling(number) {
  if (number <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 4, 6, 8, 10].map((factor) => factor * power).find((round) => round >= number);
}

function ticks(shown) {
  const every = shown > 600 ? 300 : shown > 240 ? 120 : 60;
  const found = [[0, "now"]];
  for (let ago = every; ago < shown * 0.97; ago += every) found.push([ago, `−${ago / 60} min`]);
  return found;
}

const perSecond = (number) => `${rate(number)}/s`;
const charts = [
  new Chart("Where the time of a call goes", [["Talon.One", "talon-one"], ["waiting in line", "in-line"], ["waiting for a connection", "connecting"], ["the proxy itself", "proxy"]], between.times, milliseconds),
  new Chart("Calls", [["answered", "ok"], ["failed (5xx)", "failed"]], between.calls, perSecond),
  new Chart("What Talon.One was spared", [["calls saved by sharing answers", "saved"], ["conflicts avoided, at most", "avoided"]], between.saved, perSecond, true),
  new Chart("Connections to Talon.One", [["active", "talon-one"], ["idle", "idle"], ["being opened", "opening"]], between.connections, (number) => String(Math.round(number * 10) / 10)),
];
fill(at("charts"), ...charts.map((chart) => chart.element));

// --- beginning -----------------------------------------------------------------------------------------------------

const pause = make("button", { type: "button", "aria-pressed": "false" }, "Pause");
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  say(pause, paused ? "Go on" : "Pause");
  if (!paused) look();
});
fill(at("aside"), make("span", { id: "stage" }), make("span", { id: "version" }), pause);

at("settings-box").addEventListener("toggle", () => { if (at("settings-box").open) fetchSettings(); });
at("settings-form").addEventListener("submit", (event) => event.preventDefault());
at("settings-find").addEventListener("input", listSettings);
at("settings-all").addEventListener("change", listSettings);

// Nobody looks at a hidden page: it asks again, for what it missed too, when it is looked at.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    clearTimeout(timer);
  } else if (!paused && at("unlock").hidden) {
    samples = [];
    look();
  }
});

look();
