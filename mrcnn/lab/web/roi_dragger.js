// A box to drag over a map of numbers, and what RoIAlign and RoIPool make of it. `data` is what
// mrcnn/lab/views/roi_dragger.py makes:
//   { title, hint, values: rows of the map, box: [x1, y1, x2, y2] at the start, bins, samples: per bin, along an axis,
//     shades: colours from the lowest value to the highest }
// Lengths are cells, which are the units of the <svg>'s viewBox: cell (y, x) covers the square from (x, y) on, so its
// middle is at x + 0.5. The numbers are those of torchvision.ops.roi_align and roi_pool.
const HEIGHT = data.values.length, WIDTH = data.values[0].length;
const LOW = Math.min(...data.values.flat()), HIGH = Math.max(...data.values.flat());

// ---- RoIAlign ------------------------------------------------------------------------------------------------------

// Which two cells a sample reads, along one axis, and with which weights: [[cell, weight], …]; none more than a cell
// outside, where without the half pixel a box below one cell may read that lies at the right edge.
function reads(at, count) {
  if (at > count) return [];
  at = Math.max(0, Math.min(count - 1, at));
  const first = Math.floor(at), share = at - first;
  return [[first, 1 - share], [first + 1, share]].filter(([, weight]) => weight > 0);
}

// Along one axis: for each bin its samples' places, in the tensor's coordinates, where a cell's middle is a whole number.
function samplePlaces(low, high, halfPixel) {
  const start = halfPixel ? low - 0.5 : low;
  const length = halfPixel ? high - low : Math.max(high - low, 1);
  const step = length / (data.bins * data.samples);
  return range(data.bins).map((bin) => range(data.samples).map((j) => start + (bin * data.samples + j + 0.5) * step));
}

// The cells that each bin reads: [row of bins][column] -> [{ y, x, weight }]; a bin's number is the sum of weight × cell.
function aligned([x1, y1, x2, y2], halfPixel) {
  const along = (places, count) => places.map((bin) => {
    const weights = new Map();
    for (const at of bin)
      for (const [cell, weight] of reads(at, count))
        weights.set(cell, (weights.get(cell) ?? 0) + weight / data.samples);
    return [...weights];
  });
  const rows = along(samplePlaces(y1, y2, halfPixel), HEIGHT), columns = along(samplePlaces(x1, x2, halfPixel), WIDTH);
  return rows.map((row) => columns.map((column) =>
    row.flatMap(([y, down]) => column.map(([x, across]) => ({ y, x, weight: down * across })))));
}

function weighted(cells) {
  return cells.reduce((sum, { y, x, weight }) => sum + weight * data.values[y][x], 0);
}

// ---- RoIPool -------------------------------------------------------------------------------------------------------

// Along one axis the whole cells of each bin: [[first, one past the last], …]. Rounded twice: the box, then its bins.
function wholeCells(low, high, count) {
  const [from, to] = [low, high].map((value) => Math.floor(value + 0.5));
  const cells = Math.max(to - from + 1, 1);
  return range(data.bins).map((bin) => [Math.floor(bin * cells / data.bins), Math.ceil((bin + 1) * cells / data.bins)]
    .map((value) => Math.max(0, Math.min(count, value + from))));
}

// [row of bins][column] -> { place: [x1, y1, x2, y2] in whole cells, value: the largest of them, 0 without cells }.
function pooled([x1, y1, x2, y2]) {
  return wholeCells(y1, y2, HEIGHT).map(([top, bottom]) => wholeCells(x1, x2, WIDTH).map(([left, right]) => {
    const cells = data.values.slice(top, bottom).flatMap((row) => row.slice(left, right));
    return { place: [left, top, right, bottom], count: cells.length, value: cells.length ? Math.max(...cells) : 0 };
  }));
}

// ---- drawing -------------------------------------------------------------------------------------------------------

function shade(value) {
  const at = HIGH > LOW ? (value - LOW) / (HIGH - LOW) : 0;
  return data.shades[Math.max(0, Math.min(data.shades.length - 1, Math.round(at * (data.shades.length - 1))))];
}

const isDark = (value) => value < (LOW + HIGH) / 2;
const short = (value) => String(Number(value.toPrecision(3)));

function label(x, y, size) {
  return drawn("text", { x, y, "font-size": size, "text-anchor": "middle", "dominant-baseline": "central" });
}

// The map with what lies on it: its cells, the box in its bins, the chosen bin, the samples, the cells of RoIPool.
function drawMap() {
  const cells = data.values.map((row, y) => row.map((value, x) => ({
    rect: drawn("rect", { class: "cell", x, y, width: 1, height: 1, fill: shade(value) }),
    text: filled(label(x + 0.5, y + 0.5, 0.34), { class: isDark(value) ? "light" : "dark" }, []),
  })));
  const dots = range((data.bins * data.samples) ** 2).map(() => drawn("circle", { class: "dot", r: Math.max(WIDTH, HEIGHT) / 110 }));
  const cuts = range(2 * (data.bins - 1)).map(() => twice("line", "cut"));
  const outline = twice("rect", "outline"), one = twice("rect", "one"), rounded = twice("rect", "rounded");
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group", class: "map",
    "aria-label": `a map of ${HEIGHT} by ${WIDTH} cells, a box on it` },
    ...cells.flat().map(({ rect }) => rect), ...rounded, ...cuts.flat(), ...outline, ...one, ...dots,
    ...cells.flat().map(({ text }) => text));

  function put({ box, bin, halfPixel }, weights, wholeCells) {
    const [x1, y1, x2, y2] = box, [wide, high] = [(x2 - x1) / data.bins, (y2 - y1) / data.bins];
    for (const rect of outline) place(rect, box);
    for (const rect of rounded) place(rect, wholeCells);
    for (const rect of one)
      place(rect, [x1 + bin[1] * wide, y1 + bin[0] * high, x1 + (bin[1] + 1) * wide, y1 + (bin[0] + 1) * high]);
    cuts.forEach((pair, i) => {
      const at = Math.floor(i / 2) + 1;
      const ends = i % 2 ? { x1, x2, y1: y1 + at * high, y2: y1 + at * high } : { x1: x1 + at * wide, x2: x1 + at * wide, y1, y2 };
      for (const line of pair) filled(line, ends, []);
    });
    // Drawn where the op reads: half a cell off the tensor's coordinates, in which a cell's middle is a whole number.
    const [down, right] = [[y1, y2], [x1, x2]].map((ends) => samplePlaces(...ends, halfPixel).flat());
    dots.forEach((dot, i) => filled(dot, { cx: right[i % right.length] + 0.5, cy: down[Math.floor(i / right.length)] + 0.5 }, []));
    cells.forEach((row, y) => row.forEach(({ rect, text }, x) => {
      text.textContent = weights[y][x] > 0 ? weights[y][x].toFixed(2) : "";
      rect.setAttribute("data-weight", weights[y][x]);
    }));
  }

  return { svg, put };
}

// A grid of bins × bins numbers, of which one is chosen by a click or the arrow keys. get(): the one that is now.
function grid(name, get, choose) {
  const cells = range(data.bins).flatMap((row) => range(data.bins).map((column) => {
    const rect = drawn("rect", { x: column, y: row, width: 1, height: 1, "data-bin": `${row} ${column}` });
    const text = label(column + 0.5, row + 0.5, 0.3);
    rect.addEventListener("click", () => choose([row, column]));
    return { row, column, rect, text };
  }));
  const mark = twice("rect", "chosen", { width: 1, height: 1 });
  const svg = drawn("svg", { viewBox: `-0.06 -0.06 ${data.bins + 0.12} ${data.bins + 0.12}`, class: "grid", tabindex: 0,
    role: "application", "aria-label": `${name}: ${data.bins} by ${data.bins} bins; arrow keys choose one`,
    "data-grid": name }, ...cells.flatMap(({ rect, text }) => [rect, text]), ...mark);
  svg.addEventListener("keydown", (event) => {
    const way = KEYS[event.key];
    if (!way || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const [row, column] = get();
    choose([row + way[1], column + way[0]].map((value) => Math.max(0, Math.min(data.bins - 1, value))));
  });
  return { svg, cells, mark };
}

function paint({ cells, mark }, values, [row, column]) {
  for (const cell of cells) {
    const value = values[cell.row][cell.column];
    filled(cell.rect, { fill: shade(value), "data-value": value }, []);
    cell.text.textContent = short(value);
    cell.text.setAttribute("class", isDark(value) ? "light" : "dark");
  }
  for (const each of mark) filled(each, { x: column, y: row }, []);
}

// ---- on the page ---------------------------------------------------------------------------------------------------

// What is seen, in words.
function told({ box, bin: [row, column], whole }, bins, pools, weights) {
  const [x1, y1, x2, y2] = box.map((value) => Number(value.toFixed(2)));
  const where = `The box goes from (${x1}, ${y1}) to (${x2}, ${y2}), in cells. `;
  if (whole) {
    const all = weights.flat().reduce((sum, each) => sum + each, 0), most = Math.max(...weights.flat());
    return where + `If each of the ${data.bins ** 2} outputs has the gradient 1, the cells receive what is written in them: ` +
      `${short(all)} in all, at most ${most.toFixed(2)}.`;
  }
  const { count, value } = pools[row][column], cells = bins[row][column];
  return where + `Bin in row ${row + 1}, column ${column + 1}: RoIAlign ${short(weighted(cells))}, ` +
    `${data.samples ** 2} samples between ${cells.length} cells; RoIPool ${short(value)}, the largest of ${count} whole cells.`;
}

function start(root) {
  const state = { box: [...data.box], bin: [0, 0], halfPixel: true, whole: false };
  const change = (changes) => { Object.assign(state, changes); show(); };
  const says = element("p", { class: "says", role: "status", "aria-live": "polite" });
  const map = drawMap();
  const handles = boxHandles(map.svg, {
    size: [WIDTH, HEIGHT], step: 0.1, smallest: 0.5, radius: Math.max(WIDTH, HEIGHT) / 40, get: () => state.box,
    show: (box) => change({ box }),
  });
  const grids = ["RoIAlign", "RoIPool"].map((name) => grid(name, () => state.bin, (bin) => change({ bin, whole: false })));
  const half = button("half pixel", "take off the half pixel, as aligned=True does", () => change({ halfPixel: !state.halfPixel }));
  const gradient = button("gradient", "how much of all outputs' gradient each cell receives", () => change({ whole: !state.whole }));

  function show() {
    const { box, bin: [row, column], halfPixel, whole } = state;
    const bins = aligned(box, halfPixel), pools = pooled(box);
    const weights = data.values.map((values) => values.map(() => 0));
    for (const { y, x, weight } of whole ? bins.flat(2) : bins[row][column]) weights[y][x] += weight;
    map.put(state, weights, pools[row][column].place);
    handles.put(box);
    paint(grids[0], bins.map((each) => each.map(weighted)), state.bin);
    paint(grids[1], pools.map((each) => each.map(({ value }) => value)), state.bin);
    half.setAttribute("aria-pressed", halfPixel);
    gradient.setAttribute("aria-pressed", whole);
    root.classList.toggle("whole", whole);
    says.textContent = told(state, bins, pools, weights);
  }

  root.replaceChildren(
    element("h4", {}, data.title),
    element("div", { class: "parts" }, map.svg,
      element("div", { class: "grids" }, ...grids.map(({ svg }) =>
        element("div", {}, element("h5", {}, svg.getAttribute("data-grid")), svg)))),
    says,
    element("div", { class: "bar" }, half, gradient,
      button("start again", "the box back to where it was", () => change({ box: [...data.box] }))),
    element("p", { class: "hint" }, data.hint));
  show();
}
