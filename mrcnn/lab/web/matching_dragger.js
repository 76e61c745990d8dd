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

// ---- drawing -------------------------------------------------------------------------------------------------------

// What becomes of an anchor, in a word.
function verdict({ match, saved }) {
  return match >= 0 ? `${names[match]}${saved ? " (saved)" : ""}` : match === BACKGROUND ? "background" : "ignored";
}

// Squared paper with the objects, solid, and the anchors, dashed in the colour of the object that they answer for.
function drawPaper() {
  const [width, height] = data.size, letter = Math.max(width, height) / 24;
  const anchors = data.anchors.map((box, a) => {
    const pair = twice("rect", "anchor");
    for (const rect of pair) place(rect, box);
    return { pair, tag: drawn("text", { x: box[2] - letter * 0.7, y: box[3] - letter * 0.25, "font-size": letter }, String(a)) };
  });
  const outlines = data.objects.map((_, g) => {
    const pair = twice("rect", "object");
    pair[1].setAttribute("stroke", data.colours[g]);
    return { pair, tag: drawn("text", { class: "name", "font-size": letter * 1.2 }, names[g]) };
  });
  const rules = range(width + 1).map((x) => drawn("line", { class: "rule", x1: x, x2: x, y1: 0, y2: height }))
    .concat(range(height + 1).map((y) => drawn("line", { class: "rule", x1: 0, x2: width, y1: y, y2: y })));
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "group",
    "aria-label": `${outlines.length} objects, solid, and ${anchors.length} anchors, dashed` },
    drawn("rect", { class: "paper", width, height }), ...rules, ...outlines.flatMap(({ pair }) => pair),
    ...anchors.flatMap(({ pair, tag }) => [...pair, tag]), ...outlines.map(({ tag }) => tag));

  function put(objects, fates) {
    objects.forEach((box, g) => {
      for (const rect of outlines[g].pair) place(rect, box);
      filled(outlines[g].tag, { x: box[0] + letter * 0.3, y: box[1] + letter * 1.2 }, []);
    });
    fates.forEach(({ match }, a) => anchors[a].pair[1].setAttribute("stroke",
      match >= 0 ? data.colours[match] : match === BACKGROUND ? "#888888" : "#ffffff"));
  }

  return { svg, put, radius: letter / 3 };
}

// The table: a row of IoUs for each object, and what becomes of each anchor.
function drawTable() {
  const numbers = data.objects.map(() => data.anchors.map(() => element("td")));
  const verdicts = data.anchors.map((_, a) => element("td", { "data-anchor": a }));
  const line = (head, cells) => element("tr", {}, element("th", { scope: "row" }, head), ...cells);
  const heads = ["IoU", ...data.anchors.map((_, a) => `anchor ${a}`)].map((words) => element("th", { scope: "col" }, words));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...numbers.map((cells, g) => line(names[g], cells)), line("match", verdicts)));

  function put(values, fates) {
    fates.forEach((fate, a) => {
      filled(verdicts[a], { "data-match": fate.match }, []).textContent = verdict(fate);
      numbers.forEach((row, g) => {
        filled(row[a], { "data-iou": values[g][a] }, []).textContent = values[g][a].toFixed(2);
        row[a].classList.toggle("best", g === fate.best && values[g][a] > 0);
      });
    });
  }

  return { table, put };
}

// What is seen, in words.
function told(fates) {
  const who = (wanted) => fates.flatMap(({ match }, a) => (match === wanted ? [a] : []));
  const parts = names.map((name, g) => (who(g).length ? `${name} has anchor ${who(g).join(" and ")}` : `${name} has none`));
  return `${parts.join(", ")}. Background: ${who(BACKGROUND).join(", ") || "none"}. Ignored: ${who(IGNORED).join(", ") || "none"}.`;
}

// ---- on the page ---------------------------------------------------------------------------------------------------

function start(root) {
  const state = { objects: data.objects.map((box) => [...box]), high: data.high, low: data.low, lowQuality: false };
  const change = (changes) => { Object.assign(state, changes); show(); };
  const says = element("p", { class: "says", role: "status", "aria-live": "polite" });
  const paper = drawPaper(), { table, put: putTable } = drawTable();
  const handles = data.objects.map((_, g) => boxHandles(paper.svg, {
    size: data.size, step: STEP, smallest: STEP, radius: paper.radius, name: `object ${names[g]}`, get: () => state.objects[g],
    show: (box) => change({ objects: state.objects.with(g, box) }),
  }));
  // A threshold that is moved takes the other one with it: low is never above high.
  const together = { high: (high) => ({ high, low: Math.min(state.low, high) }), low: (low) => ({ low, high: Math.max(state.high, low) }) };
  const sliders = ["high", "low"].map((name) => {
    const slider = element("input", { type: "range", min: 0, max: 1, step: 0.05, "aria-label": `threshold ${name}` });
    slider.addEventListener("input", () => change(together[name](Number(slider.value))));
    return { name, slider, words: element("b", { "data-value": name }) };
  });
  const second = button("low-quality matches", "the second rule: the best anchors that an object has answer for it",
    () => change({ lowQuality: !state.lowQuality }));

  function show() {
    const { objects, high, low, lowQuality } = state;
    const { table: values, fates } = matched(objects, high, low, lowQuality);
    for (const { name, slider, words } of sliders) {
      slider.value = state[name];
      words.textContent = `${name} ${state[name].toFixed(2)}`;
    }
    second.setAttribute("aria-pressed", lowQuality);
    paper.put(objects, fates);
    objects.forEach((box, g) => handles[g].put(box));
    putTable(values, fates);
    says.textContent = told(fates);
  }

  root.replaceChildren(
    element("h4", {}, data.title),
    paper.svg,
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "the table of IoUs" }, table),
    ...sliders.map(({ slider, words }) => element("div", { class: "bar" }, words, slider)),
    says,
    element("div", { class: "bar" }, second,
      button("start again", "the objects back to where they were", () => change({ objects: data.objects.map((box) => [...box]) }))),
    element("p", { class: "hint" }, data.hint));
  show();
}
