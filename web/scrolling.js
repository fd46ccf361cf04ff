// The view stays at the end of an answer that grows, until the reader scrolls away from it.
import {$} from "./dom.js";

const kNearEnd = 60;  // pixels: closer than this to the end, the view follows

const scroller = $("scroller");
let following = true;

export const isFollowing = () => following;

export function toEnd() {
  scroller.scrollTop = scroller.scrollHeight;
  following = true;
  $("to-end").hidden = true;
}

export function setUpScrolling() {
  scroller.addEventListener("scroll", () => {
    following = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < kNearEnd;
    $("to-end").hidden = following || !$("empty").hidden;
  }, {passive: true});
  $("to-end").addEventListener("click", () => {
    toEnd();
    $("prompt").focus();
  });
}
