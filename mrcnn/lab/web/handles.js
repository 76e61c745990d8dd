// What views share in which a box is dragged: its inside and its corners are handles, for pointer, finger and keys.
const HANDLES = {  // which of the box's four numbers each of them moves
  "whole box": [0, 1, 2, 3],
  "top left corner": [0, 1],
  "top right corner": [2, 1],
  "bottom left corner": [0, 3],
  "bottom right corner": [2, 3],
};

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

function place(rect, [x1, y1, x2, y2]) {
  for (const [name, value] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 }))
    rect.setAttribute(name, value);
}

// One side's two ends, of which `low` or `high` or both are moved: from 0 to `end`, and never nearer than `smallest`.
function along([low, high], movesLow, movesHigh, by, end, smallest) {
  if (movesLow && movesHigh) by = Math.max(-low, Math.min(end - high, by));
  return [
    movesLow ? Math.max(0, movesHigh ? low + by : Math.min(high - smallest, low + by)) : low,
    movesHigh ? Math.min(end, movesLow ? high + by : Math.max(low + smallest, high + by)) : high,
  ].map((value) => Math.round(value * 1e6) / 1e6);  // ten steps of 0.1 are 1
}

function moved(box, which, [right, down], [width, height], smallest) {
  const [x1, x2] = along([box[0], box[2]], which.includes(0), which.includes(2), right, width, smallest);
  const [y1, y2] = along([box[1], box[3]], which.includes(1), which.includes(3), down, height, smallest);
  return [x1, y1, x2, y2];
}

// Puts the handles of a box on an <svg>, whose viewBox is `size`: get() is the box now, show(box) is called with a
// moved one. It moves in multiples of `step`, a key one of them, with Shift ten. put(box) draws the handles there.
function boxHandles(svg, { size, step, smallest, radius, get, show, name: whose = "" }) {
  let grip = null;  // while a pointer holds a handle: where it took it, and the box at that time
  const steps = (length) => Math.round(length / step) * step;
  const handles = Object.entries(HANDLES).map(([name, which]) => {
    const look = { class: "handle", tabindex: 0, role: "button", "aria-roledescription": "handle", "data-handle": name,
      "aria-label": `${whose ? `${whose}, ` : ""}${name}; arrow keys move it` };
    const [handle, rim] = [look, { class: "rim" }].map((each) =>
      which.length === 4 ? drawn("rect", each) : drawn("circle", { ...each, r: radius }));
    handle.addEventListener("pointerdown", (event) => take(event, handle));
    handle.addEventListener("pointermove", (event) => grip && drag(event, which));
    for (const end of ["pointerup", "pointercancel"]) handle.addEventListener(end, () => (grip = null));
    // A finger on a handle must not scroll the page. Chromium heeds touch-action on an <svg>, not on what is inside it.
    handle.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    handle.addEventListener("keydown", (event) => press(event, which));
    return { which, handle, rim };
  });
  svg.append(...handles.flatMap(({ handle, rim }) => [handle, rim]));

  function take(event, handle) {
    if (event.button !== 0) return;
    event.preventDefault();  // no text is selected, no picture dragged
    handle.focus({ preventScroll: true });
    handle.setPointerCapture(event.pointerId);
    grip = { at: placeIn(svg, event), box: get() };
  }

  function drag(event, which) {
    const [x, y] = placeIn(svg, event);
    show(moved(grip.box, which, [steps(x - grip.at[0]), steps(y - grip.at[1])], size, smallest));
  }

  function press(event, which) {
    const way = KEYS[event.key];
    if (!way || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    show(moved(get(), which, way.map((side) => side * step * (event.shiftKey ? 10 : 1)), size, smallest));
  }

  return {
    put(box) {
      for (const { which, handle, rim } of handles)
        for (const each of [handle, rim])
          if (which.length === 4) place(each, box);
          else filled(each, { cx: box[which[0]], cy: box[which[1]] }, []);
    },
  };
}
