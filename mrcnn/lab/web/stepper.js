// Plays back the run of a kernel. `data` is what mrcnn/lab/views/stepper.py makes; a step is
//   [kind, thread, line, buffer, cells, values, race]
// kind:   R reads, W writes, A updates atomically; B waits at a barrier, V waits in a warp function;
//         M all of the block have met, N lanes of a warp have met (`cells` are their threads);
//         O threads that are not shown did something (`values` are [buffer, cell, value])
// buffer: the number of one in run.memory; cells: numbers of elements; values: texts, one for each cell
// race:   null or [other thread, its step, its kind, its line, cell]
// Position 0 is before the first step; position k shows what is there after k steps.
const VERBS = { R: "reads", W: "writes", A: "updates" };
const PAST = { R: "read", W: "wrote", A: "updated" };

// ---- what happened ------------------------------------------------------------------------------------------------

// The values of all cells after `position` steps, and who touched each last ("W3": thread 3 wrote it).
function memoryAt(run, position) {
  const memory = run.memory.map((buffer) => new Map(
    buffer.cells.map((cell, i) => [cell, { value: buffer.start[i], by: "" }])));
  for (const [kind, thread, , buffer, cells, values] of run.steps.slice(0, position)) {
    if (kind === "W" || kind === "A")
      cells.forEach((cell, i) => memory[buffer].set(cell, { value: values[i], by: kind + thread }));
    if (kind === "O")
      for (const [number, cell, value] of values) memory[number].set(cell, { value, by: "others" });
  }
  return memory;
}

function takesPart([kind, thread, , , cells], who) {
  return kind === "M" || (kind === "N" ? cells.includes(who) : thread === who);
}

// The thread's latest step before `position`, or null.
function latest(run, position, thread) {
  return run.steps.slice(0, position).findLast((step) => takesPart(step, thread)) ?? null;
}

function isOver(run, position, thread) {
  return !run.steps.slice(position).some((step) => takesPart(step, thread));
}

// ---- in words -----------------------------------------------------------------------------------------------------

// [0, 1, 2, 5] is "0–2, 5".
function ranges(numbers) {
  const parts = [];
  for (const number of numbers) {
    const last = parts.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else parts.push([number, number]);
  }
  return parts.map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`)).join(", ");
}

function access(run, [kind, , , buffer, cells, values]) {
  const value = (kind === "A" ? "now " : "") + values.map((text) => (text === "?" ? "? (not written yet)" : text)).join(", ");
  return `${VERBS[kind]} ${run.memory[buffer].name}[${ranges(cells)}], ${value}`;
}

function happening(run, step) {
  const [kind, thread, line, , cells] = step;
  switch (kind) {
    case "B": return `thread ${thread} waits at the barrier, line ${line}`;
    case "V": return `thread ${thread} waits for lanes of its warp, line ${line}`;
    case "M": return `all threads of the block have come to the barrier, line ${line}; they go on`;
    case "N": return `threads ${ranges(cells)} have met, line ${line}; they go on`;
    case "O": return "threads that are not shown read or write";
    default: return `thread ${thread} ${access(run, step)}, line ${line}`;
  }
}

function raceWords(run, [, , , buffer, , , [other, step, kind, line, cell]]) {
  const when = `line ${line}, step ${step}`;
  return `✗ Race: thread ${other} ${PAST[kind]} ${run.memory[buffer].name}[${cell}] too (${when}), ` +
    "with no wait between. Which comes first is chance.";
}

function sentence(run, position) {
  const count = `Step ${position} of ${run.steps.length}: `;
  if (position === 0) return `${count}nothing has happened yet.`;
  const step = run.steps[position - 1];
  const end = position === run.steps.length ? ` The end. ${run.ending}` : "";
  return `${count}${happening(run, step)}.${step[6] ? ` ${raceWords(run, step)}` : ""}${end}`;
}

function state(run, position, thread) {
  const step = latest(run, position, thread);
  if (!step) return "has not begun";
  const over = isOver(run, position, thread);
  if (step[0] === "B" || step[0] === "V") return `waits, line ${step[2]}${over ? ", for ever" : ""}`;
  const words = step[0] === "M" || step[0] === "N" ? "may go on" : access(run, step);
  return over ? `${words}; done` : words;
}

// ---- drawing ------------------------------------------------------------------------------------------------------

// The source: the line of this step marked, and at each line the threads that came to it last.
function drawCode(run, position) {
  const now = position ? run.steps[position - 1][2] : 0;
  const threadsAt = new Map();
  for (const thread of run.threads) {
    const step = latest(run, position, thread);
    if (step) threadsAt.set(step[2], [...(threadsAt.get(step[2]) ?? []), thread]);
  }
  return run.lines.map(([number, text]) => {
    if (number === 0) return element("div", {}, "        ⋯");
    const current = number === now;
    const line = element("div", current ? { class: "now", "aria-current": "step", "data-line": number } : { "data-line": number },
      element("span", { class: "number" }, `${current ? "▶" : " "}${String(number).padStart(4)}  `), text);
    const here = threadsAt.get(number);
    if (here) line.append(element("span", { class: "here" }, `thread${here.length > 1 ? "s" : ""} ${ranges(here)}`));
    return line;
  });
}

function drawThreads(run, position) {
  const step = position ? run.steps[position - 1] : null;
  return run.threads.map((thread) => {
    const now = step !== null && takesPart(step, thread);
    return element("div", { role: "listitem", class: now ? "now" : "" },
      element("span", {}, `${now ? "▶" : "\u2003"} thread ${thread} `),
      element("span", { class: "state" }, state(run, position, thread)));
  });
}

// What this step does to a cell: the class and the letters of its mark.
function mark(step, buffer, cell) {
  if (!step || !VERBS[step[0]] || step[3] !== buffer || !step[4].includes(cell)) return null;
  const [kind, thread, , , , , race] = step;
  if (race && race[4] === cell) return { look: `${kind} race`, letters: `✗${race[2]}${race[0]} ${kind}${thread}` };
  return { look: kind, letters: `▶${kind}${thread}` };
}

function drawBuffer(run, position, number, values) {
  const { name, kind, cells, columns } = run.memory[number];
  const step = position ? run.steps[position - 1] : null;
  const boxes = cells.map((cell) => {
    const { value, by } = values.get(cell);
    const marked = mark(step, number, cell);
    return element("div", { class: `cell ${marked?.look ?? ""}`, "data-cell": `${name}[${cell}]`, title: `${name}[${cell}] = ${value}` },
      element("span", {}, `[${cell}]`), element("b", {}, value), element("span", {}, marked?.letters ?? by));
  });
  const grid = { class: "cells grid", style: `grid-template-columns: repeat(${columns}, auto)` };
  return element("div", {}, element("h5", {}, `${name} (${kind})`),
    element("div", { class: "scroll" }, element("div", columns ? grid : { class: "cells" }, ...boxes)));
}

function drawMemory(run, position) {
  return memoryAt(run, position).map((values, number) => drawBuffer(run, position, number, values));
}

// ---- playing ------------------------------------------------------------------------------------------------------

function start(root) {
  let run = data.runs[0];
  let position = 0;
  const says = element("p", { class: "says", role: "status", "aria-live": "polite" });
  const code = element("div", { class: "code scroll" });
  const threads = element("div", { role: "list", class: "threads scroll" });
  const memory = element("section");
  const slider = element("input", { type: "range", min: 0, "aria-label": "step" });
  const choices = data.runs.map((each) => button(each.name, "show this run", () => choose(each)));
  const back = button("◀ back", "one step back", () => go(position - 1));
  const on = button("step ▶", "one step on", () => go(position + 1));
  const race = button("✗ next race", "on to the next race", () => go(nextRace()));

  function nextRace() {
    const after = run.steps.findIndex((step, i) => i >= position && step[6]);
    return 1 + (after >= 0 ? after : run.steps.findIndex((step) => step[6]));
  }

  function choose(other) {
    run = other;
    slider.max = run.steps.length;
    race.disabled = !run.steps.some((step) => step[6]);
    choices.forEach((choice, i) => choice.setAttribute("aria-pressed", data.runs[i] === run));
    go(0);
  }

  function go(to) {
    position = Math.max(0, Math.min(run.steps.length, to));
    slider.value = position;
    slider.setAttribute("aria-valuetext", `step ${position} of ${run.steps.length}`);
    says.textContent = sentence(run, position);
    says.classList.toggle("race", Boolean(position && run.steps[position - 1][6]));
    code.replaceChildren(...drawCode(run, position));
    threads.replaceChildren(...drawThreads(run, position));
    memory.replaceChildren(...drawMemory(run, position));
  }

  function press(event) {
    const to = { ArrowLeft: position - 1, ArrowRight: position + 1, Home: 0, End: run.steps.length }[event.key];
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    go(to);
  }

  slider.addEventListener("input", () => go(Number(slider.value)));
  root.addEventListener("keydown", press);
  root.tabIndex = 0;
  root.replaceChildren(
    element("h4", {}, data.title),
    element("div", { class: "bar", role: "group", "aria-label": "which run" }, ...choices),
    element("div", { class: "bar" }, back, on, race, slider),
    says,
    element("div", { class: "parts" },
      element("section", {}, element("h5", {}, "the source, and where each thread is"), code),
      element("section", {}, element("h5", {}, "the threads, and what each did last"), threads)),
    memory,
    element("p", { class: "hint" }, data.hint));
  choose(run);
}
