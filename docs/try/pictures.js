// From whatever the reader gives to pixels as the model wants them.

export class PictureError extends Error {}

// Of a file, or of what a server gave: {picture, reduced}. picture: {width, height, data}, data the RGBA of an upright
// picture, no side longer than `longest`; reduced: in words from what, or empty. The browser turns it as its EXIF says.
export async function decoded(blob, name, longest) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob);
  } catch {
    throw new PictureError(`${name} cannot be read: it must be a picture that this browser shows, such as JPEG, PNG or WebP.`);
  }
  const made = pixelsOf(bitmap, bitmap.width, bitmap.height, longest);
  bitmap.close();
  return made;
}

// The same of what can be drawn: a bitmap, or the camera's video at this moment.
export function pixelsOf(source, width, height, longest) {
  const factor = Math.min(1, longest / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * factor));
  canvas.height = Math.max(1, Math.round(height * factor));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff"; // what is transparent becomes paper
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  const reduced = factor < 1 ? ` (reduced from ${width} × ${height})` : "";
  return { picture: context.getImageData(0, 0, canvas.width, canvas.height), reduced };
}

// Calls give(blob, name) for each picture that is chosen, dropped or pasted.
export function receive(input, give) {
  const first = (files) => files.length && give(files[0], files[0].name || "the picture");
  input.addEventListener("change", () => {
    first(input.files);
    input.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    first(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => first(event.clipboardData.files));
}
