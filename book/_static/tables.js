// Tables of the class "sortable": a click on a heading sorts, a field above filters. Without scripts they are plain tables.
document.addEventListener("DOMContentLoaded", () => {
  const value = (row, column) => row.cells[column].textContent.trim();
  const number = (text) => parseFloat(text.replaceAll("\u2212", "-"));
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const field = document.createElement("input");
    field.type = "search";
    field.className = "table-filter";
    field.placeholder = "Filter: a technique, a part";
    field.setAttribute("aria-label", "Show only rows that hold this text");
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase();
      for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
    table.parentElement.before(field);
    for (const [column, heading] of [...table.tHead.rows[0].cells].entries()) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") !== "descending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const sign = down ? -1 : 1;
        body.append(...[...body.rows].sort((a, b) => {
          const [one, two] = [value(a, column), value(b, column)];
          const [x, y] = [number(one), number(two)];
          return sign * (isNaN(x) || isNaN(y) ? two.localeCompare(one) : x - y);
        }));
      });
    }
  }
  // The guide: the choices and their answer, from the JSON beside them.
  for (const form of document.querySelectorAll("form.guide")) {
    const answers = JSON.parse(form.querySelector("script").textContent);
    const show = () => {
      const place = [...form.querySelectorAll("select")].map((choice) => choice.value);
      let known = Object.keys(answers).map((key) => key.split("|"));
      let elsewhere = "";  // what it knows, from the first choice that leads nowhere
      for (let at = 0; at < place.length && !elsewhere; at++) {
        const further = known.filter((key) => key[at] === place[at]);
        const others = [...new Set(known.map((key) => key[at]))];
        if (!further.length) elsewhere = ` For ${place.slice(0, at).join(", ")} it knows: ${others.join("; ")}.`;
        known = further;
      }
      form.querySelector("output").innerHTML = answers[place.join("|")] ?? `No evidence in this book.${elsewhere}`;
    };
    form.addEventListener("change", show);
    form.hidden = false;
    show();
  }
});
