
// --- checklist: what Talon.One's integration checklist finds in the calls that passed ------------------------------

const EVERY = 10_000; // milliseconds
const LEVELS = { ok: "ok", unseen: "idle", acknowledged: "idle", advice: "advice", warning: "attention", problem: "broken" };
const WORDS = { unseen: "not seen" };
const OPEN = new Set(); // rules and lists that somebody has unfolded
const KINDS = [
  ["attributes", "Attributes sent, to be created in the Campaign Manager"],
  ["effects", "Effects received"],
  ["custom effects", "Custom effects received"],
  ["rejections", "Why coupons and referrals were rejected"],
  ["errors", "Errors, by status, title and place"],
  ["avoidable", "Reads that an update could have answered"],
  ["states", "States of sessions, as they were sent"],
  ["customers", "Customers of session updates"],
  ["events", "Events sent"],
  ["callers", "Callers, by SDK or HTTP library"],
];

const moment = (seconds) => new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 16) + " UTC";
const percent = (share) => share > 0 && share < 0.001 ? "< 0.1 %" : `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;
const pill = (verdict) => make("span", { class: "pill", "data-level": LEVELS[verdict] }, WORDS[verdict] ?? verdict);

/** Give a text; what stands between backticks is code. */
const prose = (text) => text.split("`").map((part, place) => place % 2 ? make("code", {}, part) : part);

const ranked = (rows) => rows.sort((one, other) => other[1][0] - one[1][0]).slice(0, 20);

/** Say in a few words how often. */
function often(rule) {
  if (!rule.counted) return rule.broken ? "not yet" : "yes";
  if (rule.verdict === "unseen" && rule.checked >= rule.least) return "needs a day";
  if (rule.verdict === "unseen") return rule.checked ? `${count(rule.checked)} of ${count(rule.least)} needed` : "";
  if (!rule.broken) return `${count(rule.checked)} checked`;
  return `${count(rule.broken)} of ${count(rule.checked)} broken (${percent(rule.share)})`;
}

function foldable(key, given, summary, ...children) {
  const details = make("details", given, summary, ...children);
  details.open = OPEN.has(key);
  details.addEventListener("toggle", () => details.open ? OPEN.add(key) : OPEN.delete(key));
  return details;
}

// --- parts ---

function overall(told) {
  const { problem, warning, advice, ok, unseen, acknowledged } = told.summary;
  const looked = told.proxies.reduce((sum, proxy) => sum + proxy.looked_at, 0);
  const level = !looked ? "idle" : problem ? "broken" : warning ? "attention" : ok ? "ok" : "idle";
  const bad = [[problem, "problem", "problems"], [warning, "warning", "warnings"], [advice, "piece of advice", "pieces of advice"]];
  const parts = bad.filter(([number]) => number).map(([number, one, many]) => plural(number, one, many));
  const title = !looked ? "No call has come yet" : parts.length ? parts.join(", ") : ok ? "Nothing to mend" : "Too few calls to tell";
  const rest = [`${plural(ok, "recommendation", "recommendations")} followed`, `${count(unseen)} without enough evidence`];
  if (acknowledged) rest.push(`${count(acknowledged)} acknowledged`);
  return [level, title, looked ? `${rest.join(", ")}, from ${plural(looked, "call", "calls")}.` : "Once the shop calls, its calls are held against Talon.One's integration checklist."];
}

function fix(rule) {
  return make("li", {},
    make("h3", {}, rule.title, pill(rule.verdict), make("span", { class: "small quiet" }, often(rule))),
    make("p", {}, ...prose(rule.text), ...(rule.why ? prose(` Here: ${rule.why}.`) : [])),
    named(rule),
    make("p", { class: "do" }, ...prose(rule.remedy)),
    make("p", { class: "small" }, make("a", { href: `#${rule.id}` }, "Evidence"), " · ", make("a", { href: rule.link, rel: "noreferrer" }, "Talon.One's page")));
}

/** Name the things it is about, the most frequent first. */
function named(rule) {
  const names = ranked(Object.entries(rule.names).filter(([name]) => name)).map(([name]) => name);
  if (!names.length) return null;
  const rest = names.length > 3 ? `, and ${plural(names.length - 3, "other", "others")}` : "";
  return make("p", { class: "small" }, "Seen: ", make("span", { class: "code" }, names.slice(0, 3).join(", ")), rest, rule.seconds ? `; they took ${span(rule.seconds)}` : "");
}

function evidence(rule) {
  const before = { ok: "Kept. Broken would mean: ", unseen: "Too little was seen to say. Broken would mean: " };
  const parts = [make("p", {}, ...prose(`${before[rule.verdict] ?? ""}${rule.text}`))];
  if (rule.reason) parts.push(make("p", {}, make("strong", {}, "Acknowledged: "), rule.reason));
  if (rule.why) parts.push(make("p", {}, make("strong", {}, "Here: "), ...prose(rule.why)));
  parts.push(make("p", { class: "do" }, ...prose(rule.remedy)));
  const facts = rule.counted ? [["Checked", count(rule.checked)], ["Broken", `${count(rule.broken)}${rule.broken ? ` (${percent(rule.share)})` : ""}`]] : [];
  if (rule.verdict === "unseen" && rule.counted) facts.push(["Needs", rule.checked < rule.least ? `${count(rule.least)} to judge by` : "a day of calls, and 100 sessions"]);
  if (rule.first) facts.push(["Seen", `${moment(rule.first)} to ${moment(rule.last)}`]);
  if (rule.seconds) facts.push(["Time it took", span(rule.seconds)]);
  if (rule.examples.length) facts.push(["Request ids", make("span", { class: "code" }, rule.examples.join(", "))]);
  facts.push(["Rule", make("span", { class: "code" }, rule.id)], ["Read", make("a", { href: rule.link, rel: "noreferrer" }, "Talon.One's page")]);
  parts.push(make("dl", { class: "facts small" }, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])));
  if (rule.groups.length) parts.push(table("Who", [["Operation", false], ["Caller", false], ["Application", false], ["Broken", true]],
    rule.groups.map(([application, operation, caller, number]) => [operation, caller, application || "–", count(number)])));
  const named = Object.entries(rule.names).filter(([name]) => name);
  if (named.length) parts.push(table("What", [["What", false], ["Times", true]], ranked(named).map(([name, row]) => [name, count(row[0])])));
  return make("div", { class: "evidence" }, ...parts);
}


function line(rule) {
  const summary = make("summary", {}, make("span", {}, pill(rule.verdict)), make("span", { class: "name" }, rule.title), make("span", { class: "share" }, often(rule)));
  return foldable(rule.id, { class: "rule", id: rule.id }, summary, evidence(rule));
}

function point(name, rules) {
  return make("section", { class: "card point" }, make("h2", {}, name), ...rules.map(line));
}

function list([kind, title], rows) {
  const timed = rows.some(([, row]) => row[1] > 0);
  const columns = [["Name", false], ["Times", true], ...(timed ? [["Time", true]] : []), ["First seen", true], ["Last seen", true]];
  const cells = ([name, [number, seconds, first, last]]) => [name, count(number), ...(timed ? [span(seconds)] : []), moment(first), moment(last)];
  return foldable(`met ${kind}`, {}, make("summary", {}, `${title} (${count(rows.length)})`), table(title, columns, ranked(rows).map(cells)));
}

function footing(told) {
  const sum = (name) => told.proxies.reduce((total, proxy) => total + proxy[name], 0);
  const since = Math.min(...told.proxies.map((proxy) => proxy.since));
  const left = sum("thinned") + sum("dropped");
  const parts = [`Looked at ${plural(sum("looked_at"), "call", "calls")} of ${plural(sum("sessions"), "session", "sessions")} since ${moment(since)}`];
  if (left) parts.push(`left ${count(left)} out to take little CPU`);
  parts.push(`read the answers of ${percent(told.replies)} of the sessions (checklist.replies)`);
  return `${parts.join("; ")}. What is mended stays counted until the proxy starts anew. It only looks: no call is changed, delayed or refused. Ids are hashed; names are as you gave them.`;
}

// --- the page ---

function show(told) {
  const [level, title, text] = overall(told);
  at("verdict").dataset.level = level;
  say(at("verdict").querySelector("h1"), title);
  say(at("verdict").querySelector("p"), text);
  const rules = new Map(told.rules.map((rule) => [rule.id, rule]));
  at("fixes").hidden = !told.fixes.length;
  fill(at("fixes-list"), ...told.fixes.map((id) => fix(rules.get(id))));
  const points = [...new Set(told.rules.map((rule) => rule.point))];
  fill(at("points"), ...points.map((name) => point(name, told.rules.filter((rule) => rule.point === name))));
  const met = KINDS.map((kind) => [kind, Object.entries(told.inventory[kind[0]] ?? {})]).filter(([, rows]) => rows.length);
  at("met").hidden = !met.length;
  fill(at("inventory"), ...met.map(([kind, rows]) => list(kind, rows)));
  say(at("foot"), footing(told));
}

function miss(why) {
  at("verdict").dataset.level = "attention";
  say(at("verdict").querySelector("h1"), "Nothing to show");
  say(at("verdict").querySelector("p"), why);
}

/** Unfold the rule that the address names. */
function unfold() {
  const rule = at(decodeURIComponent(location.hash.slice(1)));
  if (rule instanceof HTMLDetailsElement) {
    rule.open = true;
    rule.scrollIntoView({ block: "center" });
  }
}

let timer = null;
let asking = false;

async function look() {
  clearTimeout(timer);
  if (asking) return;
  asking = true;
  try {
    show(await ask("checklist.json"));
  } catch (error) {
    if (error instanceof Locked) return unlock(begin);
    // What the browser throws of a network, and what `ask` says of an answer; anything else is a defect of this page.
    if (!(error instanceof TypeError || error instanceof DOMException || /^it answers/.test(error.message))) throw error;
    miss(error.message === "it answers 404" ? "The checklist is off (checklist.enabled)." : "The proxy does not answer. This page goes on asking.");
  } finally {
    asking = false;
    if (at("unlock").hidden) timer = setTimeout(look, EVERY);
  }
}

async function begin() {
  await look();
  unfold();
}

addEventListener("hashchange", unfold);
// Nobody looks at a hidden page: it asks again when it is looked at.
document.addEventListener("visibilitychange", () => document.hidden ? clearTimeout(timer) : at("unlock").hidden && look());
begin();
