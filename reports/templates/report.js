"use strict";
// Sorts tables by a click on a heading, narrows long ones, saves the data; everything is readable without it.

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

// a page of the history holds none
const embedded = document.getElementById("pcbench-data")?.textContent;

// the records of every run as plain objects: shared fields and columns put together again
function unpacked() {
  return JSON.parse(embedded).runs.flatMap(({ shared, names, records }) =>
    records.map((row) => ({ ...shared, ...Object.fromEntries(names.map((name, i) => [name, row[i]])) })));
}

function csv(rows) {
  const names = [...new Set(rows.flatMap(Object.keys))];
  const cell = (value) => {
    const plain = value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
    // a spreadsheet would run it
    const text = typeof value === "string" && /^[=+\-@\t\r\n＝＋－＠]/.test(plain) ? `'${plain}` : plain;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [names, ...rows.map((row) => names.map((name) => row[name]))].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

const NESTED = ["samples_ms", "stages_ms", "parity_ops", "phase_bytes", "telemetry_summary"];
const DOWNLOADS = {
  "records.csv": () => csv(unpacked().map((row) => Object.fromEntries(Object.entries(row).filter(([name]) => !NESTED.includes(name))))),
  // tidy: one row a timed pass
  "times.csv": () => csv(unpacked().flatMap(({ schema, run, cell, method, backend, workload, context_tokens, samples_ms }) =>
    (samples_ms ?? []).map((ms, i) => ({ schema: schema ?? 1, run, cell, method, backend, workload, context_tokens, repeat: i + 1, ms })))),
  "data.json": () => embedded,
};

function addDownloads(place) {
  const bar = document.createElement("p");
  bar.className = "downloads";
  bar.append("Save ");
  for (const [name, make] of Object.entries(DOWNLOADS)) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([make()], { type: name.endsWith("csv") ? "text/csv" : "application/json" }));
      link.download = name;
      link.click();
      URL.revokeObjectURL(link.href);
    });
    bar.append(button);
  }
  place.append(bar);
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
for (const place of document.querySelectorAll("[data-downloads]")) addDownloads(place);

// says so where a table has columns to the right of what is seen
const cue = (region) => region.classList.toggle("scrolls", region.scrollWidth > region.clientWidth + 1);
const sizes = new ResizeObserver((seen) => seen.forEach(({ target }) => cue(target)));
for (const region of document.querySelectorAll(".scroll")) {
  cue(region);
  sizes.observe(region);
}
