// A drawing or a photo is sent to the server, and the answer shown.

const $ = (id) => document.getElementById(id);
const pad = $("pad");
const pen = pad.getContext("2d", { willReadFrequently: true });
const PEN_WIDTH = 44; // of the pad's 560 pixels, the same share as MNIST's strokes have of 28
const KEY_STEP = 14; // pixels that an arrow key moves the pen
const PAUSE = 350; // ms between the last stroke and the request: a 5 has two strokes
// A photo is made smaller above either of these; to read its digit, no more is needed.
const MAX_SIDE = 1600; // pixels
const MAX_BYTES = 2_000_000;
const MAX_BARS = 10;
const BLANK = "The pad is blank: draw a digit, or choose a photo.";
const STOPPED = "The server does not answer. Start it with “make serve”, then reload this page.";

let settings; // {class_names}
let blank = true;
let request = new AbortController(); // of the request whose answer is expected
let timer;
let placement = { left: 0, top: 0, scale: 1 }; // of the picture that was sent, on the pad, in its pixels

// ---- Messages

// `unseen` is only for screen readers: others see the digit.
function showMessage(text, { unseen = "", trouble = false } = {}) {
  const spoken = Object.assign(document.createElement("span"), { className: "unseen", textContent: unseen });
  $("status").replaceChildren(spoken, text);
  $("status").classList.toggle("trouble", trouble);
}

function showError(text) {
  showNothing();
  showMessage(text, { trouble: true });
}

const percent = (share) => (share > 0.9995 && share < 1 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`);

function showAnswer({ label, number, probability, probabilities, digits = [], model }, milliseconds, note) {
  const name = label ?? number;
  showMessage(`${percent(probability)} sure. ${note}`, { unseen: `It reads ${name}, ` });
  $("label").textContent = name;
  $("label").classList.toggle("word", name.length > 2);
  const ranked = probabilities
    ? probabilities.map((share, k) => ({ share, name: settings.class_names[k] }))
    : digits.map((digit) => ({ share: digit.probability, name: digit.label })); // of a number: a bar for each digit
  if (probabilities && ranked.length > MAX_BARS) ranked.sort((a, b) => b.share - a.share).splice(MAX_BARS);
  drawBars(ranked.slice(0, MAX_BARS), label);
  drawBoxes(digits);
  $("details").textContent = `Answered in ${Math.round(milliseconds)} ms by ${model}`;
  document.body.classList.remove("stale");
}

function showNothing() {
  drawBoxes([]);
  $("label").textContent = "–";
  $("details").textContent = "";
  const names = settings?.class_names ?? [..."0123456789"];
  drawBars(names.slice(0, MAX_BARS).map((name) => ({ name })));
  document.body.classList.remove("stale");
}

// A frame around each digit that was found.
function drawBoxes(digits) {
  const { left, top, scale } = placement;
  const boxes = digits.map(({ label, box: [x, y, width, height] }) => {
    const frame = Object.assign(document.createElement("span"), { className: "box" });
    frame.dataset.label = label;
    const place = { left: left + scale * x, top: top + scale * y, width: scale * width, height: scale * height };
    for (const [side, pixels] of Object.entries(place)) frame.style[side] = `${(100 * pixels) / pad.width}%`;
    return frame;
  });
  $("boxes").replaceChildren(...boxes);
}

function drawBars(rows, best) {
  while ($("bars").children.length > Math.max(rows.length, 1)) $("bars").lastChild.remove();
  while ($("bars").children.length < rows.length) {
    const [row, name, bar, share] = ["li", "span", "span", "span"].map((tag) => document.createElement(tag));
    bar.append(document.createElement("span"));
    [bar.className, share.className] = ["bar", "percent"];
    row.append(name, bar, share);
    $("bars").append(row);
  }
  rows.forEach(({ name, share }, k) => {
    const row = $("bars").children[k];
    const [title, bar, number] = row.children;
    row.classList.toggle("best", name === best);
    title.textContent = name;
    bar.firstChild.style.setProperty("--share", share ?? 0);
    number.textContent = share === undefined ? "" : percent(share);
  });
}

// ---- Requests

async function read(blob, note = "") {
  clearTimeout(timer);
  request.abort();
  const { signal } = (request = new AbortController());
  document.body.classList.add("stale");
  showMessage(note);
  try {
    const start = performance.now();
    const answer = await send(blob, signal);
    showAnswer(answer, performance.now() - start, note);
  } catch (error) {
    if (!signal.aborted) showError(error.message);
  }
}

async function send(blob, signal) {
  const body = new FormData();
  body.append("data", blob, "picture");
  let response;
  try {
    settings ??= await (await fetch("model", { signal })).json();
    response = await fetch("predictions/mnist", { method: "POST", body, signal });
  } catch {
    throw new Error(STOPPED);
  }
  const content = await response.json().catch(() => ({}));
  if (response.ok) return content;
  if (response.status === 422) throw new Error(`Nothing to read: ${content.error}.`);
  if (response.status === 503) throw new Error("The server is busy or restarts its worker; try again in a moment.");
  throw new Error(`The server answered ${response.status}: ${content.error ?? content.message ?? response.statusText}`);
}

// ---- Drawing

function clear() {
  clearTimeout(timer);
  request.abort();
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, pad.width, pad.height);
  placement = { left: 0, top: 0, scale: 1 };
  blank = true;
  $("drop").dataset.shows = "drawing";
  $("invitation").hidden = false;
  showNothing();
}

function line(from, to) {
  if ($("drop").dataset.shows !== "drawing") clear(); // a photo is shown
  Object.assign(pen, { lineWidth: PEN_WIDTH, lineCap: "round", lineJoin: "round", strokeStyle: "#000" });
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
  drawBoxes([]);
  blank = false;
  $("invitation").hidden = true;
}

function readDrawing() {
  if (blank) return showError(BLANK);
  pad.toBlob(readCopy);
}

// A browser may give no copy of a canvas: too little memory, or protection against fingerprints.
const readCopy = (blob, note) => (blob ? read(blob, note) : showError("The browser does not let this page read its own canvas."));

const padPosition = ({ clientX, clientY }) => {
  const box = pad.getBoundingClientRect();
  return [((clientX - box.left) / box.width) * pad.width, ((clientY - box.top) / box.height) * pad.height];
};

let last; // the end of the line drawn so far; undefined while the pointer is up
pad.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button) return;
  clearTimeout(timer);
  last = padPosition(event);
  try {
    pad.setPointerCapture(event.pointerId);
  } catch {} // the pointer is gone already; without capture the line ends at the edge
  line(last, last);
});
pad.addEventListener("pointermove", (event) => {
  if (!last || !event.isPrimary) return;
  for (const moved of [...(event.getCoalescedEvents?.() ?? []), event]) {
    const next = padPosition(moved);
    line(last, next);
    last = next;
  }
});
for (const end of ["pointerup", "pointercancel"])
  pad.addEventListener(end, () => {
    if (!last) return;
    last = undefined;
    timer = setTimeout(readDrawing, PAUSE);
  });

// The pen of the arrow keys: a ring shows where it is, filled while it is down.
const key = { at: [pad.width / 2, pad.height / 4], down: false };
function drawKeyPen() {
  $("ring").style.left = `${(100 * key.at[0]) / pad.width}%`;
  $("ring").style.top = `${(100 * key.at[1]) / pad.height}%`;
  $("ring").classList.toggle("down", key.down);
}
const MOVES = { ArrowLeft: [-KEY_STEP, 0], ArrowRight: [KEY_STEP, 0], ArrowUp: [0, -KEY_STEP], ArrowDown: [0, KEY_STEP] };
pad.addEventListener("keydown", (event) => {
  const move = MOVES[event.key];
  if (move) {
    const next = key.at.map((value, k) => Math.min(pad.width - PEN_WIDTH / 2, Math.max(PEN_WIDTH / 2, value + move[k])));
    if (key.down) line(key.at, next);
    key.at = next;
  } else if (event.key === " ") {
    key.down = !key.down;
    if (key.down) {
      line(key.at, key.at);
      showMessage("The pen is down.");
    } else readDrawing();
  } else if (event.key === "Enter") readDrawing();
  else if (event.key === "Delete" || event.key === "Backspace") startOver();
  else return;
  drawKeyPen();
  event.preventDefault();
});

function startOver() {
  key.down = false;
  clear();
  showMessage(BLANK);
}

// ---- Photos

async function readPhoto(file) {
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    return showError(`“${file.name}” is no picture that can be read here: choose a PNG, JPEG, WebP, AVIF, BMP or GIF.`);
  }
  clear();
  const scale = Math.min(pad.width / picture.width, pad.height / picture.height);
  const [width, height] = [picture.width * scale, picture.height * scale];
  pen.imageSmoothingEnabled = scale < 1;
  pen.drawImage(picture, (pad.width - width) / 2, (pad.height - height) / 2, width, height);
  $("drop").dataset.shows = "photo";
  $("invitation").hidden = true;
  const reduction = Math.min(1, MAX_SIDE / Math.max(picture.width, picture.height));
  placement = { left: (pad.width - width) / 2, top: (pad.height - height) / 2, scale: scale / reduction };
  if (reduction === 1 && file.size <= MAX_BYTES) return read(file);
  const [smallWidth, smallHeight] = [picture.width * reduction, picture.height * reduction].map(Math.round);
  const small = Object.assign(document.createElement("canvas"), { width: smallWidth, height: smallHeight });
  small.getContext("2d").drawImage(picture, 0, 0, small.width, small.height);
  const sizes = `${picture.width} × ${picture.height} to ${small.width} × ${small.height}`;
  const note = `The photo was made smaller before it was sent: ${sizes} pixels.`;
  small.toBlob((blob) => readCopy(blob, note), "image/jpeg", 0.9);
}

const drop = $("drop");
drop.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault(); // anywhere: a photo dropped next to the pad must not replace the page
  drop.classList.remove("over");
  if (event.dataTransfer?.files.length) readPhoto(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) readPhoto(event.clipboardData.files[0]);
});
$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", ({ target }) => {
  if (target.files.length) readPhoto(target.files[0]);
  target.value = ""; // the same file can be chosen again
});
$("clear").addEventListener("click", startOver);

drawKeyPen();
clear();
fetch("model")
  .then(async (response) => {
    settings = await response.json();
    clear();
    if (settings.class_names.every((name) => /^[0-9]$/.test(name))) {
      showMessage("Draw a digit, or choose a photo.");
    } else {
      document.title = $("title").textContent = "What does the picture show?";
      showMessage("Choose a picture, or draw one.");
    }
  })
  .catch(() => showError(STOPPED));
