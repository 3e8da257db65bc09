// The page of a reader: the images of a case, the questions about them, and the keys of the panel.

import { Viewer, said, typing } from "./frames.js";

const get = (id) => document.getElementById(id);
const CHOICE_KEYS = "1234567890-";
const SHORT = 12;
const TEXT_MILLISECONDS = 800;
const PLANES = { a: "axial", c: "coronal", s: "sagittal" };
const SIDES = { left: "Left", right: "Right" };
const KEYS = [
  ["1 2 … 9 0 -", "the answers of the row with ▸; in a number's field the number; for a mark its confidence in tens of per cent"],
  ["Tab, Shift+Tab", "the next row, the one before"], ["Return, Esc", "end typing a number; leave a text"],
  ["Page Down, Page Up", "the next case, the one before"], ["↑ ↓, Shift", "one slice on or back; ten"],
  ["+ −, Ctrl with arrows", "zoom; move"], ["Home", "the whole image, in its middle slice"], ["W, Shift+1, 2 …", "the next window; the first, second …"],
  ["A C S", "axial, coronal, sagittal"], ["P", "pause: hides the images; again: go on"],
  ["M", "mark the point below the mouse, or the middle"], ["Delete", "remove the chosen mark"],
  ["Ctrl+Return", "finish the session, begin the next one"],
];

let study = null;
let rows = [];
let current = 0;
let trial = null;
let windowNow = 0;
let over = false;
let refused = { text: "", until: 0 };

const viewer = new Viewer(get("grid"), {
  state: showState,
  closed: (text, again) => {
    over = !again;
    said("status", text, true);
    if (!again) cover(text);
  },
  answer: (head) => {
    if (!head.problem) return;
    refused = { text: head.problem, until: performance.now() + 6000 };
    said("status", head.problem, true);
  },
  problem: (head) => said("status", head.text, true),
  measured: () => {},
});

function cover(text) {
  get("cover").hidden = !text;
  get("cover").textContent = text;
}

function showState(state) {
  if (!state.study) return;
  const before = study;
  study = state.study;
  const reading = study.state === "reading";
  if (!state.cells) viewer.arrange({ cells: [], columns: 1 });
  cover(study.cover || (reading ? "" : study.progress));
  get("place").textContent = reading ? study.progress : "Reader study";
  get("progress").hidden = !study.total;
  if (study.total) [get("progress").max, get("progress").value] = [study.total, study.number];
  get("reading").hidden = !reading;
  get("warning").textContent = study.warnings.join(" ");
  const asked = JSON.stringify(study.questions);
  if (!before || JSON.stringify(before.questions) !== asked) makeRows();
  makeWindows();
  rows.forEach((row) => row.set(answer(row.question)));
  get("pause").textContent = study.paused ? "Go on (P)" : "Pause (P)";
  const ready = reading && !study.loading && !study.locked && !study.cover;
  get("questions").inert = !ready;
  if (trial !== study.progress && !study.loading) {
    trial = study.progress;
    windowNow = 0;
    get("window").value = 0;
    become(firstMissing(0));
    if (document.activeElement && document.activeElement.blur) document.activeElement.blur();
  }
  mark();
  turn();
  get("goOn").hidden = !(study.state === "waiting" || (reading && study.finish));
  get("goOn").textContent = study.state === "waiting" ? "Begin the next session (Ctrl+Return)" : "Finish the session (Ctrl+Return)";
  showMarks();
  const text = study.problem ? study.problem
    : study.loading ? "Loading the images…"
    : study.paused ? "Paused. P goes on."
    : study.locked ? "The answers to this case are locked."
    : reading && study.finish ? "Every case is read. Finishing locks all answers of this session."
    : !reading ? ""
    : study.missing.length ? "Answer with the keys 1, 2, …: the row with ▸ takes them."
    : "All answered. Page Down goes to the next case.";
  // What was refused stays to be read, beside pictures that go on.
  if (performance.now() > refused.until) said("status", text, Boolean(study.problem));
  document.body.dataset.saved = JSON.stringify(study.answers);
}

function answer(question) {
  const found = study.answers.find(([id, side]) => id === question.id && side === question.side);
  return found ? found[2] : null;
}

function give(question, value) {
  refused.until = 0;
  viewer.send({ op: "answer", question: question.id, side: question.side, value });
  // Keys may come faster than the answer is on the disk: the next one is for the next row already.
  const others = ([id, side]) => id !== question.id || side !== question.side;
  study.answers = [...study.answers.filter(others), [question.id, question.side, value]];
  study.missing = study.missing.filter(others);
  mark();
}

function makeWindows() {
  const names = study.windows.map(([name]) => name).join("\n");
  const select = get("window");
  if (select.dataset.names === names) return;
  select.dataset.names = names;
  select.replaceChildren(...study.windows.map(([name], index) => new Option(name, index)));
}

// Rows ------------------------------------------------------------------------------------------------

function make(tag, text = "", name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = name;
  return made;
}

function makeRows() {
  const place = get("questions");
  place.replaceChildren();
  rows = [];
  let box = null;
  study.questions.forEach((question, index) => {
    const before = study.questions[index - 1];
    const short = question.choices.length <= 3 && question.choices.every(([, words]) => words.length <= SHORT);
    if (!before || before.id !== question.id) {
      box = make("div", "", "question");
      box.append(make("h3", question.required ? question.text : `${question.text} (optional)`));
      if (question.choices.length && !short) {
        box.append(make("p", question.choices.map(([, words], n) => `${CHOICE_KEYS[n]} ${words}`).join("  ·  "), "words"));
      }
      place.append(box);
    }
    const line = make("div", "", "answer");
    const side = make("span", "", "side");
    line.append(side);
    box.append(line);
    const row = { question, line, side, short, press: () => {}, set: () => {}, focus: () => {}, ...KINDS[question.kind in KINDS ? question.kind : "choice"](question, line, short) };
    line.addEventListener("pointerdown", () => become(rows.indexOf(row)));
    rows.push(row);
  });
}

const KINDS = {
  choice(question, line, short) {
    const buttons = question.choices.map(([value, words], index) => {
      const button = make("button", short ? `${CHOICE_KEYS[index]}  ${words}` : CHOICE_KEYS[index]);
      button.title = `${words} (key ${CHOICE_KEYS[index]})`;
      button.tabIndex = -1;
      button.onclick = () => press(index);
      line.append(button);
      return button;
    });
    const press = (index) => index < buttons.length && give(question, question.choices[index][0]);
    return {
      press,
      set: (value) => buttons.forEach((button, index) => button.setAttribute("aria-pressed", value !== null && value === question.choices[index][0])),
    };
  },
  number(question, line) {
    const field = make("input");
    field.type = "text";
    field.placeholder = `${question.low} to ${question.high}`;
    field.tabIndex = -1;
    let shown = "";
    const save = () => {
      const text = field.value.trim().replace(",", ".");
      if (text === shown || text === "") return void (field.value = shown);
      give(question, Number.isFinite(Number(text)) ? Number(text) : text);
    };
    field.onchange = save;
    field.addEventListener("keydown", (event) => event.key === "Enter" && field.blur());
    line.append(field);
    return {
      press: (index) => { field.focus(); field.value = CHOICE_KEYS[index]; },
      set: (value) => { shown = value === null ? "" : String(value); if (document.activeElement !== field) field.value = shown; },
      focus: () => { field.focus(); field.select(); },
      flush: save,
    };
  },
  text(question, line) {
    const field = make("textarea");
    field.tabIndex = -1;
    let shown = "";
    let rest = 0;
    const save = () => {
      clearTimeout(rest);
      if (field.value !== shown) give(question, (shown = field.value));
    };
    field.oninput = () => { clearTimeout(rest); rest = setTimeout(save, TEXT_MILLISECONDS); };
    field.onblur = save;
    line.append(field);
    return {
      set: (value) => { if (document.activeElement !== field) field.value = shown = value || ""; },
      focus: () => field.focus(),
      flush: save,
    };
  },
  marks(question, line) {
    const list = make("select");
    list.size = 3;
    list.tabIndex = -1;
    const field = make("input");
    field.type = "number";
    [field.min, field.max, field.tabIndex] = [0, 100, -1];
    field.title = "How sure you are, in per cent (keys 0 to 9: 0 to 90 %)";
    const remove = make("button", "Remove");
    remove.tabIndex = -1;
    let marks = [];
    const confide = (percent) => {
      const chosen = list.selectedIndex;
      if (chosen >= 0) give(question, marks.map((mark, index) => (index === chosen ? { ...mark, confidence: percent } : mark)));
    };
    const drop = () => list.selectedIndex >= 0 && give(question, marks.filter((_mark, index) => index !== list.selectedIndex));
    remove.onclick = drop;
    field.onchange = () => confide(Math.min(100, Math.max(0, Number(field.value))));
    list.onchange = () => (field.value = marks[list.selectedIndex].confidence);
    line.append(list, field, remove);
    return {
      press: (index) => index < 10 && confide(10 * ((index + 1) % 10)),
      set: (value) => {
        const more = (value || []).length > marks.length;
        const chosen = more ? value.length - 1 : Math.min(Math.max(list.selectedIndex, 0), (value || []).length - 1);
        marks = value || [];
        list.replaceChildren(...marks.map((mark, index) => new Option(`Mark ${index + 1}: ${Math.round(mark.confidence)} %`)));
        list.selectedIndex = chosen;
        field.value = chosen >= 0 ? Math.round(marks[chosen].confidence) : "";
      },
      drop,
    };
  },
};

function firstMissing(otherwise) {
  const found = rows.findIndex(({ question }) => study.missing.some(([id, side]) => id === question.id && side === question.side));
  return found >= 0 ? found : otherwise;
}

let answered = "";
function mark() {
  // An answer that has come: the next row that lacks one.
  const now = JSON.stringify(study.answers);
  const row = rows[current];
  if (now !== answered && row && row.question.kind !== "marks" && row.question.kind !== "text" && answer(row.question) !== null) {
    current = firstMissing(current);
  }
  answered = now;
  rows.forEach((one, index) => {
    one.line.classList.toggle("current", index === current);
    one.side.textContent = (index === current ? "▸ " : "") + (SIDES[one.question.side] || "");
  });
}

// A question may ask for a plane: the views turn to it when it becomes the current one.
let turned = "";
function turn() {
  const row = rows[current];
  const now = `${trial}/${current}`;
  if (!row || !viewer.cells.size || now === turned) return;
  turned = now;
  if (row.question.plane && row.question.plane !== viewer.plane()) viewer.send({ op: "plane", plane: row.question.plane });
}

function become(index) {
  current = Math.max(0, index);
  mark();
  turn();
  if (rows[current]) rows[current].line.scrollIntoView({ block: "nearest" });
}

function flush() {
  rows.forEach((row) => row.flush && row.flush());
}

// Marks -----------------------------------------------------------------------------------------------

function showMarks() {
  for (const [name, cell] of viewer.cells) {
    cell.marks.forEach((one) => one.remove());
    cell.marks = (study.marks[name] || []).map(([x, y, words]) => {
      const made = make("span", `✛ ${words}`, "mark");
      made.style.left = `${(x + 0.5) / devicePixelRatio}px`;
      made.style.top = `${(y + 0.5) / devicePixelRatio}px`;
      cell.element.append(made);
      return made;
    });
  }
}

function putMark() {
  const wanted = rows.filter(({ question }) => question.kind === "marks");
  if (!wanted.length) return;
  let place = viewer.pointer;
  const own = rows[current].question.kind === "marks" ? rows[current] : wanted[0];
  let row = place && wanted.find(({ question }) => place.cell.endsWith(`/${question.side}`));
  if (!row) {
    row = own;
    const name = [...viewer.cells.keys()].find((cell) => cell.endsWith(`/${row.question.side}`));
    const { canvas } = viewer.cells.get(name);
    place = { cell: name, point: [canvas.width / 2, canvas.height / 2] };
  }
  become(rows.indexOf(row));
  viewer.send({ op: "mark", question: row.question.id, side: row.question.side, cell: place.cell, x: place.point[0], y: place.point[1] });
}

// Buttons and keys ------------------------------------------------------------------------------------

function setWindow(number) {
  windowNow = number % study.windows.length;
  get("window").value = windowNow;
  viewer.send({ op: "window", number: windowNow });
}

function go(way) {
  refused.until = 0;
  flush();
  viewer.send({ op: way });
}

get("window").onchange = () => { setWindow(Number(get("window").value)); get("window").blur(); };
get("next").onclick = () => go("next");
get("previous").onclick = () => go("previous");
get("pause").onclick = () => { viewer.send({ op: "pause" }); get("pause").blur(); };
get("goOn").onclick = () => go("go on");
get("help").onclick = () => get("keys").showModal();
get("closeKeys").onclick = () => get("keys").close();
for (const [key, text] of KEYS) get("keyTable").insertRow().append(make("td", key), make("td", text));

document.addEventListener("keydown", (event) => {
  if (get("keys").open || over || !study || event.altKey || event.metaKey) return;
  if (event.key === "Enter" && event.ctrlKey) go("go on");
  else if (event.key === "PageDown") go("next");
  else if (event.key === "PageUp") go("previous");
  else if (event.key === "Tab") {
    flush();
    if (document.activeElement) document.activeElement.blur();
    become((current + (event.shiftKey ? rows.length - 1 : 1)) % Math.max(1, rows.length));
    if (rows[current]) rows[current].focus();
  } else if (event.key === "Escape") {
    flush();
    if (document.activeElement) document.activeElement.blur();
  } else if (typing(event)) return;
  else if (!event.ctrlKey && event.shiftKey && !CHOICE_KEYS.includes(event.key) && /^Digit[1-9]$/.test(event.code)) { const number = Number(event.code[5]) - 1; if (number < study.windows.length) setWindow(number); }
  else if (!event.ctrlKey && PLANES[event.key.toLowerCase()]) viewer.send({ op: "plane", plane: PLANES[event.key.toLowerCase()] });
  else if (!event.ctrlKey && event.key.toLowerCase() === "p") get("pause").onclick();
  else if (!event.ctrlKey && CHOICE_KEYS.includes(event.key) && !get("questions").inert) rows[current] && rows[current].press(CHOICE_KEYS.indexOf(event.key));
  else if (event.key.toLowerCase() === "w" && !event.ctrlKey) setWindow(windowNow + 1);
  else if (event.key.toLowerCase() === "m" && !event.ctrlKey) putMark();
  else if (event.key === "Delete") { const row = rows[current]; if (row && row.drop) row.drop(); }
  else if (event.key === "?") get("keys").showModal();
  else {
    // In the panel Ctrl goes with + and −, which zoom the browser's page here too: both are taken.
    if (!viewer.cells.size || !viewer.key(event)) return;
  }
  event.preventDefault();
});

viewer.start();
