// What the theme's markup leaves to mend, so that a screen reader says what the eye sees.
document.addEventListener("DOMContentLoaded", () => {
  // A label that leaves out the text which is there to see: the text is the better name.
  for (const control of document.querySelectorAll("summary[aria-label], .search-button-field[aria-label]")) {
    control.removeAttribute("aria-label");
  }
  // The icon of the switch has a title, which the label has to hold too.
  for (const control of document.querySelectorAll(".theme-switch-button")) {
    control.ariaLabel = "Color mode: Light, Dark or System Settings";
  }
  // The bibliography: a list role whose children are no list items says nothing but noise.
  for (const entry of document.querySelectorAll(".citation-list, .citation[role]")) {
    entry.removeAttribute("role");
  }
  // The empty corner of a table is no heading.
  for (const corner of document.querySelectorAll("table.dataframe th:empty")) {
    const cell = document.createElement("td");
    cell.className = corner.className;
    corner.replaceWith(cell);
  }
  // A table that is wider than its place is set tighter. If that is not enough, its edge fades while there is more, and the
  // keyboard can reach it, and a word below says so. So it is with formulas, and on a phone with figures.
  const tables = [...document.querySelectorAll(".bd-article table")];
  const places = tables.map((table) => table.closest(".table-wide, .text_html, .pst-scrollable-table-container"));
  const others = ".bd-article :is(div.math, .cell_output:has(> img), figure:not(.gains-figure, .widget))";
  for (const place of new Set([...places, ...document.querySelectorAll(others)])) {
    if (!place) continue;
    const hint = document.createElement("div");
    hint.className = "scroll-hint";
    place.after(hint);
    place.classList.toggle("tight", place.scrollWidth - place.clientWidth > 1);
    const look = () => {
      const rest = place.scrollWidth - place.clientWidth;
      place.classList.toggle("more-to-the-right", rest - place.scrollLeft > 1);
      if (rest > 1) place.tabIndex = 0;
    };
    place.addEventListener("scroll", look, { passive: true });
    new ResizeObserver(look).observe(place);
  }
});

// On paper nothing can be unfolded: open all before it is printed, and close what was closed after.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll(".bd-article details:not([open])")];
  for (const fold of opened) fold.open = true;
});
addEventListener("afterprint", () => {
  for (const fold of opened) fold.open = false;
});
