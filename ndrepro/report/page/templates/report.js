"use strict";
// Tables that sort and filter, buttons that copy, and the values of points in figures. The page is complete without it.

const byText = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

function valueOf(row, column) {
  const cell = row.cells[column];
  return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
}

function compare(one, other, column, numeric, down) {
  if (!numeric) {
    const order = byText.compare(one.cells[column].textContent.trim(), other.cells[column].textContent.trim());
    return down ? -order : order;
  }
  const [a, b] = [valueOf(one, column), valueOf(other, column)];
  const missing = (value) => value === null || Number.isNaN(value);
  if (missing(a) || missing(b)) return missing(a) - missing(b); // what has no number stays below
  return down ? b - a : a - b;
}

function sortBy(table, head) {
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const [body, column] = [table.tBodies[0], Number(head.dataset.column)];
  const rows = [...body.rows].sort((a, b) => compare(a, b, column, head.classList.contains("number"), down));
  body.append(...rows);
}

function filtersOf(table, tools) {
  const search = tools.querySelector("input");
  const shown = tools.querySelector("output");
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, text: row.textContent.toLowerCase() }));
  const choices = [];
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const { row, text } of rows) {
      const fits = words.every((word) => text.includes(word)) &&
        choices.every(([select, column]) => !select.value || row.cells[column].textContent.trim() === select.value);
      row.hidden = !fits;
      left += fits;
    }
    shown.value = left === rows.length ? `${rows.length} rows` : `${left} of ${rows.length} rows`;
  };
  for (const head of table.querySelectorAll("th[data-facet]")) {
    const column = Number(head.dataset.column);
    const values = [...new Set(rows.map(({ row }) => row.cells[column].textContent.trim()))].sort(byText.compare);
    if (values.length < 2 || values.length > 60) continue;
    const label = document.createElement("label");
    const select = document.createElement("select");
    select.append(new Option("all", ""), ...values.map((value) => new Option(value || "(none)", value)));
    select.addEventListener("change", apply);
    label.append(head.textContent.trim(), select);
    shown.before(label);
    choices.push([select, column]);
  }
  search.addEventListener("input", apply);
  apply();
  tools.hidden = false;
}

function markMore(area) {
  area.toggleAttribute("data-more", area.scrollLeft + area.clientWidth < area.scrollWidth - 1);
}

async function copy(button) {
  const text = button.dataset.copy;
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // a page opened from disk may have no clipboard of that kind
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
    button.focus();
  }
  document.getElementById("told").textContent = done ? `copied: ${text}` : `could not be copied: ${text}`;
  const label = button.textContent;
  button.textContent = done ? "copied" : "not copied";
  setTimeout(() => { button.textContent = label; }, 1500);
}

for (const table of document.querySelectorAll("table[data-sortable]")) {
  for (const head of table.querySelectorAll("th[aria-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sortBy(table, head));
  }
  const tools = document.querySelector(`.tools[data-for="${table.id}"]`);
  if (tools) filtersOf(table, tools);
}

const areas = document.querySelectorAll(".scroll");
for (const area of areas) area.addEventListener("scroll", () => markMore(area), { passive: true });
const markAll = () => areas.forEach(markMore);
addEventListener("resize", markAll);
markAll();

document.addEventListener("click", (event) => {
  const button = event.target.closest(".copy");
  if (button) copy(button);
});
for (const button of document.querySelectorAll(".copy")) button.hidden = false;

// shows a point's value at once, and on touch: browsers show an SVG title late, and only under a mouse
const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
document.body.append(tip);
function showValue(event) {
  const title = event.target.closest?.(".drawing g:has(> title)")?.querySelector("title");
  tip.hidden = !title;
  if (!title) return;
  tip.textContent = title.textContent;
  const left = Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${event.clientY + 16}px`;
}
for (const kind of ["pointermove", "pointerdown"]) document.addEventListener(kind, showValue);

// a link to a row that a filter hides shows it again
addEventListener("hashchange", () => {
  const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (row && row.hidden) row.hidden = false;
  if (row) row.scrollIntoView({ block: "center" });
});
