"use strict";
// The table is complete without this script, which adds search, sorting and two runs side by side.
// What was typed and chosen survives a reload, since the page refreshes itself while runs go on.
const runs = JSON.parse(document.getElementById("data").textContent);
const body = document.querySelector(".runs tbody"), rows = [...body.rows];
const search = document.getElementById("search"), compare = document.getElementById("compare");
const comparison = document.getElementById("comparison");
const states = [...document.querySelectorAll("[data-state][aria-pressed]")];
const headings = [...document.querySelectorAll(".runs thead button")];
const KEY = `runs ${location.pathname}`;
const state = {words: "", state: "", key: "date", order: "descending", chosen: [], shown: false, typing: false};

function element(name, text, parent) {
  const made = document.createElement(name);
  made.textContent = text;
  parent?.append(made);
  return made;
}

function cell(row, key) {
  return row.querySelector(`[data-key="${key}"]`).dataset.value;
}

function sort() {
  const button = headings.find(one => one.dataset.key === state.key);
  const isNumber = button.dataset.kind === "number", sign = state.order === "ascending" ? 1 : -1;
  const ordered = rows.map((row, place) => ({row, place, value: cell(row, state.key)}));
  ordered.sort((a, b) => {
    if (!a.value || !b.value) return (!a.value) - (!b.value) || a.place - b.place;  // the unknown comes last
    const difference = isNumber ? a.value - b.value : a.value.localeCompare(b.value);
    return sign * difference || a.place - b.place;
  });
  body.append(...ordered.map(one => one.row));
  for (const one of headings) one.parentElement.removeAttribute("aria-sort");
  button.parentElement.setAttribute("aria-sort", state.order);
}

function filter() {
  const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows) {
    const found = words.every(word => row.dataset.text.includes(word));
    row.hidden = !found || (state.state !== "" && row.dataset.state !== state.state);
  }
  for (const one of states) one.setAttribute("aria-pressed", one.dataset.state === state.state);
  document.getElementById("count").textContent = `${rows.filter(row => !row.hidden).length} of ${rows.length} shown`;
}

function choose() {
  for (const row of rows) {
    const isChosen = state.chosen.includes(row.dataset.folder);
    row.classList.toggle("is-chosen", isChosen);
    row.querySelector("input").checked = isChosen;
  }
  const missing = 2 - state.chosen.length;
  document.getElementById("chosen").textContent =
    missing === 2 ? "choose two runs to compare them" : missing === 1 ? "choose one more" : "two runs chosen";
  compare.disabled = missing > 0;
  if (missing > 0) state.shown = false;
  show();
}

function table(headings, lines) {
  const made = element("table", "", comparison);
  const head = made.createTHead().insertRow();
  for (const text of headings) element("th", text, head).scope = "col";
  const rest = made.createTBody();
  for (const [name, ...cells] of lines) {
    const row = rest.insertRow();
    element("th", name, row).scope = "row";
    for (const text of cells) element("td", text ?? "–", row);
  }
}

function difference(name, before, after) {
  const change = after - before, isLoss = name.endsWith("loss");
  const text = isLoss ? change.toFixed(4) : (100 * change).toFixed(1);
  const sign = Number(text) > 0 ? "+" : "";
  return `${sign}${Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−")}${isLoss ? "" : " points"}`;
}

function number(name, value) {
  return value === undefined ? undefined : name.endsWith("loss") ? value.toFixed(4) : `${(100 * value).toFixed(1)}%`;
}

function union(before, after) {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])];
}

// The earlier run is the one that the other is compared with; runs come with the newest first.
function pair() {
  const places = state.chosen.map(folder => runs.findIndex(run => run.folder === folder));
  return places.sort((a, b) => b - a).map(place => runs[place]);
}

function show() {
  comparison.hidden = !state.shown;
  comparison.replaceChildren();
  if (!state.shown) return;
  const [before, after] = pair();
  element("h2", "Two runs side by side", comparison);
  const isOther = before.tasks && after.tasks && before.tasks !== after.tasks;
  if (isOther) {
    element("p", "They were asked different tasks, so their scores do not compare.", comparison).className = "notice";
  }
  const scores = union(before.numbers, after.numbers).map(name => [
    name, number(name, before.numbers[name]), number(name, after.numbers[name]),
    !isOther && name in before.numbers && name in after.numbers ? difference(name, before.numbers[name], after.numbers[name]) : "",
  ]);
  const rest = union(before.scores, after.scores).map(name => [name, before.scores[name], after.scores[name], ""]);
  table(["", before.title, after.title, "difference"], [["folder", before.folder, after.folder, ""], ...scores, ...rest]);
  element("h3", "Options that differ", comparison);
  const options = union(before.settings, after.settings).sort()
    .filter(key => before.settings[key] !== after.settings[key])
    .map(key => [key, ...[before, after].map(run => run.unused.includes(key) ? "" : run.settings[key])])
    .filter(([, ...values]) => values.some(value => value !== ""));
  if (options.length) table(["", before.title, after.title], options);
  else element("p", "None: they differ at most in their names and notes.", comparison);
  element("h3", "Task by task, with pictures and intervals of the differences", comparison);
  if (before.answered && after.answered) {
    const command = `python -m arc_experiments.report ${after.quoted} --against ${before.quoted}`;
    const shown = element("pre", command, comparison);
    const copy = element("button", "Copy", comparison);
    copy.type = "button";
    copy.addEventListener("click", () => {
      getSelection().selectAllChildren(shown);
      copy.textContent = document.execCommand("copy") ? "Copied" : "Selected: copy it with the keyboard";
    });
  } else {
    element("p", "Only runs that have answered can be compared task by task.", comparison);
  }
  const close = element("button", "Close", comparison);
  close.type = "button";
  close.addEventListener("click", () => change({shown: false}));
}

function change(changes) {
  Object.assign(state, changes);
  sort();
  filter();
  choose();
  try {
    sessionStorage.setItem(KEY, JSON.stringify(state));
  } catch { /* a browser that keeps nothing for files */ }
}

function restored() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}

search.addEventListener("input", () => change({words: search.value}));
search.addEventListener("focus", () => change({typing: true}));
search.addEventListener("blur", () => change({typing: false}));
for (const one of states) one.addEventListener("click", () => change({state: one.dataset.state}));
for (const one of headings) {
  one.addEventListener("click", () => {
    const {key, first} = one.dataset;
    const other = state.order === "ascending" ? "descending" : "ascending";
    change({key, order: state.key === key ? other : first});
  });
}
for (const row of rows) {
  row.querySelector("input").addEventListener("change", ({target}) => {
    const others = state.chosen.filter(folder => folder !== row.dataset.folder);
    change({chosen: target.checked ? [...others.slice(-1), row.dataset.folder] : others});
  });
}
compare.addEventListener("click", () => {
  change({shown: true});
  comparison.scrollIntoView();
});
for (const one of document.querySelectorAll(".runs :disabled")) one.disabled = false;
document.querySelector(".tools").hidden = false;
const earlier = restored();
earlier.chosen = (earlier.chosen ?? []).filter(folder => runs.some(run => run.folder === folder));
if (!states.some(one => one.dataset.state === earlier.state)) earlier.state = "";
search.value = earlier.words ?? "";
if (earlier.typing) search.focus();
change(earlier);
