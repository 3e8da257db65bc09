'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const find = id => document.getElementById(id);
const view = find('view'), canvas = find('canvas'), divider = find('divider');
const pen = canvas.getContext('2d');
const names = Object.keys(data.volumes), DIFFERENCE = 'After − before';
const state = {left: names[0], right: names[1], k: data.start, part: 0.5, level: 0, width: 1,
  zoom: 1, x: 0, y: 0};
const layers = [0, 1].map(() => {
  const layer = document.createElement('canvas');
  layer.width = data.columns; layer.height = data.rows;
  return layer;
});
const decoded = new Map(), KEPT = 24;
let drawing = 0;

async function slice(name, k) {
  const key = name + k;
  if (!decoded.has(key)) {
    decoded.set(key, decode(data.volumes[name][k]));
    if (decoded.size > KEPT * names.length) decoded.delete(decoded.keys().next().value);
  }
  return decoded.get(key);
}

async function decode(text) {
  const packed = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate'));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const {rows, columns} = data, size = rows * columns;
  const units = new Int16Array(size), hu = new Int16Array(size);
  for (let i = 0, y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++, i++) {
      const folded = bytes[i] | (bytes[size + i] << 8);
      const change = folded & 1 ? -(folded + 1) >> 1 : folded >> 1;
      units[i] = (((x ? units[i - 1] : 0) + (y ? units[i - columns] : 0)) >> 1) + change;
      hu[i] = units[i] * data.step + data.low;
    }
  }
  return hu;
}

const COLOURS = [[191, 230, 255], [47, 134, 224], [13, 59, 110], [11, 13, 16], [110, 58, 13], [224, 118, 47],
  [255, 227, 191]];
function colour(part) {
  const at = Math.min(Math.max(part, 0), 1) * (COLOURS.length - 1);
  const low = Math.min(Math.floor(at), COLOURS.length - 2);
  return COLOURS[low].map((value, i) => value + (COLOURS[low + 1][i] - value) * (at - low));
}

function paint(layer, hu, table, offset) {
  const target = layer.getContext('2d'), image = target.createImageData(data.columns, data.rows);
  const pixels = new Uint32Array(image.data.buffer), last = table.length - 1;
  for (let i = 0; i < hu.length; i++) pixels[i] = table[Math.min(Math.max(hu[i] - offset, 0), last)];
  target.putImageData(image, 0, 0);
}

function greys() {
  const table = new Uint32Array(4096);
  for (let i = 0; i < 4096; i++) {
    const part = (i + data.low - state.level) / state.width + 0.5;
    table[i] = 0xff000000 | Math.round(255 * Math.min(Math.max(part, 0), 1)) * 0x010101;
  }
  return table;
}

function colours() {
  const table = new Uint32Array(2 * data.limit + 1);
  for (let i = 0; i < table.length; i++) {
    const [r, g, b] = colour(i / (table.length - 1)).map(Math.round);
    table[i] = 0xff000000 | b << 16 | g << 8 | r;
  }
  return table;
}

async function show() {
  const mine = ++drawing, sides = [state.left, state.right];
  const wanted = sides.map(async name => {
    if (name !== DIFFERENCE) return slice(name, state.k);
    const [before, after] = await Promise.all([slice('Before', state.k), slice('After', state.k)]);
    return after.map((value, i) => value - before[i]);
  });
  const planes = await Promise.all(wanted);
  if (mine !== drawing) return;
  const grey = greys();
  planes.forEach((hu, i) => sides[i] === DIFFERENCE
    ? paint(layers[i], hu, colours(), -data.limit) : paint(layers[i], hu, grey, data.low));
  state.planes = planes;
  draw();
  // The neighbours, so that scrolling does not wait.
  for (const k of [state.k - 1, state.k + 1]) {
    if (data.numbers[k] !== undefined) sides.forEach(name => { if (name !== DIFFERENCE) slice(name, k); });
  }
  document.body.dataset.ready = `${state.k} ${state.left} ${state.right} ${state.level} ${state.width}`;
}

function placement() {
  const {width, height} = canvas, tall = data.pixel[1] / data.pixel[0];
  const fit = Math.min(width / data.columns, height / (data.rows * tall)) * state.zoom;
  const w = data.columns * fit, h = data.rows * tall * fit;
  return {x: (width - w) / 2 + state.x * w, y: (height - h) / 2 + state.y * h, w, h};
}

function draw() {
  const dots = window.devicePixelRatio || 1, box = view.getBoundingClientRect();
  canvas.width = Math.round(box.width * dots); canvas.height = Math.round(box.height * dots);
  const at = placement(), cut = Math.round(canvas.width * state.part);
  pen.imageSmoothingEnabled = at.w < 3 * data.columns; pen.imageSmoothingQuality = 'high';
  [[0, cut], [cut, canvas.width]].forEach(([from, to], i) => {
    if (to <= from) return;
    pen.save(); pen.beginPath(); pen.rect(from, 0, to - from, canvas.height); pen.clip();
    pen.drawImage(layers[i], at.x, at.y, at.w, at.h);
    pen.restore();
  });
  divider.style.left = 100 * state.part + '%';
  divider.setAttribute('aria-valuenow', Math.round(100 * state.part));
  divider.setAttribute('aria-valuetext', `${Math.round(100 * state.part)} percent ${state.left}`);
}

function refresh() {
  find('left').value = state.left; find('right').value = state.right;
  find('lefttag').textContent = state.left; find('righttag').textContent = state.right;
  find('level').value = Math.round(state.level); find('width').value = Math.round(state.width);
  document.querySelectorAll('#presets button').forEach((button, i) => button.setAttribute('aria-pressed',
    String(data.presets[i][1] === state.level && data.presets[i][2] === state.width)));
  const difference = state.right === DIFFERENCE || state.left === DIFFERENCE;
  find('difference').setAttribute('aria-pressed', String(difference));
  find('scale').style.display = difference ? 'block' : 'none';
  find('slice').value = state.k;
  find('where').textContent = `${data.numbers[state.k]} of ${data.depth}`;
  show().catch(error => { find('readout').textContent = `This browser shows no images: ${error.message}`; });
}

const bounded = (value, low, high) => Math.min(Math.max(value, low), high);
function set(change) {
  Object.assign(state, change);
  state.k = bounded(state.k, 0, data.numbers.length - 1);
  state.part = bounded(state.part, 0, 1);
  state.width = Math.max(state.width, 1);
  state.zoom = bounded(state.zoom, 1, 12);
  const slack = 0.5 * (1 - 1 / state.zoom);
  state.x = bounded(state.x, -slack, slack); state.y = bounded(state.y, -slack, slack);
  refresh();
}
const preset = i => set({level: data.presets[i][1], width: data.presets[i][2]});
const toggleDifference = () => set(state.right === DIFFERENCE ? {right: 'After'} : {right: DIFFERENCE});
const closer = () => set({zoom: state.zoom * 1.4}), farther = () => set({zoom: state.zoom / 1.4});
const flip = () => set({part: state.part > 0.5 ? 0 : 1});

for (const id of ['left', 'right']) {
  [...names, DIFFERENCE].forEach(name => find(id).add(new Option(name)));
  find(id).onchange = () => set({[id]: find(id).value});
}
data.presets.forEach(([name], i) => {
  const button = document.createElement('button');
  button.textContent = name; button.title = 'Key ' + (i + 1); button.onclick = () => preset(i);
  find('presets').append(button);
});
find('difference').onclick = toggleDifference;
find('flip').onclick = flip;
find('level').onchange = () => set({level: Number(find('level').value) || 0});
find('width').onchange = () => set({width: Number(find('width').value) || 1});
find('closer').onclick = closer;
find('farther').onclick = farther;
find('whole').onclick = () => set({zoom: 1});
find('slice').max = data.numbers.length - 1;
find('slice').oninput = () => set({k: Number(find('slice').value)});
const [sides, ends] = data.letters;
find('west').textContent = sides[0]; find('east').textContent = sides[1];
find('north').textContent = ends[0]; find('south').textContent = ends[1];
const scale = find('scale').children;
scale[0].textContent = '−' + data.limit; scale[2].textContent = '+' + data.limit;
scale[1].style.background = `linear-gradient(90deg, ${COLOURS.map(c => `rgb(${c})`).join(',')})`;

let grip = null;
view.addEventListener('pointerdown', event => {
  const box = view.getBoundingClientRect();
  const near = Math.abs(event.clientX - box.left - state.part * box.width) < 24;
  const what = event.button === 2 ? 'window' : near || state.zoom === 1 ? 'divider' : 'move';
  grip = {what, x: event.clientX, y: event.clientY, from: {...state}};
  view.setPointerCapture(event.pointerId);
  if (what === 'divider') set({part: (event.clientX - box.left) / box.width});
});
view.addEventListener('pointermove', event => {
  const box = view.getBoundingClientRect();
  readout(event.clientX - box.left, event.clientY - box.top, box);
  if (!grip) return;
  const dx = event.clientX - grip.x, dy = event.clientY - grip.y;
  const dots = window.devicePixelRatio || 1, at = placement();
  if (grip.what === 'divider') { state.part = bounded((event.clientX - box.left) / box.width, 0, 1); draw(); }
  if (grip.what === 'move') set({x: grip.from.x + dx * dots / at.w, y: grip.from.y + dy * dots / at.h});
  if (grip.what === 'window') {
    set({width: Math.round(Math.max(grip.from.width * Math.exp(dx / 250), 1)),
      level: Math.round(grip.from.level + dy * grip.from.width / 500)});
  }
});
for (const name of ['pointerup', 'pointercancel']) view.addEventListener(name, () => { grip = null; });
view.addEventListener('contextmenu', event => event.preventDefault());
view.addEventListener('pointerleave', () => { find('readout').textContent = ''; });
let turned = 0;
view.addEventListener('wheel', event => {
  event.preventDefault();
  if (event.ctrlKey) { set({zoom: state.zoom * Math.exp(-event.deltaY / 300)}); return; }
  turned += event.deltaMode ? event.deltaY * 40 : event.deltaY;
  const steps = Math.trunc(turned / 40);
  if (steps) { turned -= 40 * steps; set({k: state.k - bounded(steps, -3, 3)}); }
}, {passive: false});

function readout(px, py, box) {
  const dots = canvas.width / box.width, at = placement();
  const x = Math.floor((px * dots - at.x) / at.w * data.columns);
  const y = Math.floor((py * dots - at.y) / at.h * data.rows);
  const inside = x >= 0 && y >= 0 && x < data.columns && y < data.rows && state.planes;
  find('readout').textContent = inside ? [state.left, state.right].map((name, i) =>
    `${name} ${state.planes[i][y * data.columns + x]} HU`).join(' · ') : '';
}

const keys = {ArrowUp: () => set({k: state.k + 1}), ArrowDown: () => set({k: state.k - 1}),
  PageUp: () => set({k: state.k + 5}), PageDown: () => set({k: state.k - 5}),
  Home: () => set({k: 0}), End: () => set({k: data.numbers.length - 1}),
  ArrowLeft: () => set({part: state.part - 0.02}), ArrowRight: () => set({part: state.part + 0.02}),
  d: toggleDifference, f: flip, '+': closer, '=': closer, '-': farther, 0: () => set({zoom: 1})};
data.presets.forEach((_, i) => { keys[i + 1] = () => preset(i); });
document.addEventListener('keydown', event => {
  const combined = event.ctrlKey || event.metaKey || event.altKey;
  const inField = combined || event.target.matches('input[type=number], select');
  const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (inField || !action) return;
  event.preventDefault();
  action();
});
new ResizeObserver(draw).observe(view);
preset(data.preset);
