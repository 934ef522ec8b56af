// What scrolls sideways can be scrolled with a keyboard too.
function focusable() {
  for (const box of document.querySelectorAll(".highlight pre, .table-wrapper")) {
    if (box.scrollWidth > box.clientWidth) {
      box.tabIndex = 0;
      box.setAttribute("role", "region");
      box.setAttribute("aria-label", box.matches("pre") ? "code, scrolls sideways" : "table, scrolls sideways");
    }
  }
}
// The first column stays in place while a table scrolls, where it leaves room for the others.
function fixFirstColumns() {
  for (const box of document.querySelectorAll(".table-wrapper")) {
    const first = box.querySelector("td");
    box.classList.toggle("narrow-first", first !== null && first.offsetWidth < box.clientWidth * 0.5);
  }
}
for (const event of ["load", "resize"]) {
  window.addEventListener(event, focusable);
  window.addEventListener(event, fixFirstColumns);
}
