// The photo of a person: file, drop or camera; a crop to 4:3 with an oval for the face; the bridge's verdict at once.

import { ask } from "./live.js";

const field = document.querySelector("[data-photo]");
const find = (selector) => field.querySelector(selector);
const [file, phone] = [find("#photo"), find("#photo-camera")];
const editor = find("[data-editor]");
const video = find("video");
const canvas = find("canvas");
const zoom = find("#zoom");
const hint = find("[data-hint]");
const shoot = find("[data-shoot]");
const camera = find("[data-camera]");
const pen = canvas.getContext("2d", { willReadFrequently: true });

// Below these values terminals often find no face. They are hints: the bridge accepts such pictures.
const DARK = 70;
const SMALL_PIXELS = 300;

let picture = null;
let centre = { x: 0, y: 0 };
let timer = 0;
let checks = 0;

const scale = () => Math.max(canvas.width / picture.width, canvas.height / picture.height) * zoom.value;

function draw() {
  const by = scale();
  const [width, height] = [canvas.width / by, canvas.height / by];
  centre.x = Math.min(Math.max(centre.x, width / 2), picture.width - width / 2);
  centre.y = Math.min(Math.max(centre.y, height / 2), picture.height - height / 2);
  pen.drawImage(picture, centre.x - width / 2, centre.y - height / 2, width, height, 0, 0, canvas.width, canvas.height);
  clearTimeout(timer);
  timer = setTimeout(use, 300, width);
}

// Puts the crop into the form's file field, so that the form sends it as any file.
function use(width) {
  const { data } = pen.getImageData(190, 60, 260, 350);
  let light = 0;
  for (let i = 0; i < data.length; i += 4) light += 0.3 * data[i] + 0.59 * data[i + 1] + 0.11 * data[i + 2];
  const hints = [];
  if (light / (data.length / 4) < DARK) hints.push(field.dataset.textDark);
  if (width < SMALL_PIXELS) hints.push(field.dataset.textSmall);
  hint.textContent = hints.join(" ");
  hint.hidden = !hints.length;
  canvas.toBlob((blob) => {
    const chosen = new DataTransfer();
    chosen.items.add(new File([blob], "photo.jpg", { type: "image/jpeg" }));
    file.files = chosen.files;
    phone.value = "";
    check();
  }, "image/jpeg", 0.92);
}

async function check() {
  const number = ++checks;
  const body = new FormData();
  body.append("photo", file.files[0]);
  try {
    const response = await ask(field.dataset.check, {}, { method: "POST", body });
    const text = await response.text();
    // The bridge escapes every text in its templates.
    if (number === checks && response.ok) find("[data-verdict]").innerHTML = text;
  } catch { /* The bridge checks the picture again when the form is saved. */ }
}

async function open(source) {
  try {
    picture = await createImageBitmap(source, { imageOrientation: "from-image" });
  } catch {
    // For example HEIC. The bridge can read it.
    picture = null;
    editor.hidden = true;
    hint.textContent = field.dataset.textUnreadable;
    hint.hidden = false;
    if (source === phone.files[0]) file.files = phone.files;
    check();
    return;
  }
  stop();
  editor.hidden = false;
  zoom.value = 1;
  centre = { x: picture.width / 2, y: picture.height / 2 };
  draw();
}

function stop() {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  video.hidden = shoot.hidden = true;
  canvas.hidden = find("[data-zoom]").hidden = false;
}

for (const input of [file, phone]) {
  input.addEventListener("change", () => { if (input.files[0]) open(input.files[0]); });
}
zoom.addEventListener("input", () => { if (picture) draw(); });

canvas.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!picture || (!step && !"+-".includes(event.key))) return;
  event.preventDefault();
  if (step) {
    centre.x += step[0] * 20 / scale();
    centre.y += step[1] * 20 / scale();
  } else zoom.value = +zoom.value + (event.key === "+" ? 0.1 : -0.1);
  draw();
});
canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
canvas.addEventListener("pointermove", (event) => {
  if (!picture || !event.buttons) return;
  const by = scale() * canvas.clientWidth / canvas.width;
  centre.x -= event.movementX / by;
  centre.y -= event.movementY / by;
  draw();
});

field.addEventListener("dragover", (event) => event.preventDefault());
field.addEventListener("drop", (event) => {
  event.preventDefault();
  const dropped = event.dataTransfer.files[0];
  if (dropped) open(dropped);
});

// Browsers allow the camera only over HTTPS or on this machine, and Home Assistant's frame blocks it.
camera.hidden = !navigator.mediaDevices?.getUserMedia;
camera.addEventListener("click", async () => {
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: 1280 } });
    await video.play();
    editor.hidden = video.hidden = shoot.hidden = false;
    canvas.hidden = find("[data-zoom]").hidden = true;
    shoot.focus();
  } catch {
    hint.textContent = field.dataset.textCamera;
    hint.hidden = false;
  }
});
shoot.addEventListener("click", () => open(video));
