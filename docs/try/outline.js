// The outline of a mask where it is 0.5, as closed lines between its pixels' middles (marching squares).

// A square of four middles a b / c d is numbered by which of them are inside: 8a + 4b + 2c + d. Each line goes from one
// of its sides to another, with the inside on its left. In a saddle (6 and 9) the two insides are not joined.
const TOP = 0, RIGHT = 1, BOTTOM = 2, LEFT = 3;
const LINES = [
  [], [[RIGHT, BOTTOM]], [[BOTTOM, LEFT]], [[RIGHT, LEFT]],
  [[TOP, RIGHT]], [[TOP, BOTTOM]], [[TOP, RIGHT], [BOTTOM, LEFT]], [[TOP, LEFT]],
  [[LEFT, TOP]], [[LEFT, TOP], [RIGHT, BOTTOM]], [[BOTTOM, TOP]], [[RIGHT, TOP]],
  [[LEFT, RIGHT]], [[LEFT, BOTTOM]], [[BOTTOM, RIGHT]], [],
];

// at(x, y): the mask's value in a pixel. window: [left, top, right, bottom] in pixels, outside of which all is 0.
// Returns lists of points [x, y] in the picture's coordinates; the last of each list meets its first.
export function outlines(at, window, level = 0.5) {
  return closed(pieces(windowed(at, window), window, level));
}

function windowed(at, [left, top, right, bottom]) {
  return (x, y) => (x < left || y < top || x >= right || y >= bottom ? 0 : at(x, y));
}

// All the lines: from the name of the side where each begins to that where it ends, with the point on its beginning.
function pieces(at, [left, top, right, bottom], level) {
  const next = new Map();
  for (let y = top - 1; y < bottom; y++) {
    for (let x = left - 1; x < right; x++) {
      const [a, b, c, d] = [at(x, y), at(x + 1, y), at(x, y + 1), at(x + 1, y + 1)];
      const number = 8 * (a > level) + 4 * (b > level) + 2 * (c > level) + (d > level);
      const share = (from, to) => (level - from) / (to - from);
      const points = {
        [TOP]: () => [x + 0.5 + share(a, b), y + 0.5], [BOTTOM]: () => [x + 0.5 + share(c, d), y + 1.5],
        [LEFT]: () => [x + 0.5, y + 0.5 + share(a, c)], [RIGHT]: () => [x + 1.5, y + 0.5 + share(b, d)],
      };
      for (const [from, to] of LINES[number]) next.set(side(x, y, from), { point: points[from](), end: side(x, y, to) });
    }
  }
  return next;
}

// A side belongs to two squares, and has one name: that of the square below it, or on its right.
function side(x, y, which) {
  if (which === BOTTOM) return side(x, y + 1, TOP);
  if (which === RIGHT) return side(x + 1, y, LEFT);
  return `${which === TOP ? "across" : "down"} ${x} ${y}`;
}

function closed(next) {
  const lines = [];
  while (next.size) {
    const line = [];
    let [name] = next.keys();
    while (next.has(name)) {
      const { point, end } = next.get(name);
      next.delete(name);
      line.push(point);
      name = end;
    }
    lines.push(line);
  }
  return lines;
}
