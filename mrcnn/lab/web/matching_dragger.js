// Objects to drag among anchors, and which anchor answers for which. `data` is what
// mrcnn/lab/views/matching_dragger.py makes:
//   { title, hint, size: [width, height], objects: [[x1, y1, x2, y2], …] at the start, anchors: the same, high, low,
//     colours: one for each object }
// Lengths are the units of the <svg>'s viewBox. The matches are those of mrcnn.ops.match_anchors.
const BACKGROUND = -1, IGNORED = -2;
const STEP = 0.5;
const names = data.objects.map((_, i) => String.fromCharCode(65 + i));

// ---- numbers -------------------------------------------------------------------------------------------------------

// The table of IoUs, a row for each object, and for each anchor { match, best: its best object, saved: by the second rule }.
function matched(objects, high, low, lowQuality) {
  const table = objects.map((object) => data.anchors.map((anchor) => iou(object, anchor)));
  const fates = data.anchors.map((_, a) => {
    const column = table.map((row) => row[a]);
    const best = column.indexOf(Math.max(...column));
    const match = column[best] >= high ? best : column[best] < low ? BACKGROUND : IGNORED;
    return { match, best, saved: false };
  });
  if (lowQuality)
    for (const row of table) {
      const most = Math.max(...row);
      row.forEach((value, a) => {
        // It gets the object that it itself overlaps most, which may be another.
        if (most > 0 && value === most && fates[a].match < 0) fates[a] = { ...fates[a], match: fates[a].best, saved: true };
      });
    }
  return { table, fates };
}

// ---- on the page ---------------------------------------------------------------------------------------------------

function start(root) {
  let objects = data.objects.map((box) => [...box]), lowQuality = false;
  const [width, height] = data.size;
  const letter = Math.max(width, height) / 24;
  const says = element("p", { class: "says", role: "status", "aria-live": "polite" });
  const anchors = data.anchors.map((box, a) => {
    const pair = twice("rect", "anchor");
    for (const rect of pair) place(rect, box);
    return { pair, tag: drawn("text", { x: box[2] - letter * 0.7, y: box[3] - letter * 0.25, "font-size": letter }, String(a)) };
  });
  const outlines = objects.map((_, g) => {
    const pair = twice("rect", "object");
    pair[1].setAttribute("stroke", data.colours[g]);
    return { pair, tag: drawn("text", { class: "name", "font-size": letter * 1.2 }, names[g]) };
  });
  const rules = range(width + 1).map((x) => drawn("line", { class: "rule", x1: x, x2: x, y1: 0, y2: height }))
    .concat(range(height + 1).map((y) => drawn("line", { class: "rule", x1: 0, x2: width, y1: y, y2: y })));
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "group",
    "aria-label": `${objects.length} objects, solid, and ${data.anchors.length} anchors, dashed` },
    drawn("rect", { class: "paper", width, height }), ...rules, ...outlines.flatMap(({ pair }) => pair),
    ...anchors.flatMap(({ pair, tag }) => [...pair, tag]), ...outlines.map(({ tag }) => tag));
  const handles = objects.map((_, g) => boxHandles(svg, {
    size: data.size, step: STEP, smallest: STEP, radius: letter / 3, name: `object ${names[g]}`, get: () => objects[g],
    show: (box) => { objects = objects.with(g, box); show(); },
  }));
  const numbers = objects.map(() => data.anchors.map(() => element("td")));
  const verdicts = data.anchors.map((_, a) => element("td", { "data-anchor": a }));
  const line = (head, cells) => element("tr", {}, element("th", { scope: "row" }, head), ...cells);
  const table = element("table", {},
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "IoU"),
      ...data.anchors.map((_, a) => element("th", { scope: "col" }, `anchor ${a}`)))),
    element("tbody", {}, ...numbers.map((cells, g) => line(names[g], cells)), line("match", verdicts)));
  const [high, low] = ["high", "low"].map((name) => {
    const slider = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: data[name], "aria-label": `threshold ${name}` });
    slider.addEventListener("input", () => show(name));
    return { name, slider, words: element("b", { "data-value": name }) };
  });
  const second = button("low-quality matches", "the second rule: the best anchors that an object has answer for it", () => {
    lowQuality = !lowQuality;
    show();
  });

  // A threshold that is moved takes the other one with it: low is never above high.
  function show(changed = "") {
    const at = () => [high, low].map(({ slider }) => Number(slider.value));
    if (at()[1] > at()[0]) (changed === "low" ? high : low).slider.value = at()[changed === "low" ? 1 : 0];
    const [from, below] = at();
    for (const { name, slider, words } of [high, low]) words.textContent = `${name} ${Number(slider.value).toFixed(2)}`;
    second.setAttribute("aria-pressed", lowQuality);
    const { table: values, fates } = matched(objects, from, below, lowQuality);
    objects.forEach((box, g) => {
      for (const rect of outlines[g].pair) place(rect, box);
      filled(outlines[g].tag, { x: box[0] + letter * 0.3, y: box[1] + letter * 1.2 }, []);
      handles[g].put(box);
    });
    fates.forEach(({ match, best, saved }, a) => {
      anchors[a].pair[1].setAttribute("stroke", match >= 0 ? data.colours[match] : match === BACKGROUND ? "#888888" : "#ffffff");
      verdicts[a].textContent = match >= 0 ? `${names[match]}${saved ? " (saved)" : ""}` : match === BACKGROUND ? "background" : "ignored";
      verdicts[a].setAttribute("data-match", match);
      numbers.forEach((row, g) => {
        row[a].textContent = values[g][a].toFixed(2);
        row[a].setAttribute("data-iou", values[g][a]);
        row[a].classList.toggle("best", g === best && values[g][a] > 0);
      });
    });
    says.textContent = told(fates);
  }

  function told(fates) {
    const who = (wanted) => fates.flatMap(({ match }, a) => (match === wanted ? [a] : []));
    const parts = names.map((name, g) => (who(g).length ? `${name} has anchor ${who(g).join(" and ")}` : `${name} has none`));
    return `${parts.join(", ")}. Background: ${who(BACKGROUND).join(", ") || "none"}. Ignored: ${who(IGNORED).join(", ") || "none"}.`;
  }

  root.replaceChildren(
    element("h4", {}, data.title),
    svg,
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "the table of IoUs" }, table),
    ...[high, low].map(({ slider, words }) => element("div", { class: "bar" }, words, slider)),
    says,
    element("div", { class: "bar" }, second,
      button("start again", "the objects back to where they were", () => { objects = data.objects.map((box) => [...box]); show(); })),
    element("p", { class: "hint" }, data.hint));
  show();
}
