// The page's end of the worker: a picture in, a promise of the answer out.

// load: what page.json says of the files. progress(loaded, total): called in bytes while they come.
// Returns look(picture), a promise of {answer, seconds, threads}. The files are fetched when it is called first.
export function openModel(load, progress) {
  let worker, turn = 0;
  const waiting = new Map();

  function settle({ data }) {
    if (data.total) {
      progress(data.loaded, data.total);
      return;
    }
    const { resolve, reject } = waiting.get(data.turn);
    waiting.delete(data.turn);
    if (data.error) reject(new Error(data.error));
    else resolve(data);
  }

  function start() {
    worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    worker.onmessage = settle;
    worker.onerror = (event) => {
      event.preventDefault();
      for (const { reject } of waiting.values()) reject(new Error(event.message || "its program could not be loaded"));
      waiting.clear();
      worker = undefined; // the next picture tries again
    };
    worker.postMessage({ load });
  }

  return (picture) => new Promise((resolve, reject) => {
    if (!worker) start();
    waiting.set(++turn, { resolve, reject });
    worker.postMessage({ turn, picture });
  });
}
