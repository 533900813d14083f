"use strict";
// The viewer: three planes of a volume (segmentation), or of a fixed and of a moving volume (pair).
// Arrays lie in C order, (D, H, W), axes growing to the right, the front and the top; a field is in 256ths of a voxel
// and says where a fixed voxel looks in the moving volume: q = p + field(p) / 256.
(() => {
  const root = document.querySelector(".viewer");
  if (!root) return;
  const entries = JSON.parse(document.getElementById("volumes").textContent);
  const controls = root.querySelector(".viewer-controls");
  const stage = root.querySelector(".viewer-stage");
  const words = root.querySelector(".viewer-words");
  const FIELD_STEPS = 256;
  const BLINK_MS = 700;
  const CHECKER = 8;
  const TOUCH_SLOP = 8;
  const PLANES = [
    { name: "axial", normal: 2, across: 0, up: 1 },
    { name: "coronal", normal: 1, across: 0, up: 2 },
    { name: "sagittal", normal: 0, across: 1, up: 2 },
  ];
  const ENDS = [["L", "R"], ["P", "A"], ["I", "S"]];
  const TYPES = { uint8: Uint8Array, int16: Int16Array };

  let entry = null;
  let arrays = {};
  let at = [0, 0, 0];
  let panes = [];
  let blinked = false;
  const options = { view: "fixed", grid: true, truth: true, fill: 0.5 };

  // --- reading -----------------------------------------------------------------------------------------------

  async function unpack(text, type) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new TYPES[type](await new Response(stream).arrayBuffer());
  }

  async function open(number) {
    const next = entries[number];
    const loaded = {};
    for (const [name, { shape, type }] of Object.entries(next.arrays)) {
      const text = document.getElementById(`volume-${number}-${name}`).textContent;
      loaded[name] = { data: await unpack(text, type), shape };
    }
    entry = next;
    arrays = loaded;
    at = centre();
    build(number);
    draw();
  }

  function centre() {
    const { shape, data } = grid();
    const truth = arrays.truth;
    if (!truth) return shape.map((side) => Math.floor(side / 2));
    const sum = [0, 0, 0];
    let count = 0;
    for (let index = 0; index < data.length; index++) {
      if (!truth.data[index]) continue;
      count++;
      sum[0] += Math.floor(index / (shape[1] * shape[2]));
      sum[1] += Math.floor(index / shape[2]) % shape[1];
      sum[2] += index % shape[2];
    }
    return count ? sum.map((total) => Math.round(total / count)) : shape.map((side) => Math.floor(side / 2));
  }

  const grid = () => arrays[entry.kind === "pair" ? "fixed" : "image"];
  const place = (shape, p) => (p[0] * shape[1] + p[1]) * shape[2] + p[2];
  const clamp = (value, side) => Math.max(0, Math.min(side - 1, value));

  /** Where a voxel of the fixed grid looks in the moving volume. */
  function match(p) {
    const { data, shape } = arrays.field;
    const voxels = shape[1] * shape[2] * shape[3];
    const index = place(shape.slice(1), p);
    return p.map((value, axis) => value + data[axis * voxels + index] / FIELD_STEPS);
  }

  // --- drawing -----------------------------------------------------------------------------------------------

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

  /** From a position in voxels to the canvas: the middle of its pixel. */
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
      const index = place(shape, p);
      const grey = data[index];
      const label = arrays.prediction.data[index];
      if (!label || !options.fill) return [grey, grey, grey];
      if (!colours.has(label)) colours.set(label, colourOf(label));
      return colours.get(label).map((part) => grey + options.fill * (part - grey));
    });
    if (options.truth) outline(pane, context, arrays.truth.data, shape);
    cross(pane, context, at);
  }

  /** Lines between voxels of different labels. */
  function outline(pane, context, labels, shape) {
    const { across, up, normal } = pane.plane;
    const p = [0, 0, 0];
    p[normal] = pane.slice;
    const label = (column, row) => {
      if (column < 0 || row < 0 || column >= shape[across] || row >= shape[up]) return 0;
      p[across] = column;
      p[up] = row;
      return labels[place(shape, p)];
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
      const grey = arrays[name].data[place(shape, p)];
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
      const grey = data[place(shape, p)];
      return [grey, grey, grey];
    });
    if (options.grid) drawGrid(pane, context);
    const [x, y] = spot(pane, found);
    context.beginPath();
    context.arc(x, y, 5 * (window.devicePixelRatio || 1), 0, 2 * Math.PI);
    stroke(context, "#e69f00", 2.4);
    pane.mark = [x, y];
  }

  /** Lines of the fixed grid's plane through the cross, where they look in the moving volume. */
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
    words.textContent = describe();
  }

  function describe() {
    const index = place(grid().shape, at);
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

  // --- the page's parts --------------------------------------------------------------------------------------

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  function build(number) {
    buildControls(number);
    stage.replaceChildren();
    panes = [];
    const rows = entry.kind === "pair" ? ["fixed", "moving"] : ["segmentation"];
    for (const role of rows) {
      const row = make("div", { className: "viewer-row" });
      for (const plane of PLANES) row.append(buildPane(role, plane));
      stage.append(make("div", {}, make("h4", { textContent: role === "segmentation" ? entry.title : `${role} image` }), row));
    }
  }

  function buildPane(role, plane) {
    const shape = role === "moving" ? arrays.moving.shape : grid().shape;
    const canvas = make("canvas", { tabIndex: role === "moving" ? -1 : 0 });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${role} image, ${plane.name} plane`);
    canvas.dataset.role = role;
    canvas.dataset.plane = plane.name;
    canvas.style.aspectRatio = `${shape[plane.across]} / ${shape[plane.up]}`;
    const pane = { role, plane, canvas, slice: 0, scale: 1, shape, slider: null, mark: null };
    panes.push(pane);
    const frame = make("div", { className: "viewer-frame" }, canvas);
    const ends = [...ENDS[plane.across], ...ENDS[plane.up]];
    ["left", "right", "bottom", "top"].forEach((side, index) => {
      frame.append(make("span", { className: `end ${side}`, textContent: ends[index], ariaHidden: "true" }));
    });
    const box = make("div", { className: "viewer-pane" }, frame);
    if (role !== "moving") {
      listen(pane);
      pane.slider = make("input", { type: "range", min: "0", max: String(shape[plane.normal] - 1) });
      pane.slider.setAttribute("aria-label", `${plane.name} slice`);
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
      at[plane.across] = clamp(column, pane.shape[plane.across]);
      at[plane.up] = clamp(pane.shape[plane.up] - 1 - row, pane.shape[plane.up]);
      draw();
    };
    // A finger that goes up or down scrolls the page past the plane (touch-action in the style sheet), and its pointer is
    // cancelled. So a touch moves the cross once it goes sideways, or where it ends without having gone anywhere.
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
    // The page scrolls on until a plane was chosen by a click or by the keyboard.
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
      const step = keys[event.key];
      if (!step) return;
      event.preventDefault();
      move(step[0], at[step[0]] + step[1]);
    });
  }

  function buildControls(number) {
    const select = make("select");
    select.setAttribute("aria-label", "run");
    for (const run of new Set(entries.map((item) => item.run))) {
      select.append(make("option", { value: run, textContent: run, selected: run === entry.run }));
    }
    select.addEventListener("change", () => open(entries.findIndex((item) => item.run === select.value)));
    const choices = make("div", { className: "viewer-choices" });
    entries.forEach((item, index) => {
      if (item.run !== entry.run) return;
      const button = make("button", { type: "button", textContent: item.title });
      button.setAttribute("aria-pressed", String(index === number));
      button.addEventListener("click", () => open(index));
      choices.append(button);
    });
    const tools = make("div", { className: "tools" });
    if (entry.kind === "pair") {
      for (const view of ["fixed", "warped", "blink", "checkerboard"]) {
        const input = make("input", { type: "radio", name: "viewer-view", value: view, checked: options.view === view });
        input.addEventListener("change", () => { options.view = view; draw(); });
        tools.append(make("label", {}, input, view));
      }
      tools.append(toggle("deformed grid", "grid"));
    } else {
      tools.append(toggle("outline of the truth", "truth"));
      const range = make("input", { type: "range", min: "0", max: "1", step: "0.05", value: String(options.fill) });
      range.addEventListener("input", () => { options.fill = Number(range.value); draw(); });
      tools.append(make("label", {}, "prediction", range));
      for (const label of entry.labels) {
        const patch = make("i", { className: "patch" });
        patch.style.setProperty("--fill", label.colour);
        tools.append(make("span", { className: "viewer-label" }, patch, label.name));
      }
    }
    controls.replaceChildren(select, choices, tools);
  }

  function toggle(text, option) {
    const input = make("input", { type: "checkbox", checked: options[option] });
    input.addEventListener("change", () => { options[option] = input.checked; draw(); });
    return make("label", {}, input, text);
  }

  setInterval(() => {
    if (!entry || entry.kind !== "pair" || options.view !== "blink") return;
    blinked = !blinked;
    root.dataset.blinked = String(blinked);
    draw();
  }, BLINK_MS);
  window.addEventListener("resize", () => { if (entry) draw(); });
  open(0);
})();
