// What can be scrolled sideways can be reached by the Tab key; what need not be scrolled is no stop on its way.
"use strict";

function markScrolling() {
  for (const each of document.querySelectorAll("pre, .table-wrapper, .output > div:not(.touch), .touch .scroll")) {
    if (each.scrollWidth > each.clientWidth) each.tabIndex = 0;
    else each.removeAttribute("tabindex");
  }
}

addEventListener("load", markScrolling);
addEventListener("resize", markScrolling);
