// Volumes and state of the viewer: three planes of a volume (segmentation), or of a fixed and a moving one (pair).
// Arrays are in C order, (D, H, W), with axes growing to the patient's right, front and top. A displacement field is in
// 256ths of a voxel and gives the position that a fixed voxel samples in the moving volume: q = p + field(p) / 256.
const FIELD_STEPS = 256;
const TYPES = { uint8: Uint8Array, int16: Int16Array };

const root = document.querySelector(".viewer");
const entries = root ? JSON.parse(document.getElementById("volumes").textContent) : [];
const options = { view: "fixed", grid: true, truth: true, carried: true, fill: 0.5 };
let entry = null;
let opening = null; // the number of the entry that was asked for last
let arrays = {};
let at = [0, 0, 0]; // the voxel of the cross
let panes = [];
let blinked = false;

async function unpack(text, type) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new TYPES[type](await new Response(stream).arrayBuffer());
}

async function open(number) {
  const next = entries[number];
  const loaded = {};
  opening = number;
  for (const [name, { shape, type }] of Object.entries(next.arrays)) {
    const text = document.getElementById(`volume-${number}-${name}`).textContent;
    loaded[name] = { data: await unpack(text, type), shape };
  }
  if (opening !== number) return; // another was chosen meanwhile
  const rgb = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  next.colours = new Map(next.labels.map((label) => [label.value, rgb(label.colour)]));
  entry = next;
  arrays = loaded;
  at = centre();
  build(number);
  draw();
  root.dataset.run = entry.run;
}

/** The centre of the truth, or of the volume if there is none. */
function centre() {
  const { shape, data } = grid();
  const sum = [0, 0, 0];
  let count = 0;
  for (let index = 0; index < data.length; index++) {
    if (!arrays.truth?.data[index]) continue;
    count++;
    sum[0] += Math.floor(index / (shape[1] * shape[2]));
    sum[1] += Math.floor(index / shape[2]) % shape[1];
    sum[2] += index % shape[2];
  }
  return count ? sum.map((total) => Math.round(total / count)) : shape.map((side) => Math.floor(side / 2));
}

/** The volume that is scrolled through. */
const grid = () => arrays[entry.kind === "pair" ? "fixed" : "image"];
const offset = (shape, p) => (p[0] * shape[1] + p[1]) * shape[2] + p[2];
const clamp = (value, side) => Math.max(0, Math.min(side - 1, value));

/** The position in the moving volume that a voxel of the fixed grid samples. */
function match(p) {
  const { data, shape } = arrays.field;
  const voxels = shape[1] * shape[2] * shape[3];
  const index = offset(shape.slice(1), p);
  return p.map((value, axis) => value + data[axis * voxels + index] / FIELD_STEPS);
}

/** The Jacobian determinant of the field at a fixed voxel, by forward differences, backward at the border. */
function jacobian(p) {
  const { shape } = arrays.fixed;
  const from = p.map((value, axis) => Math.min(value, Math.max(shape[axis] - 2, 0)));
  const start = match(from);
  const [a, b, c] = [0, 1, 2].map((axis) => {
    if (shape[axis] < 2) return [0, 1, 2].map((other) => Number(other === axis));
    const end = match(from.map((value, other) => value + (other === axis)));
    return end.map((value, other) => value - start[other]);
  });
  return a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0]);
}
