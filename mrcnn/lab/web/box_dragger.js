// A box to drag, beside an anchor that stands still. `data` is what mrcnn/lab/views/box_dragger.py makes:
//   { title, hint, picture: its address, size: [width, height], anchor: [x1, y1, x2, y2], box: the same, at the start }
// Lengths are pixels of the picture, which are the units of the <svg>'s viewBox. The numbers are those of
// mrcnn.boxes.encode, with weights of 1, and of mrcnn.boxes.iou.
const HANDLES = {  // which of the box's four numbers each of them moves
  "whole box": [0, 1, 2, 3],
  "top left corner": [0, 1],
  "top right corner": [2, 1],
  "bottom left corner": [0, 3],
  "bottom right corner": [2, 3],
};
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const SMALLEST = 1;  // pixels that a side keeps
const MEANINGS = {
  dx: "to the right, in anchor widths", dy: "down, in anchor heights", dw: "log of the growth in width",
  dh: "log of the growth in height", IoU: "of box and anchor",
};

// ---- numbers ------------------------------------------------------------------------------------------------------

// A box by its centre, width and height.
function placed([x1, y1, x2, y2]) {
  return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1];
}

function iou(a, b) {
  const width = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const height = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const [, , aw, ah] = placed(a), [, , bw, bh] = placed(b);
  return width * height / (aw * ah + bw * bh - width * height);
}

function numbersOf(anchor, box) {
  const [ax, ay, aw, ah] = placed(anchor), [bx, by, bw, bh] = placed(box);
  return {
    dx: (bx - ax) / aw, dy: (by - ay) / ah, dw: Math.log(bw / aw), dh: Math.log(bh / ah), IoU: iou(anchor, box),
  };
}

// "+0.250", "−0.100", "0.000"; an IoU has no sign.
function written(name, value) {
  const digits = Math.abs(value).toFixed(3);
  return (name === "IoU" || Number(digits) === 0 ? "" : value < 0 ? "−" : "+") + digits;
}

// One side's two ends, of which `low` or `high` or both are moved: within the picture, and never past each other.
function along([low, high], movesLow, movesHigh, by, end) {
  if (movesLow && movesHigh) by = Math.max(-low, Math.min(end - high, by));
  return [
    movesLow ? Math.max(0, movesHigh ? low + by : Math.min(high - SMALLEST, low + by)) : low,
    movesHigh ? Math.min(end, movesLow ? high + by : Math.max(low + SMALLEST, high + by)) : high,
  ];
}

function moved(box, which, [right, down]) {
  const [x1, x2] = along([box[0], box[2]], which.includes(0), which.includes(2), right, data.size[0]);
  const [y1, y2] = along([box[1], box[3]], which.includes(1), which.includes(3), down, data.size[1]);
  return [x1, y1, x2, y2];
}

// ---- drawing ------------------------------------------------------------------------------------------------------

function place(rect, [x1, y1, x2, y2]) {
  for (const [name, value] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 }))
    rect.setAttribute(name, value);
}

// A line or an outline twice: the wider one, in the other colour, makes it seen on any picture.
const twice = (tag, look) => ["under", "over"].map((layer) => drawn(tag, { class: `${look} ${layer}` }));

// ---- dragging -----------------------------------------------------------------------------------------------------

function start(root) {
  let box = [...data.box];
  let grip = null;  // while a pointer holds a handle: where it took it, and the box at that time
  const [width, height] = data.size;
  const says = element("p", { class: "says", role: "status", "aria-live": "polite" });
  const values = Object.fromEntries(Object.keys(MEANINGS).map((name) => [name, element("b", { "data-value": name })]));
  const anchor = twice("rect", "anchor"), outline = twice("rect", "outline"), path = twice("line", "path");
  const handles = Object.entries(HANDLES).map(([name, which]) => {
    const look = { class: "handle", tabindex: 0, role: "button", "aria-roledescription": "handle", "data-handle": name };
    const [handle, rim] = [look, { class: "rim" }].map((each) =>
      which.length === 4 ? drawn("rect", each) : drawn("circle", { ...each, r: Math.max(width, height) / 30 }));
    handle.addEventListener("pointerdown", (event) => take(event, handle, which));
    handle.addEventListener("pointermove", (event) => grip && drag(event, which));
    for (const end of ["pointerup", "pointercancel"]) handle.addEventListener(end, () => (grip = null));
    // A finger on a handle must not scroll the page. Chromium heeds touch-action on an <svg>, not on what is inside it.
    handle.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    handle.addEventListener("keydown", (event) => press(event, which));
    return { name, which, handle, rim };
  });
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "the picture, an anchor, a box" },
    drawn("image", { href: data.picture, width, height }), ...anchor, ...outline, ...path,
    ...handles.flatMap(({ handle, rim }) => [handle, rim]));

  function take(event, handle, which) {
    if (event.button !== 0) return;
    event.preventDefault();  // no text is selected, no picture dragged
    handle.focus({ preventScroll: true });
    handle.setPointerCapture(event.pointerId);
    grip = { at: placeIn(svg, event), box, which };
  }

  function drag(event, which) {
    const [x, y] = placeIn(svg, event);
    show(moved(grip.box, which, [Math.round(x - grip.at[0]), Math.round(y - grip.at[1])]));
  }

  function press(event, which) {
    const way = KEYS[event.key];
    if (!way || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    show(moved(box, which, way.map((step) => step * (event.shiftKey ? 10 : 1))));
  }

  function show(to) {
    box = to;
    const numbers = numbersOf(data.anchor, box);
    const told = Object.entries(numbers).map(([name, value]) => [name, written(name, value)]);
    for (const [name, text] of told) values[name].textContent = text;
    const [x1, y1, x2, y2] = box.map((value) => Number(value.toFixed(1)));
    says.textContent = `${told.map(([name, text]) => `${name} ${text}`).join(", ")}. ` +
      `The box goes from (${x1}, ${y1}) to (${x2}, ${y2}).`;
    for (const rect of outline) place(rect, box);
    const [ax, ay] = placed(data.anchor), [bx, by] = placed(box);
    for (const line of path) filled(line, { x1: ax, y1: ay, x2: bx, y2: by }, []);
    for (const { name, which, handle, rim } of handles) {
      for (const each of [handle, rim])
        if (which.length === 4) place(each, box);
        else filled(each, { cx: box[which[0]], cy: box[which[1]] }, []);
      handle.setAttribute("aria-label", `${name}; arrow keys move it`);
    }
  }

  for (const rect of anchor) place(rect, data.anchor);
  root.replaceChildren(
    element("h4", {}, data.title),
    element("div", { class: "parts" }, svg,
      element("dl", {}, ...Object.entries(MEANINGS).map(([name, meaning]) =>
        element("div", {}, element("dt", {}, name), element("dd", {}, values[name], element("span", {}, meaning)))))),
    says,
    element("div", { class: "bar" },
      button("start again", "the box back to where it was", () => show([...data.box])),
      button("onto the anchor", "the box onto the anchor", () => show([...data.anchor]))),
    element("p", { class: "hint" }, data.hint));
  show(box);
}
