// A slider over thresholds: outlines in a picture, and a mark on curves. `data` is what
// mrcnn/lab/views/threshold_slider.py makes:
//   { title, hint, picture: its address, size: [width, height], truth: a path, middles: [[x, y], ...], thresholds: [...], start: a place in it,
//     steps: for each threshold { outline: a path, says }, lines: [{ name, values, colour, dashes }] }
const CHART = { width: 300, height: 220, left: 34, right: 10, top: 10, bottom: 30 };

function placeOf(threshold, value) {
  const low = data.thresholds[0], high = data.thresholds.at(-1);
  return [
    CHART.left + (threshold - low) / (high - low) * (CHART.width - CHART.left - CHART.right),
    CHART.height - CHART.bottom - value * (CHART.height - CHART.top - CHART.bottom),
  ];
}

function chart() {
  const [left, bottom] = placeOf(data.thresholds[0], 0), [right, top] = placeOf(data.thresholds.at(-1), 1);
  const label = (x, y, anchor, words) => drawn("text", { x, y, "text-anchor": anchor }, words);
  const rules = [0, 0.5, 1].flatMap((value) => {
    const [, y] = placeOf(0, value);
    return [drawn("line", { class: "rule", x1: left, x2: right, y1: y, y2: y }), label(left - 6, y + 4, "end", String(value))];
  });
  const ends = [data.thresholds[0], data.thresholds.at(-1)].map((at) => label(placeOf(at, 0)[0], bottom + 18, "middle", String(at)));
  const lines = data.lines.map(({ values, colour, dashes }) => drawn("polyline", {
    points: values.map((value, i) => placeOf(data.thresholds[i], value).join(",")).join(" "),
    stroke: colour, "stroke-dasharray": dashes,
  }));
  const dots = data.lines.map(({ colour }) => drawn("circle", { r: 5, fill: colour }));
  const mark = drawn("line", { class: "mark", y1: bottom, y2: top });
  const svg = drawn("svg", { class: "chart", viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img",
    "aria-label": `${data.lines.map(({ name }) => name).join(", ")} over the threshold` },
    ...rules, ...ends, ...lines, mark, ...dots);
  return { svg, mark, dots };
}

function start(root) {
  const [width, height] = data.size;
  const outline = twice("path", "outline");
  const { svg, mark, dots } = chart();
  const slider = element("input", { type: "range", min: 0, max: data.thresholds.length - 1, step: 1,
    "aria-label": "threshold" });
  const says = element("p", { class: "says", role: "status", "aria-live": "polite" });
  const values = data.lines.map(() => element("b"));

  function show(step) {
    for (const path of outline) path.setAttribute("d", data.steps[step].outline);
    const at = data.thresholds[step];
    const [x] = placeOf(at, 0);
    filled(mark, { x1: x, x2: x }, []);
    data.lines.forEach((line, i) => {
      filled(dots[i], { cx: x, cy: placeOf(at, line.values[step])[1] }, []);
      values[i].textContent = line.values[step].toFixed(3);
    });
    slider.setAttribute("aria-valuetext", `above ${at}`);
    says.textContent = data.steps[step].says;
  }

  slider.addEventListener("input", () => show(Number(slider.value)));
  root.replaceChildren(
    element("h4", {}, data.title),
    element("div", { class: "bar" }, element("span", {}, String(data.thresholds[0])), slider,
      element("span", {}, String(data.thresholds.at(-1)))),
    element("div", { class: "parts" },
      drawn("svg", { class: "picture", viewBox: `0 0 ${width} ${height}`, role: "img",
        "aria-label": "the picture, the true masks dashed, what is kept solid" },
        drawn("image", { href: data.picture, width, height }), ...twice("path", "truth", { d: data.truth }), ...outline,
        ...data.middles.map(([x, y], i) => drawn("text", { x, y, class: "letter", "font-size": Math.max(width, height) / 22,
          "text-anchor": "middle", "dominant-baseline": "central" }, String.fromCharCode(65 + i)))),
      element("div", { class: "measures" }, svg,
        element("ul", {}, ...data.lines.map(({ name, colour, dashes }, i) => element("li", {},
          drawn("svg", { viewBox: "0 0 30 10", class: "key" },
            drawn("line", { x1: 0, x2: 30, y1: 5, y2: 5, stroke: colour, "stroke-dasharray": dashes })),
          ` ${name} `, values[i]))))),
    says,
    element("p", { class: "hint" }, data.hint));
  slider.value = data.start;
  show(data.start);
}
