"use strict";
// Sorts tables by a click on a heading and narrows long ones; everything is readable without it.

const numeric = (text) => parseFloat(text.replaceAll(",", "").replace("−", "-").replace(/^[^\d.+-]+/, ""));

function compare(a, b, isText) {
  if (!isText) {
    const [x, y] = [numeric(a), numeric(b)];
    if (!isNaN(x) && !isNaN(y)) return x - y;
  }
  return a.localeCompare(b, "en", { numeric: true });
}

function sort(table, heading) {
  const column = heading.cellIndex;
  const isText = heading.classList.contains("t");
  const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [row.cells[column].textContent, row]);
  const missing = (text) => text === "" || (!isText && isNaN(numeric(text)));
  rows.sort(([a], [b]) => missing(a) - missing(b) || (missing(a) ? 0 : sign * compare(a, b, isText)));
  body.append(...rows.map(([, row]) => row));
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
}

function addFilter(table) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  const count = document.createElement("span");
  const rows = [...table.tBodies[0].rows];
  label.className = "filter";
  input.type = "search";
  count.setAttribute("role", "status");
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word));
    }
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  });
  label.append("Show rows with", input, count);
  table.parentNode.before(label);
}

for (const table of document.querySelectorAll("table")) {
  for (const heading of table.tHead.rows[0].cells) {
    if (!heading.textContent) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(table, heading));
    heading.append(button);
  }
  if ("filter" in table.dataset && table.tBodies[0].rows.length > 10) addFilter(table);
}
