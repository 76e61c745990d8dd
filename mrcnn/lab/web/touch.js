// What the scripts of all views that can be touched share. mrcnn/lab/views/touch.py puts them together on the page:
//   (function (id, data) { touch.js; NAME.js; a call of start(root) for each place of the view })(id, data)
"use strict";

const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const range = (count) => [...Array(count).keys()];

function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

// The same for what is inside an <svg>.
function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// A line or an outline twice: the wider one, in the other colour, makes it seen on any picture.
function twice(tag, look, attributes = {}) {
  return ["under", "over"].map((layer) => drawn(tag, { class: `${look} ${layer}`, ...attributes }));
}

// Its name is what is written on it, for who speaks to the page, and what it does.
function button(label, does, act) {
  const made = element("button", { type: "button", "aria-label": `${label}: ${does}`, title: does }, label);
  made.addEventListener("click", act);
  return made;
}

// Where a pointer's event is in an <svg>, in the units of its viewBox: [x, y].
function placeIn(svg, event) {
  const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  return [x, y];
}
