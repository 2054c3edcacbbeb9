// The page: asks, by keyboard or pointer, and sends each answer before it shows the next thing.
import { Playing } from "/playing.js";

const $ = (id) => document.getElementById(id);
const RETRY = 2000; // ms until a server that does not answer is asked again
const LONG = 160; // letters of a prompt that is set small
const NAMES = { left: "A", right: "B", tie: "Tie", invalid: "Invalid" };
const KEYS = { left: ["1", "a", "ArrowLeft"], tie: ["2", "t", "="], right: ["3", "b", "ArrowRight"], invalid: ["x"] };

let task, state, annotator;
let current = 0; // the dimension that keys answer
let shownAt = 0;
let sending = false;

const playing = new Playing($("clips"), showPlaying);

// ---- the server

class Refusal extends Error {}

async function ask(path, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  for (;;) {
    let reply;
    try {
      reply = await fetch(path, options);
      const value = await reply.json();
      trouble("");
      if (!reply.ok) throw Object.assign(new Refusal(value.error), { status: reply.status });
      return value;
    } catch (error) {
      if (error instanceof Refusal) throw error;
      trouble("The server does not answer. What you said is kept here, and sent when it is back.");
      await new Promise((go) => setTimeout(go, RETRY));
    }
  }
}

function trouble(text) {
  $("trouble").hidden = !text;
  if ($("trouble").textContent !== text) $("trouble").textContent = text;
}

function announce(text) {
  $("said").textContent = text;
}

// ---- who

async function start() {
  task = await ask("/api/task");
  $("what").textContent =
    task.kind === "compare"
      ? `You see two clips of one prompt, side by side, and say which is better in ${listed()}.`
      : `You see one clip, and grade it from 1 (poor) to 5 (good) in ${listed()}.`;
  build();
  const name = new URLSearchParams(location.search).get("annotator") || stored("annotator");
  if (name) await enter(name);
  else askName();
}

function listed() {
  const titles = task.dimensions.map((d) => d.title);
  const last = titles.pop();
  return titles.length ? `${titles.join(", ")} and ${last}` : last;
}

function askName() {
  $("enter").hidden = false;
  $("name").focus();
}

async function enter(name) {
  try {
    const found = await ask(`/api/state?annotator=${encodeURIComponent(name)}`);
    annotator = found.annotator;
    store("annotator", annotator);
    $("name").blur(); // a hidden field would keep the keys until the next frame
    $("enter").hidden = true;
    $("who").textContent = `· ${annotator}`;
    $("other").hidden = false;
    show(found);
  } catch (error) {
    askName();
    trouble(error.message);
  }
}

$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  enter($("name").value);
});

$("other").addEventListener("click", () => {
  store("annotator", "");
  location.assign("/");
});

// ---- what is asked

function build() {
  const groups = task.dimensions.map((dimension, number) => {
    const group = document.createElement("fieldset");
    const legend = document.createElement("legend");
    legend.append(dimension.title);
    if (dimension.asked) {
      const small = document.createElement("small");
      small.textContent = dimension.asked;
      legend.append(small);
    }
    const choices = document.createElement("div");
    choices.className = "choices";
    for (const said of task.said) {
      const label = document.createElement("label");
      const input = document.createElement("input");
      Object.assign(input, { type: "radio", name: dimension.name, value: said });
      const span = document.createElement("span");
      const key = document.createElement("kbd");
      key.textContent = keysOf(said)[0].toUpperCase();
      span.append(NAMES[said] || said);
      if (key.textContent !== said) span.append(" ", key);
      label.append(input, span);
      choices.append(label);
    }
    // a click answers and goes on to the next; arrow keys inside of a group only choose
    choices.addEventListener("click", (event) => {
      if (event.target.matches("input") && event.detail) move(number + 1);
    });
    choices.addEventListener("change", () => answered(number));
    group.addEventListener("focusin", () => setCurrent(number));
    group.append(legend, choices);
    return group;
  });
  $("dimensions").replaceChildren(...groups);
  const compared = task.kind === "compare";
  const keys = [
    ...(compared ? [["1 A ←", "A is better"], ["2 T =", "a tie"], ["3 B →", "B is better"]] : [["1 to 5", "grade"]]),
    ["X", "invalid: cannot be judged"], ["↑ ↓", "another dimension"], ["Enter", "save and go on"],
    ["U", "undo the last answer"], ["Space", "play or pause"], ["R", "from the start"],
    [", .", "one frame back, on"], ["N", "note; Esc leaves it"], ["?", "these keys"],
  ];
  $("keys").replaceChildren(
    ...keys.flatMap(([key, what]) => {
      const [dt, dd, kbd] = ["dt", "dd", "kbd"].map((name) => document.createElement(name));
      kbd.textContent = key;
      dt.append(kbd);
      dd.textContent = what;
      return [dt, dd];
    }),
  );
}

function keysOf(said) {
  return KEYS[said] || [said];
}

function show(found) {
  state = found;
  const [showing, after] = state.next;
  $("ask").hidden = !showing;
  $("done").hidden = Boolean(showing);
  $("undo").disabled = $("undo-last").disabled = !state.last;
  if (!showing) {
    playing.show([], [], () => {});
    $("thanks").textContent = `You have answered all ${state.done}. Your answers are saved; you may close this page.`;
    announce($("thanks").textContent);
    return;
  }
  $("progress").max = state.done + state.left;
  $("progress").value = state.done;
  $("count").textContent = `${state.done} of ${state.done + state.left}`;
  $("prompt").textContent = showing.prompt;
  $("prompt").className = showing.prompt.length > LONG ? "long" : "";
  const names = task.kind === "compare" ? ["A", "B"] : [""];
  playing.show(showing.clips, names, unplayable);
  if (after) ahead(after.clips);
  const draft = JSON.parse(stored("draft") || "null");
  const mine = draft && draft.annotator === annotator && draft.key === showing.key;
  fill(mine ? draft : state.before || { answer: {}, note: "" });
  shownAt = performance.now();
  announce(`${state.done + 1} of ${state.done + state.left}: ${showing.prompt}`);
}

// The clips that come next are loaded while these are looked at.
function ahead(clips) {
  ahead.videos = clips.map((clip) => {
    const video = document.createElement("video");
    Object.assign(video, { muted: true, preload: "auto", src: `/clip/${clip.token}` });
    return video;
  });
}

async function unplayable(token, figure, why) {
  const note = document.createElement("p");
  note.className = "unplayable";
  note.textContent = "This clip does not play here.";
  figure.append(note);
  const { advice } = await ask("/api/unplayable", { annotator, token, why: why.slice(0, 200) });
  note.textContent = `This clip does not play here. It is ${advice} Until then, answer “invalid”.`;
  announce(note.textContent);
}

// ---- answers

function fill({ answer, note }) {
  for (const input of $("answers").querySelectorAll("input[type=radio]")) {
    input.checked = answer[input.name] === input.value;
  }
  $("note").value = note || "";
  const open = firstOpen();
  setCurrent(open < 0 ? 0 : open);
  $("save").disabled = open >= 0;
}

function given() {
  const found = {};
  for (const input of $("answers").querySelectorAll("input:checked")) found[input.name] = input.value;
  return found;
}

function firstOpen() {
  const found = given();
  return task.dimensions.findIndex((d) => !(d.name in found));
}

function setCurrent(number) {
  current = number;
  [...$("dimensions").children].forEach((group, place) => {
    if (place === number) group.setAttribute("aria-current", "step");
    else group.removeAttribute("aria-current");
  });
}

function move(number) {
  const there = Math.max(0, Math.min(number, task.dimensions.length - 1));
  const inside = document.activeElement && document.activeElement.closest("fieldset");
  setCurrent(there);
  if (inside) {
    const group = $("dimensions").children[there];
    (group.querySelector("input:checked") || group.querySelector("input")).focus();
  }
}

function say(said) {
  const dimension = task.dimensions[current];
  $("answers").querySelector(`input[name="${CSS.escape(dimension.name)}"][value="${said}"]`).checked = true;
  answered(current);
  move(current + 1);
}

function answered(number) {
  const dimension = task.dimensions[number];
  const open = firstOpen();
  $("save").disabled = open >= 0;
  keep();
  const said = given()[dimension.name];
  const next = open < 0 ? "Enter saves." : `Next: ${task.dimensions[open].title}.`;
  announce(`${dimension.title}: ${NAMES[said] || said}. ${next}`);
}

function keep() {
  store("draft", JSON.stringify({ annotator, key: state.next[0].key, answer: given(), note: $("note").value }));
}

async function save() {
  if (sending || !state.next.length) return;
  const open = firstOpen();
  if (open >= 0) {
    move(open);
    announce(`Answer ${task.dimensions[open].title} first.`);
    return;
  }
  const seconds = (performance.now() - shownAt) / 1000;
  const body = { annotator, key: state.next[0].key, answer: given(), note: $("note").value, seconds };
  await sent("/api/answer", body);
}

async function undo() {
  if (sending || !state || !state.last) return;
  await sent("/api/undo", { annotator, key: state.last });
}

async function sent(path, body) {
  sending = true;
  try {
    const found = await ask(path, body);
    store("draft", "");
    $("note").blur();
    show(found);
  } catch (error) {
    if (error.status === 409) {
      store("draft", "");
      show(await ask(`/api/state?annotator=${encodeURIComponent(annotator)}`));
    }
    trouble(error.message);
  } finally {
    sending = false;
  }
}

$("answers").addEventListener("submit", (event) => {
  event.preventDefault();
  save();
});
$("note").addEventListener("input", keep);
$("undo").addEventListener("click", undo);
$("undo-last").addEventListener("click", undo);

// ---- playing

function showPlaying() {
  const button = $("play").firstChild;
  const word = playing.wanted ? "Pause " : "Play ";
  if (button.textContent !== word) button.textContent = word;
  $("time").value = playing.duration ? Math.round((1000 * playing.time) / playing.duration) : 0;
}

$("play").addEventListener("click", () => playing.toggle());
$("restart").addEventListener("click", () => playing.restart());
$("back").addEventListener("click", () => playing.step(-1));
$("forth").addEventListener("click", () => playing.step(1));
$("time").addEventListener("input", () => {
  if (playing.wanted) playing.pause();
  playing.seek(($("time").value / 1000) * playing.duration);
});

// ---- keys

const ACTIONS = {
  Enter: save,
  " ": () => playing.toggle(),
  r: () => playing.restart(),
  ",": () => playing.step(-1),
  ".": () => playing.step(1),
  u: undo,
  n: () => $("note").focus(),
  "?": () => ($("help").open = !$("help").open),
  ArrowUp: () => move(current - 1),
  ArrowDown: () => move(current + 1),
};

// What a control does with a key itself.
function ownKey(target, key) {
  if (target.matches("#note, #name")) return true;
  if (target.matches("input[type=radio]")) return key.startsWith("Arrow") || key === " " || key === "Enter";
  if (target.matches("input[type=range]")) return key.startsWith("Arrow");
  return target.matches("button, summary, a") && (key === " " || key === "Enter");
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.target.matches("#note")) event.target.blur();
  if (!state || event.ctrlKey || event.metaKey || event.altKey || ownKey(event.target, event.key)) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!state.next.length) {
    if (key === "u") undo();
    return;
  }
  const said = task.said.find((value) => keysOf(value).includes(key));
  const action = said ? () => say(said) : ACTIONS[key];
  if (!action || (event.repeat && (said || key === "Enter"))) return;
  event.preventDefault();
  if (!sending) action();
});

// ---- what this browser keeps, where it may

function stored(name) {
  try {
    return localStorage.getItem(`vidpref-${name}`);
  } catch {
    return null;
  }
}

function store(name, value) {
  try {
    localStorage.setItem(`vidpref-${name}`, value);
  } catch {
    // private windows may forbid it: then nothing is kept between visits
  }
}

start();
