// The page for comparing: its buttons and sliders, and work on what may be chosen.

import { Viewer, said, typing } from "./frames.js";

const get = (id) => document.getElementById(id);
const KEYS = [
  ["↑ ↓, Shift", "one slice on or back; ten, as Page Up and Down"], ["+ −, Ctrl with arrows", "zoom; move"], ["Home", "whole image, middle slice"],
  ["1 … 6", "window presets; 0: the first window"], ["A C S T", "axial, coronal, sagittal, all three"],
  ["B D O", "side by side, with the difference, both in one view"], ["X", "flicker: change from one to the other"],
  ["[ ]", "strength; in one view with Shift: fade"], [", .", "energy"], ["U", "uncertainty"], ["M, L, Delete", "measure a rectangle, or a distance, in the middle; remove both"],
  ["P", "save the picture"], ["?", "these keys"],
  ["mouse", "wheel: slices, with Ctrl zoom; drag: window; right: zoom; middle or Shift: move; double click: the other planes go there"],
];

let folder = "";
let busy = false;
let opened = false;

const viewer = new Viewer(get("grid"), {
  state: showState,
  closed: (text) => said("status", text, true),
  answer: (head) => {
    if (head.problem) {
      said("status", head.problem, true);
      setTimeout(() => get("status").textContent === head.problem && said("status", ""), 8000);
    }
    if (head.to === "probe") showProbe(head);
  },
  probe: showProbe,
  problem: (head) => said("status", head.text, true),
  measured: () => drawing(""),
  chosen: () => viewer.state && viewer.state.cells && showSlice(viewer.state),
  can: (head) => {
    get("work").hidden = !head.work;
    get("chooser").hidden = !head.folder;
    if (head.folder) viewer.send({ op: "list", folder: "" });
    showVerbs();
    if (!opened) said("status", head.folder ? "Opening… or choose something below." : "Opening the images…");
  },
  notes: showNotes,
  entries: showEntries,
  work: showWork,
});

function showState(state) {
  const any = Boolean(state.cells && state.cells.length);
  get("controls").hidden = !any;
  if (!any) return;
  if (!opened || get("status").textContent.endsWith("…")) said("status", "");
  opened = true;
  for (const button of get("layouts").children) button.setAttribute("aria-pressed", button.dataset.layout === state.layout);
  for (const button of get("modes").children) {
    button.setAttribute("aria-pressed", button.dataset.mode === state.mode);
    button.disabled = !state.modes.includes(button.dataset.mode);
  }
  get("modes").hidden = state.modes.length < 2;
  const keys = Object.keys(state.windows);
  if (get("windows").dataset.keys !== keys.join()) {
    get("windows").dataset.keys = keys.join();
    const buttons = keys.map((key, index) => {
      const button = document.createElement("button");
      button.textContent = state.windows[key];
      button.title = `${state.windows[key]} (${index + 1})`;
      button.dataset.window = key;
      button.onclick = () => viewer.send({ op: "window", preset: key });
      return button;
    });
    get("windows").replaceChildren(...buttons);
  }
  showSlice(state);
  put("level", state.level);
  put("width", state.width);
  slider("strength", state.strength, state.strength === null ? "" : `${Math.round(100 * state.strength)} %`);
  if (state.kevs) [get("kev").min, get("kev").max] = state.kevs;
  slider("kev", state.kev, `${state.kev} keV`);
  slider("fade", state.fade, state.fade === null ? "" : `${Math.round(100 * state.fade)} % of the second`);
  slider("difference", state.difference, state.difference === null ? "" : state.scales.difference);
  get("uncertaintyRow").hidden = state.uncertainty === null;
  get("uncertainty").checked = Boolean(state.uncertainty);
  showStatistics(state.region && state.region.statistics);
  get("length").textContent = state.line ? `Distance ${state.line.mm.toFixed(1)} mm` : "";
}

function showSlice(state) {
  const at = state.planes[viewer.plane()] || Object.values(state.planes)[0];
  put("slice", at.index + 1);
  get("slice").max = at.count;
  get("slices").textContent = `of ${at.count}`;
}

function put(id, value) {
  if (document.activeElement !== get(id)) get(id).value = value;
}

function slider(id, value, text) {
  get(`${id}Row`).hidden = value === null;
  get(`${id}Text`).textContent = text;
  if (value !== null && !get(id).matches(":active")) get(id).value = value;
}

function element(tag, text, name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = name;
  return made;
}

function showStatistics(found) {
  const place = get("statistics");
  if (!found) {
    place.replaceChildren();
    return;
  }
  const table = document.createElement("table");
  const head = table.insertRow();
  for (const text of ["", "Mean", "SD", ""]) head.append(element("th", text, text ? "number" : ""));
  for (const row of found.rows) {
    const line = table.insertRow();
    line.append(element("td", row.name), element("td", row.mean.toFixed(1), "number"), element("td", row.sd.toFixed(1), "number"), element("td", row.unit));
  }
  const [first, second] = found.rows;
  let text = `${found.count} voxels`;
  if (second && second.unit === first.unit && first.sd > 0) {
    const change = Math.round(100 * (second.sd / first.sd - 1));
    text += `; SD ${change > 0 ? "+" : change < 0 ? "−" : "±"}${Math.abs(change)} %`;
  }
  place.replaceChildren(table, element("p", text));
}

function showProbe(head) {
  const { probe } = head;
  get("probe").textContent = probe
    ? `${probe.voxel.join(", ")}:  ${Object.entries(probe.values).map(([name, [value, unit]]) => `${name} ${value} ${unit}`).join("  ")}` : "\u00a0";
}

function showNotes(head) {
  // Pictures come before all is known of the values.
  const checking = head.checking ? ["Checking the values…"] : [];
  get("notes").replaceChildren(...[...head.notes, ...checking].map((note) => element("p", note)));
}

// Work --------------------------------------------------------------------------------------------------

function showEntries(head) {
  folder = head.folder;
  const series = head.entries.length > 0 && head.entries[0].kind === "series";
  if (series) said("status", "");
  get("place").textContent = series ? `Several series in ${folder}: choose one` : folder ? `In ${folder}` : "In the folder that may be chosen from";
  const options = head.entries.map((entry) => {
    const words = series ? entry.label : (entry.kind === "folder" ? "▸ " : "") + entry.name.split("/").pop();
    const option = element("option", words);
    option.value = entry.name;
    option.dataset.kind = entry.kind;
    if (series) option.dataset.series = entry.series;
    return option;
  });
  if (folder) {
    const up = element("option", "▴ up");
    up.value = folder.split("/").slice(0, -1).join("/");
    up.dataset.kind = "up";
    options.unshift(up);
  }
  get("entries").replaceChildren(...options);
  get("entries").selectedIndex = options.length ? 0 : -1;
  showVerbs();
}

function chosen() {
  const option = get("entries").selectedOptions[0];
  if (!option || option.dataset.kind === "up") return null;
  return { name: option.value, ...(option.dataset.series === undefined ? {} : { series: Number(option.dataset.series) }) };
}

function descend() {
  const option = get("entries").selectedOptions[0];
  if (option && (option.dataset.kind === "folder" || option.dataset.kind === "up")) viewer.send({ op: "list", folder: option.value });
}

function showWork(head) {
  busy = head.state === "running" || head.state === "waiting";
  get("run").disabled = busy;
  get("cancel").disabled = !busy;
  const bar = get("progress");
  bar.hidden = !busy;
  if (head.state === "waiting") said("worked", "Waiting for another one to finish…");
  if (head.state === "running" && head.stage) {
    if (head.total) [bar.max, bar.value] = [head.total, head.done];
    else bar.removeAttribute("value");
    said("worked", `${head.stage} ${head.total ? `${head.done} of ${head.total}` : "…"}`);
  }
  if (head.state === "done") said("worked", "Done: the result is shown.");
  if (head.text) said("worked", head.text, head.state === "failed");
  if (head.files) {
    const links = head.files.map((file) => {
      const link = element("a", `Download ${file.name}`);
      link.href = `/download/${file.id}`;
      link.download = file.name;
      return link;
    });
    get("files").replaceChildren(...links);
  }
}

// Projections are reconstructed or decomposed, volumes enhanced: what does not go is not offered.
function showVerbs() {
  const option = get("entries").selectedOptions[0];
  const kind = get("chooser").hidden ? "volume" : option ? option.dataset.kind : "";
  for (const one of get("verb").options) one.disabled = kind === "volume" || kind === "series" ? one.value !== "enhance" : kind === "projections" && one.value === "enhance";
  if (get("verb").selectedOptions[0].disabled) get("verb").value = [...get("verb").options].find((one) => !one.disabled).value;
  showVerb();
}

function showVerb() {
  const verb = get("verb").value;
  get("spreadRow").hidden = verb !== "enhance";
  get("method").hidden = verb !== "reconstruct";
  get("basis").hidden = verb !== "decompose";
}

// A picture for a talk: what is on the screen, with its words.
function screenshot() {
  const grid = get("grid").getBoundingClientRect();
  const scale = devicePixelRatio;
  const sheet = document.createElement("canvas");
  [sheet.width, sheet.height] = [Math.round(grid.width * scale), Math.round(grid.height * scale)];
  const context = sheet.getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, sheet.width, sheet.height);
  context.textBaseline = "top";
  context.font = `${13 * scale}px sans-serif`;
  for (const { element: cell, canvas, box, line } of viewer.cells.values()) {
    const edge = cell.getBoundingClientRect();
    const [x, y] = [(edge.left - grid.left) * scale, (edge.top - grid.top) * scale].map(Math.round);
    context.drawImage(canvas, x, y);
    context.fillStyle = "#cfe3f3";
    for (const label of cell.querySelectorAll("span")) {
      const place = label.getBoundingClientRect();
      context.fillText(label.textContent, (place.left - grid.left) * scale, (place.top - grid.top) * scale);
    }
    context.strokeStyle = "#ffd75e";
    if (!box.hidden) context.strokeRect(x + box.offsetLeft * scale, y + box.offsetTop * scale, box.offsetWidth * scale, box.offsetHeight * scale);
    if (line.style.display !== "none") {
      const [x0, y0, x1, y1] = ["x1", "y1", "x2", "y2"].map((name) => Number(line.firstChild.getAttribute(name)) * scale);
      context.beginPath();
      context.moveTo(x + x0, y + y0);
      context.lineTo(x + x1, y + y1);
      context.stroke();
    }
  }
  context.fillStyle = "#9fb0be";
  context.textAlign = "center";
  context.textBaseline = "bottom";
  context.font = `${11 * scale}px sans-serif`;
  context.fillText("CTEnhance. For research use only, not for diagnosis.", sheet.width / 2, sheet.height - 18 * scale);
  sheet.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = "ctenhance.png";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
}

// What the next drag with the mouse draws: a rectangle, a line, or nothing.
function drawing(what) {
  viewer.drawing = what;
  get("measure").setAttribute("aria-pressed", what === "measure");
  get("distance").setAttribute("aria-pressed", what === "line");
}

// Buttons and keys ------------------------------------------------------------------------------------

for (const button of get("layouts").children) button.onclick = () => viewer.send({ op: "arrange", layout: button.dataset.layout });
for (const button of get("modes").children) button.onclick = () => viewer.send({ op: "arrange", mode: button.dataset.mode });
for (const id of ["level", "width"]) {
  get(id).onchange = () => viewer.send({ op: "window", level: Number(get("level").value), width: Number(get("width").value) });
}
get("strength").oninput = () => viewer.soon("strength", { op: "strength", value: Number(get("strength").value) });
get("kev").oninput = () => viewer.soon("kev", { op: "kev", value: Number(get("kev").value) });
get("fade").oninput = () => viewer.soon("fade", { op: "fade", value: Number(get("fade").value) });
get("difference").oninput = () => viewer.soon("difference", { op: "difference", hu: Number(get("difference").value) });
get("uncertainty").onchange = () => viewer.send({ op: "uncertainty", on: get("uncertainty").checked });
get("flicker").onclick = () => viewer.send({ op: "flicker" });
get("home").onclick = () => viewer.send({ op: "home" });
get("screenshot").onclick = screenshot;
get("unmeasure").onclick = () => viewer.send({ op: "unmeasure" });
get("measure").onclick = () => drawing(viewer.drawing === "measure" ? "" : "measure");
get("distance").onclick = () => drawing(viewer.drawing === "line" ? "" : "line");
get("slice").onchange = () => viewer.send({ op: "slice", plane: viewer.plane(), to: Number(get("slice").value) - 1 });
get("entries").ondblclick = descend;
get("entries").addEventListener("keydown", (event) => event.key === "Enter" && descend());
get("open").onclick = () => {
  if (chosen() === null) return descend();
  said("status", "Opening the images…");
  viewer.send({ op: "open", ...chosen() });
};
get("verb").onchange = showVerb;
get("entries").onchange = showVerbs;
get("run").onclick = () => {
  const options = { uncertainty: get("spread").checked, method: get("method").value, basis: get("basis").value };
  said("worked", "");
  const what = get("chooser").hidden ? { name: null } : chosen();
  if (what === null) return said("worked", "Choose a volume, a folder with DICOM files or projections first.", true);
  viewer.send({ op: "run", verb: get("verb").value, ...what, options });
};
get("cancel").onclick = () => viewer.send({ op: "cancel" });
get("help").onclick = () => get("keys").showModal();
get("closeKeys").onclick = () => get("keys").close();
for (const [key, text] of KEYS) {
  const row = get("keyTable").insertRow();
  row.append(element("td", key), element("td", text));
}
showVerb();

// Keys may come faster than pictures do: the next step is from where the last one was to lead.
const nudged = {};
function nudge(name, by, low, high) {
  if (viewer.state[name] === null) return;
  const last = nudged[name];
  const from = last && performance.now() - last.when < 1000 ? last.value : viewer.state[name];
  const value = Math.min(high, Math.max(low, Math.round((from + by) * 100) / 100));
  nudged[name] = { value, when: performance.now() };
  viewer.send({ op: name, value });
}

document.addEventListener("keydown", (event) => {
  // Brackets and the like are typed with AltGr on many keyboards, which some systems tell as Ctrl with Alt.
  const graph = event.getModifierState("AltGraph");
  if (get("keys").open || typing(event) || (event.altKey && !graph) || event.metaKey || !viewer.state || !viewer.state.cells) return;
  const { state } = viewer;
  const layouts = { a: "axial", c: "coronal", s: "sagittal", t: "three" };
  const modes = { b: "side", d: "difference", o: "one" };
  const key = event.key.toLowerCase();
  if (!viewer.key(event)) {
    if (event.ctrlKey && !graph) return;
    const windows = Object.keys(state.windows);
    if (layouts[key]) viewer.send({ op: "arrange", layout: layouts[key] });
    else if (modes[key]) viewer.send({ op: "arrange", mode: modes[key] });
    else if (key === "x") viewer.send({ op: "flicker" });
    else if (key === "0") viewer.send({ op: "window", preset: "first" });
    else if (windows[Number(key) - 1]) viewer.send({ op: "window", preset: windows[Number(key) - 1] });
    else if (key === "[" || key === "]") nudge("strength", key === "[" ? -0.1 : 0.1, 0, 1);
    else if (key === "{" || key === "}") nudge("fade", key === "{" ? -0.1 : 0.1, 0, 1);
    else if (key === "," || key === ".") nudge("kev", key === "," ? -1 : 1, ...(state.kevs || [0, 0]));
    else if (key === "u") viewer.send({ op: "uncertainty", on: !state.uncertainty });
    else if (key === "m" || key === "l") viewer.send({ op: key === "m" ? "measure" : "line", cell: viewer.current, middle: true });
    else if (key === "delete") viewer.send({ op: "unmeasure" });
    else if (key === "p") screenshot();
    else if (key === "?") get("keys").showModal();
    else return;
  }
  event.preventDefault();
});

viewer.start();
