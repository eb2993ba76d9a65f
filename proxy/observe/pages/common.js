// What all pages share: making elements, numbers in words, and asking the admin port, with its token where it wants one.
// A page's own script follows in the same module. Data becomes text (textContent), never markup.
"use strict";

const ANSWER_WITHIN = 4000; // milliseconds

/** Give an element of the page that has this id. */
const at = (id) => document.getElementById(id);

/** Make an element. `given`: attributes; `class` too. Children: elements and texts; null is none. */
function make(name, given = {}, ...children) {
  return furnish(document.createElement(name), given, children);
}

/** Make an element of a drawing. */
function draw(name, given = {}, ...children) {
  return furnish(document.createElementNS("http://www.w3.org/2000/svg", name), given, children);
}

function furnish(element, given, children) {
  for (const [key, value] of Object.entries(given)) {
    if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined).map((child) => child instanceof Node ? child : String(child)));
  return element;
}

/** Put these in the place of what an element holds. */
const fill = (element, ...children) => element.replaceChildren(...children.filter((child) => child !== null && child !== undefined));

/** Set a text, and leave the element alone where it is the same: screen readers tell what changes. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const count = (number) => number.toLocaleString("en");

/** Give milliseconds with as many digits as mean something. */
function milliseconds(number) {
  return `${number.toFixed(number >= 100 || number === 0 ? 0 : number >= 10 ? 1 : 2)} ms`;
}

/** Give a rate with as many digits as mean something. */
const rate = (number) => String(Number(number.toFixed(number >= 100 ? 0 : number >= 10 ? 1 : 2)));

/** Give a span of time in its largest unit, or its two largest. */
function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const units = [[Math.floor(whole / 86400), "d"], [Math.floor(whole / 3600) % 24, "h"], [Math.floor(whole / 60) % 60, "min"], [whole % 60, "s"]];
  while (units.length > 1 && units[0][0] === 0) units.shift();
  return units.slice(0, 2).filter(([number], place) => number || !place).map(([number, unit]) => `${number} ${unit}`).join(" ");
}

/** Make a table. `columns`: [title, is it a number]; `rows`: of texts or elements. The first cell names the row.
 *
 * On a phone a row becomes a block, its titles beside its cells; roles keep telling that it is a table. */
function table(caption, columns, rows) {
  const cell = (content, place) => make(place ? "td" : "th", {
    class: columns[place][1] ? "number" : null, scope: place ? null : "row", role: place ? "cell" : "rowheader", "data-title": columns[place][0],
  }, content);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    make("table", { role: "table" },
      make("caption", { class: "unseen" }, caption),
      make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...columns.map(([title, number]) => make("th", { scope: "col", role: "columnheader", class: number ? "number" : null }, title)))),
      make("tbody", { role: "rowgroup" }, ...rows.map((row) => make("tr", { role: "row" }, ...row.map(cell))))));
}

// --- asking --------------------------------------------------------------------------------------------------------

let token = null; // in memory only: gone with the page

/** The proxy answered, and wants the token, or another one. */
class Locked extends Error {}

/** Ask the admin port for JSON. Throws Locked, or another Error where nobody answers or not with that. */
async function ask(path) {
  const reply = await fetch(path, {
    headers: token === null ? {} : { Authorization: `Bearer ${token}` },
    cache: "no-store",
    credentials: "omit",
    signal: AbortSignal.timeout(ANSWER_WITHIN),
  });
  if (reply.status === 403) throw new Locked();
  if (!reply.ok) throw new Error(`it answers ${reply.status}`);
  return reply.json();
}

/** Show the form that asks for the token (id `unlock`), and call `retry` once there is one to try. */
function unlock(retry) {
  const form = at("unlock");
  const again = token !== null;
  token = null;
  form.hidden = false;
  say(at("unlock-said"), again ? "That token was not accepted." : "From another machine this page needs the token (admin.token).");
  form.onsubmit = (event) => {
    event.preventDefault();
    token = form.elements.token.value.trim();
    form.elements.token.value = "";
    form.hidden = true;
    retry();
  };
  form.elements.token.focus();
}
