"use strict";
document.documentElement.classList.add("js");

// What a section shows: rows and branches whose text has all words, of the kinds that are ticked.
function filtered(section) {
  const search = section.querySelector("input[type=search]");
  const words = (search ? search.value : "").toLowerCase().split(/\s+/).filter(Boolean);
  const ticks = [...section.querySelectorAll(".controls input[type=checkbox]")];
  const off = new Set(ticks.filter((t) => !t.checked).map((t) => t.value));
  let shown = 0, all = 0;
  for (const item of section.querySelectorAll("[data-item]")) {
    const text = (item.dataset.item || item.textContent).toLowerCase();
    const on = words.every((w) => text.includes(w)) && !off.has(item.dataset.kind);
    item.hidden = !on;
    all += 1;
    shown += on;
  }
  for (const branch of [...section.querySelectorAll(".tree details")].reverse()) {
    const below = branch.querySelector(":scope > :not(summary):not([hidden])");
    const own = words.every((w) => branch.dataset.text.toLowerCase().includes(w));
    branch.hidden = !below && !own;
    if (words.length && below) branch.open = true;
  }
  const told = section.querySelector(".controls output");
  if (told) told.value = `${shown} of ${all} shown`;
}

// Rows by what a column holds: numbers as numbers, the rest as text.
function sorted(button) {
  const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
  const column = [...head.parentNode.children].indexOf(head);
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const value = (row) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : cell.dataset.value;
  };
  const order = (a, b) => {
    const [x, y] = [value(a), value(b)];
    const found = x !== "" && y !== "" && !isNaN(x) && !isNaN(y)
      ? Number(x) - Number(y) : x.localeCompare(y, undefined, { numeric: true });
    return down ? -found : found;
  };
  body.append(...[...body.rows].sort(order));
}

for (const section of document.querySelectorAll("section")) {
  section.addEventListener("input", () => filtered(section));
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("th button");
  if (button) sorted(button);
  const cell = event.target.closest(".cell");
  if (cell) cell.closest("section").querySelector(".chosen").textContent = cell.title;
});
