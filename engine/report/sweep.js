// The page of a sweep: bars by network or by plan, growth with the length, and the table. All numbers come from the embedded JSON.

const HUES = ["evaluate", "wait", "send", "receive", "prefetch", "latency", "prepare", "other"];
const ROWS = RESULT.rows.map((row, number) => ({ ...row, number }));
const TEXTS = [["model", "model"], ["tokens", "tokens"], ["weights", "weights"], ["variants", "variants"], ["network", "network"]];
const percent = (v) => (v * 100).toFixed(0) + " %";
const NUMBERS = [
  { key: "online", head: "online", show: exactSeconds, hue: "evaluate" },
  { key: "prepare", head: "prepare", show: exactSeconds, hue: "prepare" },
  { key: "compute", head: "compute alone", show: exactSeconds, hue: "evaluate" },
  { key: "wire", head: "network alone", show: exactSeconds, hue: "latency" },
  { key: "rounds", head: "rounds", show: count },
  { key: "bytes_p0", head: "P0 sends", show: bytes, hue: "send" },
  { key: "bytes_p1", head: "P1 sends", show: bytes, hue: "send" },
  { key: "link_use", head: "link in use", show: percent },
  { key: "cores_use", head: "processors in use", show: percent },
];
const GLOSSARY = [
  ["online", "Predicted seconds from the masked input to the result, of the slower party."],
  ["prepare", "Seconds of what depends on no input and is done before."],
  ["compute alone", "Online seconds if the network took no time."],
  ["network alone", "Online seconds if the work took no time: rounds times half a round trip, and the bytes."],
  ["rounds", "Times that both parties wait for each other's messages."],
  ["link in use", "Of the online time, how much the busier direction carries bytes."],
];

/** What differs between rows: what a series, or a group, is called. */
const VARYING = TEXTS.map(([key]) => key).filter((key) => new Set(ROWS.map((r) => r[key])).size > 1);

function named(row, without) {
  const parts = ["model", ...VARYING].filter((key, i, all) => all.indexOf(key) === i && !without.includes(key));
  return parts.map((key) => (key === "tokens" ? `${row.tokens} tokens` : row[key])).join(", ");
}

function groupedBy(rows, name) {
  const groups = new Map();
  for (const row of rows) groups.set(name(row), [...(groups.get(name(row)) || []), row]);
  return groups;
}

function described(row) {
  return `${named(row, [])}: ` + NUMBERS.map((c) => `${c.head} ${c.show(row[c.key])}`).join(", ");
}

const series = (row) => named(row, ["network"]);
const GROUPS = [
  ["network", "by network", "For each network what every plan takes there. Bars of a group share a scale.", (r) => r.network, series],
  ["plan", "by plan", "For each plan what it takes on every network. Bars of a group share a scale.", series, (r) => r.network],
];

function drawBars(which) {
  const [, , hint, group, name] = GROUPS.find(([key]) => key === which);
  const names = [...new Set(ROWS.map(name))];
  byId("bars-hint").textContent = hint;
  for (const button of byId("groups").children) button.setAttribute("aria-pressed", button.dataset.group === which);
  byId("bars").replaceChildren(...[...groupedBy(ROWS, group)].flatMap(([title, rows]) => {
    const most = Math.max(...rows.map((r) => Math.max(r.online, r.wire, r.compute)));
    return [el("h3", {}, title), ...rows.map((r) => bar(r, name(r), most, HUES[names.indexOf(name(r)) % HUES.length]))];
  }));
}

function bar(row, name, most, hue) {
  const at = (value) => `${most ? (100 * value) / most : 0}%`;
  const whole = el("div", { class: "whole", "data-value": row.online, "data-row": row.number });
  whole.style.width = at(row.online);
  whole.style.background = `var(--${hue})`;
  const marks = [["wire", "network"], ["compute", "compute"]].map(([key, kind]) => {
    const mark = el("div", { class: `mark ${kind}` });
    mark.style.left = at(row[key]);
    return mark;
  });
  const number = el("div", { class: "number" }, exactSeconds(row.online));
  number.style.left = at(Math.max(row.online, row.wire, row.compute));
  return el("div", { class: "bar-row", title: described(row) }, el("div", { class: "name" }, name), el("div", { class: "track" }, whole, ...marks, number));
}

// ---------------------------------------------------------------------- growth
const SIZE = { width: 1000, height: 360, left: 70, right: 20, top: 14, bottom: 34 };

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Places of values on a logarithmic axis, from `begin` to `end`. */
function axis(values, begin, end) {
  const low = Math.log(Math.min(...values)), high = Math.log(Math.max(...values));
  return (v) => (high > low ? begin + ((Math.log(v) - low) / (high - low)) * (end - begin) : (begin + end) / 2);
}

function ticks(values) {
  const low = Math.min(...values), high = Math.max(...values), found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const digit of [1, 2, 5]) found.push(digit * 10 ** power);
  }
  return found.filter((v) => v >= low && v <= high);
}

function drawGrowth() {
  const rows = ROWS.filter((r) => r.online > 0), lengths = [...new Set(rows.map((r) => r.tokens))].sort((a, b) => a - b);
  byId("growth-panel").hidden = lengths.length < 2;
  if (lengths.length < 2) return;
  const x = axis(lengths, SIZE.left, SIZE.width - SIZE.right), seconds = rows.map((r) => r.online);
  const y = axis(seconds, SIZE.height - SIZE.bottom, SIZE.top);
  const picture = svg("svg", { viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: "img", "aria-label": "online seconds by tokens" });
  for (const n of lengths) picture.append(svg("text", { x: x(n), y: SIZE.height - 10, "text-anchor": "middle" }, String(n)));
  for (const t of ticks(seconds)) {
    picture.append(svg("line", { x1: SIZE.left, x2: SIZE.width - SIZE.right, y1: y(t), y2: y(t) }), svg("text", { x: SIZE.left - 8, y: y(t) + 4, "text-anchor": "end" }, exactSeconds(t)));
  }
  const lines = [...groupedBy(rows, (r) => named(r, ["tokens"]))];
  for (const [i, [, line]] of lines.entries()) {
    const hue = `var(--${HUES[i % HUES.length]})`, ordered = [...line].sort((a, b) => a.tokens - b.tokens);
    picture.append(svg("polyline", { points: ordered.map((r) => `${x(r.tokens)},${y(r.online)}`).join(" "), style: `stroke: ${hue}` }));
    for (const r of ordered) picture.append(svg("circle", { cx: x(r.tokens), cy: y(r.online), r: 4, style: `fill: ${hue}`, "data-value": r.online }, svg("title", {}, described(r))));
  }
  byId("growth").replaceChildren(picture);
  byId("growth-legend").replaceChildren(...lines.map(([name], i) => legend(name, "", HUES[i % HUES.length])));
}

function legend(text, kind, hue) {
  const mark = el("i", { class: kind });
  if (hue) mark.style.background = `var(--${hue})`;
  return el("li", {}, mark, text);
}

// ---------------------------------------------------------------------- table
const order = { key: "number", down: false };

function drawTable() {
  const rows = [...ROWS].sort((a, b) => {
    const less = typeof a[order.key] === "string" ? a[order.key].localeCompare(b[order.key], "en", { numeric: true }) : a[order.key] - b[order.key];
    return (order.down ? -less : less) || a.number - b.number;
  });
  const head = [...TEXTS.map(([key, text]) => heading(key, text, "text")), ...NUMBERS.map((c) => heading(c.key, c.head, ""))];
  const most = Object.fromEntries(NUMBERS.map((c) => [c.key, Math.max(...ROWS.map((r) => r[c.key]))]));
  const body = rows.map((r) => el("tr", { "data-row": r.number },
    ...TEXTS.map(([key]) => el("td", { class: "text" }, String(r[key]))), ...NUMBERS.map((c) => number(c, r, most[c.key]))));
  byId("rows").replaceChildren(el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body));
}

function heading(key, text, kind) {
  const mark = order.key === key ? (order.down ? " \u2193" : " \u2191") : "";
  const node = el("th", { class: kind, scope: "col", tabindex: "0" }, text + mark);
  const sort = () => { Object.assign(order, { down: order.key === key && !order.down, key }); drawTable(); };
  node.addEventListener("click", sort);
  node.addEventListener("keydown", (e) => { if (e.key === "Enter") sort(); });
  return node;
}

function number(column, row, most) {
  const value = row[column.key], node = el("td", { id: `${column.key}-${row.number}`, title: value.toLocaleString("en", { maximumFractionDigits: 9 }) }, column.show(value));
  node.dataset.value = value;
  if (column.hue && most > 0) {
    node.className = "bar";
    node.style.setProperty("--bar", `color-mix(in srgb, var(--${column.hue}) 28%, transparent)`);
    node.style.backgroundSize = `${((100 * value) / most).toFixed(1)}% 60%`;
  }
  return node;
}

function main() {
  themed(() => {});
  const facts = { device: RESULT.device, overlap: RESULT.overlap ? "yes" : "no, a barrier after every round", rows: String(ROWS.length) };
  byId("facts").append(...Object.entries(facts).map(([name, value]) => el("li", {}, el("b", {}, name), value)));
  for (const [key, text] of GROUPS) {
    const button = el("button", { type: "button", "data-group": key }, text);
    button.addEventListener("click", () => drawBars(key));
    byId("groups").append(button);
  }
  byId("bars-legend").append(legend("network alone", "line"), legend("compute alone", "line dotted"));
  byId("glossary").append(...GLOSSARY.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
  drawBars("network");
  drawGrowth();
  drawTable();
  document.documentElement.dataset.ready = "yes";
}

main();
