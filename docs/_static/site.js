// What scrolls sideways can be scrolled with a keyboard too.
function focusable() {
  for (const box of document.querySelectorAll(".highlight pre, .table-wrapper, .wide-figure")) {
    if (box.scrollWidth > box.clientWidth) {
      const what = box.matches("pre") ? "code" : box.matches(".wide-figure") ? "figure" : "table";
      box.tabIndex = 0;
      box.setAttribute("role", "region");
      box.setAttribute("aria-label", `${what}, scrolls sideways`);
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
// A figure that is drawn for a wide page keeps its letters readable on a narrow one, and scrolls.
function markWideFigures() {
  for (const image of document.querySelectorAll("article p > img:only-child")) {
    image.parentElement.classList.toggle("wide-figure", image.naturalWidth > 420 || image.style.width !== "");
  }
}
window.addEventListener("load", markWideFigures);
for (const event of ["load", "resize"]) {
  window.addEventListener(event, focusable);
  window.addEventListener(event, fixFirstColumns);
}
