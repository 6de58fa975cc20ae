"use strict";
// Sorting: a click (or Enter, or Space: headings are buttons) sorts by a column, again turns the order round.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.key;
    const order = (a, b) => {
      const x = key(a), y = key(b);
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // what is missing comes last
      const numbers = x.trim() !== "" && y.trim() !== "" && isFinite(x) && isFinite(y);
      const found = numbers ? x - y : x.localeCompare(y);
      return down ? -found : found;
    };
    body.append(...[...body.rows].sort(order));
  }));
}

// Filtering: rows of the ranking that hold every word, under the chosen protocol.
const text = document.getElementById("filter-text");
const protocol = document.getElementById("filter-protocol");
const count = document.getElementById("filter-count");
const filter = () => {
  const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...document.getElementById("board").tBodies[0].rows];
  for (const row of rows) {
    const content = row.textContent.toLowerCase();
    const fits = words.every((word) => content.includes(word));
    row.hidden = !fits || (protocol.value !== "" && row.dataset.protocol !== protocol.value);
  }
  const shown = rows.filter((row) => !row.hidden).length;
  count.textContent = shown === rows.length ? "" : `${shown} of ${rows.length} rows`;
};
text.addEventListener("input", filter);
protocol.addEventListener("change", filter);
text.form.addEventListener("submit", (event) => event.preventDefault());
filter();

// Paper shows everything.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
