// A polygon drawn by hand. `data` is what mrcnn/lab/views/polygon_drawer.py makes. Places are pixels of the picture:
// pixel (0, 0) covers the square from (0, 0) to (1, 1). A pixel belongs to the mask if its middle is inside the polygon.
const NEAR = 12; // pixels of the screen: so close to a point, the pointer means this point

// ---- what follows from a polygon ------------------------------------------------------------------------------------

const short = (number, digits = 1) => Number(number.toFixed(digits));

const sides = (points) => points.map((point, i) => [point, points[(i + 1) % points.length]]);

// The shoelace formula: every side adds the area, with its sign, of a triangle with the corner (0, 0).
function area(points) {
  const twice = sides(points).reduce((sum, [[x1, y1], [x2, y2]]) => sum + x1 * y2 - x2 * y1, 0);
  return short(Math.abs(twice) / 2, 3);
}

// x, y, width, height, as COCO has it.
function bbox(points) {
  const [x, y] = [0, 1].map((axis) => points.map((point) => point[axis]));
  const [left, top] = [Math.min(...x), Math.min(...y)];
  return [left, top, short(Math.max(...x) - left), short(Math.max(...y) - top)];
}

// The mask as [row, first column, one past the last]: along a row, each side that is crossed leads in or out.
function maskRuns(points) {
  const runs = [];
  for (let row = 0; row < data.height; row++) {
    const y = row + 0.5;
    const crossed = sides(points)
      .filter(([[, y1], [, y2]]) => y1 <= y !== y2 <= y)
      .map(([[x1, y1], [x2, y2]]) => x1 + ((y - y1) * (x2 - x1)) / (y2 - y1))
      .sort((a, b) => a - b)
      .map((x) => Math.ceil(x - 0.5)); // the first pixel whose middle is there or further right
    for (let i = 0; i < crossed.length; i += 2)
      if (crossed[i] < crossed[i + 1]) runs.push([row, crossed[i], crossed[i + 1]]);
  }
  return runs;
}

function annotation(points) {
  return JSON.stringify({
    id: 1, image_id: data.image_id, category_id: data.category_id, iscrowd: 0,
    area: area(points), bbox: bbox(points), segmentation: [points.flat()],
  });
}

// ---- drawing --------------------------------------------------------------------------------------------------------

const distance = ([x1, y1], [x2, y2]) => Math.hypot(x1 - x2, y1 - y2);

const line = (points, end) => (points.length ? `M${points.map((point) => point.join(" ")).join("L")}${end}` : "");

function start(root) {
  const photograph = atob(root.querySelector("img").src.split(",")[1]).match(/data:image[^"]+/)[0];
  let points = data.points.map((point) => [...point]);
  let closed = points.length > 2;
  let before = []; // [points, closed] before each change
  let cross = [Math.floor(data.width / 2), Math.floor(data.height / 2)];
  let held = null; // the number of the point that is being moved
  let moved = false;

  const parts = Object.fromEntries(["cells", "box", "rim", "line", "dots", "first", "cross"].map((name) => [name, drawn("path", { class: name })]));
  const svg = drawn("svg", { viewBox: `0 0 ${data.width} ${data.height}`, tabindex: 0, role: "application", "aria-label": `${data.title}: arrow keys, Enter, Backspace` },
    drawn("image", { href: photograph, width: data.width, height: data.height, ...(data.coarse && { class: "coarse" }) }),
    ...Object.values(parts));
  const says = element("p", { class: "says", role: "status", "aria-live": "polite" });
  const where = element("p", { class: "hint", "aria-live": "polite" });
  const text = element("textarea", { readonly: "", rows: 4, "aria-label": "the annotation, as COCO writes it" });
  const undo = button("undo", "take back the last change", () => ((held = null), ([points, closed] = before.pop()), show()));
  const clear = button("clear", "remove all points", () => change(() => ([points, closed] = [[], false])));
  const close = button("close", "close the polygon, or open it again", () => change(() => (closed = !closed)));
  const copy = button("copy the annotation", "to the clipboard", () => {
    text.select();
    navigator.clipboard?.writeText(text.value) ?? document.execCommand("copy");
  });

  // Every change goes through here, so that it can be taken back. Points are replaced, never written into.
  function change(make) {
    before.push([points, closed]);
    make();
    show();
  }

  // Inside the picture, to a tenth of a pixel.
  const place = ([x, y]) => [short(Math.max(0, Math.min(data.width, x))), short(Math.max(0, Math.min(data.height, y)))];

  // The number of the point next to a place, if one is near enough; else null.
  function pointAt(at) {
    const far = points.map((point) => distance(point, at));
    const nearest = far.indexOf(Math.min(...far));
    return nearest >= 0 && far[nearest] * svg.getScreenCTM().a <= NEAR ? nearest : null;
  }

  // A closed polygon gets the new point where the way around grows least, an open one at its end.
  function add(at) {
    const detour = sides(points).map(([a, b]) => distance(a, at) + distance(at, b) - distance(a, b));
    const index = closed ? detour.indexOf(Math.min(...detour)) + 1 : points.length;
    change(() => (points = points.toSpliced(index, 0, place(at))));
  }

  const moveHeld = (to) => ((points = points.with(held, place(to))), show());

  // What a click or Enter at a point does; whether there was anything to do.
  function closes(number) {
    if (number !== 0 || closed || points.length < 3) return false;
    change(() => (closed = true));
    return true;
  }

  function press(event) {
    const step = event.shiftKey ? 10 : 1;
    const [dx, dy] = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key] ?? [0, 0];
    if (event.ctrlKey || event.altKey || event.metaKey || !(dx || dy || event.key === "Enter" || event.key === "Backspace")) return;
    event.preventDefault();
    const here = pointAt(cross);
    if (dx || dy) {
      cross = place([cross[0] + dx, cross[1] + dy]);
      if (held !== null) moveHeld(cross);
    } else if (event.key === "Backspace") {
      held = null;
      if (points.length) change(() => ((points = points.toSpliced(here ?? -1, 1)), (closed &&= points.length > 2)));
    } else if (held !== null) held = null;
    else if (here === null) add(cross);
    else if (!closes(here)) {
      before.push([points, closed]);
      held = here;
      cross = points[here];
    }
    show();
  }

  svg.addEventListener("keydown", press);
  svg.addEventListener("pointerdown", (event) => {
    [held, moved] = [pointAt(placeIn(svg, event)), false];
    if (held !== null) svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", (event) => {
    if (held === null || !event.buttons) return;
    if (!moved) before.push([points, closed]);
    moved = true;
    moveHeld(placeIn(svg, event));
  });
  const letGo = () => ((held = null), show());
  svg.addEventListener("pointerup", () => moved && letGo()); // no click follows when it was a finger
  svg.addEventListener("pointercancel", letGo);
  // A finger that drags a point must not scroll the page. Chromium heeds touch-action on an <svg>, not on what is in it.
  svg.addEventListener("touchmove", (event) => held !== null && event.preventDefault(), { passive: false });
  svg.addEventListener("click", (event) => {
    if (moved) return;
    if (held === null) add(placeIn(svg, event));
    else closes(held);
    letGo();
  });
  text.addEventListener("focus", () => text.select());

  function show() {
    const runs = closed ? maskRuns(points) : [];
    const pixels = runs.reduce((sum, [, first, end]) => sum + end - first, 0);
    const [x, y, width, height] = closed ? bbox(points) : [];
    const outline = line(points, closed ? "Z" : "");
    const shapes = {
      cells: runs.map(([row, first, end]) => `M${first} ${row}${data.coarse ? "h1v1h-1zm1 0".repeat(end - first) : `H${end}v1H${first}z`}`).join(""),
      box: closed ? `M${x} ${y}h${width}v${height}h${-width}Z` : "",
      rim: outline,
      line: outline,
      dots: points.slice(1).map(([x, y]) => `M${x} ${y}h0`).join(""),
      first: points.slice(0, 1).map(([x, y]) => `M${x} ${y}h0`).join(""),
      cross: `M${cross[0]} 0V${data.height}M0 ${cross[1]}H${data.width}`,
    };
    for (const [name, d] of Object.entries(shapes)) parts[name].setAttribute("d", d);
    const count = `${points.length} point${points.length === 1 ? "" : "s"}`;
    says.textContent = closed
      ? `${count}, closed. Area ${area(points)} pixels. Box from (${x}, ${y}) to (${short(x + width)}, ${short(y + height)}). The mask has ${pixels} pixels.`
      : `${count}, open: ${points.length < 3 ? "a polygon needs three" : "close it to see its mask"}.`;
    where.textContent = `Cross-hair at (${cross.join(", ")})${held === null ? "" : ", with a point in hand"}.`;
    text.value = closed ? annotation(points) : "";
    const focused = document.activeElement;
    undo.disabled = !before.length;
    clear.disabled = !points.length;
    close.disabled = points.length < 3;
    copy.disabled = !closed;
    close.textContent = closed ? "open" : "close";
    // A button that can no longer be pressed would lose the focus to the page.
    if (root.contains(focused) && focused.disabled) svg.focus({ preventScroll: true });
  }

  root.replaceChildren(
    element("h4", {}, data.title),
    element("div", { class: "bar" }, undo, clear, close, copy),
    svg, where, says, text,
    element("p", { class: "hint" }, data.hint));
  show();
}
