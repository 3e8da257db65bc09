// The connection to the viewer, the pictures that come from it, and what mouse and keys do in them.

const TAB = (() => {
  // Of this window only: another one of the same browser has a viewer of its own.
  let tab = sessionStorage.getItem("tab");
  if (!/^[0-9a-f]{32}$/.test(tab || "")) {
    tab = [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
    sessionStorage.setItem("tab", tab);
  }
  return tab;
})();

export class Viewer {
  // grid: the element for the cells; on: functions by the type of a message, and `state`, `closed`.
  constructor(grid, on) {
    this.grid = grid;
    this.on = on;
    this.cells = new Map();
    this.state = null;
    this.pending = new Map();
    this.current = null;
    this.drawing = "";
    this.chain = Promise.resolve();
    this.tries = 0;
    new ResizeObserver(() => this.sendSizes()).observe(grid);
    grid.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  async start() {
    // A token comes behind the # of the address, which browsers send to nobody; it is used up at once.
    if (location.hash.length > 1) {
      const token = location.hash.slice(1);
      history.replaceState(null, "", location.pathname);
      const answer = await fetch("/enter", { method: "POST", body: token });
      if (!answer.ok) {
        this.on.closed(await answer.text(), false);
        return;
      }
    }
    this.connect();
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = (this.socket = new WebSocket(`${scheme}//${location.host}/socket?tab=${TAB}`));
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event) => {
      this.tries = 0;
      this.chain = this.chain.then(() => this.take(event.data)).catch((error) => console.error(error));
    };
    socket.onclose = () => {
      if (this.socket !== socket || this.over) return;
      document.body.dataset.connected = "no";
      if (this.tries >= 6) {
        this.on.closed("The server cannot be reached. Ask for a new link if your session has ended, or reload.", true);
        return;
      }
      this.on.closed("The connection is lost; trying again…", true);
      setTimeout(() => this.connect(), Math.min(8000, 500 * 2 ** this.tries++));
    };
  }

  async take(buffer) {
    const length = new DataView(buffer).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    document.body.dataset.connected = "yes";
    if (head.type === "frame") {
      await this.show(head, buffer, 4 + length);
    } else if (head.type === "ended") {
      this.over = true;
      this.on.closed(head.text, false);
    } else if (this.on[head.type]) {
      this.on[head.type](head);
    }
  }

  async show(head, buffer, start) {
    this.arrange(head.state);
    const pictures = [];
    for (const one of head.cells) {
      const blob = new Blob([new Uint8Array(buffer, start, one.bytes)], { type: `image/${head.kind}` });
      start += one.bytes;
      // As it is, to the bit: no colour management, no alpha.
      pictures.push(createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" }));
    }
    const bitmaps = await Promise.all(pictures);
    head.cells.forEach((one, index) => {
      const cell = this.cells.get(one.cell);
      if (!cell) return;
      const { canvas, context } = cell;
      if (canvas.width !== one.width || canvas.height !== one.height) {
        canvas.width = one.width;
        canvas.height = one.height;
        canvas.style.width = `${one.width / devicePixelRatio}px`;
        canvas.style.height = `${one.height / devicePixelRatio}px`;
      }
      context.drawImage(bitmaps[index], 0, 0);
      bitmaps[index].close();
      cell.element.dataset.kind = head.kind;
    });
    this.send({ op: "shown" });
    this.state = head.state;
    this.label();
    this.on.state(head.state);
    document.body.dataset.frame = head.number;
  }

  // Cells ---------------------------------------------------------------------------------------------

  arrange(state) {
    const wanted = state.cells || [];
    const columns = state.columns || 1;
    if (wanted.join() !== [...this.cells.keys()].join()) {
      const old = this.cells;
      this.cells = new Map();
      for (const name of wanted) this.cells.set(name, old.get(name) || this.makeCell(name));
      this.grid.replaceChildren(...[...this.cells.values()].map((cell) => cell.element));
      this.grid.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
      this.grid.style.gridTemplateRows = `repeat(${Math.ceil(wanted.length / columns)}, minmax(0, 1fr))`;
      if (!this.cells.has(this.current)) this.current = wanted[0] || null;
      this.sent = "";
      this.sendSizes();
      if (this.on.probe) this.on.probe({ probe: null });
    }
  }

  makeCell(name) {
    const element = document.createElement("div");
    element.className = "cell";
    element.dataset.cell = name;
    element.tabIndex = 0;
    const canvas = document.createElement("canvas");
    element.append(canvas);
    const labels = {};
    for (const kind of ["name", "slice", "windowed", "at-left", "at-right", "at-top", "at-bottom"]) {
      labels[kind] = document.createElement("span");
      labels[kind].className = kind;
      element.append(labels[kind]);
    }
    const box = document.createElement("div");
    box.className = "box";
    box.hidden = true;
    element.append(box);
    const line = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    line.append(document.createElementNS("http://www.w3.org/2000/svg", "line"));
    line.style.display = "none";
    element.append(line);
    const cell = { element, canvas, labels, box, line, marks: [], context: canvas.getContext("2d", { alpha: false }) };
    this.listen(name, cell);
    return cell;
  }

  label() {
    const { state } = this;
    for (const [name, cell] of this.cells) {
      const [plane, image] = name.split("/");
      const at = state.planes[plane];
      const words = plane[0].toUpperCase() + plane.slice(1);
      cell.labels.name.textContent = state.names[image];
      cell.labels.slice.textContent = `${words} ${at.index + 1} / ${at.count}`;
      cell.labels.windowed.textContent = state.scales[image];
      for (const side of ["left", "right", "top", "bottom"]) cell.labels[`at-${side}`].textContent = at.letters[side];
      cell.element.setAttribute("aria-label", `${state.names[image]}, ${words} slice ${at.index + 1} of ${at.count}`);
      cell.element.classList.toggle("current", name === this.current && this.cells.size > 1);
      const boxes = state.region ? state.region.boxes : {};
      const ends = state.line ? state.line.ends : {};
      if (cell.drawing !== "measure") this.place(cell.box, boxes[name]);
      if (cell.drawing !== "line") this.placeLine(cell.line, ends[name]);
    }
  }

  placeLine(line, ends) {
    line.style.display = ends ? "" : "none";
    if (!ends) return;
    // At the middles of the pixels.
    ["x1", "y1", "x2", "y2"].forEach((name, index) => line.firstChild.setAttribute(name, (ends[index] + 0.5) / devicePixelRatio));
  }

  place(box, where) {
    box.hidden = !where;
    if (!where) return;
    const names = ["left", "top", "width", "height"];
    where.forEach((value, index) => (box.style[names[index]] = `${value / devicePixelRatio}px`));
  }

  sendSizes() {
    if (!this.cells.size) return;
    const cells = {};
    for (const [name, { element }] of this.cells) {
      cells[name] = [element.clientWidth, element.clientHeight].map((n) => Math.max(16, Math.round(n * devicePixelRatio)));
    }
    const text = JSON.stringify(cells);
    if (text === this.sent) return;
    this.sent = text;
    this.send({ op: "sizes", cells });
  }

  // What is asked -------------------------------------------------------------------------------------

  send(message) {
    if (this.socket && this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  // Of messages that come faster than the screen is drawn only the last one counts, or their sum.
  soon(key, message, sum = []) {
    const before = this.pending.get(key);
    if (before) for (const name of sum) message[name] += before[name];
    this.pending.set(key, message);
    if (this.scheduled) return;
    this.scheduled = true;
    const flush = () => {
      this.scheduled = false;
      const all = [...this.pending.values()];
      this.pending.clear();
      all.forEach((one) => this.send(one));
    };
    if (document.hidden) setTimeout(flush, 16);
    else requestAnimationFrame(flush);
  }

  plane() {
    return (this.current || "axial/").split("/")[0];
  }

  scroll(by, plane = this.plane()) {
    this.soon(`scroll ${plane}`, { op: "scroll", plane, by }, ["by"]);
  }

  zoom(factor, cell = this.current, x = null, y = null) {
    const { canvas } = this.cells.get(cell);
    this.send({ op: "zoom", cell, factor, x: x === null ? canvas.width / 2 : x, y: y === null ? canvas.height / 2 : y });
  }

  pan(dx, dy, plane = this.plane()) {
    this.soon(`pan ${plane}`, { op: "pan", plane, dx, dy }, ["dx", "dy"]);
  }

  window(level, width) {
    this.state.level = level;
    this.state.width = width;
    this.soon("window", { op: "window", level, width });
  }

  // Mouse ---------------------------------------------------------------------------------------------

  listen(name, cell) {
    const { element } = cell;
    const at = (event) => {
      const edge = element.getBoundingClientRect();
      // Of the pixel whose middle is there.
      return [(event.clientX - edge.left) * devicePixelRatio - 0.5, (event.clientY - edge.top) * devicePixelRatio - 0.5];
    };
    element.addEventListener("focus", () => this.choose(name));
    element.addEventListener("pointerenter", () => this.choose(name));
    element.addEventListener("pointerleave", () => this.on.probe && this.on.probe({ probe: null }));
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      const way = Math.sign(event.deltaY);
      if (event.ctrlKey) this.zoom(way > 0 ? 1 / 1.15 : 1.15, name, ...at(event));
      else this.scroll(-way, name.split("/")[0]);
    }, { passive: false });
    element.addEventListener("dblclick", (event) => {
      const [x, y] = at(event);
      if (this.on.probe) this.send({ op: "jump", cell: name, x, y });
    });
    element.addEventListener("pointermove", (event) => {
      if (this.drag) return;
      this.pointer = { cell: name, point: at(event) };
      const [x, y] = this.pointer.point;
      if (this.on.probe) this.soon("probe", { op: "probe", cell: name, x, y });
    });
    element.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      element.focus();
      this.choose(name);
      if (this.on.clicked && event.button === 0 && this.on.clicked(name, ...at(event))) return;
      const kind = this.drawing && event.button === 0 ? this.drawing
        : event.button === 1 || (event.button === 0 && event.shiftKey) ? "pan"
        : event.button === 2 || (event.button === 0 && event.ctrlKey) ? "zoom" : "window";
      element.setPointerCapture(event.pointerId);
      this.drag = { kind, last: at(event), first: at(event), level: this.state.level, width: this.state.width };
    });
    element.addEventListener("pointermove", (event) => this.drag && this.dragged(name, cell, at(event)));
    const end = (event) => {
      const { drag } = this;
      this.drag = null;
      cell.drawing = "";
      if (drag && (drag.kind === "measure" || drag.kind === "line")) {
        const [x1, y1] = at(event);
        this.send({ op: drag.kind, cell: name, x0: drag.first[0], y0: drag.first[1], x1, y1 });
        this.on.measured();
      }
    };
    element.addEventListener("pointerup", end);
    element.addEventListener("pointercancel", end);
  }

  dragged(name, cell, now) {
    const { drag } = this;
    const [dx, dy] = [now[0] - drag.last[0], now[1] - drag.last[1]];
    if (drag.kind === "pan") this.pan(dx, dy, name.split("/")[0]);
    else if (drag.kind === "zoom") this.zoom(Math.exp(-dy / 150), name, ...drag.first);
    else if (drag.kind === "window") {
      const step = Math.max(0.2, drag.width / 400);
      const width = Math.max(1, drag.width + (now[0] - drag.first[0]) * step);
      const level = drag.level + (now[1] - drag.first[1]) * step;
      this.window(Math.round(level * 10) / 10, Math.round(width * 10) / 10);
    } else if (drag.kind === "line") {
      cell.drawing = "line";
      this.placeLine(cell.line, [...drag.first, ...now]);
    } else {
      cell.drawing = "measure";
      const [x, y] = drag.first;
      this.place(cell.box, [Math.min(x, now[0]), Math.min(y, now[1]), Math.abs(now[0] - x), Math.abs(now[1] - y)]);
    }
    drag.last = now;
  }

  choose(name) {
    if (this.current === name) return;
    this.current = name;
    if (this.on.chosen) this.on.chosen();
    for (const [other, { element }] of this.cells) element.classList.toggle("current", other === name && this.cells.size > 1);
  }

  // Keys for looking; returns whether the key was one of them.
  key(event) {
    const much = event.shiftKey ? 10 : 1;
    const arrows = { ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowLeft: [1, 0], ArrowRight: [-1, 0] };
    if (event.ctrlKey && arrows[event.key]) this.pan(...arrows[event.key].map((n) => 20 * n * devicePixelRatio));
    else if (event.key === "ArrowUp") this.scroll(much);
    else if (event.key === "ArrowDown") this.scroll(-much);
    else if (event.key === "PageUp") this.scroll(10);
    else if (event.key === "PageDown") this.scroll(-10);
    else if (event.key === "+" || event.key === "=") this.zoom(1.25);
    else if (event.key === "-" ) this.zoom(0.8);
    else if (event.key === "Home") this.send({ op: "home" });
    else return false;
    return true;
  }
}

// Whether the key is meant for a field that is typed into, or a slider, and not for the images.
export function typing(event) {
  const { target } = event;
  if (target.tagName === "TEXTAREA" || target.isContentEditable) return true;
  if (target.tagName === "SELECT") return !["PageDown", "PageUp"].includes(event.key) && !event.ctrlKey;
  if (target.tagName !== "INPUT") return false;
  if (target.type === "checkbox") return event.key === " ";
  return target.type !== "range" || event.key.startsWith("Arrow") || ["Home", "End"].includes(event.key);
}

export function said(id, text, problem = false) {
  const element = document.getElementById(id);
  element.textContent = text;
  element.classList.toggle("problem", problem);
}
