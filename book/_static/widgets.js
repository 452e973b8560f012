// Figures with sliders: <figure class="widget"> holds a picture, and a grid as JSON from which it is drawn anew here.
// Nothing is fetched, so it works from a folder too; without scripts, and on paper, the picture stands.
(() => {
  const make = (space) => (name, attributes = {}, ...children) => {
    const node = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  const html = make("http://www.w3.org/1999/xhtml");
  const svg = make("http://www.w3.org/2000/svg");
  const scale = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);
  const shown = (value) => (value === null ? "–" : Number.isInteger(value) ? value.toLocaleString("en") : value.toFixed(1));
  const canvas = (height, label, ...parts) => svg("svg", { viewBox: `0 0 340 ${height}`, role: "img", "aria-label": label }, ...parts);
  const text = (x, y, anchor, words) => svg("text", { x, y, "text-anchor": anchor }, words);
  const legend = (names, inks) =>
    html("p", { class: "widget-legend" }, ...names.map((name, place) =>
      html("span", {}, html("i", { style: `background:${inks[place]}` }), name)));
  const BAR = "#0072B2", MARK = "#333333";

  // --- one function a kind of panel: from the panel and the place in the grid to what is to be seen
  const panels = {
    bars({ title, names, series, top }, place) {
      const [bar, mark] = Object.values(series), row = 18;
      const left = 12 + 6.2 * Math.max(...names.map((name) => name.length));
      const x = scale(0, top, left, 300), drawing = [], words = [];
      names.forEach((name, at) => {
        const y = at * row, value = bar[place][at];
        drawing.push(svg("rect", { x: left, y: y + 3, width: Math.max(x(value ?? 0) - left, 0.5), height: row - 6, fill: BAR }));
        if (mark && mark[place][at] !== null) {
          drawing.push(svg("rect", { x: x(mark[place][at]) - 1.5, y: y + 1, width: 3, height: row - 2, fill: MARK }));
        }
        words.push(text(left - 5, y + 13, "end", name), text(337, y + 13, "end", shown(value)));
      });
      const key = mark ? [legend(Object.keys(series), [BAR, MARK])] : [];
      const label = `${title}: ${names.map((name, at) => `${name} ${shown(bar[place][at])}`).join(", ")}`;
      return [canvas(names.length * row + 2, label, svg("g", { class: "ink" }, ...drawing), ...words), ...key];
    },

    lines(panel, place, along) {
      const x = scale(...panel.xlim, 40, 330), y = scale(...panel.ylim, 165, 8), drawing = [], words = [];
      for (const [at, name] of panel.yticks) {
        drawing.push(svg("path", { d: `M40 ${y(at)}H330`, class: "grid" }));
        words.push(text(35, y(at) + 4, "end", name));
      }
      for (const [at, name] of panel.xticks) {
        drawing.push(svg("path", { d: `M${x(at)} 8V165`, class: "grid" }));
        words.push(text(x(at), 180, "middle", name));
      }
      words.push(text(185, 197, "middle", panel.xlabel));
      Object.values(panel.series).forEach((values, number) => {
        const own = panel.mark ? values[place].map((value, at) => [panel.x[at], value]) : along.map((at) => [panel.x[at], values[at]]);
        const points = own.filter(([, value]) => value !== null).map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`);
        drawing.push(svg("polyline", { points: points.join(" "), stroke: panel.inks[number] }));
        if (!panel.mark && values[place] !== null) {
          drawing.push(svg("circle", { cx: x(panel.x[place]), cy: y(values[place]), r: 5, fill: panel.inks[number] }));
        }
      });
      if (panel.mark) drawing.push(svg("path", { d: `M${x(panel.mark[place])} 8V165`, class: "mark" }));
      const names = Object.keys(panel.series);
      return [canvas(202, `Curves: ${panel.title}`, svg("g", { class: "ink" }, ...drawing), ...words), ...(names.length > 1 ? [legend(names, panel.inks)] : [])];
    },

    counts({ rows, columns, values }, place) {
      const head = html("tr", {}, html("td"), ...columns.map((name) => html("th", { scope: "col" }, name)));
      const body = rows.map((name, row) => html("tr", {}, html("th", { scope: "row" }, name),
        ...values[place][row].map((value) => html("td", {}, shown(value)))));
      return [html("table", {}, html("thead", {}, head), html("tbody", {}, ...body))];
    },

    blend({ images, names, share }, place) {
      const put = (image, x, opacity = 1) => svg("image", { href: images[image], x, y: 0, width: 100, height: 100, opacity });
      const words = [names[0], "the mix", names[1]].map((name, at) => text(at * 115 + 52, 116, "middle", name));
      return [canvas(122, `${names[0]}, ${names[1]} and their mix, ${shown(100 * share[place])} % of it the first`, put(0, 2), put(0, 117), put(1, 117, 1 - share[place]), put(1, 232), ...words)];
    },
  };

  const set = (figure, number) => {
    const { label, sliders, panels: parts, numbers } = JSON.parse(figure.querySelector("script").textContent);
    const sizes = sliders.map((slider) => slider.values.length);
    const told = html("p", { class: "widget-numbers", "aria-live": "polite" });
    const place = (places) => places.reduce((sum, at, axis) => sum * sizes[axis] + at, 0);

    const controls = sliders.map(({ name, values, start, choice }, axis) => {
      const id = `widget-${number}-${axis}`;
      const control = choice
        ? html("select", { id }, ...values.map((value, at) => html("option", { value: at }, value)))
        : html("input", { id, type: "range", min: 0, max: values.length - 1, step: 1 });
      control.value = start;
      const now = html("output", { for: id });
      return { control, now, values, choice, row: html("div", {}, html("label", { for: id }, name), control, ...(choice ? [] : [now])) };
    });
    const places = () => controls.map(({ control }) => Number(control.value));

    const boxes = parts.map((panel) => {
      const box = html("div", { class: "widget-body" });
      return { panel, box, whole: html("div", { class: `widget-panel widget-${panel.kind}` }, html("p", { class: "widget-title" }, panel.title), box) };
    });

    const show = () => {
      const at = places(), here = place(at);
      const along = [...Array(sizes[0]).keys()].map((first) => place([first, ...at.slice(1)]));
      for (const { control, now, values, choice } of controls) {
        const value = values[control.value];
        now.textContent = value;
        if (!choice) control.setAttribute("aria-valuetext", value);
      }
      for (const { panel, box } of boxes) box.replaceChildren(...panels[panel.kind](panel, here, along));
      told.replaceChildren(...Object.entries(numbers).map(([name, values]) => html("span", {}, `${name} `, html("b", {}, values[here]))));
    };

    const live = html("div", { class: "widget-live", role: "group", "aria-label": label },
      html("div", { class: "widget-controls" }, ...controls.map(({ row }) => row)), told,
      html("div", { class: "widget-panels" }, ...boxes.map(({ whole }) => whole)));
    live.addEventListener("input", show);
    show();
    figure.prepend(live);
    figure.classList.add("widget-moves");
  };

  document.addEventListener("DOMContentLoaded", () => [...document.querySelectorAll("figure.widget")].forEach(set));
})();
