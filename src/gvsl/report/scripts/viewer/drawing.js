// Drawing of the viewer's planes on canvases, in radiological view unless the page's switch says neurological.
const CHECKER = 8; // voxels

/** True in radiological view: the patient's right, or the front in a sagittal plane, is on the left. */
const isMirrored = () => !document.querySelector("input.neurological:checked");

/** Paint a plane of grey values: `value(p)` of a position on the grid of `shape`. */
function paint(pane, shape, value) {
  const { across, up, normal } = pane.plane;
  const [width, height] = [shape[across], shape[up]];
  const image = new ImageData(width, height);
  const p = [0, 0, 0];
  p[normal] = pane.slice;
  for (let row = 0; row < height; row++) {
    p[up] = height - 1 - row;
    for (let column = 0; column < width; column++) {
      p[across] = column;
      const found = value(p);
      const target = 4 * (row * width + column);
      for (let channel = 0; channel < 3; channel++) image.data[target + channel] = found[channel];
      image.data[target + 3] = 255;
    }
  }
  const offscreen = new OffscreenCanvas(width, height);
  offscreen.getContext("2d").putImageData(image, 0, 0);
  const context = pane.canvas.getContext("2d");
  if (isMirrored()) context.setTransform(-1, 0, 0, 1, pane.canvas.width, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(offscreen, 0, 0, pane.canvas.width, pane.canvas.height);
  return context;
}

function resize(pane, shape) {
  const { across, up } = pane.plane;
  const wide = Math.max(1, Math.round(pane.canvas.clientWidth * (window.devicePixelRatio || 1)));
  pane.scale = Math.max(1, wide / shape[across]);
  pane.canvas.width = Math.round(shape[across] * pane.scale);
  pane.canvas.height = Math.round(shape[up] * pane.scale);
  pane.shape = shape;
}

/** The centre of a voxel in canvas coordinates, before mirroring. */
const spot = (pane, p) => [
  (p[pane.plane.across] + 0.5) * pane.scale,
  (pane.shape[pane.plane.up] - p[pane.plane.up] - 0.5) * pane.scale,
];

function colourOf(value) {
  const found = entry.labels.find((label) => label.value === value);
  const hex = found ? found.colour : "#ffffff";
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
}

function drawSegmentation(pane) {
  const { shape, data } = arrays.image;
  resize(pane, shape);
  pane.slice = at[pane.plane.normal];
  const colours = new Map();
  const context = paint(pane, shape, (p) => {
    const index = offset(shape, p);
    const grey = data[index];
    const label = arrays.prediction.data[index];
    if (!label || !options.fill) return [grey, grey, grey];
    if (!colours.has(label)) colours.set(label, colourOf(label));
    return colours.get(label).map((part) => grey + options.fill * (part - grey));
  });
  if (options.truth) outline(pane, context, arrays.truth.data, shape);
  cross(pane, context, at);
}

/** Draw lines between voxels of different labels. */
function outline(pane, context, labels, shape) {
  const { across, up, normal } = pane.plane;
  const p = [0, 0, 0];
  p[normal] = pane.slice;
  const label = (column, row) => {
    if (column < 0 || row < 0 || column >= shape[across] || row >= shape[up]) return 0;
    p[across] = column;
    p[up] = row;
    return labels[offset(shape, p)];
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
  stroke(context, "#ffffff", 1.6);
}

function stroke(context, colour, width) {
  context.strokeStyle = colour;
  context.lineWidth = width * (window.devicePixelRatio || 1);
  context.stroke();
}

function cross(pane, context, p) {
  const [x, y] = spot(pane, p);
  const gap = 6 * (window.devicePixelRatio || 1);
  context.beginPath();
  for (const [fromX, fromY, toX, toY] of [
    [0, y, x - gap, y], [x + gap, y, pane.canvas.width, y], [x, 0, x, y - gap], [x, y + gap, x, pane.canvas.height],
  ]) {
    context.moveTo(fromX, fromY);
    context.lineTo(toX, toY);
  }
  stroke(context, "#e69f00", 1);
}

function drawFixed(pane) {
  const { shape } = arrays.fixed;
  resize(pane, shape);
  pane.slice = at[pane.plane.normal];
  const { across, up } = pane.plane;
  const view = options.view === "blink" ? (blinked ? "warped" : "fixed") : options.view;
  const context = paint(pane, shape, (p) => {
    const other = (Math.floor(p[across] / CHECKER) + Math.floor(p[up] / CHECKER)) % 2;
    const name = view === "checkerboard" ? (other ? "warped" : "fixed") : view;
    const grey = arrays[name].data[offset(shape, p)];
    return [grey, grey, grey];
  });
  cross(pane, context, at);
}

function drawMoving(pane) {
  const { shape, data } = arrays.moving;
  resize(pane, shape);
  const found = match(at);
  const { normal } = pane.plane;
  pane.slice = clamp(Math.round(found[normal]), shape[normal]);
  const context = paint(pane, shape, (p) => {
    const grey = data[offset(shape, p)];
    return [grey, grey, grey];
  });
  if (options.grid) drawGrid(pane, context);
  const [x, y] = spot(pane, found);
  context.beginPath();
  context.arc(x, y, 5 * (window.devicePixelRatio || 1), 0, 2 * Math.PI);
  stroke(context, "#e69f00", 2.4);
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
    ({ segmentation: drawSegmentation, fixed: drawFixed, moving: drawMoving })[pane.role](pane);
    if (pane.slider) pane.slider.value = String(at[pane.plane.normal]);
  }
  root.dataset.at = at.join(",");
  root.querySelector(".viewer-words").textContent = describe();
}

function describe() {
  const index = offset(grid().shape, at);
  const here = `voxel ${at.join(", ")}`;
  if (entry.kind === "pair") {
    const found = match(at);
    root.dataset.match = found.map((value) => value.toFixed(4)).join(",");
    const moved = Math.hypot(...found.map((value, axis) => value - at[axis]));
    return `${here} of the fixed image matches ${found.map((value) => value.toFixed(1)).join(", ")} of the moving one, `
      + `${moved.toFixed(1)} voxels away`;
  }
  const name = (value) => {
    const found = entry.labels.find((label) => label.value === value);
    return value === 0 ? "background" : found ? found.name : `label ${value}`;
  };
  return `${here}: predicted ${name(arrays.prediction.data[index])}, truth ${name(arrays.truth.data[index])}`;
}
