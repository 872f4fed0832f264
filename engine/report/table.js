// The table of costs: planned rounds, bytes, tape and AES steps beside measured and predicted seconds.

const VIEWS = [
  ["layers", "layers", "Planned costs and measured seconds of every layer. Click a heading to sort by it."],
  ["gates", "gates", "The same added up over the files of gates. Click a heading to sort by it."],
  ["both", "gates of each layer", "Every gate of every layer. A round counts with the first gate whose opening shares it."],
];

/** Pairs are [P0, P1]. A column: key, heading, how to show, colour of its bar. */
const COLUMNS = [
  { key: "rounds", head: "rounds", show: (v) => count(v) },
  { key: "sent0", head: "P0 sends", show: bytes, bar: "send" },
  { key: "sent1", head: "P1 sends", show: bytes, bar: "send" },
  { key: "prepare", head: "in prepare", show: bytes, bar: "prepare" },
  { key: "tape0", head: "tape P0", show: bytes, bar: "prefetch" },
  { key: "tape1", head: "tape P1", show: bytes, bar: "prefetch" },
  { key: "aes", head: "AES steps", show: (v) => count(v), bar: "prefetch" },
  { key: "evaluate0", head: "P0 evaluates", show: exactSeconds, bar: "evaluate" },
  { key: "evaluate1", head: "P1 evaluates", show: exactSeconds, bar: "evaluate" },
  { key: "wait0", head: "P0 waits", show: exactSeconds, bar: "wait" },
  { key: "wait1", head: "P1 waits", show: exactSeconds, bar: "wait" },
  { key: "elapsed", head: "elapsed", show: exactSeconds, bar: "receive" },
  { key: "predicted", head: "predicted", show: exactSeconds, bar: "receive" },
];
const SUMMED = COLUMNS.map((c) => c.key).filter((k) => k !== "elapsed" && k !== "predicted"); // layers overlap in time

function plus(a, b) { return a === null ? b : b === null ? a : a + b; }

/** Rows of costs and seconds by call and gate, added up as the view asks. */
function tableRows(plan, run, view) {
  const rows = new Map();
  function add(call, gate, values) {
    const key = view === "layers" ? call : view === "gates" ? gate : call + "\n" + gate;
    if (!rows.has(key)) {
      const empty = Object.fromEntries(COLUMNS.map((c) => [c.key, null]));
      rows.set(key, { call: view === "gates" ? "" : call, gate: view === "layers" ? "" : gate, ...empty });
    }
    const row = rows.get(key);
    for (const [name, value] of Object.entries(values)) row[name] = plus(row[name], value);
  }
  for (const c of plan) {
    add(c.call, c.gate, { rounds: c.rounds, sent0: c.bytes_sent[0], sent1: c.bytes_sent[1], prepare: c.prepare_bytes[0] + c.prepare_bytes[1],
      tape0: c.tape_bytes[0], tape1: c.tape_bytes[1], aes: c.aes_steps });
  }
  for (const s of run.seconds) {
    add(s.call, s.gate || "(none)", { evaluate0: s.evaluate[0], evaluate1: s.evaluate[1], wait0: s.wait[0], wait1: s.wait[1] });
  }
  if (view === "layers") for (const c of run.calls) add(c.call, "", { elapsed: c.elapsed, predicted: c.predicted });
  return [...rows.values()];
}

class CostTable {
  constructor(table, names) { Object.assign(this, { table, names, view: "layers", sort: null, down: true }); }

  show(plan, run, view = this.view) {
    Object.assign(this, { plan, run, view });
    this.draw();
  }

  sortBy(key) {
    if (this.sort === key && !this.down) { this.sort = null; this.down = true; } // the third click: as planned
    else { this.down = this.sort !== key; this.sort = key; }
    this.draw();
  }

  draw() {
    const rows = tableRows(this.plan, this.run, this.view), ordered = this.ordered(rows);
    const shown = COLUMNS.filter((c) => rows.some((r) => r[c.key] !== null));
    const texts = [["call", "layer"], ["gate", "gate"]].filter(([key]) => rows.some((r) => r[key]));
    const most = Object.fromEntries(shown.map((c) => [c.key, Math.max(...rows.map((r) => r[c.key] || 0))]));
    const head = el("thead", {}, el("tr", {}, ...texts.map(([key, text]) => this.heading(key, text, "text")),
      ...shown.map((c) => this.heading(c.key, c.head, ""))));
    const body = el("tbody", {}, ...ordered.map((r) => el("tr", {}, ...texts.map(([key]) => el("td", { class: "text" }, r[key])),
      ...shown.map((c) => cell(c, r[c.key], most[c.key])))));
    const sums = shown.map((c) => (SUMMED.includes(c.key) ? rows.reduce((a, r) => plus(a, r[c.key]), null) : null));
    const foot = el("tfoot", {}, el("tr", {}, ...texts.map((_, i) => el("td", { class: "text" }, i ? "" : "total")),
      ...shown.map((c, i) => cell({ ...c, bar: null }, sums[i], 0, "total-" + c.key))));
    this.table.replaceChildren(head, body, foot);
  }

  heading(key, text, kind) {
    const mark = this.sort === key ? (this.down ? " \u2193" : " \u2191") : "";
    const node = el("th", { class: kind, scope: "col", tabindex: "0" }, text + mark);
    if (mark) node.setAttribute("aria-sort", this.down ? "descending" : "ascending");
    node.addEventListener("click", () => this.sortBy(key));
    node.addEventListener("keydown", (e) => { if (e.key === "Enter") this.sortBy(key); });
    return node;
  }

  ordered(rows) {
    if (!this.sort) return rows;
    const key = this.sort, way = this.down ? -1 : 1;
    return [...rows].sort((a, b) => {
      if (a[key] === null || b[key] === null) return (a[key] === null) - (b[key] === null);
      return way * (typeof a[key] === "string" ? a[key].localeCompare(b[key], "en", { numeric: true }) : a[key] - b[key]);
    });
  }
}

function cell(column, value, most, id = "") {
  const node = el("td", {}, value === null ? "" : column.show(value));
  if (value !== null) { node.dataset.value = value; node.title = value.toLocaleString("en", { maximumFractionDigits: 9 }); }
  if (id) node.id = id;
  if (value === 0) node.className = "zero";
  if (column.bar && most > 0 && value) {
    node.className = "bar";
    node.style.setProperty("--bar", `color-mix(in srgb, var(--${column.bar}) 28%, transparent)`);
    node.style.backgroundSize = `${((100 * value) / most).toFixed(1)}% 60%`;
  }
  return node;
}
