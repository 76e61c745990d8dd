// The page: a picture is chosen, the model looks at it, what it finds is drawn and told.
import { offerCamera } from "./camera.js";
import { coloured, draw, objectsOf } from "./draw.js";
import { drawFilm } from "./film.js";
import { openModel } from "./model.js";
import { decoded, PictureError, pixelsOf, receive } from "./pictures.js";

const root = document.getElementById("try");
const part = (selector) => root.querySelector(selector);
const parts = {
  samples: part(".samples"), input: part(".file input"), says: part(".says"), loading: part(".loading"),
  answer: part(".answer"), canvas: part("canvas"), slider: part(".slider input"), output: part("output"),
  count: part(".count"), list: part("ol"), film: part(".film"), cards: part(".cards"),
};
const page = await (await fetch(new URL("page.json", import.meta.url))).json();
const look = openModel(page.load, showProgress);
let latest = 0; // pictures chosen so far: an answer that comes after the next choice is not shown
let shown; // {picture, answer, objects}

function say(sentence, wrong = false) {
  parts.says.textContent = sentence;
  parts.says.classList.toggle("wrong", wrong);
}

function showProgress(loaded, total) {
  const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
  const [bar, words] = parts.loading.children;
  parts.loading.hidden = loaded >= total;
  bar.value = loaded / total;
  words.textContent = `Loading the model: ${megabytes(loaded)} of ${megabytes(total)} MB`;
}

// ---- A picture is chosen

async function choose(pixels, name) {
  const turn = ++latest;
  say(`The model looks at ${name} …`);
  parts.says.scrollIntoView({ block: "nearest" }); // on a telephone it is far below the pictures
  try {
    const { picture, reduced } = await pixels();
    const { answer, seconds, threads } = await look(picture);
    if (turn !== latest) return;
    await show(picture, answer);
    say(`Looked at ${name}, ${picture.width} × ${picture.height} pixels${reduced}, in ${seconds.toFixed(2)} s ` +
      `with ${threads} ${threads === 1 ? "thread" : "threads"} of this computer.`);
  } catch (error) {
    parts.loading.hidden = true;
    if (turn !== latest) return;
    parts.answer.hidden = true; // it is of the picture before
    say(error instanceof PictureError ? error.message : `The model cannot be run: ${error.message}.`, true);
  }
}

const chooseBlob = (blob, name) => choose(() => decoded(blob, name, page.longest), name);

async function chooseSample({ file, says }) {
  const address = new URL(file, import.meta.url);
  await choose(async () => decoded(await (await fetch(address)).blob(), file, page.longest), says);
}

function offerSamples() {
  const buttons = page.pictures.map((sample) => {
    const image = document.createElement("img");
    image.src = new URL(sample.file, import.meta.url);
    image.alt = sample.says;
    const button = document.createElement("button");
    button.type = "button";
    button.title = sample.says;
    button.append(image);
    button.addEventListener("click", () => chooseSample(sample));
    return button;
  });
  parts.samples.replaceChildren(...buttons);
}

// ---- What was found is shown

async function show(picture, answer) {
  const bitmap = await createImageBitmap(picture);
  shown = { picture: { width: picture.width, height: picture.height, shown: bitmap }, answer, objects: objectsOf(answer) };
  parts.answer.hidden = false;
  update();
  parts.answer.scrollIntoView({ block: "nearest" });
}

function update() {
  const least = Number(parts.slider.value);
  parts.output.textContent = least.toFixed(2);
  if (!shown) return;
  const found = coloured(shown.objects.filter(({ score }) => score >= least), page.colours);
  draw(parts.canvas, shown.picture, found, page);
  found.sort((one, other) => other.score - one.score);
  tell(found);
  if (parts.film.open) drawFilm(parts.cards, shown.picture, shown.answer, found, page);
}

function tell(found) {
  const hidden = shown.objects.length - found.length;
  const things = found.length === 1 ? "1 object" : `${found.length} objects`;
  const others = hidden ? `; ${hidden} more with a lower score` : "";
  const nothing = shown.objects.length ? "" : " The model sees none of its six things here.";
  parts.count.textContent = `${things}${others}.${nothing}`;
  parts.list.replaceChildren(...found.map(entry));
  const names = found.map(({ label }) => page.categories[label]).join(", ");
  parts.canvas.setAttribute("aria-label", `The picture with ${things} drawn${names && `: ${names}`}`);
}

function entry({ box: [x1, y1, x2, y2], label, score, colour }) {
  const item = document.createElement("li"), swatch = document.createElement("span");
  swatch.className = "swatch";
  swatch.style.background = colour;
  const size = `${Math.round(x2 - x1)} × ${Math.round(y2 - y1)} pixels at (${Math.round(x1)}, ${Math.round(y1)})`;
  item.append(swatch, `${page.categories[label]}, ${score.toFixed(2)}: ${size}`);
  return item;
}

// ---- The page comes alive

offerSamples();
receive(parts.input, chooseBlob);
offerCamera(
  { open: part(".camera"), view: part(".camera-view"), take: part(".take"), stop: part(".stop") },
  (video) => choose(() => pixelsOf(video, video.videoWidth, video.videoHeight, page.longest), "the camera's picture"),
  (sentence) => say(sentence, true));
parts.slider.value = page.score;
parts.slider.addEventListener("input", update);
parts.film.addEventListener("toggle", update);
new ResizeObserver(() => shown && update()).observe(parts.canvas.parentElement);
part(".still").remove();
part(".live").hidden = false;
update();
