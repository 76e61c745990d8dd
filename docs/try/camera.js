// The camera, from the first press of a button to the last.

// parts: the buttons open, take and stop, the view with the video in it. take(video): what is done with a picture;
// complain(sentence): where there is no camera.
export function offerCamera({ open, view, take, stop }, use, complain) {
  const video = view.querySelector("video");

  async function start() {
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      await video.play();
    } catch (error) {
      complain(`The camera cannot be used: ${error.message}.`);
      return;
    }
    view.hidden = false;
    open.hidden = true;
    take.focus();
  }

  function end() {
    for (const track of video.srcObject.getTracks()) track.stop();
    video.srcObject = null;
    view.hidden = true;
    open.hidden = false;
    open.focus();
  }

  open.hidden = !navigator.mediaDevices; // a page without https has none
  open.addEventListener("click", start);
  take.addEventListener("click", () => use(video));
  stop.addEventListener("click", end);
}
