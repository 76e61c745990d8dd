// A box to drag, beside an anchor that stands still. `data` is what mrcnn/lab/views/box_dragger.py makes:
//   { title, hint, picture: its address, size: [width, height], anchor: [x1, y1, x2, y2], box: the same, at the start }
// Lengths are pixels of the picture, which are the units of the <svg>'s viewBox. The numbers are those of
// mrcnn.boxes.encode, with weights of 1, and of mrcnn.boxes.iou.
const MEANINGS = {
  dx: "to the right, in anchor widths", dy: "down, in anchor heights", dw: "log of the growth in width",
  dh: "log of the growth in height", IoU: "of box and anchor",
};

// ---- numbers ------------------------------------------------------------------------------------------------------

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

// ---- on the page ---------------------------------------------------------------------------------------------------

function start(root) {
  let box = [...data.box];
  const [width, height] = data.size;
  const says = element("p", { class: "says", role: "status", "aria-live": "polite" });
  const values = Object.fromEntries(Object.keys(MEANINGS).map((name) => [name, element("b", { "data-value": name })]));
  const anchor = twice("rect", "anchor"), outline = twice("rect", "outline"), path = twice("line", "path");
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "the picture, an anchor, a box" },
    drawn("image", { href: data.picture, width, height }), ...anchor, ...outline, ...path);
  const handles = boxHandles(svg, {
    size: data.size, step: 1, smallest: 1, radius: Math.max(width, height) / 30, get: () => box, show,
  });

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
    handles.put(box);
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
