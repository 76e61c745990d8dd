// How it came to the answer: some of the numbers on the way, as cards. docs/try/film.py says what they are.

const STAGES = { backbone: 0, rpn: 1, mask: 2, keypoint: 5 }; // each stage's colour in page.colours
const LEVELS = [2, 3, 4, 5, 6];
const STRIDE = 4; // pixels of the batch to a cell of P2; twice as many with each level
const SHOWN = 6; // masks

// found: the objects that are drawn, by falling score; their `row` is that in the answer's tensors.
export function drawFilm(place, picture, answer, found, page) {
  const scene = { picture, answer, found, page, seen: [...answer.seen.data].map(Number) };
  const cards = [featuresCard, objectnessCard, removedCard, proposalsCard, masksCard, heatmapsCard];
  place.replaceChildren(...cards.map((card) => card(scene)).filter(Boolean));
}

// ---- The cards

function featuresCard(scene) {
  const tiles = LEVELS.map((level) => ({ name: `P${level}`, canvas: levelMap(scene, "strength", level) }));
  return card(scene, "backbone", "Features", tiles, 3,
    "How strongly each cell of the feature pyramid answers, from fine cells (P2) to coarse ones (P6). In all maps yellow " +
    "is much, dark blue little.");
}

function objectnessCard(scene) {
  const tiles = LEVELS.map((level) => ({ name: `P${level}`, canvas: levelMap(scene, "objectness", level, 0, 1) }));
  return card(scene, "rpn", "Objectness", tiles, 3,
    "Could there be an object? The score, 0 to 1, of the best of each cell's three anchors.");
}

function removedCard(scene) {
  const boxes = rowsOf(scene.answer.candidates), kept = rowsOf(scene.answer.proposals);
  const staying = new Set(kept.map(String));
  const removed = boxes.filter((box) => !staying.has(String(box)));
  return card(scene, "rpn", "Removed", [{ canvas: boxesOver(scene, removed, "#D55E00") }], 1,
    `The best anchors, moved to fit, are ${boxes.length} boxes. ${removed.length} of them go: they overlap a better one ` +
    "(non-maximum suppression), or too many better ones were left.");
}

function proposalsCard(scene) {
  const boxes = rowsOf(scene.answer.proposals);
  return card(scene, "rpn", "Proposals", [{ canvas: boxesOver(scene, boxes, "#56B4E9") }], 1,
    `${boxes.length} proposals stay. The second stage looks into each, and says what it is, if it is anything.`);
}

function masksCard(scene) {
  const { answer, found, page } = scene;
  if (!found.length) return null;
  const tiles = found.slice(0, SHOWN).map(({ row, label }) => ({
    name: page.categories[label], canvas: mapOf(plane(answer.small_masks, row), scene, 0, 1),
  }));
  const [, high, wide] = answer.small_masks.dims;
  return card(scene, "mask", "Masks", tiles, 3,
    `Which part of its box belongs to the object? ${high} × ${wide} probabilities for each, which are then laid over the ` +
    `box. Here are ${tiles.length} of ${found.length}.`);
}

function heatmapsCard(scene) {
  const { answer, found, page } = scene;
  const person = found.find(({ label }) => page.keypoint_labels.includes(label));
  if (!person) return null;
  const [, count, high, wide] = answer.heatmaps.dims;
  const tiles = page.keypoint_names.map((name, i) => ({
    name: name.replace("_", " "), canvas: mapOf(plane(answer.heatmaps, person.row * count + i), scene),
  }));
  return card(scene, "keypoint", "Heatmaps", tiles, 4,
    `Where in the box of the surest person is each keypoint? ${high} × ${wide} numbers for each; it is read at the largest.`);
}

// ---- What is on them

function card({ page }, stage, title, tiles, columns, words) {
  const made = document.createElement("figure");
  made.className = "card";
  made.style.setProperty("--stage", page.colours[STAGES[stage]]);
  const heading = document.createElement("b");
  heading.textContent = title;
  const grid = document.createElement("div");
  grid.className = "tiles";
  grid.style.setProperty("--columns", columns);
  grid.append(...tiles.map(tile));
  const caption = document.createElement("figcaption");
  caption.textContent = words;
  made.append(heading, grid, caption);
  return made;
}

function tile({ canvas, name }) {
  const made = document.createElement("div");
  canvas.setAttribute("aria-hidden", "true"); // the card's caption says what is to be seen
  made.append(canvas);
  if (name) made.append(name);
  return made;
}

// A level's map without the cells that lie in the batch's padding.
function levelMap(scene, name, level, low, high) {
  const { dims, data } = scene.answer[`${name}_${level}`];
  const [rows, columns] = scene.seen.map((side) => Math.ceil(side / (STRIDE * 2 ** (level - 2))));
  const values = Float32Array.from({ length: rows * columns }, (_, i) => data[Math.floor(i / columns) * dims[1] + i % columns]);
  return mapOf({ values, height: rows, width: columns }, scene, low, high);
}

// One of a stack of maps: tensors (…, height, width), seen as (planes, height, width).
function plane({ dims, data }, index) {
  const [height, width] = dims.slice(-2);
  return { values: data.subarray(index * height * width, (index + 1) * height * width), height, width };
}

// A canvas with one pixel for each number, coloured from low to high.
function mapOf({ values, height, width }, { page }, low = Math.min(...values), high = Math.max(...values)) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  values.forEach((value, i) => {
    const share = Math.min(Math.max((value - low) / (high - low || 1), 0), 1);
    image.data.set([...page.map[Math.round(share * (page.map.length - 1))], 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

// Boxes in pixels of the batch over a grey, dark copy of the picture.
function boxesOver({ picture, seen }, boxes, colour) {
  const canvas = document.createElement("canvas");
  canvas.width = 480;
  canvas.height = Math.max(1, Math.round(480 * picture.height / picture.width));
  const context = canvas.getContext("2d"), scale = canvas.width / seen[1];
  context.drawImage(picture.shown, 0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "saturation";
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "source-over";
  context.fillStyle = "rgb(0 0 0 / 55%)";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.strokeStyle = colour;
  context.globalAlpha = 0.5;
  for (const [x1, y1, x2, y2] of boxes) context.strokeRect(x1 * scale, y1 * scale, (x2 - x1) * scale, (y2 - y1) * scale);
  return canvas;
}

function rowsOf({ dims: [count, size], data }) {
  return Array.from({ length: count }, (_, row) => [...data.subarray(row * size, (row + 1) * size)]);
}
