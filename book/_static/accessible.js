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
});
