"use strict";
const svg = document.querySelector("svg");
const circles = [...svg.querySelectorAll("circle")];
const buttons = [...document.querySelectorAll("ol button")];
const places = circles.map((circle) => [circle.cx.baseVal.value, circle.cy.baseVal.value]);
const texts = buttons.map((button) => button.textContent.toLowerCase());
const search = document.querySelector("#search");
const output = document.querySelector("output");
const chosen = document.querySelector("#chosen");
const REACH = 24; // CSS pixels from a point that still mean it
let current = -1;
let kept = false; // a click keeps a document until the next

function choose(number) {
  if (number === current) return;
  for (const one of [circles[current], buttons[current]]) one?.classList.remove("chosen");
  current = number;
  if (number < 0) return;
  circles[number].classList.add("chosen");
  svg.append(circles[number]); // drawn last, above the others
  buttons[number].classList.add("chosen");
  chosen.textContent = buttons[number].textContent;
}

function nearest(event) {
  const box = svg.getBoundingClientRect();
  const scale = svg.viewBox.baseVal.width / box.width;
  const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
  let found = -1, least = (REACH * scale) ** 2;
  places.forEach(([left, top], number) => {
    const distance = (left - x) ** 2 + (top - y) ** 2;
    if (distance < least && !buttons[number].parentElement.hidden) [found, least] = [number, distance];
  });
  return found;
}

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let matching = 0;
  texts.forEach((text, number) => {
    const matches = words.every((word) => text.includes(word));
    matching += matches;
    buttons[number].parentElement.hidden = !matches;
    circles[number].classList.toggle("other", !matches);
  });
  output.value = `${matching.toLocaleString("en")} of ${texts.length.toLocaleString("en")}`;
}

svg.addEventListener("pointermove", (event) => {
  const found = kept ? -1 : nearest(event);
  if (found >= 0) choose(found);
});
svg.addEventListener("click", (event) => {
  const found = nearest(event);
  kept = found >= 0;
  if (!kept) return;
  choose(found);
  const list = buttons[found].closest("ol"), item = buttons[found].parentElement;
  list.scrollTop += item.getBoundingClientRect().top - list.getBoundingClientRect().top - 8;
});
buttons.forEach((button, number) => {
  for (const kind of ["focus", "click"])
    button.addEventListener(kind, () => { kept = true; choose(number); });
});
search.addEventListener("input", filter);
filter();
