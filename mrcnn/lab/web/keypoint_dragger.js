// A person's keypoints to drag, beside the true ones, which stand still. `data` is what
// mrcnn/lab/views/keypoint_dragger.py makes:
//   { title, hint, picture: its address, size: [width, height], names, points: [[x, y], …] at the start,
//     truth: [[x, y, v], …], area, tolerance: [k, …], partner: [j, …] or empty, skeleton: [[a, b], …] }
// Lengths are pixels of the picture, which are the units of the <svg>'s viewBox. The numbers are those of pycocotools'
// COCOeval.computeOks: exp(-d² / (2 · area · k²)), and OKS is their mean over the keypoints that count.
// ---- numbers ------------------------------------------------------------------------------------------------------

function counts(j) {
  return data.truth[j][2] > 0;
}

function distance(j, [x, y]) {
  return Math.hypot(x - data.truth[j][0], y - data.truth[j][1]);
}

function similarity(j, point) {
  return Math.exp(-(distance(j, point) ** 2) / (2 * data.area * data.tolerance[j] ** 2));
}

function oks(points) {
  const alike = points.map((point, j) => similarity(j, point)).filter((_, j) => counts(j));
  return alike.reduce((sum, each) => sum + each, 0) / alike.length;
}

function within([x, y]) {
  return [x, y].map((value, axis) => Math.max(0, Math.min(data.size[axis], value)));
}

// ---- drawing ------------------------------------------------------------------------------------------------------

function trueMarks(j) {
  if (!counts(j)) return [];
  const [x, y] = data.truth[j], half = Math.max(...data.size) / 110;
  const cross = `M${x - half} ${y - half}l${2 * half} ${2 * half}m0 ${-2 * half}l${-2 * half} ${2 * half}`;
  const circle = { cx: x, cy: y, r: data.tolerance[j] * Math.sqrt(data.area), "data-circle": data.names[j] };
  return [...twice("circle", "true", circle), ...twice("path", "true", { d: cross })];
}

function start(root) {
  let points = data.points;
  let grip = null;  // while a pointer holds a keypoint: where it took it, and where the keypoint was
  const [width, height] = data.size;
  const says = element("p", { class: "says", role: "status", "aria-live": "polite" });
  const mean = element("b", { "data-value": "OKS" });
  const values = data.names.map((name) => element("b", { "data-value": name }));
  const rows = data.names.map((name, j) =>
    element("div", data.partner[j] === j ? { class: "alone" } : {}, element("dt", {}, name), element("dd", {}, values[j])));
  const bones = data.skeleton.map(() => twice("line", "bone", {}));
  const marks = data.names.map((_, j) => trueMarks(j));
  const rims = data.names.map(() => drawn("circle", { class: "rim", r: Math.max(width, height) / 60 }));
  const handles = data.names.map((name, j) => {
    const handle = drawn("circle", { class: "handle", tabindex: 0, role: "button", "aria-roledescription": "keypoint",
      "data-handle": name, "aria-label": `${name}; arrow keys move it`, r: Math.max(width, height) / 60 });
    handle.addEventListener("pointerdown", (event) => take(event, j));
    handle.addEventListener("pointermove", (event) => grip && drag(event, j));
    for (const end of ["pointerup", "pointercancel"]) handle.addEventListener(end, () => (grip = null));
    // A finger on a keypoint must not scroll the page. Chromium heeds touch-action on an <svg>, not on what is in it.
    handle.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    handle.addEventListener("keydown", (event) => press(event, j));
    handle.addEventListener("focus", () => show(points, j));
    return handle;
  });
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "the picture, its keypoints" },
    drawn("image", { href: data.picture, width, height }), ...bones.flat(), ...marks.flat(),
    ...handles.flatMap((handle, j) => [handle, rims[j]]));

  function take(event, j) {
    if (event.button !== 0) return;
    event.preventDefault();  // no text is selected, no picture dragged
    handles[j].focus({ preventScroll: true });
    handles[j].setPointerCapture(event.pointerId);
    grip = { at: placeIn(svg, event), point: points[j] };
  }

  function drag(event, j) {
    const at = placeIn(svg, event);
    move(j, grip.point.map((value, axis) => value + Math.round(at[axis] - grip.at[axis])));
  }

  function press(event, j) {
    const way = KEYS[event.key];
    if (!way || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    move(j, points[j].map((value, axis) => value + way[axis] * (event.shiftKey ? 10 : 1)));
  }

  function move(j, to) {
    show(points.map((point, i) => (i === j ? within(to) : point)), j);
  }

  // `at` is the keypoint of which the sentence speaks, if it is one.
  function show(to, at = null) {
    points = to;
    mean.textContent = oks(points).toFixed(3);
    points.forEach((point, j) => {
      values[j].textContent = counts(j) ? similarity(j, point).toFixed(3) : "not counted";
      for (const each of [handles[j], rims[j]]) filled(each, { cx: point[0], cy: point[1] }, []);
      rows[j].classList.toggle("at", j === at);
      for (const mark of marks[j]) mark.classList.toggle("at", j === at && mark.classList.contains("over"));
    });
    data.skeleton.forEach(([a, b], i) => bones[i].forEach((line) =>
      filled(line, { x1: points[a][0], y1: points[a][1], x2: points[b][0], y2: points[b][1] }, [])));
    const off = at === null || !counts(at) ? "" : `${distance(at, points[at]).toFixed(1)} pixels off, similarity `;
    says.textContent = (at === null ? "" : `${data.names[at]}: ${off}${values[at].textContent}. `) + `OKS ${mean.textContent}.`;
  }

  const bar = [
    button("start again", "all keypoints back to where they were", () => show(data.points)),
    button("onto the truth", "each keypoint onto the true one", () =>
      show(points.map((point, j) => (counts(j) ? data.truth[j].slice(0, 2) : point))))];
  if (data.partner.length) bar.push(button("swap left and right", "each keypoint to where its partner is", () =>
    show(data.partner.map((j) => points[j]))));
  root.replaceChildren(
    element("h4", {}, data.title),
    element("div", { class: "parts" }, svg, element("dl", {},
      element("div", { class: "mean" }, element("dt", {}, "OKS, the mean"), element("dd", {}, mean)), ...rows)),
    says, element("div", { class: "bar" }, ...bar), element("p", { class: "hint" }, data.hint));
  show(points);
}
