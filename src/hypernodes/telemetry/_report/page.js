"use strict";

// Tables: their heads become buttons that sort.

function valueOf(row, column) {
  const cell = row.cells[column];
  const value = cell.dataset.value;
  return value === undefined ? cell.textContent.trim().toLowerCase() : Number(value);
}

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one).localeCompare(String(other), undefined, { numeric: true });
}

function sort(table, head) {
  const first = head.classList.contains("number") ? "descending" : "ascending";
  const second = first === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? second : first;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [valueOf(row, head.cellIndex), row]);
  rows.sort((one, other) => sign * compare(one[0], other[0]));
  body.append(...rows.map((pair) => pair[1]));
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(table, head));
    head.append(button);
  }
}

// Nodes: what is pointed at is lit in the graph, on the timeline and in the table.

const panel = document.getElementById("panel");
let chosen = null;

function light(node) {
  for (const lit of document.querySelectorAll(".lit")) lit.classList.remove("lit");
  document.body.classList.toggle("choosing", node !== null);
  if (node === null) return;
  const places = `[data-node="${node}"], [data-row="${node}"]`;
  for (const place of document.querySelectorAll(places)) place.classList.add("lit");
  for (const box of document.querySelectorAll(`.box[data-node="${node}"]`)) {
    const ends = `[data-source="${box.dataset.box}"], [data-target="${box.dataset.box}"]`;
    for (const line of document.querySelectorAll(ends)) line.classList.add("lit");
  }
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function describe(node) {
  const row = document.getElementById(`node-${node}`);
  if (!panel || !row) return;
  const heads = row.closest("table").tHead.rows[0].cells;
  const line = element("div", "");
  line.className = "top-line";
  const link = element("a", "In the table");
  link.href = `#node-${node}`;
  line.append(element("h3", row.cells[0].textContent), link);
  const facts = document.createElement("dl");
  for (const cell of [...row.cells].slice(1)) {
    const pair = document.createElement("div");
    pair.append(element("dt", heads[cell.cellIndex].textContent), element("dd", cell.textContent));
    facts.append(pair);
  }
  panel.replaceChildren(line, facts);
  panel.hidden = false;
}

function choose(node) {
  chosen = node === chosen ? null : node;
  light(chosen);
  if (chosen === null) panel.hidden = true;
  else describe(chosen);
}

for (const place of document.querySelectorAll("[data-node]")) {
  const node = place.dataset.node;
  place.addEventListener("mouseenter", () => light(node));
  place.addEventListener("mouseleave", () => light(chosen));
  place.addEventListener("focus", () => light(node));
  place.addEventListener("blur", () => light(chosen));
  if (!panel || place.matches(".fault a, table a")) continue;
  place.addEventListener("click", (event) => {
    event.preventDefault();
    choose(node);
  });
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && chosen !== null) choose(chosen);
});

// The graph: as a whole, where it is larger than its place.

const canvas = document.querySelector(".canvas");

function fit(button) {
  const isWhole = button.getAttribute("aria-pressed") === "true";
  const place = canvas.parentElement;
  const room = [place.clientWidth - 48, place.clientHeight - 56];
  const size = [parseFloat(canvas.style.width), parseFloat(canvas.style.height)];
  const scale = Math.min(room[0] / size[0], room[1] / size[1], 1);
  canvas.style.zoom = isWhole ? "" : String(scale);
  button.setAttribute("aria-pressed", String(!isWhole));
}

if (canvas) {
  const place = canvas.parentElement;
  const isLarger = place.scrollWidth > place.clientWidth || place.scrollHeight > place.clientHeight;
  if (isLarger) {
    const button = element("button", "Show all of it");
    button.type = "button";
    button.className = "tool";
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => fit(button));
    document.querySelector("#graph + .legend").prepend(button);
  }
}

// Paper: nothing is folded, and the graph is no wider than a sheet, of so many pixels.

const SHEET = 680;

addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
  if (canvas) canvas.style.zoom = String(Math.min(SHEET / parseFloat(canvas.style.width), 1));
});

addEventListener("afterprint", () => {
  if (canvas) canvas.style.zoom = "";
});
