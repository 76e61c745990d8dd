// Two sliders, one over the probability from which on a pixel belongs to its mask, one over the IoU from which on a mask
// is right: the masks, who is right, the precision-recall curve, and AP. `data` is what mrcnn/lab/views/ap_slider.py
// makes:
//   { title, hint, pixel, match: the two thresholds at the start, levels: the ten IoUs over which AP is a mean,
//     pictures: [{ picture: its address, size: [width, height],
//       found: [{ score, x, y, width, height, values }] by falling score, truth: [{ x, y, width, height, values }] }] }
// A mask is a patch of the picture at (x, y); values are its bytes, row by row, in base64: 255 is a probability of 1.
// All that is measured is measured as pycocotools does.
const POINTS = range(101).map((i) => i * 0.01);  // of recall
const OBJECTS = data.pictures.reduce((sum, { truth }) => sum + truth.length, 0);

// ---- masks ---------------------------------------------------------------------------------------------------------

function unpacked(patch) {
  return { ...patch, values: Uint8Array.from(atob(patch.values), (letter) => letter.charCodeAt(0)) };
}

// The patch with its pixels inside or outside: 1 or 0.
function cut(patch, threshold) {
  const inside = patch.values.map((value) => value > threshold * 255);
  return { ...patch, inside, area: inside.reduce((sum, each) => sum + each, 0) };
}

function maskIou(a, b) {
  const left = Math.max(a.x, b.x), right = Math.min(a.x + a.width, b.x + b.width);
  const bottom = Math.min(a.y + a.height, b.y + b.height);
  let both = 0;
  for (let y = Math.max(a.y, b.y); y < bottom; y++)
    for (let x = left; x < right; x++)
      both += a.inside[(y - a.y) * a.width + x - a.x] & b.inside[(y - b.y) * b.width + x - b.x];
  return both / (a.area + b.area - both);
}

// The pixels of a mask, row by row, as a path to be filled.
function filling({ x, y, width, height, inside }) {
  const runs = [];
  for (const row of range(height))
    for (let first = 0, last; first < width; first = last + 1) {
      for (last = first; last < width && inside[row * width + last]; last++);
      if (last > first) runs.push(`M${x + first} ${y + row}h${last - first}v1h${first - last}z`);
    }
  return runs.join("");
}

// The border of a mask between its pixels and the others, as a path.
function border({ x, y, width, height, inside }) {
  const at = (column, row) => column >= 0 && column < width && row >= 0 && row < height && inside[row * width + column] > 0;
  const sides = [];
  for (const row of range(height + 1))
    for (const column of range(width + 1)) {
      if (at(column, row) !== at(column - 1, row)) sides.push(`M${x + column} ${y + row}v1`);
      if (at(column, row) !== at(column, row - 1)) sides.push(`M${x + column} ${y + row}h1`);
    }
  return sides.join("");
}

// ---- measures ------------------------------------------------------------------------------------------------------

// For each detection of one picture which object it finds, or -1, from its IoU with each; the best detection comes first.
function matched(ious, level) {
  const taken = new Set();
  return ious.map((row) => {
    let best = Math.min(level, 1 - 1e-10), finds = -1;
    row.forEach((overlap, object) => {
      if (taken.has(object) || overlap < best) return;
      [best, finds] = [overlap, object];
    });
    if (finds >= 0) taken.add(finds);
    return finds;
  });
}

const PICTURES = data.pictures.map((each) => ({
  ...each, found: each.found.map(unpacked), truth: each.truth.map((patch) => cut(unpacked(patch), 0)),
}));
// All detections, the best first: { picture, place: its place among those of its picture, score }.
const RANKED = PICTURES.flatMap(({ found }, picture) => found.map(({ score }, place) => ({ picture, place, score })))
  .sort((a, b) => b.score - a.score);

// Whether each of RANKED is right, from each picture's IoUs.
function rightAt(ious, level) {
  const finds = ious.map((each) => matched(each, level));
  return RANKED.map(({ picture, place }) => finds[picture][place] >= 0);
}

// Precision and recall if the list ends after each of its detections.
function curveOf(right) {
  let hits = 0;
  return right.map((yes, i) => {
    hits += yes;
    return { precision: hits / (i + 1 + Number.EPSILON), recall: hits / OBJECTS };
  });
}

// At each point of recall the best precision that can be had with at least that recall; 0 where it is not reached.
function readAtPoints(curve) {
  const best = curve.map(({ precision }) => precision);
  for (let i = best.length - 2; i >= 0; i--) best[i] = Math.max(best[i], best[i + 1]);
  return POINTS.map((point) => {
    const first = curve.findIndex(({ recall }) => recall >= point);
    return first < 0 ? 0 : best[first];
  });
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const averagePrecision = (ious, level) => mean(readAtPoints(curveOf(rightAt(ious, level))));

function measured(pixel, match) {
  const masks = PICTURES.map(({ found }) => found.map((patch) => cut(patch, pixel)));
  const ious = masks.map((each, i) => each.map((mask) => PICTURES[i].truth.map((object) => maskIou(mask, object))));
  const right = rightAt(ious, match), curve = curveOf(right);
  const levels = data.levels.map((level) => averagePrecision(ious, level));
  return { pixel, match, masks, ious, right, curve, read: readAtPoints(curve), levels, average: mean(levels) };
}

// ---- drawing -------------------------------------------------------------------------------------------------------

const named = (rank, right) => `${rank + 1} ${right[rank] ? "✓" : "✗"}`;

function drawPicture({ picture, size: [width, height], found, truth }, number) {
  const ranks = RANKED.flatMap((each, rank) => each.picture === number ? [{ rank, place: each.place }] : []);
  const fillings = found.map(() => drawn("path", { class: "filling" }));
  const letter = Math.max(width, height) / 12;
  const tags = found.map(() => drawn("text", { class: "tag", "font-size": letter, "text-anchor": "middle" }));
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `picture ${number + 1}` },
    drawn("image", { href: picture, width, height }), ...[...fillings].reverse(),  // the best on top
    ...truth.flatMap((mask) => twice("path", "truth", { d: border(mask) })), ...[...tags].reverse());

  function put({ masks, right }) {
    for (const { rank, place } of ranks) {
      const mask = masks[number][place], look = right[rank] ? "right" : "false";
      // At the top of its mask if right, else at the bottom, in turns left and right: so that they do not hide each other.
      const y = right[rank] ? Math.max(letter, mask.y + letter / 2) : Math.min(height - 2, mask.y + mask.height);
      const x = mask.x + mask.width * (right[rank] ? 0.5 : place % 2 ? 0.25 : 0.75);
      filled(fillings[place], { d: filling(mask), class: `filling ${look}` }, []);
      filled(tags[place], { x: Math.max(letter, Math.min(width - letter, x)), y }, []);
      tags[place].textContent = named(rank, right);
    }
  }

  return { svg, put };
}

const CHART = { width: 300, height: 210, left: 34, right: 10, top: 24, bottom: 32 };

function placeOf(across, up) {
  return [
    CHART.left + across * (CHART.width - CHART.left - CHART.right),
    CHART.height - CHART.bottom - up * (CHART.height - CHART.top - CHART.bottom),
  ];
}

function axes(name, up, across, ticks) {
  const label = ([x, y], anchor, words) => drawn("text", { x, y, "text-anchor": anchor }, words);
  const [left, right] = [placeOf(0, 0)[0], placeOf(1, 0)[0]];
  const rules = [0, 0.5, 1].flatMap((value) => {
    const y = placeOf(0, value)[1];
    return [drawn("line", { class: "rule", x1: left, x2: right, y1: y, y2: y }), label([left - 6, y + 4], "end", String(value))];
  });
  const marks = ticks.map(([at, words]) => label([placeOf(at, 0)[0], CHART.height - CHART.bottom + 14], "middle", words));
  return drawn("svg", { class: "chart", viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img", "aria-label": name },
    ...rules, ...marks, label([left, 12], "start", up), label([(left + right) / 2, CHART.height - 4], "middle", across));
}

// Precision over recall: a dot after each detection that is right, a cross after each that is not, and what is read.
function drawCurve() {
  const svg = axes("precision over recall", "precision: detections right", "recall: objects found", [[0, "0"], [0.5, "0.5"], [1, "1"]]);
  const read = drawn("polyline", { class: "read" }), line = drawn("polyline", { class: "line" });
  const dots = RANKED.map(() => drawn("path", { class: "dot" }));
  svg.append(read, line, ...dots);
  const path = (pairs) => pairs.map((pair) => placeOf(...pair).join()).join(" ");

  function put({ curve, read: precisions, right }) {
    read.setAttribute("points", path(precisions.map((precision, i) => [POINTS[i], precision])));
    line.setAttribute("points", path(curve.map(({ precision, recall }) => [recall, precision])));
    curve.forEach(({ precision, recall }, rank) => {
      const [x, y] = placeOf(recall, precision);
      const d = right[rank] ? `M${x - 4} ${y}a4 4 0 1 0 8 0a4 4 0 1 0-8 0` : `M${x - 4} ${y - 4}l8 8m0-8l-8 8`;
      filled(dots[rank], { d, class: `dot ${right[rank] ? "right" : "false"}` }, []);
    });
  }

  return { svg, put };
}

// AP at each of the ten levels, and a line at their mean.
function drawLevels() {
  const count = data.levels.length;
  const names = data.levels.map((level, i) => [(i + 0.5) / count, i % 2 ? "" : level.toFixed(2).slice(1)]);
  const svg = axes("AP at each of ten IoUs", "AP; dashed: the mean of the ten", "IoU from which on a mask is right", names);
  const bars = data.levels.map(() => drawn("rect", { class: "level", width: placeOf(0.8 / count, 0)[0] - CHART.left }));
  const average = drawn("line", { class: "average", x1: placeOf(0, 0)[0], x2: placeOf(1, 0)[0] });
  svg.append(...bars, average);

  function put({ levels, average: value, match }) {
    levels.forEach((each, i) => {
      const [x, y] = placeOf((i + 0.1) / count, each);
      filled(bars[i], { x, y, height: placeOf(0, 0)[1] - y }, []);
      bars[i].dataset.ap = each;
      bars[i].classList.toggle("here", Math.abs(data.levels[i] - match) < 1e-9);
    });
    const y = placeOf(0, value)[1];
    filled(average, { y1: y, y2: y }, []);
  }

  return { svg, put };
}

// The ranks, with the largest IoU that each has.
function listed() {
  const items = RANKED.map(() => element("li"));

  function put({ ious, right }) {
    RANKED.forEach(({ picture, place }, rank) => {
      const best = Math.max(0, ...ious[picture][place]);
      filled(items[rank], { class: right[rank] ? "right" : "false", "data-iou": best }, []);
      items[rank].textContent = `${named(rank, right)} ${best.toFixed(2)}`;
    });
  }

  return { list: element("ol", { "aria-label": "each detection's largest IoU, the best score first" }, ...items), put };
}

// What is seen, in words.
function told({ pixel, match, right, levels, read, average }) {
  const hits = right.filter((yes) => yes).length;
  return `Pixels above ${pixel.toFixed(2)}, right from an IoU of ${match.toFixed(2)}: ${hits} of ${right.length} detections ` +
    `are right, of ${OBJECTS} objects; AP there ${mean(read).toFixed(3)}. ` +
    `AP50 ${levels[0].toFixed(3)}, AP75 ${levels[5].toFixed(3)}, AP ${average.toFixed(3)}.`;
}

// ---- on the page ---------------------------------------------------------------------------------------------------

const PIXEL_SLIDER = "a pixel is kept above", MATCH_SLIDER = "right from an IoU of";

function slider(name, min, max, value, act) {
  const input = element("input", { type: "range", min, max, step: 0.05, value, "aria-label": name }), says = element("b");
  input.addEventListener("input", act);
  return { input, says, bar: element("div", { class: "bar" }, says, input) };
}

function start(root) {
  const pixel = slider(PIXEL_SLIDER, 0.05, 0.95, data.pixel, show);
  const match = slider(MATCH_SLIDER, 0.5, 0.95, data.match, show);
  const says = element("p", { class: "says", role: "status", "aria-live": "polite" });
  const pictures = PICTURES.map(drawPicture), curve = drawCurve(), levels = drawLevels(), list = listed();
  const again = button("start again", "both sliders back to where they were", () => {
    for (const [each, at] of [[pixel, data.pixel], [match, data.match]]) each.input.value = at;
    show();
  });

  function show() {
    const level = data.levels[Math.round((Number(match.input.value) - 0.5) / 0.05)];  // to the last digit
    const now = measured(Number(pixel.input.value), level);
    for (const each of [...pictures, curve, levels, list]) each.put(now);
    pixel.says.textContent = `${PIXEL_SLIDER} ${now.pixel.toFixed(2)}`;
    match.says.textContent = `${MATCH_SLIDER} ${now.match.toFixed(2)}`;
    says.textContent = told(now);
  }

  root.replaceChildren(
    element("h4", {}, data.title),
    pixel.bar, match.bar,
    element("div", { class: "pictures" }, ...pictures.map(({ svg }) => svg)),
    list.list,
    element("div", { class: "charts" }, curve.svg, levels.svg),
    says,
    element("div", { class: "bar" }, again),
    element("p", { class: "hint" }, data.hint));
  show();
}
