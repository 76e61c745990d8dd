// A warp reads 32 numbers at a stride that can be slid: which sectors of memory are moved, and in shared memory, how many
// turns its banks need. `data` is what mrcnn/lab/views/memory_slider.py makes:
//   { title, hint, stride, offset: at the start, most: the largest stride }
// Numbers are float32. A sector is 32 bytes; bank b has the 4-byte words b, b + 32, b + 64, …
const LANES = 32, BYTES = 4, SECTOR = 32, BANKS = 32;
const PER_SECTOR = SECTOR / BYTES, PER_ROW = 16 * PER_SECTOR;  // numbers

// ---- numbers -------------------------------------------------------------------------------------------------------

function counted(stride, offset) {
  const words = range(LANES).map((lane) => offset + lane * stride);
  const sectors = new Set(words.map((word) => Math.floor(word * BYTES / SECTOR)));
  const banks = range(BANKS).map(() => new Set());
  for (const word of words) banks[word % BANKS].add(word);  // lanes that want the same word are answered together
  return { words, sectors, banks: banks.map((each) => each.size), turns: Math.max(...banks.map((each) => each.size)) };
}

// ---- on the page ---------------------------------------------------------------------------------------------------

function start(root) {
  const says = element("p", { class: "says", role: "status", "aria-live": "polite" });
  const rows = Math.ceil((7 + (LANES - 1) * data.most + 1) / PER_ROW);
  const sectors = range(rows * PER_ROW / PER_SECTOR).map((i) => drawn("rect", { class: "sector",
    x: (i * PER_SECTOR) % PER_ROW, y: 5 * Math.floor(i * PER_SECTOR / PER_ROW), width: PER_SECTOR, height: 4 }));
  const numbers = range(LANES).map(() => drawn("rect", { class: "number", width: 1, height: 4 }));
  const memory = drawn("svg", { viewBox: `0 0 ${PER_ROW} ${5 * rows}`, role: "img", "aria-label": "global memory, in sectors of 32 bytes" },
    ...sectors, ...numbers);
  const bars = range(BANKS).map((bank) => drawn("rect", { class: "bar-of", x: 4 * bank + 0.4, width: 3.2 }));
  const shared = drawn("svg", { viewBox: `0 0 ${4 * BANKS} 34`, class: "banks", preserveAspectRatio: "none", role: "img", "aria-label": "words that each of the 32 banks is asked for" },
    drawn("line", { class: "ground", x1: 0, x2: 4 * BANKS, y1: 33, y2: 33 }), ...bars);
  const sliders = { stride: [0, data.most], offset: [0, 7] };
  const inputs = Object.fromEntries(Object.entries(sliders).map(([name, [min, max]]) => {
    const slider = element("input", { type: "range", min, max, step: 1, value: data[name], "aria-label": name });
    slider.addEventListener("input", show);
    return [name, { slider, words: element("b", { "data-value": name }) }];
  }));
  const presets = [["side by side", 1], ["every second", 2], ["a column of 32", 32], ["padded to 33", 33], ["all the same", 0]].map(
    ([words, stride]) => button(words, `stride ${stride}`, () => { inputs.stride.slider.value = stride; show(); }));

  function show() {
    const [stride, offset] = ["stride", "offset"].map((name) => Number(inputs[name].slider.value));
    for (const [name, { slider, words }] of Object.entries(inputs)) words.textContent = `${name} ${slider.value}`;
    const { words, sectors: moved, banks, turns } = counted(stride, offset);
    sectors.forEach((rect, i) => rect.classList.toggle("moved", moved.has(i)));
    words.forEach((word, lane) => filled(numbers[lane], { x: word % PER_ROW, y: 5 * Math.floor(word / PER_ROW) }, []));
    banks.forEach((count, bank) => filled(bars[bank], { y: 33 - count, height: count, "data-words": count }, []));
    root.setAttribute("data-sectors", moved.size);
    root.setAttribute("data-turns", turns);
    const used = new Set(words).size * BYTES;
    says.textContent = `Lane l reads number ${offset} + ${stride} · l. Global memory moves ${moved.size} sector${moved.size === 1 ? "" : "s"}, ` +
      `${moved.size * SECTOR} bytes, of which ${used} are wanted. In shared memory ${banks.filter((count) => count).length} of 32 banks ` +
      `are asked, one of them for ${turns} word${turns === 1 ? "" : "s"}: ${turns} turn${turns === 1 ? "" : "s"}.`;
  }

  root.replaceChildren(
    element("h4", {}, data.title),
    ...Object.values(inputs).map(({ slider, words }) => element("div", { class: "bar" }, words, slider)),
    element("div", { class: "bar" }, ...presets),
    says,
    element("h5", {}, "global memory: sectors of 8 numbers, those that are moved, and the numbers that are wanted"), memory,
    element("h5", {}, "shared memory: how many words each of the 32 banks is asked for"), shared,
    element("p", { class: "hint" }, data.hint));
  show();
}
