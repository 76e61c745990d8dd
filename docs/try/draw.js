// Draws a picture and the objects in it as mrcnn/visualize.py does; `page` is what page.json says of colours and names.
// Objects are {row: in the answer, box: [x1, y1, x2, y2], label, score, mask: {data, width, height, outlines}, keypoints: [[x, y,
// score]]} in pixels of the picture.
import { outlines } from "./outline.js";

// The answer's tensors as a list of objects, by falling score.
export function objectsOf(answer) {
  const [count, , height, width] = answer.masks.dims;
  const [, keypoints] = answer.keypoints_scores.dims;
  const part = (name, row, size) => answer[name].data.subarray(row * size, (row + 1) * size);
  return Array.from({ length: count }, (_, row) => {
    const places = part("keypoints", row, 3 * keypoints), heights = part("keypoints_scores", row, keypoints);
    return {
      row,
      box: [...part("boxes", row, 4)],
      label: Number(answer.labels.data[row]),
      score: answer.scores.data[row],
      mask: { data: part("masks", row, height * width), width, height },
      keypoints: Array.from(heights, (score, i) => [places[3 * i], places[3 * i + 1], score]),
    };
  });
}

// The largest first, so that small objects lie on top of what is behind them, each with its colour.
export function coloured(objects, colours) {
  const area = ({ box: [x1, y1, x2, y2] }) => (x2 - x1) * (y2 - y1);
  const sorted = [...objects].sort((one, other) => area(other) - area(one));
  const chosen = chooseColours(sorted.map(({ box }) => box), colours.length);
  return sorted.map((object, i) => ({ ...object, colour: colours[chosen[i]] }));
}

// For each box the number of a colour: of the one whose nearest bearer is the furthest away.
export function chooseColours(boxes, count) {
  const middles = boxes.map(([x1, y1, x2, y2]) => [(x1 + x2) / 2, (y1 + y2) / 2]);
  const given = [];
  for (const [x, y] of middles) {
    const nearest = Array(count).fill(Infinity);
    given.forEach((colour, i) => {
      nearest[colour] = Math.min(nearest[colour], Math.hypot(x - middles[i][0], y - middles[i][1]));
    });
    given.push(nearest.indexOf(Math.max(...nearest)));
  }
  return given;
}

// Sizes of lines and letters are those of the screen, whatever the picture's; found: objects with colours.
export function draw(canvas, picture, found, page) {
  const width = canvas.clientWidth, height = width * picture.height / picture.width;
  const dots = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * dots);
  canvas.height = Math.round(height * dots);
  const context = canvas.getContext("2d");
  context.scale(dots, dots);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture.shown, 0, 0, width, height);
  const brush = { context, page, width, scale: width / picture.width };
  for (const object of found) {
    drawMask(brush, object);
    drawBox(brush, object);
  }
  for (const object of found) { // above all masks
    if (page.keypoint_labels.includes(object.label)) drawSkeleton(brush, object);
  }
  for (const object of found) drawTag(brush, object);
}

function drawMask({ context, page, scale }, { mask, box, colour }) {
  mask.outlines ??= outlines((x, y) => mask.data[y * mask.width + x], around(box, mask));
  const path = new Path2D();
  for (const line of mask.outlines) {
    line.forEach(([x, y], i) => (i ? path.lineTo(x * scale, y * scale) : path.moveTo(x * scale, y * scale)));
    path.closePath();
  }
  context.globalAlpha = 0.35;
  context.fillStyle = colour;
  context.fill(path, "evenodd"); // a hole stays one
  context.globalAlpha = 1;
  for (const [style, wide] of [[page.ink, 3.2], [colour, 1.8]]) stroke(context, path, style, wide);
}

// A mask may reach a little beyond its box: pixels [left, top, right, bottom].
function around([x1, y1, x2, y2], { width, height }) {
  return [Math.max(Math.trunc(x1) - 2, 0), Math.max(Math.trunc(y1) - 2, 0),
    Math.min(Math.trunc(x2) + 3, width), Math.min(Math.trunc(y2) + 3, height)];
}

function drawBox({ context, page, scale }, { box, colour }) {
  const [x1, y1, x2, y2] = box.map((v) => v * scale);
  const path = new Path2D();
  path.rect(x1, y1, x2 - x1, y2 - y1);
  edged(context, page, path, colour, 1.5);
}

function drawSkeleton({ context, page, width, scale }, { box, keypoints, colour }) {
  // Lines of a small figure are thinner, or they would hide it.
  const side = Math.max(box[2] - box[0], box[3] - box[1]) * scale;
  const thin = Math.min(Math.max(side / (0.5 * width), 0.5), 1.2);
  const there = keypoints.map(([, , score]) => score >= page.keypoint_score);
  const light = lighter(colour);
  for (const [first, second] of page.skeleton.filter((ends) => ends.every((i) => there[i]))) {
    const path = new Path2D();
    path.moveTo(keypoints[first][0] * scale, keypoints[first][1] * scale);
    path.lineTo(keypoints[second][0] * scale, keypoints[second][1] * scale);
    edged(context, page, path, light, 2.4 * thin);
  }
  for (const [x, y] of keypoints.filter((_, i) => there[i])) {
    const dot = new Path2D();
    dot.arc(x * scale, y * scale, 2.8 * thin, 0, 2 * Math.PI);
    context.fillStyle = light;
    context.fill(dot);
    stroke(context, dot, page.ink, 1);
  }
}

// Name and score in per cent, on the upper left corner of the box, inside the picture.
function drawTag({ context, page, width, scale }, { box, label, score, colour }) {
  const words = `${page.categories[label]} ${Math.round(100 * score)}`;
  context.font = "12px system-ui, sans-serif";
  const wide = context.measureText(words).width + 6, high = 16;
  const x = Math.max(Math.min(box[0] * scale, width - wide), 0);
  const y = box[1] * scale - high > 0 ? box[1] * scale - high : Math.max(box[1] * scale, 0);
  context.fillStyle = colour;
  context.fillRect(x, y, wide, high);
  context.fillStyle = lightness(colour) > 0.45 ? page.ink : page.paper;
  context.textBaseline = "middle";
  context.fillText(words, x + 3, y + high / 2 + 1);
}

// A line with a dark edge, so that it also shows on its own colour.
function edged(context, page, path, style, wide) {
  context.globalAlpha = 0.7;
  stroke(context, path, page.ink, wide + 2);
  context.globalAlpha = 1;
  stroke(context, path, style, wide);
}

function stroke(context, path, style, wide) {
  context.strokeStyle = style;
  context.lineWidth = wide;
  context.stroke(path);
}

const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
const lighter = (colour) => `rgb(${channels(colour).map((v) => 0.35 * v + 0.65 * 255).join(" ")})`;

function lightness(colour) {
  const [red, green, blue] = channels(colour);
  return (0.3 * red + 0.59 * green + 0.11 * blue) / 255;
}
