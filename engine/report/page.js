// The page of a run: totals, what bounds it, and the choice of run and view. All numbers come from the embedded JSON.

const DATA = JSON.parse(document.getElementById("data").textContent);

/** A tile: [heading, big [name, value, show], lines of the same]. Names become ids; the exact value is kept beside. */
function tile(heading, big, lines) {
  function value(tag, [id, exact, show], kind = "") {
    const node = el(tag, { id: "value-" + id, class: kind }, show(exact));
    node.dataset.value = exact;
    node.title = exact.toLocaleString("en", { maximumFractionDigits: 12 });
    return node;
  }
  const list = el("dl", {}, ...lines.flatMap(([label, entry]) => [el("dt", {}, label), value("dd", entry)]));
  return el("div", { class: "tile" }, el("h3", {}, heading), value("div", big, "big"), list);
}

const PHASES = { deal: "dealing", open: "open tapes", prepare: "prepare", online: "online", counted: "counted" };

function sum(pair) { return pair.reduce((a, b) => a + b, 0); }

function tiles(totals, foretold) {
  const out = [];
  if (totals.rounds !== undefined) {
    const layers = totals.rounds_per_layer || [];
    const lines = layers.length ? [["in a layer", ["rounds-layer", Math.max(...layers), count]], ["layers", ["layers", layers.length, count]]] : [];
    out.push(tile("Online rounds", ["rounds", totals.rounds, count], lines));
  }
  const times = totals.seconds || {};
  if (times.online !== undefined) {
    const lines = Object.entries(PHASES).filter(([k]) => k !== "online" && times[k] !== undefined);
    const rows = lines.map(([k, label]) => [label, ["seconds-" + k, times[k], exactSeconds]]);
    if (foretold !== null) rows.unshift(["predicted", ["seconds-predicted", foretold, exactSeconds]]);
    out.push(tile("Online time", ["seconds-online", times.online, exactSeconds], rows));
  }
  if (totals.bytes_sent) {
    const lines = ["P0 to P1", "P1 to P0"].map((label, i) => [label, [`bytes_sent-${i}`, totals.bytes_sent[i], bytes]]);
    if (totals.prepare_bytes) lines.push(["in prepare", ["prepare_bytes", sum(totals.prepare_bytes), bytes]]);
    if (totals.setup_bytes) lines.push(["weights", ["setup_bytes", totals.setup_bytes, bytes]]);
    out.push(tile("Bytes online", ["bytes_sent", sum(totals.bytes_sent), bytes], lines));
  }
  if (totals.tape_bytes) {
    const lines = ["of P0", "of P1"].map((label, i) => [label, [`tape_bytes-${i}`, totals.tape_bytes[i], bytes]]);
    out.push(tile("Tape, from the dealer", ["tape_bytes", sum(totals.tape_bytes), bytes], lines));
  }
  if (totals.peak_anon_bytes && totals.peak_anon_bytes.length) {
    const labels = totals.peak_anon_bytes.length > 1 ? ["of P0", "of P1"] : ["both parties"];
    const lines = labels.map((label, i) => [label, ["peak-" + i, totals.peak_anon_bytes[i], bytes]]).filter(([, entry]) => entry[1]);
    out.push(tile("Peak memory", ["peak", Math.max(...totals.peak_anon_bytes), bytes], lines));
  }
  if (totals.error) {
    const lines = [["mean error", ["error-mean", totals.error.mean, small]]];
    if (totals.cosine) lines.push(["least cosine", ["cosine-min", totals.cosine.min, (v) => v.toFixed(6)]]);
    out.push(tile("Largest error to float64", ["error-max", totals.error.max, small], lines));
  }
  return out;
}

function small(value) { return value === 0 ? "0" : value.toExponential(2); }

const SHARES = [
  ["compute", "evaluate", "somebody computes"], ["latency", "latency", "network: latency"], ["bandwidth", "bandwidth", "network: bandwidth"],
  ["peer", "wait", "waiting for the other side"], ["other", "other", "handing over, reading tape"],
];

function showBound(bound) {
  byId("bound").hidden = !bound;
  if (!bound) return;
  byId("sentence").textContent = bound.sentence;
  const parts = SHARES.filter(([name]) => bound[name] > 0.0005);
  byId("shares").replaceChildren(...parts.map(([name, hue, text]) => el("div", {
    style: `width:${bound[name] * 100}%;background:var(--${hue})`, title: `${text}: ${(bound[name] * 100).toFixed(1)} %` })));
  byId("share-legend").replaceChildren(...parts.map(([name, hue, text]) => el("li", {}, el("i", { style: `background:var(--${hue})` }),
    `${text} ${(bound[name] * 100).toFixed(1)} % (${exactSeconds(bound[name] * bound.seconds)})`)));
}

class Rounds {
  constructor(canvas, tip, timeline) {
    Object.assign(this, { canvas, tip, timeline });
    canvas.addEventListener("pointermove", (e) => this.hover(e));
    canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
    canvas.addEventListener("click", (e) => this.zoom(e));
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
  }

  show(run) {
    let before = run.online * 1e6;
    this.bars = run.rounds.map((r) => { const bar = { ...r, from: before, seconds: (r.over - before) / 1e6 }; before = r.over; return bar; });
    this.draw();
  }

  draw() {
    const box = this.canvas.parentElement.clientWidth, height = 96;
    if (!this.bars || !this.bars.length || !box) return;
    const context = fit(this.canvas, box, height), most = Math.max(...this.bars.map((b) => b.seconds), 1e-9);
    this.step = (box - LEFT - 8) / this.bars.length;
    context.font = "12px system-ui, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', sans-serif";
    context.fillStyle = colour("soft");
    context.fillText(exactSeconds(most), 10, 12);
    context.fillText("round", 10, height - 4);
    this.bars.forEach((bar, i) => {
      const tall = Math.max(1, (bar.seconds / most) * (height - 24));
      context.fillStyle = colour("evaluate");
      context.fillRect(LEFT + i * this.step, height - 16 - tall, Math.max(this.step - (this.step > 3 ? 1 : 0), 0.6), tall);
      if (i % Math.ceil(28 / this.step) === 0) { context.fillStyle = colour("soft"); context.fillText(bar.round, LEFT + i * this.step, height - 4); }
    });
  }

  find(event) {
    const box = this.canvas.getBoundingClientRect();
    return this.bars && this.bars[Math.floor((event.clientX - box.left - LEFT) / this.step)];
  }

  hover(event) {
    const bar = this.find(event), box = this.canvas.getBoundingClientRect();
    if (!bar) { this.tip.hidden = true; return; }
    const panel = this.tip.parentElement.getBoundingClientRect();
    const sent = bar.bytes.map((b, i) => `P${bar.bytes.length > 1 ? i : "0 or P1"} sends ${bytes(b)}`);
    tooltip(this.tip, [`round ${bar.round}`, exactSeconds(bar.seconds), ...(bar.bytes.length > 1 ? sent : [])],
      event.clientX - panel.left, event.clientY - panel.top, box.width);
  }

  zoom(event) {
    const bar = this.find(event);
    if (!bar) return;
    const wide = Math.max(bar.over - bar.from, 20);
    this.timeline.view(bar.from - wide, bar.over + wide);
    this.timeline.canvas.scrollIntoView({ block: "center" });
  }
}

const GLOSSARY = {
  "P0 and P1": "P0 is the client, who has the text and learns the result; P1 is the model owner, who has the weights. A dealer gave each a tape before.",
  "Round": "Both sides send what can be sent without hearing from each other first. A network with 60 ms of round trip takes at least 30 ms for one.",
  "Tape": "One-time random keys and tables from the dealer, read front to back once, and then deleted.",
  "Online": "From the moment that both sides are prepared until the client holds the output. Bytes before that do not depend on the input.",
  "AES steps": "Calls of AES that one party makes to answer the questions to its keys, each walked on its own.",
  "Evaluate, wait": "A side that waits has nothing to compute until bytes are in. Where both are known, a wait during which the other side computes is the other side's computing.",
  "Numbers": "Rounds, bytes, tape and AES steps of the table are the plan's, exact and equal to what crossed. Bytes are payload. Seconds are measured, but for those called predicted.",
  "Blocks": "Where a run has more events than a page should hold, neighbours are gathered into one block whose colour is as strong as it is busy; --trace keeps every event.",
};

function main() {
  const redraw = () => { timeline.draw(); rounds.draw(); };
  themed(redraw);
  byId("kicker").textContent = DATA.simulated ? "Roundelay: a simulation, nothing ran" : "Roundelay: a recorded run";
  byId("what").textContent = DATA.what;
  byId("facts").append(...Object.entries(DATA.facts).map(([name, value]) => el("li", {}, el("b", {}, name), value)));
  byId("lane-legend").append(...LANES.map(([name, what]) => el("li", {}, el("i", { style: `background:var(--${name})` }), `${name}: ${what}`)));
  byId("glossary").append(...Object.entries(GLOSSARY).flatMap(([term, what]) => [el("dt", {}, term), el("dd", {}, what)]));
  const timeline = new Timeline(byId("timeline"), byId("tip"), DATA.names);
  const roundTip = el("div", { id: "round-tip" });
  roundTip.hidden = true;
  byId("rounds").parentElement.append(roundTip);
  const rounds = new Rounds(byId("rounds"), roundTip, timeline), table = new CostTable(byId("costs"), DATA.names);
  for (const [id, act] of [["in", () => timeline.zoom(0.6)], ["out", () => timeline.zoom(1 / 0.6)], ["all", () => timeline.all()], ["online", () => timeline.online()]]) {
    byId("zoom-" + id).addEventListener("click", act);
  }
  function view(name) {
    for (const button of byId("views").children) button.setAttribute("aria-pressed", button.dataset.view === name);
    byId("table-hint").textContent = VIEWS.find(([key]) => key === name)[2];
    table.view = name;
    table.draw();
  }
  function show(number) {
    const run = DATA.runs[number], events = run.sides.some(Boolean) || run.predicted.some(Boolean);
    byId("tiles").replaceChildren(...tiles(run.totals, run.foretold));
    byId("predicted-hint").hidden = !(run.sides.some(Boolean) && run.predicted.some(Boolean));
    showBound(run.bound);
    byId("timeline-panel").hidden = !events;
    byId("rounds-panel").hidden = !run.rounds.length;
    if (events) timeline.show(run);
    rounds.show(run);
    table.show(DATA.plans[run.plan], run);
    const text = run.events ? `${run.events.toLocaleString("en")} events. ` : "";
    byId("footer").textContent = `${text}Names, sizes and times only: no text, no weights, no keys are in this page.`;
  }
  for (const [name, text] of VIEWS) {
    const button = el("button", { type: "button", "data-view": name }, text);
    button.addEventListener("click", () => view(name));
    byId("views").append(button);
  }
  byId("run").append(...DATA.runs.map((run, i) => el("option", { value: i }, run.name)));
  byId("run-choice").hidden = DATA.runs.length < 2;
  byId("run").addEventListener("change", (e) => show(Number(e.target.value)));
  show(0);
  view("layers");
  document.documentElement.dataset.ready = "yes";
}

main();
