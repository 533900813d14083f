// Planes of the viewer on the page, and their mouse, touch and keyboard input.
const BLINK_MS = 700;
const TOUCH_SLOP = 8; // pixels
const PLANES = [
  { name: "axial", normal: 2, across: 0, up: 1 },
  { name: "coronal", normal: 1, across: 0, up: 2 },
  { name: "sagittal", normal: 0, across: 1, up: 2 },
];
const ENDS = [["R", "L"], ["A", "P"], ["S", "I"]]; // upper and lower end of each axis

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function build(number) {
  buildControls(number);
  panes = [];
  const roles = entry.kind === "pair" ? ["fixed", "moving"] : ["segmentation"];
  root.querySelector(".viewer-stage").replaceChildren(...roles.map((role) => {
    const heading = make("h4", { textContent: role === "segmentation" ? entry.title : `${role} image` });
    const row = make("div", { className: "viewer-row" }, ...PLANES.map((plane) => buildPane(role, plane)));
    return make("div", {}, heading, row);
  }), solidView());
}

function buildPane(role, plane) {
  const shape = role === "moving" ? arrays.moving.shape : grid().shape;
  const ariaLabel = `${role} image, ${plane.name} plane`;
  const canvas = make("canvas", { tabIndex: role === "moving" ? -1 : 0, role: "img", ariaLabel });
  Object.assign(canvas.dataset, { role, plane: plane.name });
  const [width, height] = [plane.across, plane.up].map((axis) => shape[axis] * entry.spacing[axis]);
  canvas.style.aspectRatio = `${width} / ${height}`;
  const pane = { role, plane, canvas, shape, slice: 0, scale: 1, slider: null };
  panes.push(pane);
  const frame = make("div", { className: "viewer-frame" }, canvas);
  const ends = [...ENDS[plane.across], ...ENDS[plane.up]];
  ["left", "right", "top", "bottom"].forEach((side, index) => {
    frame.append(make("span", { className: `end ${side}`, textContent: ends[index], ariaHidden: "true" }));
  });
  const box = make("div", { className: "viewer-pane" }, frame);
  if (role !== "moving") {
    listen(pane);
    const max = String(shape[plane.normal] - 1);
    pane.slider = make("input", { type: "range", min: "0", max, ariaLabel: `${plane.name} slice` });
    pane.slider.addEventListener("input", () => move(plane.normal, Number(pane.slider.value)));
    box.append(pane.slider);
  }
  return box;
}

function move(axis, value) {
  at[axis] = clamp(value, grid().shape[axis]);
  draw();
}

function listen(pane) {
  const { canvas, plane } = pane;
  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * pane.shape[plane.across]);
    const row = Math.floor(((event.clientY - box.top) / box.height) * pane.shape[plane.up]);
    at[plane.across] = clamp(isMirrored() ? pane.shape[plane.across] - 1 - column : column, pane.shape[plane.across]);
    at[plane.up] = clamp(pane.shape[plane.up] - 1 - row, pane.shape[plane.up]);
    draw();
  };
  // A vertical swipe scrolls the page (touch-action in the style sheet) and cancels the pointer. A touch therefore moves
  // the cross only after a sideways drag, or if it ends where it began.
  let start = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    start = event.pointerType === "touch" ? event : null;
    if (!start) point(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    if (start) {
      const [right, down] = [Math.abs(event.clientX - start.clientX), Math.abs(event.clientY - start.clientY)];
      if (right < TOUCH_SLOP || right < down) return;
      start = null;
    }
    point(event);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (start && Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) < TOUCH_SLOP) point(event);
  });
  // The wheel scrolls the page unless the plane has the focus.
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas) return;
    event.preventDefault();
    move(plane.normal, at[plane.normal] + (event.deltaY < 0 ? 1 : -1));
  }, { passive: false });
  const keys = {
    ArrowLeft: [plane.across, -1], ArrowRight: [plane.across, 1], ArrowUp: [plane.up, 1], ArrowDown: [plane.up, -1],
    PageUp: [plane.normal, 1], PageDown: [plane.normal, -1],
  };
  canvas.addEventListener("keydown", (event) => {
    if (!(event.key in keys)) return;
    event.preventDefault();
    const [axis, change] = keys[event.key];
    move(axis, at[axis] + (axis === plane.across && isMirrored() ? -change : change));
  });
}

function buildControls(number) {
  const select = make("select", { ariaLabel: "run" });
  for (const run of new Set(entries.map((item) => item.run))) {
    select.append(make("option", { value: run, textContent: run, selected: run === entry.run }));
  }
  select.addEventListener("change", () => open(entries.findIndex((item) => item.run === select.value)));
  const choices = make("div", { className: "viewer-choices" });
  entries.forEach((item, index) => {
    if (item.run !== entry.run) return;
    const button = make("button", { type: "button", textContent: item.title, ariaPressed: String(index === number) });
    button.addEventListener("click", () => open(index));
    choices.append(button);
  });
  const tools = make("div", { className: "tools" });
  if (entry.kind === "pair") {
    for (const view of ["fixed", "warped", "blink", "checkerboard", "Jacobian"]) {
      const input = make("input", { type: "radio", name: "viewer-view", value: view, checked: options.view === view });
      input.addEventListener("change", () => { options.view = view; draw(); });
      tools.append(make("label", {}, input, view));
    }
    tools.append(toggle("deformed grid", "grid"));
    for (const [name, text] of [["truth", "labels of the fixed image"], ["carried", "carried labels"]]) {
      if (arrays[name]) tools.append(toggle(text, name, patch(OUTLINES[name])));
    }
    tools.append(jacobianKey());
  } else {
    tools.append(toggle("outline of the truth", "truth"));
    const range = make("input", { type: "range", min: "0", max: "1", step: "0.05", value: String(options.fill) });
    range.addEventListener("input", () => { options.fill = Number(range.value); draw(); });
    tools.append(make("label", {}, "prediction", range));
    for (const label of entry.labels) tools.append(key(label.colour, label.name));
  }
  root.querySelector(".viewer-controls").replaceChildren(...(entries.length > 1 ? [select, choices] : []), tools);
}

function patch(colour) {
  const square = make("i", { className: "patch" });
  square.style.setProperty("--fill", colour);
  return square;
}

const key = (colour, name) => make("span", { className: "viewer-label" }, patch(colour), name);

/** The colours of the Jacobian, shown with it. */
function jacobianKey() {
  const keys = [
    [LARGER, `moving image ${MOST} times as large`], [SMALLER, `1/${MOST} as large`], [FOLDED, "folded"],
  ].map(([colour, name]) => key(`rgb(${colour.join(",")})`, name));
  return make("div", { className: "tools viewer-jacobian", hidden: options.view !== "Jacobian" }, ...keys);
}

function toggle(text, option, ...beside) {
  const input = make("input", { type: "checkbox", checked: options[option] });
  input.addEventListener("change", () => { options[option] = input.checked; draw(); });
  return make("label", {}, input, ...beside, text);
}

if (root) {
  setInterval(() => {
    if (!entry || entry.kind !== "pair" || options.view !== "blink") return;
    blinked = !blinked;
    root.dataset.blinked = String(blinked);
    draw();
  }, BLINK_MS);
  window.addEventListener("resize", () => { if (entry) draw(); });
  document.addEventListener("change", (event) => { if (event.target.matches(".neurological")) draw(); });
  open(0);
}
