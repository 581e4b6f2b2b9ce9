"use strict";
// The page of a served program: no library, nothing from elsewhere. Answers are shown as text, never as HTML.
const $ = (id) => document.getElementById(id);
const state = { models: {}, items: [], table: null, rows: [] };
const MOST_AT_ONCE = 32;
const LONGEST = 120; // letters of an input in the table of answers; the download has all
const KINDS = { image: "pictures", text: "texts", molecule: "molecules (SMILES)", sequence: "sequences", series: "signals" };

function headers() {
  const token = $("token").value;
  return { "Content-Type": "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}) };
}

async function call(path, body) {
  const options = { headers: headers(), ...(body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }) };
  const reply = await fetch(path, options);
  const told = await reply.json().catch(() => ({}));
  if (reply.status === 401) $("secret").hidden = false;
  if (!reply.ok) throw new Error(told.error || `The server answered ${reply.status}.`);
  return told;
}

async function start() {
  try {
    const listed = await call("v2/repository/index", {});
    state.models = {};
    for (const { name } of listed) state.models[name] = await call(`v2/models/${encodeURIComponent(name)}`);
  } catch (error) {
    $("about").textContent = error.message;
    return;
  }
  $("model").replaceChildren(...Object.keys(state.models).map((name) => new Option(name, name)));
  $("models").hidden = Object.keys(state.models).length < 2;
  chosen();
}

const model = () => state.models[$("model").value];
const images = () => model().inputs[0].parameters.pixels !== undefined;
const signal = () => model().inputs[0].parameters.signal;
const sounds = () => signal() !== undefined && signal()[1] > 1;
const files = () => images() || sounds();

function chosen() {
  const about = model().parameters;
  const what = about.problem === "regression" ? `a value, ${about.classes[0]}` : about.classes.slice(0, 12).join(", ") + (about.classes.length > 12 ? ", …" : "");
  $("about").textContent = `This program reads ${sounds() ? "sounds" : KINDS[about.kind] || `${about.kind} inputs`} and answers: ${what}.`;
  $("files").accept = images() ? ".png,.jpg,.jpeg" : sounds() ? ".wav" : ".csv,.tsv,.txt,.smi";
  $("files-label").textContent = images() ? "Pictures (PNG or JPEG)" : sounds() ? "Sounds (WAV)" : "A table (CSV) or a list";
  $("texts").hidden = files();
  $("text-label").textContent = signal() ? "One signal a line, its samples separated by commas" : "One input a line";
  $("for-certify").hidden = !images() || about.problem !== "classification";
  $("for-vote").hidden = !(images() || about.kind === "molecule") || about.problem !== "classification";
  $("for-detect").hidden = !about.detector;
  clear();
}

function clear() {
  state.items = []; state.table = null; state.rows = [];
  $("columns").hidden = true; $("answers").hidden = true; $("download").hidden = true; $("status").textContent = "";
}

// A table as rows of cells: commas or tabs, quotes as in RFC 4180.
function parse(text) {
  const separator = text.split("\n", 1)[0].includes("\t") ? "\t" : ",";
  const rows = [[""]]; let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const letter = text[i], row = rows[rows.length - 1];
    if (quoted && letter === '"' && text[i + 1] === '"') { row[row.length - 1] += '"'; i++; }
    else if (letter === '"') quoted = !quoted;
    else if (!quoted && letter === separator) row.push("");
    else if (!quoted && letter === "\n") rows.push([""]);
    else if (letter !== "\r" || quoted) row[row.length - 1] += letter;
  }
  return rows.filter((row) => row.some((cell) => cell.trim()));
}

const base64 = (file) => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result.split(",", 2)[1] || "");
  reader.onerror = () => failed(new Error(`${file.name} cannot be read.`));
  reader.readAsDataURL(file);
});

async function take(chosenFiles) {
  clear();
  if (files()) {
    for (const file of chosenFiles) state.items.push({ shown: file.name, file, data: await base64(file) });
    $("status").textContent = `${state.items.length} chosen.`;
    return;
  }
  const [first] = chosenFiles;
  const text = await first.text();
  if (signal()) { $("text").value = text.trim(); return; }
  const rows = parse(text);
  if (!rows.length) { $("status").textContent = `${first.name} is empty.`; return; }
  if (rows[0].length > 1 || first.name.match(/\.[ct]sv$/i)) {
    state.table = rows;
    const names = rows[0];
    $("column").replaceChildren(...names.map((name, i) => new Option(name, i)));
    const guess = names.findIndex((name) => /smiles|text|sequence|input/i.test(name));
    $("column").value = Math.max(guess, 0);
    $("columns").hidden = names.length < 2;
    fill();
  } else {
    $("text").value = rows.map((row) => row[0]).join("\n");
  }
}

function fill() {
  const place = Number($("column").value);
  $("text").value = state.table.slice(1).map((row) => (row[place] || "").replace(/\n/g, " ")).join("\n");
  $("status").textContent = `${state.table.length - 1} rows.`;
}

function parameters() {
  const asked = {};
  const on = (id) => $(id).checked && !$(`for-${id}`)?.hidden;
  if (on("certify")) asked.certify = "l2";
  if (on("vote")) asked.vote = 10;
  if (on("detect")) asked.detect = true;
  if ($("strict").checked) asked.input_check = "strict";
  return asked;
}

async function ask(event) {
  event.preventDefault();
  if (!model()) { await start(); return; }
  if (!files()) state.items = $("text").value.split("\n").filter((line) => line.trim()).map((line) => ({ shown: line, data: line }));
  if (!state.items.length) { $("status").textContent = files() ? "Choose files first." : "Type or choose inputs first."; return; }
  const asked = parameters();
  const size = (signal() && !sounds()) || asked.certify || asked.vote || asked.detect ? 1 : MOST_AT_ONCE;
  $("send").disabled = true; state.rows = [];
  try {
    for (let i = 0; i < state.items.length; i += size) {
      $("status").textContent = `Answering ${i + 1} of ${state.items.length} …`;
      const part = state.items.slice(i, i + size);
      const input = tensor(part);
      if (files()) input.parameters = { content_type: "base64" };
      const reply = await call(`v2/models/${encodeURIComponent($("model").value)}/infer`, { inputs: [input], parameters: asked });
      part.forEach((one, place) => state.rows.push(row(one, reply.outputs, place)));
    }
    $("status").textContent = `${state.rows.length} answered.`;
  } catch (error) {
    $("status").textContent = error.message;
  } finally {
    $("send").disabled = false;
  }
  if (state.rows.length) show();
}

const numbers = (text) => text.split(/[\s,;]+/).filter(Boolean).map((cell) => (Number.isFinite(Number(cell)) ? Number(cell) : null));

// The inputs of one request; a signal is a row of numbers, all else a text or a file in base64.
function tensor(part) {
  const { name } = model().inputs[0];
  if (!signal() || sounds()) return { name, datatype: "BYTES", shape: [part.length, 1], data: part.map((one) => one.data) };
  const samples = numbers(part[0].data);
  return { name, datatype: "FP32", shape: [1, signal()[0], samples.length / signal()[0]], data: samples };
}

function row(item, outputs, place) {
  const cells = {};
  for (const { name, data, shape } of outputs) {
    const width = shape.slice(1).reduce((a, b) => a * b, 1);
    cells[name] = width === 1 && name !== "probabilities" ? data[place] : data.slice(place * width, (place + 1) * width);
  }
  return { item, cells };
}

const round = (value) => (value === null || value === undefined ? "" : Number(value).toPrecision(3));

// What a person recognises an input by: the picture, the sound, the curve, or the beginning of a text.
function shown(item, problem) {
  if (item.file && !problem) {
    const found = document.createElement(images() ? "img" : "audio");
    found.src = URL.createObjectURL(item.file);
    if (images()) found.alt = item.shown;
    else { found.controls = true; found.preload = "metadata"; found.setAttribute("aria-label", item.shown); }
    const both = document.createElement("div");
    both.append(found, ...(images() ? [] : [item.shown]));
    return both;
  }
  if (signal() && !sounds() && !problem) return curve(numbers(item.data));
  return item.shown.length > LONGEST ? `${item.shown.slice(0, LONGEST)} …` : item.shown;
}

function curve(values) {
  const space = "http://www.w3.org/2000/svg", known = values.filter((value) => value !== null);
  const low = known.reduce((a, b) => Math.min(a, b), Infinity), high = known.reduce((a, b) => Math.max(a, b), -Infinity);
  const picture = document.createElementNS(space, "svg"), line = document.createElementNS(space, "polyline");
  const points = values.map((value, i) => [i, value]).filter(([, value]) => value !== null);
  line.setAttribute("points", points.map(([i, v]) => `${(160 * i) / Math.max(values.length - 1, 1)},${2 + (36 * (high - v)) / (high - low || 1)}`).join(" "));
  picture.setAttribute("viewBox", "0 0 160 40"); picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", `${values.length} samples from ${round(low)} to ${round(high)}`);
  picture.append(line);
  const both = document.createElement("div");
  both.append(picture, `${values.length} samples`);
  return both;
}

// [heading, text or element] for each column that says something.
function columns({ item, cells }) {
  const found = [], add = (name, value, number) => found.push([name, value, number]);
  add("Input", shown(item, cells.problem));
  if (cells.problem) { add("Answer", `no answer: ${cells.problem}`); return found; }
  add("Answer", cells.label ?? round(cells.value));
  if (cells.probabilities) {
    const best = Math.max(...cells.probabilities);
    const bar = document.createElement("span"), meter = document.createElement("meter");
    meter.value = best; meter.setAttribute("aria-hidden", "true");
    bar.append(meter, ` ${(100 * best).toFixed(1)}%`);
    add("Probability", bar);
  }
  if (cells.set) add("Among these", cells.set.split("|").join(", "));
  if (cells.low !== undefined) add("Interval", `${round(cells.low)} to ${round(cells.high)}`);
  const near = Object.keys(cells).find((name) => name.startsWith("nearest_") && name !== "nearest_row");
  if (near) add("Nearest labelled example", cells[near] === null ? "" : `row ${cells.nearest_row}, ${near.slice(8)} ${round(cells[near])}`);
  if (cells.outside) add("Like the labelled examples", { yes: "no: outside", no: "yes" }[cells.outside] || cells.outside);
  if (cells.certified !== undefined) add("Certificate", cells.certified ? `${cells.certified}, radius ${round(cells.radius)}` : "none");
  if (cells.voted !== undefined) add("Vote", `${cells.voted}, ${Math.round(100 * cells.votes)}%`);
  if (cells.suspicious) add("Signs of an attack", cells.suspicious);
  return found;
}

function show() {
  const table = document.createElement("table"), body = table.createTBody();
  table.createCaption().textContent = "Answers";
  const shown = state.rows.map(columns);
  const names = shown.reduce((longest, one) => (one.length > longest.length ? one : longest), []).map(([name]) => name);
  const head = table.createTHead().insertRow();
  for (const name of names) {
    const cell = document.createElement("th");
    cell.scope = "col"; cell.textContent = name;
    head.append(cell);
  }
  for (const one of shown) {
    const line = body.insertRow();
    for (const [name, value] of one) {
      const cell = line.insertCell();
      cell.dataset.name = name;
      cell.append(value);
      if (name === "Input") cell.className = "input";
      if (name === "Answer" && one.length === 2) { cell.className = "problem"; cell.colSpan = Math.max(names.length - 1, 1); }
      if (value === "no: outside" || (name === "Signs of an attack" && value === "yes")) cell.className = "warn";
    }
  }
  $("answers").replaceChildren(table);
  $("answers").hidden = false; $("download").hidden = false;
}

function download() {
  const classes = model().parameters.classes;
  const names = ["input"], lines = [];
  for (const { item, cells } of state.rows) {
    const line = { input: item.shown };
    for (const [name, value] of Object.entries(cells)) {
      if (name === "probabilities") classes.forEach((label, i) => { line[`p:${label}`] = value[i]; });
      else line[name] = value;
    }
    for (const name of Object.keys(line)) if (!names.includes(name)) names.push(name);
    lines.push(line);
  }
  // a cell that a spreadsheet would run as a formula is made text
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    const safe = typeof value === "string" && /^[=+\-@\t]/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  };
  const text = [names, ...lines.map((line) => names.map((name) => line[name]))].map((one) => one.map(cell).join(",")).join("\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text + "\n"], { type: "text/csv" }));
  link.download = "answers.csv";
  link.click();
}

$("model").addEventListener("change", chosen);
$("column").addEventListener("change", fill);
$("files").addEventListener("change", (event) => event.target.files.length && take([...event.target.files]));
$("token").addEventListener("change", start);
$("ask").addEventListener("submit", ask);
$("download").addEventListener("click", download);
for (const name of ["dragenter", "dragover"]) $("drop").addEventListener(name, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
for (const name of ["dragleave", "drop"]) $("drop").addEventListener(name, () => $("drop").classList.remove("over"));
$("drop").addEventListener("drop", (event) => { event.preventDefault(); if (event.dataTransfer.files.length) take([...event.dataTransfer.files]); });
start();
