// Drawing of the viewer's planes on canvases, in radiological view unless the page's switch says neurological.
const CHECKER = 8; // voxels
const OUTLINES = { truth: "#ffffff", carried: "#2ee6a6" };
// Colours of Jacobian determinants from MOST and from 1 / MOST on, and of folds.
const MOST = 4;
const LARGER = [230, 159, 0];
const SMALLER = [86, 180, 233];
const FOLDED = [255, 0, 255];
const pixels = () => window.devicePixelRatio || 1; // canvas pixels in a CSS pixel

/** True in radiological view: the patient's right, or the front in a sagittal plane, is on the left. */
const isMirrored = () => !document.querySelector("input.neurological:checked");

const valueAt = (name, p) => arrays[name].data[offset(arrays[name].shape, p)];
const grey = (value) => [value, value, value];

/** The colour of a voxel, by the role of its plane. */
const COLOURS = {
  segmentation(p) {
    const [value, label] = [valueAt("image", p), valueAt("prediction", p)];
    if (!label) return grey(value);
    return (entry.colours.get(label) ?? grey(255)).map((part) => value + options.fill * (part - value));
  },
  fixed(p, { across, up }) {
    if (options.view === "Jacobian") return jacobianColour(p);
    const square = (Math.floor(p[across] / CHECKER) + Math.floor(p[up] / CHECKER)) % 2;
    const warped = { fixed: false, warped: true, blink: blinked, checkerboard: square }[options.view];
    return grey(valueAt(warped ? "warped" : "fixed", p));
  },
  moving: (p) => grey(valueAt("moving", p)),
};

function jacobianColour(p) {
  const determinant = jacobian(p);
  if (determinant <= 0) return FOLDED;
  const tint = determinant > 1 ? LARGER : SMALLER;
  const [value, strength] = [valueAt("fixed", p), Math.min(1, Math.abs(Math.log(determinant) / Math.log(MOST)))];
  return tint.map((part) => value + strength * (part - value));
}

function drawPane(pane) {
  const { role, plane, canvas, shape } = pane;
  const focus = role === "moving" ? match(at) : at;
  pane.slice = clamp(Math.round(focus[plane.normal]), shape[plane.normal]);
  pane.scale = Math.max(1, Math.round(canvas.clientWidth * pixels()) / shape[plane.across]);
  canvas.width = Math.round(shape[plane.across] * pane.scale);
  canvas.height = Math.round(shape[plane.up] * pane.scale);
  const context = canvas.getContext("2d");
  if (isMirrored()) context.setTransform(-1, 0, 0, 1, canvas.width, 0);
  paint(pane, context);
  if (role !== "moving") {
    for (const name of Object.keys(OUTLINES)) if (options[name] && arrays[name]) outline(pane, context, name);
  }
  if (role === "moving" && options.grid) drawGrid(pane, context);
  mark(pane, context, focus);
}

/** Paint the voxels of a plane. */
function paint({ role, plane, shape, slice, canvas }, context) {
  const { across, up, normal } = plane;
  const [width, height] = [shape[across], shape[up]];
  const image = new ImageData(width, height);
  const p = [0, 0, 0];
  p[normal] = slice;
  for (let row = 0; row < height; row++) {
    p[up] = height - 1 - row;
    for (let column = 0; column < width; column++) {
      p[across] = column;
      image.data.set([...COLOURS[role](p, plane), 255], 4 * (row * width + column));
    }
  }
  const offscreen = new OffscreenCanvas(width, height);
  offscreen.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(offscreen, 0, 0, canvas.width, canvas.height);
}

/** The centre of a voxel in canvas coordinates, before mirroring. */
const spot = (pane, p) => [
  (p[pane.plane.across] + 0.5) * pane.scale,
  (pane.shape[pane.plane.up] - p[pane.plane.up] - 0.5) * pane.scale,
];

/** Draw lines between voxels of different labels. */
function outline(pane, context, name) {
  const { data, shape } = arrays[name];
  const { across, up, normal } = pane.plane;
  const p = [0, 0, 0];
  p[normal] = pane.slice;
  const label = (column, row) => {
    if (column < 0 || row < 0 || column >= shape[across] || row >= shape[up]) return 0;
    p[across] = column;
    p[up] = row;
    return data[offset(shape, p)];
  };
  context.beginPath();
  for (let row = 0; row <= shape[up]; row++) {
    for (let column = 0; column <= shape[across]; column++) {
      const here = label(column, row);
      const x = column * pane.scale;
      const y = (shape[up] - row) * pane.scale;
      if (here !== label(column - 1, row)) {
        context.moveTo(x, y);
        context.lineTo(x, y - pane.scale);
      }
      if (here !== label(column, row - 1)) {
        context.moveTo(x, y);
        context.lineTo(x + pane.scale, y);
      }
    }
  }
  stroke(context, OUTLINES[name], 1.6);
}

function stroke(context, colour, width) {
  context.strokeStyle = colour;
  context.lineWidth = width * pixels();
  context.stroke();
}

/** Mark a position by a cross, or by a ring in the moving volume. */
function mark(pane, context, p) {
  const [x, y] = spot(pane, p);
  const { width, height } = pane.canvas;
  const gap = 6 * pixels();
  const cross = [[0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap], [x, y + gap, x, height]];
  context.beginPath();
  if (pane.role === "moving") context.arc(x, y, 5 * pixels(), 0, 2 * Math.PI);
  else for (const [fromX, fromY, toX, toY] of cross) {
    context.moveTo(fromX, fromY);
    context.lineTo(toX, toY);
  }
  stroke(context, "#e69f00", pane.role === "moving" ? 2.4 : 1);
}

/** Lines of the fixed grid's plane through the cross, where they sample the moving volume. */
function drawGrid(pane, context) {
  const { across, up, normal } = pane.plane;
  const shape = arrays.fixed.shape;
  const every = Math.max(2, Math.round(Math.max(shape[across], shape[up]) / 16));
  const p = [0, 0, 0];
  p[normal] = at[normal];
  context.beginPath();
  for (const [along, over] of [[across, up], [up, across]]) {
    for (let line = Math.floor(((shape[over] - 1) % every) / 2); line < shape[over]; line += every) {
      p[over] = line;
      for (let step = 0; step < shape[along]; step++) {
        p[along] = step;
        const [x, y] = spot(pane, match(p));
        if (step) context.lineTo(x, y);
        else context.moveTo(x, y);
      }
    }
  }
  context.globalAlpha = 0.85;
  stroke(context, "#56b4e9", 1);
  context.globalAlpha = 1;
}

function draw() {
  for (const pane of panes) {
    drawPane(pane);
    if (pane.slider) pane.slider.value = String(at[pane.plane.normal]);
  }
  const colours = root.querySelector(".viewer-jacobian");
  if (colours) colours.hidden = options.view !== "Jacobian";
  drawSolid();
  root.dataset.at = at.join(",");
  root.querySelector(".viewer-words").textContent = describe();
}

function describe() {
  const here = `voxel ${at.join(", ")}`;
  if (entry.kind === "pair") {
    const found = match(at);
    root.dataset.match = found.map((value) => value.toFixed(4)).join(",");
    const length = Math.hypot(...found.map((value, axis) => value - at[axis]));
    return `${here} of the fixed image matches ${found.map((value) => value.toFixed(1)).join(", ")} of the moving one, `
      + `${length.toFixed(1)} voxels away; Jacobian ${jacobian(at).toFixed(2)}`;
  }
  const [predicted, truth] = ["prediction", "truth"].map((name) => {
    const value = valueAt(name, at);
    return value === 0 ? "background" : entry.labels.find((label) => label.value === value)?.name ?? `label ${value}`;
  });
  return `${here}: predicted ${predicted}, truth ${truth}`;
}
