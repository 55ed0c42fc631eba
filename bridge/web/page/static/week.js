// The week editor: draws the hours while they are typed, and copies Monday to the other days.

const RANGE = /^\s*([01]?\d|2[0-3]):([0-5]\d)\s*-\s*([01]?\d|2[0-3]):([0-5]\d)\s*$/;
const editor = document.querySelector("[data-week]");
const inputs = [...editor.querySelectorAll("dd input")];

function draw(input) {
  const picture = input.parentElement.querySelector("svg");
  for (const bar of picture.querySelectorAll(".bar")) bar.remove();
  for (const text of input.value.split(/[;,]/)) {
    const found = RANGE.exec(text);
    if (!found) continue;
    const [from, to] = [found[1] * 60 + +found[2], found[3] * 60 + +found[4]];
    if (to <= from) continue;
    const width = (to === 1439 ? 1440 : to) - from;
    const bar = `<rect class="bar" x="${from}" width="${width}" height="20"/>`;
    picture.querySelector(".ticks").insertAdjacentHTML("beforebegin", bar);
  }
}

for (const input of inputs) {
  input.addEventListener("input", () => {
    draw(input);
    if (input.value) editor.querySelector("[name=weekly]").checked = true;
  });
}
const copy = editor.querySelector("[data-copy]");
copy.hidden = false;
copy.addEventListener("click", () => {
  for (const input of inputs.slice(1)) {
    input.value = inputs[0].value;
    draw(input);
  }
});
