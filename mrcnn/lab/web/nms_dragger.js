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

// ---- on the page ---------------------------------------------------------------------------------------------------

function start(root) {
  let boxes = data.boxes.map((box) => [...box]), soft = false;
  const [width, height] = data.size;
  const says = element("p", { class: "says", role: "status", "aria-live": "polite" });
  const outlines = boxes.map((_, i) => twice("rect", "outline", { "data-box": names[i] }));
  const strikes = boxes.map(() => twice("line", "strike"));
  const tags = boxes.map((_, i) => drawn("text", { class: "tag", "font-size": Math.max(width, height) / 18 }, names[i]));
  for (const [i, pair] of outlines.entries()) pair[1].setAttribute("stroke", data.colours[i]);
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `${COUNT} boxes with scores` },
    drawn("rect", { class: "paper", width, height }), ...[...order].reverse().flatMap((i) => outlines[i]), ...strikes.flat(), ...tags);
  const handles = order.toReversed().map((i) => [i, boxHandles(svg, {
    size: data.size, step: 1, smallest: 4, radius: Math.max(width, height) / 60, name: names[i], get: () => boxes[i],
    show: (box) => { boxes = boxes.with(i, box); show(); },
  })]);
  const rows = order.map((i) => {
    const fate = element("td", { "data-fate": names[i] });
    return { i, fate, row: element("tr", {}, element("th", { scope: "row" }, names[i]),
      element("td", {}, data.scores[i].toFixed(2)), fate) };
  });
  const slider = element("input", { type: "range", min: 0.05, max: 0.95, step: 0.01, value: data.threshold });
  const sliderSays = element("b", { "data-value": "threshold" });
  const softly = button("Soft-NMS", "Soft-NMS in place of NMS", () => {
    soft = !soft;
    slider.value = soft ? data.sigma : data.threshold;
    show();
  });
  slider.addEventListener("input", () => show());

  function show() {
    const at = Number(slider.value), fates = suppressed(boxes, at), scores = softened(boxes, at);
    const name = soft ? "sigma" : "IoU threshold";
    slider.setAttribute("aria-label", name);
    sliderSays.textContent = `${name} ${at.toFixed(2)}`;
    softly.setAttribute("aria-pressed", soft);
    boxes.forEach((box, i) => {
      const fate = soft ? null : fates[i];
      for (const rect of outlines[i]) {
        place(rect, box);
        rect.classList.toggle("gone", fate !== null);
        rect.style.opacity = soft ? Math.max(0.15, scores[i] / data.scores[i]) : "";
      }
      filled(tags[i], { x: box[0] + width / 60, y: box[1] + Math.max(width, height) / 18 }, []);
      const [x1, y1] = placed(fate ? boxes[fate.by] : box), [x2, y2] = placed(box);
      for (const line of strikes[i]) filled(line, { x1, y1, x2, y2, visibility: fate ? "visible" : "hidden" }, []);
    });
    for (const [i, each] of handles) each.put(boxes[i]);
    for (const { i, fate, row } of rows) {
      fate.textContent = told(i, fates, scores);
      fate.setAttribute("data-score", scores[i]);
      fate.setAttribute("data-kept", fates[i] === null);
      fate.setAttribute("data-by", fates[i] ? names[fates[i].by] : "");
      row.classList.toggle("gone", !soft && fates[i] !== null);
    }
    const kept = order.filter((i) => fates[i] === null).map((i) => names[i]);
    says.textContent = soft
      ? `Soft-NMS keeps all, with scores ${order.map((i) => `${names[i]} ${scores[i].toFixed(2)}`).join(", ")}.`
      : `Kept: ${kept.join(", ")}. ` + order.filter((i) => fates[i]).map((i) => `${names[i]} is ${told(i, fates, scores)}.`).join(" ");
  }

  function told(i, fates, scores) {
    if (soft) return `score ${scores[i].toFixed(2)}`;
    return fates[i] ? `suppressed by ${names[fates[i].by]}, IoU ${fates[i].iou.toFixed(2)}` : "kept";
  }

  root.replaceChildren(
    element("h4", {}, data.title),
    element("div", { class: "parts" }, svg,
      element("table", {}, element("thead", {}, element("tr", {}, ...["box", "score", "what becomes of it"].map((words) =>
        element("th", { scope: "col" }, words)))), element("tbody", {}, ...rows.map(({ row }) => row)))),
    element("div", { class: "bar" }, sliderSays, slider),
    says,
    element("div", { class: "bar" }, softly,
      button("start again", "the boxes back to where they were", () => { boxes = data.boxes.map((box) => [...box]); show(); })),
    element("p", { class: "hint" }, data.hint));
  show();
}
