// The 3D view: the largest grey value along each line of sight, and over it the structures as surfaces, by WebGL 2.
// Nothing of it is made before it is opened, so it costs a page nothing until then.
const SIDE = 480; // canvas pixels, at most
const TURN = 0.01; // radians a pixel of a drag
const STEEPEST = 1.5; // radians above or below
const WHITE = 255; // the palette's index of a label without a colour
const VERTEX = `#version 300 es
void main() { // one triangle over the whole canvas
  gl_Position = vec4(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0, 0.0, 1.0);
}`;
// The volume lies in a box around the origin whose corners are at distance 1; "ahead" looks at it. Textures have their
// axes in the reverse order of the arrays.
const FRAGMENT = `#version 300 es
precision highp float;
precision highp sampler3D;
uniform sampler3D volume, labels;
uniform sampler2D palette;
uniform vec3 halves, sides, right, up, ahead, mark;
uniform float canvas, stride, fill;
out vec4 colour;
float labelAt(vec3 p) { return texture(labels, p.zyx).r; }
vec3 outward(vec3 p) {
  vec3 sum = vec3(0.0);
  for (int i = -1; i <= 1; i++) for (int j = -1; j <= 1; j++) for (int k = -1; k <= 1; k++) {
    vec3 way = vec3(i, j, k);
    if (labelAt(p + 1.5 * way * sides) == 0.0) sum += way;
  }
  return normalize(sum / (sides * halves) + 1e-6);
}
void main() {
  vec2 at = 2.0 * gl_FragCoord.xy / canvas - 1.0;
  vec3 eye = at.x * right + at.y * up - ahead;
  vec3 one = (-halves - eye) / ahead, other = (halves - eye) / ahead;
  vec3 near = min(one, other), far = max(one, other);
  float start = max(max(near.x, near.y), near.z), end = min(min(far.x, far.y), far.z);
  float brightest = 0.0, label = 0.0;
  vec3 hit = vec3(0.0);
  for (float t = start + 0.5 * stride; t < end; t += stride) {
    vec3 p = 0.5 + 0.5 * (eye + t * ahead) / halves;
    brightest = max(brightest, texture(volume, p.zyx).r);
    if (label == 0.0) { label = labelAt(p); hit = p; }
  }
  vec3 shown = vec3(brightest);
  if (label > 0.0) {
    float light = 0.3 + 0.7 * max(dot(outward(hit), -ahead), 0.0);
    shown = mix(shown, light * texture(palette, vec2((255.0 * label + 0.5) / 256.0, 0.5)).rgb, fill);
  }
  vec2 away = at - vec2(dot(mark, right), dot(mark, up));
  if (abs(length(away) - 0.03) < 0.006) shown = vec3(0.90, 0.62, 0.0);
  colour = vec4(shown, 1.0);
}`;
const solid = { box: null, canvas: null, gl: null, program: null, held: {}, planned: 0, yaw: 0.4, pitch: 0.25, shown: "" };

/** The element of the 3D view, which stays as it is when another volume is opened. */
function solidView() {
  if (!solid.box) {
    const hint = "Drag or use the arrow keys to turn. Grey is the largest value along each line of sight.";
    solid.words = make("p", { className: "quiet" });
    solid.choices = make("div", { className: "tools" });
    solid.canvas = make("canvas", { tabIndex: 0, role: "img", width: SIDE, height: SIDE });
    const frame = make("div", { className: "viewer-frame viewer-solid" }, solid.canvas);
    const summary = make("summary", { textContent: "3D" });
    solid.box = make("details", {}, summary, solid.choices, frame, solid.words, make("p", { className: "quiet" }, hint));
    solid.box.addEventListener("toggle", drawSolid);
    turnable(solid.canvas);
  }
  const names = entry.kind === "pair" ? ["carried", "truth"] : ["prediction", "truth"];
  const there = names.filter((name) => arrays[name]);
  if (!there.includes(solid.shown)) solid.shown = there[0] ?? "";
  solid.choices.replaceChildren(...(there.length ? [...there, ""] : []).map((name) => {
    const input = make("input", { type: "radio", name: "viewer-solid", value: name, checked: solid.shown === name });
    input.addEventListener("change", () => { solid.shown = name; drawSolid(); });
    return make("label", {}, input, name || "image alone");
  }));
  solid.held = {};
  return solid.box;
}

function turnable(canvas) {
  const turn = (right, down) => {
    solid.yaw = (solid.yaw + right * TURN) % (2 * Math.PI);
    solid.pitch = Math.max(-STEEPEST, Math.min(STEEPEST, solid.pitch + down * TURN));
    cancelAnimationFrame(solid.planned);
    solid.planned = requestAnimationFrame(drawSolid);
  };
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    if (canvas.hasPointerCapture(event.pointerId)) turn(event.movementX, event.movementY);
  });
  const keys = { ArrowLeft: [-15, 0], ArrowRight: [15, 0], ArrowUp: [0, -15], ArrowDown: [0, 15] };
  canvas.addEventListener("keydown", (event) => {
    if (!(event.key in keys)) return;
    event.preventDefault();
    turn(...keys[event.key]);
  });
}

/** Return true once WebGL 2 and the program are there. */
function prepareSolid() {
  if (solid.program) return true;
  const gl = solid.canvas.getContext("webgl2", { preserveDrawingBuffer: true });
  if (!gl) return false;
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return false;
  gl.useProgram(program);
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  ["volume", "labels", "palette"].forEach((name, unit) => {
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(name === "palette" ? gl.TEXTURE_2D : gl.TEXTURE_3D, gl.createTexture());
    gl.uniform1i(gl.getUniformLocation(program, name), unit);
  });
  Object.assign(solid, { gl, program });
  return true;
}

/** Put an array into one of the two textures, unless it is there; labels become indices into the palette. */
function holdSolid(unit, name, smooth) {
  if (solid.held[unit] === name) return;
  const { gl } = solid;
  const { shape, data } = arrays[name] ?? { shape: [1, 1, 1], data: new Uint8Array(1) };
  const places = new Map(entry.labels.map((label, index) => [label.value, Math.min(index + 1, WHITE)]));
  const bytes = smooth ? data : Uint8Array.from(data, (value) => (value ? places.get(value) ?? WHITE : 0));
  gl.activeTexture(gl.TEXTURE0 + unit);
  gl.texImage3D(gl.TEXTURE_3D, 0, gl.R8, shape[2], shape[1], shape[0], 0, gl.RED, gl.UNSIGNED_BYTE, bytes);
  for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T, gl.TEXTURE_WRAP_R]) {
    gl.texParameteri(gl.TEXTURE_3D, side, gl.CLAMP_TO_EDGE);
  }
  for (const way of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
    gl.texParameteri(gl.TEXTURE_3D, way, smooth ? gl.LINEAR : gl.NEAREST);
  }
  solid.held[unit] = name;
}

/** Put the structures' colours into the palette. */
function holdPalette() {
  const { gl } = solid;
  const colours = new Uint8Array(256 * 3).fill(255);
  entry.labels.forEach((label, index) => colours.set(entry.colours.get(label.value), 3 * Math.min(index + 1, WHITE)));
  gl.activeTexture(gl.TEXTURE2);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, 256, 1, 0, gl.RGB, gl.UNSIGNED_BYTE, colours);
  for (const way of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, way, gl.NEAREST);
}

function drawSolid() {
  if (!solid.box?.open || !entry) return;
  if (!prepareSolid()) {
    solid.words.textContent = "The 3D view needs WebGL 2, which this browser does not offer.";
    root.dataset.solid = "none";
    return;
  }
  const { gl, program, yaw, pitch } = solid;
  holdSolid(0, entry.kind === "pair" ? (options.view === "warped" ? "warped" : "fixed") : "image", true);
  holdSolid(1, solid.shown, false);
  holdPalette();
  const { shape } = grid();
  const lengths = shape.map((count, axis) => count * entry.spacing[axis]);
  const halves = lengths.map((length) => length / Math.hypot(...lengths));
  const eye = [Math.cos(pitch) * Math.sin(yaw), Math.cos(pitch) * Math.cos(yaw), Math.sin(pitch)];
  const right = [-Math.cos(yaw), Math.sin(yaw), 0];
  const up = [-Math.sin(pitch) * Math.sin(yaw), -Math.sin(pitch) * Math.cos(yaw), Math.cos(pitch)];
  const vectors = {
    halves, right, up,
    sides: shape.map((count) => 1 / count),
    ahead: eye.map((part) => -part || 1e-6), // what is divided by
    mark: at.map((value, axis) => halves[axis] * (2 * (value + 0.5) / shape[axis] - 1)),
  };
  const numbers = { canvas: SIDE, fill: options.fill, stride: 1.4 * Math.min(...halves.map((half, a) => half / shape[a])) };
  for (const [name, value] of Object.entries(vectors)) gl.uniform3fv(gl.getUniformLocation(program, name), value);
  for (const [name, value] of Object.entries(numbers)) gl.uniform1f(gl.getUniformLocation(program, name), value);
  gl.viewport(0, 0, SIDE, SIDE);
  gl.drawArrays(gl.TRIANGLES, 0, 3);
  solid.words.textContent = seenFrom(eye);
  solid.canvas.ariaLabel = `3D view, ${solid.words.textContent}`;
  root.dataset.solid = [yaw, pitch].map((angle) => angle.toFixed(2)).join(",");
}

/** Say from where the volume is looked at, by the sides that are turned to the viewer most. */
function seenFrom(eye) {
  const sides = [["the patient's right", "the patient's left"], ["the front", "the back"], ["above", "below"]];
  const seen = eye.map((part, axis) => [Math.abs(part), sides[axis][part < 0 ? 1 : 0]]);
  seen.sort((one, other) => other[0] - one[0]);
  return `Seen from ${seen.filter(([share]) => share > 0.3).map(([, side]) => side).join(" and ")}.`;
}
