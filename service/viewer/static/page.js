// The page: send a file to its own server, show what comes back. Text from files and answers is only ever set as text.

import { read } from "/page/nifti.js";
import { Panes } from "/page/panes.js";

const $ = (id) => document.getElementById(id);
const NIFTI = "application/x-nifti";
const FORMATS = {
  reconstruct: { "HDF5": ["application/x-hdf5", "h5"], "DICOM (zip)": ["application/zip", "zip"], "NIfTI": [NIFTI, "nii.gz"], "PNG": ["image/png", "png"] },
  "super-resolve": { "DICOM (zip)": ["application/zip", "zip"], "NIfTI": [NIFTI, "nii.gz"], "PNG": ["image/png", "png"] },
};
const STAGES = { parse: "#8db3ff", queue: "#9aa7b3", sensitivities: "#c79bf2", denoise: "#7cc4ff", data_consistency: "#ffc46b", encode: "#8fd694" };
let files = [];
let used = null;

const panes = new Panes({
  canvases: [...document.querySelectorAll("#panes canvas")],
  profile: $("profile"),
  onChange: (view) => {
    $("slice").max = view.data.slices - 1;
    $("slice").value = view.number;
    $("slice-number").textContent = `${view.number + 1} of ${view.data.slices}`;
    $("window-values").textContent = `window ${brief(view.high - view.low)}, level ${brief((view.high + view.low) / 2)}, zoom ${view.zoom.toFixed(1)}`;
    $("profile-row").textContent = view.row;
    $("panes").classList.toggle("one", view.mode !== "panes");
    $("swipe-label").hidden = view.mode !== "swipe";
    $("name-1").textContent = view.mode === "swipe" ? "Student | teacher" : "Student";
    $("name-3").textContent = `Student minus teacher, ${view.gain}x; grey is no difference`;
  },
});

/** Write a number with three digits: 1,960 or 0.0712, and powers of ten only where it is very small. */
function brief(value) {
  const size = Math.abs(value);
  if (!Number.isFinite(size)) return "none";
  return size && size < 1e-4 ? value.toExponential(1) : value.toLocaleString("en", { maximumSignificantDigits: 3 });
}

/** Tell k-space from images by the first bytes, as the server does; it has the last word. */
async function operationOf(file) {
  if ($("operation").value !== "auto") return $("operation").value;
  const head = new Uint8Array(await file.slice(0, 132).arrayBuffer());
  const starts = (...bytes) => bytes.every((byte, place) => head[place] === byte);
  const dicom = head.length === 132 && String.fromCharCode(...head.slice(128)) === "DICM";
  return dicom || starts(0x50, 0x4b) || !starts(0x89, 0x48, 0x44, 0x46) ? "super-resolve" : "reconstruct";
}

function address(operation, role) {
  const query = new URLSearchParams({ role });
  if (operation === "super-resolve") query.set("scale", $("scale").value);
  return `/${operation}?${query}`;
}

/**
 * Send the files, with the progress of the upload.
 * @returns {Promise<{status: number, body: ArrayBuffer, header: (name: string) => string | null}>}
 */
function send(operation, role, accept, onProgress = () => {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    // A file's name may be a patient's, and the server has no use for it.
    for (const file of files) form.append("file", file, "file");
    request.open("POST", address(operation, role));
    request.responseType = "arraybuffer";
    request.setRequestHeader("Accept", accept);
    if ($("key").value) request.setRequestHeader("Authorization", `Bearer ${$("key").value}`);
    request.upload.onprogress = (event) => onProgress(event.loaded / Math.max(event.total, 1));
    request.onload = () => resolve({ status: request.status, body: request.response, header: (name) => request.getResponseHeader(name) });
    request.onerror = () => reject(new Error("expected an answer, the connection to the service ended"));
    request.send(form);
  });
}

async function run() {
  if (!files.length) return;
  const started = performance.now();
  const operation = await operationOf(files[0]);
  $("problem").hidden = true;
  $("progress").hidden = false;
  $("again").disabled = true;
  say("Sending.");
  try {
    const answer = await send(operation, "both", NIFTI, (share) => {
      $("progress").value = share;
      say(share < 1 ? "Sending." : "Received by the service: student and teacher are at work.");
    });
    if (answer.status !== 200) throw new Error(problemText(answer));
    const data = await read(answer.body);
    used = operation;
    $("viewer").hidden = $("report").hidden = false;
    panes.show(data);
    $("name-0").textContent = operation === "reconstruct" ? "Input: zero-filled" : "Input: sinc interpolation";
    report(data, answer, operation);
    say(`Done in ${((performance.now() - started) / 1000).toFixed(1)} s: ${data.slices} ${data.slices === 1 ? "slice" : "slices"} of ${data.rows} x ${data.columns}.`);
  } catch (error) {
    say("No answer.");
    $("problem").textContent = error.message;
    $("problem").hidden = false;
  } finally {
    $("progress").hidden = true;
    $("again").disabled = false;
  }
}

function problemText(answer) {
  const text = new TextDecoder().decode(answer.body);
  try {
    const { title, detail } = JSON.parse(text);
    return `${title}: ${detail}`;
  } catch {
    return `The service answered ${answer.status}.`;
  }
}

const say = (text) => { $("status").textContent = text; };

function report(data, answer, operation) {
  const { figures } = data;
  const messages = [
    ...(answer.header("KDMRI-Warning") ?? "").split("; ").filter(Boolean).map((text) => ["warning", text]),
    ...(figures.notes ?? []).map((text) => ["note", text]),
  ];
  if (!messages.length) messages.push(["note", "Nothing suggests that the answer is worse than the models' cards state. That is no proof: what was not measured can't be checked."]);
  $("warnings").replaceChildren(...messages.map(([kind, text]) => element("li", text, kind)));
  const rows = [
    ["model", (role) => role.model],
    ["unexplained part of the measurement", (role) => brief(role.residual)],
    ["noise of the input, of bright tissue", (role) => percent(role.noise)],
    ["predicted error against the truth", (role) => (role.predicted_error ? percent(role.predicted_error) : null)],
    ["predicted PSNR", (role) => (role.predicted_psnr_db ? `${brief(role.predicted_psnr_db)} dB (${role.predicted_psnr_interval_db.map(brief).join(" to ")})` : null)],
    ["acceleration", (role) => (role.acceleration ? `${brief(role.acceleration)}x` : null)],
    ["time for a slice", (role) => `${brief(role.milliseconds_per_slice)} ms`],
  ];
  const body = rows.filter(([, value]) => value(figures.student) !== null || value(figures.teacher) !== null).map(([name, value]) => {
    const row = document.createElement("tr");
    const head = element("th", name);
    head.scope = "row";
    row.append(head, element("td", value(figures.student) ?? "none"), element("td", value(figures.teacher) ?? "none"));
    return row;
  });
  for (const [name, text] of [
    ["student against teacher", `${brief(figures.psnr_db)} dB PSNR, SSIM ${brief(figures.ssim ?? NaN)}`],
    ["speed of the student, teacher = 1", brief(figures.speedup)],
  ]) {
    const row = document.createElement("tr");
    const head = element("th", name);
    head.scope = "row";
    const cell = element("td", text);
    cell.colSpan = 2;
    row.append(head, cell);
    body.push(row);
  }
  document.querySelector("#figures tbody").replaceChildren(...body);
  times(figures);
  downloads(operation);
  commands(operation);
}

const percent = (share) => `${brief(100 * share)} %`;

function element(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

const colour = (stage) => STAGES[stage] ?? "#999999";

function times(figures) {
  const longest = Math.max(...["student", "teacher"].map((role) => total(figures[role].stage_milliseconds)));
  const rows = ["student", "teacher"].map((role) => {
    const stages = figures[role].stage_milliseconds;
    const row = element("div", "", "times-row");
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    bar.setAttribute("viewBox", "0 0 100 10");
    bar.setAttribute("preserveAspectRatio", "none");
    bar.setAttribute("role", "img");
    bar.setAttribute("aria-label", Object.entries(stages).map(([stage, ms]) => `${stage} ${brief(ms)} ms`).join(", "));
    let left = 0;
    for (const [stage, ms] of Object.entries(stages)) {
      const part = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      for (const [key, value] of Object.entries({ x: left, y: 0, width: (100 * ms) / longest, height: 10, fill: colour(stage) })) part.setAttribute(key, value);
      bar.append(part);
      left += (100 * ms) / longest;
    }
    row.append(element("span", role), bar, element("span", `${brief(total(stages))} ms`));
    return row;
  });
  const legend = element("p", "", "legend");
  for (const stage of Object.keys(figures.teacher.stage_milliseconds)) {
    const entry = legend.appendChild(element("span", `■ ${stage.replace("_", " ")}: ${brief(figures.student.stage_milliseconds[stage] ?? 0)} and ${brief(figures.teacher.stage_milliseconds[stage])} ms. `));
    entry.style.color = colour(stage);
  }
  $("times").replaceChildren(...rows, legend);
}

const total = (stages) => Object.values(stages).reduce((sum, ms) => sum + ms, 0);

function downloads(operation) {
  const buttons = Object.entries(FORMATS[operation]).flatMap(([name, [type, suffix]]) => ["student", "teacher"].map((role) => {
    const button = element("button", `${name}, ${role}`);
    button.type = "button";
    button.addEventListener("click", () => download(operation, role, type, suffix));
    return button;
  }));
  $("downloads").replaceChildren(...buttons);
}

async function download(operation, role, type, suffix) {
  const answer = await send(operation, role, type).catch((error) => ({ status: 0, body: new TextEncoder().encode(JSON.stringify({ title: "No answer", detail: error.message })) }));
  if (answer.status !== 200) {
    $("problem").textContent = problemText(answer);
    $("problem").hidden = false;
    return;
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([answer.body], { type }));
  link.download = `${operation}-${role}.${suffix}`;
  link.click();
  URL.revokeObjectURL(link.href);
}

function commands(operation) {
  const key = $("key").value ? " -H \"Authorization: Bearer $KDMRI_KEY\"" : "";
  $("curl").textContent = `curl -F file=@FILE${key} -H 'Accept: ${NIFTI}' '${location.origin}${address(operation, "both")}' -o both.nii.gz`;
  const call = operation === "reconstruct"
    ? "kdmri.reconstruct(scan, role)" : `kdmri.super_resolve(scan, ${$("scale").value}, role)`;
  $("python").textContent = `import kdmri\n\nscan = kdmri.read("FILE")\nfor role in ("student", "teacher"):\n    result = ${call}\n    kdmri.save(result, f"{role}.nii.gz")`;
}

async function models() {
  const headers = $("key").value ? { Authorization: `Bearer ${$("key").value}` } : {};
  const response = await fetch("/models", { headers });
  if (!response.ok) return;
  $("model-rows").replaceChildren(...(await response.json()).map((model) => {
    const row = document.createElement("tr");
    row.append(...[`${model.name}@${model.version}`, model.task, model.role, model.parameters.toLocaleString("en")].map((text) => element("td", text)));
    return row;
  }));
}

function take(list) {
  files = [...list];
  run();
}

$("file").addEventListener("change", (event) => event.target.files.length && take(event.target.files));
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) take(event.dataTransfer.files);
  });
}
$("again").addEventListener("click", run);
$("key").addEventListener("change", models);
$("slice").addEventListener("input", (event) => panes.go(Number(event.target.value)));
$("gain").addEventListener("change", (event) => { panes.gain = Number(event.target.value); panes.draw(); });
$("mode").addEventListener("change", (event) => panes.setMode(event.target.value));
$("swipe").addEventListener("input", (event) => { panes.swipe = event.target.value / 1000; panes.draw(); });
$("reset").addEventListener("click", () => panes.reset());

const KEYS = {
  ArrowUp: () => panes.go(panes.number + 1), ArrowRight: () => panes.go(panes.number + 1),
  ArrowDown: () => panes.go(panes.number - 1), ArrowLeft: () => panes.go(panes.number - 1),
  "+": () => panes.enlarge(1.25), "=": () => panes.enlarge(1.25), "-": () => panes.enlarge(0.8),
  w: () => panes.window(0, 0.1), s: () => panes.window(0, -0.1),
  a: () => panes.window(-0.02, 0), d: () => panes.window(0.02, 0),
  b: () => { const mode = panes.mode === "blink" ? "panes" : "blink"; $("mode").value = mode; panes.setMode(mode); },
  r: () => panes.reset(),
};
document.addEventListener("keydown", (event) => {
  const act = KEYS[event.key];
  // In a control, keys keep the meaning that they have there.
  if (!act || !panes.data || event.target.closest("input, select, button, a") || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  act();
});

models();
