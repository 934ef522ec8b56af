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
window.addEventListener("load", focusable);
window.addEventListener("resize", focusable);
