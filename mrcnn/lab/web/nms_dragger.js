// Boxes to drag, a threshold to slide, and what NMS leaves of them. `data` is what mrcnn/lab/views/nms_dragger.py makes:
//   { title, hint, size: [width, height], boxes: [[x1, y1, x2, y2], …] at the start, scores: [s, …], threshold, sigma,
//     colours: one for each box }
// Lengths are pixels, which are the units of the <svg>'s viewBox. What is kept is what mrcnn.ops.nms keeps; Soft-NMS is
// that of Bodla et al. (2017), with the Gaussian.
const COUNT = data.boxes.length;
const names = data.boxes.map((_, i) => String.fromCharCode(65 + i));

// ---- numbers -------------------------------------------------------------------------------------------------------

// The best first; of equal scores the first.
const order = data.scores.map((_, i) => i).sort((a, b) => data.scores[b] - data.scores[a] || a - b);

// For each box null, if it is kept, or { by, iou }: which kept and better box suppresses it.
function suppressed(boxes, threshold) {
  const fates = boxes.map(() => null);
  order.forEach((better, rank) => {
    if (fates[better]) return;  // a suppressed box suppresses nobody
    for (const worse of order.slice(rank + 1)) {
      const overlap = iou(boxes[better], boxes[worse]);
      if (!fates[worse] && overlap > threshold) fates[worse] = { by: better, iou: overlap };
    }
  });
  return fates;
}

// The scores that Soft-NMS leaves: the best box lowers those that overlap it, then the best of the others, and so on.
function softened(boxes, sigma) {
  const scores = [...data.scores], left = new Set(scores.keys());
  while (left.size) {
    const best = [...left].reduce((a, b) => (scores[b] > scores[a] ? b : a));
    left.delete(best);
    for (const each of left) scores[each] *= Math.exp(-(iou(boxes[best], boxes[each]) ** 2) / sigma);
  }
  return scores;
}

// ---- drawing -------------------------------------------------------------------------------------------------------

// The paper with the boxes: suppressed ones dashed, each with a line to the box that suppresses it; with Soft-NMS fainter
// by as much as their scores fall.
function drawPaper() {
  const [width, height] = data.size, letter = Math.max(width, height) / 18;
  const outlines = data.boxes.map((_, i) => twice("rect", "outline", { "data-box": names[i] }));
  const strikes = data.boxes.map(() => twice("line", "strike"));
  const tags = names.map((name) => drawn("text", { class: "tag", "font-size": letter }, name));
  for (const [i, pair] of outlines.entries()) pair[1].setAttribute("stroke", data.colours[i]);
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `${COUNT} boxes with scores` },
    drawn("rect", { class: "paper", width, height }), ...[...order].reverse().flatMap((i) => outlines[i]), ...strikes.flat(), ...tags);

  function put({ boxes, soft }, fates, scores) {
    boxes.forEach((box, i) => {
      const fate = soft ? null : fates[i];
      for (const rect of outlines[i]) {
        place(rect, box);
        rect.classList.toggle("gone", fate !== null);
        rect.style.opacity = soft ? Math.max(0.15, scores[i] / data.scores[i]) : "";
      }
      filled(tags[i], { x: box[0] + width / 60, y: box[1] + letter }, []);
      const [x1, y1] = placed(fate ? boxes[fate.by] : box), [x2, y2] = placed(box);
      for (const line of strikes[i]) filled(line, { x1, y1, x2, y2, visibility: fate ? "visible" : "hidden" }, []);
    });
  }

  return { svg, put };
}

// The table: the boxes by falling score, and what becomes of each.
function drawTable() {
  const rows = order.map((i) => {
    const fate = element("td", { "data-fate": names[i] });
    return { i, fate, row: element("tr", {}, element("th", { scope: "row" }, names[i]),
      element("td", {}, data.scores[i].toFixed(2)), fate) };
  });
  const heads = ["box", "score", "what becomes of it"].map((words) => element("th", { scope: "col" }, words));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...rows.map(({ row }) => row)));

  function put(soft, fates, scores) {
    for (const { i, fate, row } of rows) {
      const by = fates[i] ? names[fates[i].by] : "";
      filled(fate, { "data-score": scores[i], "data-kept": fates[i] === null, "data-by": by }, []);
      fate.textContent = soft ? `score ${scores[i].toFixed(2)}` : fateOf(fates[i]);
      row.classList.toggle("gone", !soft && fates[i] !== null);
    }
  }

  return { table, put };
}

function fateOf(fate) {
  return fate ? `suppressed by ${names[fate.by]}, IoU ${fate.iou.toFixed(2)}` : "kept";
}

// What is seen, in words.
function told(soft, fates, scores) {
  if (soft) return `Soft-NMS keeps all, with scores ${order.map((i) => `${names[i]} ${scores[i].toFixed(2)}`).join(", ")}.`;
  const kept = order.filter((i) => fates[i] === null), gone = order.filter((i) => fates[i]);
  return `Kept: ${kept.map((i) => names[i]).join(", ")}. ${gone.map((i) => `${names[i]} is ${fateOf(fates[i])}.`).join(" ")}`;
}

// ---- on the page ---------------------------------------------------------------------------------------------------

function start(root) {
  const state = { boxes: data.boxes.map((box) => [...box]), soft: false };
  const change = (changes) => { Object.assign(state, changes); show(); };
  const says = element("p", { class: "says", role: "status", "aria-live": "polite" });
  const paper = drawPaper(), { table, put: putTable } = drawTable();
  const handles = [...order].reverse().map((i) => [i, boxHandles(paper.svg, {
    size: data.size, step: 1, smallest: 4, radius: Math.max(...data.size) / 60, name: names[i], get: () => state.boxes[i],
    show: (box) => change({ boxes: state.boxes.with(i, box) }),
  })]);
  const slider = element("input", { type: "range", min: 0.05, max: 0.95, step: 0.01, value: data.threshold });
  const sliderSays = element("b", { "data-value": "threshold" });
  slider.addEventListener("input", show);
  const softly = button("Soft-NMS", "in place of NMS", () => {
    slider.value = state.soft ? data.threshold : data.sigma;
    change({ soft: !state.soft });
  });

  function show() {
    const { boxes, soft } = state, at = Number(slider.value);
    const fates = suppressed(boxes, at), scores = softened(boxes, at);
    const name = soft ? "sigma" : "IoU threshold";
    slider.setAttribute("aria-label", name);
    sliderSays.textContent = `${name} ${at.toFixed(2)}`;
    softly.setAttribute("aria-pressed", soft);
    paper.put(state, fates, scores);
    for (const [i, each] of handles) each.put(boxes[i]);
    putTable(soft, fates, scores);
    says.textContent = told(soft, fates, scores);
  }

  root.replaceChildren(
    element("h4", {}, data.title),
    element("div", { class: "parts" }, paper.svg, table),
    element("div", { class: "bar" }, sliderSays, slider),
    says,
    element("div", { class: "bar" }, softly,
      button("start again", "the boxes back to where they were", () => change({ boxes: data.boxes.map((box) => [...box]) }))),
    element("p", { class: "hint" }, data.hint));
  show();
}
