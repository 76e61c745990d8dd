// The model, in a thread of its own, so that the page stays alive. It is told {load} first, the files and their sizes,
// then pictures {turn, picture}. It answers {loaded, total} while it loads, {turn, answer, seconds, threads}, or
// {turn, error}.
import * as ort from "./ort.wasm.bundle.min.mjs";

let load; // the files
let session; // a promise of the model, once there was a picture

self.onmessage = ({ data }) => {
  if (data.load) load = data.load;
  else look(data);
};

function opened() {
  session ??= start();
  session.catch(() => { session = undefined; }); // the next picture tries again
  return session;
}

async function start() {
  const { program, model } = await fetchAll();
  ort.env.wasm.wasmBinary = program;
  // Threads share memory, which a page may do only if its server says that it is isolated from others.
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 4) : 1;
  return ort.InferenceSession.create(model);
}

async function fetchAll() {
  const total = Object.values(load).reduce((sum, { bytes }) => sum + bytes, 0);
  let loaded = 0;
  const tell = (bytes) => {
    loaded += bytes;
    self.postMessage({ loaded, total });
  };
  const stop = new AbortController();
  const whats = Object.entries(load).map(async ([what, { file }]) => [what, await fetched(file, tell, stop.signal)]);
  try {
    return Object.fromEntries(await Promise.all(whats));
  } finally {
    stop.abort(); // one without the other is of no use
  }
}

async function fetched(file, tell, signal) {
  const response = await fetch(new URL(file, import.meta.url), { signal });
  if (!response.ok) throw new Error(`${file} could not be loaded: the server answered ${response.status}`);
  const parts = [];
  const reader = response.body.getReader();
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    parts.push(value);
    tell(value.length);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function look({ turn, picture }) {
  try {
    const model = await opened();
    const begin = performance.now();
    const outputs = await model.run({ image: tensorOf(picture) });
    const seconds = (performance.now() - begin) / 1000;
    const answer = Object.fromEntries(
      Object.entries(outputs).map(([name, { dims, data }]) => [name, { dims: [...dims], data }]));
    self.postMessage({ turn, answer, seconds, threads: ort.env.wasm.numThreads },
      Object.values(answer).map(({ data }) => data.buffer));
  } catch (error) {
    self.postMessage({ turn, error: error.message });
  }
}

// RGBA in bytes, pixel after pixel, becomes float32 (3, height, width) in [0, 1].
function tensorOf({ width, height, data }) {
  const plane = width * height;
  const values = new Float32Array(3 * plane);
  for (let pixel = 0; pixel < plane; pixel++) {
    for (let channel = 0; channel < 3; channel++) values[channel * plane + pixel] = data[4 * pixel + channel] / 255;
  }
  return new ort.Tensor("float32", values, [3, height, width]);
}
