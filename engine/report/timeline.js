"use strict";
// The canvas of lanes. Times are whole microseconds from the beginning of the run.

const LANES = [
  ["evaluate", "computing with keys and tables"],
  ["wait", "nothing to compute until the other side's bytes are in"],
  ["send", "handing frames to the network"],
  ["receive", "taking frames from the network"],
  ["prefetch", "reading tape ahead of its use"],
  ["prepare", "work and messages that do not depend on the input"],
];
const ROLES = ["P0, client", "P1, model owner"];
const LEFT = 92, RULER = 66, ROUNDS = 36, CALLS = 46, LANE = 18, PREDICTED = 8, GAP = 5, HEAD = 22;

function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim(); }

/** First index of a sorted list whose value is at least x. */
function lowerBound(list, x) {
  let low = 0, high = list.length;
  while (low < high) { const middle = (low + high) >> 1; if (list[middle] < x) low = middle + 1; else high = middle; }
  return low;
}

class Timeline {
  constructor(canvas, tip, names) {
    Object.assign(this, { canvas, tip, names, rows: [], drag: null });
    this.listen();
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
  }

  show(run) {
    this.run = run;
    this.rows = this.layout(run);
    this.height = this.rows.length ? this.rows[this.rows.length - 1].bottom + 8 : RULER;
    this.all();
  }

  /** One row for a party's name, one for each of its lanes that has events, measured above predicted. */
  layout(run) {
    const rows = [];
    let y = RULER;
    ROLES.forEach((role, party) => {
      const measured = run.sides[party], predicted = run.predicted[party];
      if (!measured && !predicted) return;
      rows.push({ title: role, top: y, bottom: y + HEAD });
      y += HEAD;
      for (const [lane] of LANES) {
        const parts = [];
        if (hasEvents(measured, lane)) parts.push({ levels: measured, height: LANE, what: "measured" });
        if (hasEvents(predicted, lane)) parts.push({ levels: predicted, height: measured ? PREDICTED : LANE, what: "predicted" });
        if (!parts.length) continue;
        const top = y;
        for (const part of parts) { part.top = y; y += part.height + 1; }
        y += GAP;
        rows.push({ role, lane, parts, top, bottom: y });
      }
    });
    return rows;
  }

  all() { this.view(0, this.run.span * 1e6); }
  online() { this.view(this.run.online * 1e6, this.run.span * 1e6); }

  view(from, to) {
    const whole = this.run.span * 1e6, least = 20;
    const width = Math.min(Math.max(to - from, least), whole * 1.02);
    const start = Math.min(Math.max(from, -0.01 * whole), 1.01 * whole - width);
    this.from = start; this.to = start + width;
    this.draw();
  }

  zoom(factor, at = this.width / 2 + LEFT) {
    const t = this.time(at);
    this.view(t - (t - this.from) * factor, t + (this.to - t) * factor);
  }

  pan(share) { const by = (this.to - this.from) * share; this.view(this.from + by, this.to + by); }
  x(t) { return LEFT + ((t - this.from) / (this.to - this.from)) * this.width; }
  time(x) { return this.from + ((x - LEFT) / this.width) * (this.to - this.from); }

  /** The coarsest level that is as fine as a pixel, else the finest. */
  level(levels) {
    const pixel = (this.to - this.from) / this.width;
    return levels.find((level) => level.bin <= pixel) || levels[levels.length - 1];
  }

  draw() {
    const box = this.canvas.parentElement.clientWidth;
    if (!this.run || !box) return;
    this.width = Math.max(box - LEFT - 8, 50);
    const context = fit(this.canvas, box, this.height), ink = colour("ink"), soft = colour("soft");
    this.font = "12px system-ui, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', sans-serif";
    context.font = this.font;
    context.textBaseline = "middle";
    this.drawPhases(context, soft);
    this.drawRuler(context, soft);
    this.drawCalls(context, ink);
    for (const row of this.rows) {
      if (row.title) {
        context.fillStyle = ink;
        context.font = "600 " + this.font;
        context.fillText(row.title, 0, row.top + HEAD / 2);
        context.font = this.font;
        continue;
      }
      context.fillStyle = soft;
      context.fillText(row.lane, 10, row.parts[0].top + row.parts[0].height / 2);
      for (const part of row.parts) this.drawPart(context, row, part);
    }
    this.drawRounds(context, soft);
  }

  drawPhases(context, soft) {
    const edge = this.x(this.run.online * 1e6);
    context.fillStyle = colour("chip");
    context.globalAlpha = 0.55;
    if (edge > LEFT) context.fillRect(LEFT, 0, Math.min(edge, LEFT + this.width) - LEFT, this.height);
    context.globalAlpha = 1;
    context.fillStyle = soft;
    for (const [text, from, to] of [["prepare", 0, this.run.online], ["online", this.run.online, this.run.span]]) {
      const a = Math.max(this.x(from * 1e6), LEFT), b = Math.min(this.x(to * 1e6), LEFT + this.width);
      if (b - a > context.measureText(text).width + 10) context.fillText(text, a + 4, 8);
    }
  }

  drawRuler(context, soft) {
    const step = tick((this.to - this.from) / Math.max(this.width / 110, 2));
    context.fillStyle = soft;
    context.strokeStyle = colour("line");
    for (let t = Math.ceil(this.from / step) * step; t <= this.to; t += step) {
      const x = Math.round(this.x(t)) + 0.5;
      if (x < LEFT) continue;
      line(context, x, 16, x, this.height);
      if (x + 50 < LEFT + this.width) context.fillText(seconds(Math.abs(t) < step / 2 ? 0 : t / 1e6, step / 1e6), x + 3, 22);
    }
  }

  /** A band that says which part of the plan it is: its first to its last instant on either side. */
  drawCalls(context, ink) {
    context.fillStyle = colour("soft");
    context.fillText("layer", 10, CALLS + 7);
    this.run.calls.forEach((call, i) => {
      if (!call.at) return;
      const a = Math.max(this.x(call.at[0]), LEFT), b = Math.min(this.x(call.at[1]), LEFT + this.width);
      if (b <= a) return;
      context.fillStyle = colour(i % 2 ? "line" : "chip");
      context.fillRect(a, CALLS, b - a, 14);
      context.fillStyle = ink;
      if (b - a > context.measureText(call.call).width + 6) context.fillText(call.call, a + 3, CALLS + 7.5);
    });
  }

  drawRounds(context, soft) {
    context.strokeStyle = colour("mark");
    context.fillStyle = soft;
    let before = this.run.online * 1e6, drawn = -10;
    for (const mark of this.run.rounds) {
      const a = this.x(before), b = this.x(mark.over), text = String(mark.round);
      before = mark.over;
      if (b < LEFT || a > LEFT + this.width) continue;
      if (b <= LEFT + this.width && b - drawn >= 4) { line(context, Math.round(b) + 0.5, ROUNDS - 4, Math.round(b) + 0.5, this.height); drawn = b; }
      const middle = (Math.max(a, LEFT) + Math.min(b, LEFT + this.width)) / 2, wide = context.measureText(text).width;
      if (Math.min(b, LEFT + this.width) - Math.max(a, LEFT) > wide + 4) context.fillText(text, middle - wide / 2, ROUNDS);
    }
    context.fillText("round", 10, ROUNDS);
  }

  drawPart(context, row, part) {
    const level = this.level(part.levels), blocks = level.lanes[row.lane];
    if (!blocks.start) return;
    const base = colour(row.lane), predicted = part.what === "predicted";
    const first = Math.max(0, lowerBound(blocks.start, this.from - longest(blocks)) - 1);
    context.fillStyle = base;
    for (let i = first; i < blocks.start.length && blocks.start[i] <= this.to; i++) {
      const a = Math.max(this.x(blocks.start[i]), LEFT), b = Math.min(this.x(blocks.start[i] + blocks.duration[i]), LEFT + this.width);
      if (b < LEFT) continue;
      const share = blocks.duration[i] ? blocks.busy[i] / blocks.duration[i] : 1;
      context.globalAlpha = (predicted ? 0.55 : 1) * (0.3 + 0.7 * share);
      const wide = Math.max(b - a - (b - a > 4 ? 1 : 0), 0.8);
      context.fillRect(a, part.top, wide, part.height);
      if (part.height === LANE && wide > 34) this.label(context, this.text(blocks, i), a, wide, part, base);
    }
    context.globalAlpha = 1;
  }

  text(blocks, i) {
    return blocks.count[i] > 1 ? this.names[blocks.call[i]] : this.names[blocks.gate[i]] || this.names[blocks.call[i]];
  }

  label(context, text, x, wide, part, base) {
    if (context.measureText(text).width > wide - 8) return;
    context.globalAlpha = 1;
    context.fillStyle = colour("card");
    context.fillText(text, x + 4, part.top + part.height / 2 + 0.5);
    context.fillStyle = base;
  }

  /** The block under the pointer. */
  at(x, y) {
    const row = this.rows.find((r) => r.parts && y >= r.top && y < r.bottom);
    if (!row || x < LEFT) return null;
    const part = row.parts.find((p) => y < p.top + p.height + 1) || row.parts[row.parts.length - 1];
    const blocks = this.level(part.levels).lanes[row.lane];
    if (!blocks.start) return null;
    const t = this.time(x), slack = (2 * (this.to - this.from)) / this.width;
    for (let i = Math.min(lowerBound(blocks.start, t + slack), blocks.start.length - 1); i >= 0; i--) {
      if (blocks.start[i] - slack <= t && t <= blocks.start[i] + blocks.duration[i] + slack) return { row, part, blocks, i };
      if (blocks.start[i] < t - slack - longest(blocks)) return null;
    }
    return null;
  }

  hover(event) {
    const box = this.canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    const found = this.at(x, y);
    this.tip.hidden = !found;
    if (!found) return;
    const { row, part, blocks, i } = found, many = blocks.count[i] > 1;
    const start = blocks.start[i] / 1e6 - this.run.online, length = blocks.duration[i] / 1e6;
    const rounds = blocks.round[i] === blocks.last[i] ? `round ${blocks.round[i]}` : `rounds ${blocks.round[i]} to ${blocks.last[i]}`;
    const gate = !many && this.names[blocks.gate[i]] ? `, ${this.names[blocks.gate[i]]}` : "";
    const lines = [
      `${row.role}, ${row.lane}${part.what === "predicted" ? " (predicted)" : ""}`,
      `${this.names[blocks.call[i]]}${gate}; ${rounds}`,
      `${exactSeconds(length)}, ${start < 0 ? "before online: " : "online at "}${exactSeconds(Math.abs(start))}`,
    ];
    if (many) lines.push(`${blocks.count[i].toLocaleString("en")} events, busy ${exactSeconds(blocks.busy[i] / 1e6)}: zoom in for each`);
    if (blocks.bytes[i]) lines.push(`${bytes(blocks.bytes[i])} (${blocks.bytes[i].toLocaleString("en")} bytes)`);
    tooltip(this.tip, lines, x, y, box.width);
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (e) => {
      this.drag = { x: e.clientX, from: this.from, to: this.to };
      canvas.setPointerCapture(e.pointerId);
      canvas.classList.add("moving");
    });
    canvas.addEventListener("pointermove", (e) => {
      if (!this.drag) return this.hover(e);
      const by = ((this.drag.x - e.clientX) / this.width) * (this.drag.to - this.drag.from);
      this.tip.hidden = true;
      this.view(this.drag.from + by, this.drag.to + by);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, () => { this.drag = null; canvas.classList.remove("moving"); });
    }
    canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    canvas.addEventListener("dblclick", (e) => this.zoom(0.4, e.offsetX));
    canvas.addEventListener("wheel", (e) => {
      if (e.ctrlKey || e.metaKey) { e.preventDefault(); this.zoom(Math.exp(e.deltaY * 0.003), e.offsetX); }
      else if (Math.abs(e.deltaX) > Math.abs(e.deltaY)) { e.preventDefault(); this.pan(e.deltaX / this.width); }
    }, { passive: false });
    const keys = { w: () => this.zoom(0.6), s: () => this.zoom(1 / 0.6), a: () => this.pan(-0.2), d: () => this.pan(0.2),
      ArrowLeft: () => this.pan(-0.2), ArrowRight: () => this.pan(0.2), "+": () => this.zoom(0.6), "-": () => this.zoom(1 / 0.6),
      0: () => this.all() };
    canvas.addEventListener("keydown", (e) => { if (keys[e.key] && !e.ctrlKey) { e.preventDefault(); keys[e.key](); } });
  }
}

function hasEvents(levels, lane) { return Boolean(levels && levels.some((level) => level.lanes[lane].start)); }

function longest(blocks) {
  if (blocks.longest === undefined) blocks.longest = blocks.duration.reduce((a, b) => Math.max(a, b), 0);
  return blocks.longest;
}

function line(context, x0, y0, x1, y1) { context.beginPath(); context.moveTo(x0, y0); context.lineTo(x1, y1); context.stroke(); }

/** Size the canvas for the screen's pixels; a cleared context in CSS pixels. */
function fit(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = height + "px";
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

function tick(least) {
  const power = Math.pow(10, Math.floor(Math.log10(least)));
  return [1, 2, 5, 10].map((k) => k * power).find((step) => step >= least);
}

/** An instant, with as many digits as its axis needs. */
function seconds(value, step) {
  if (step >= 1) return value.toFixed(0) + " s";
  if (step >= 1e-3) return (value * 1e3).toFixed(0) + " ms";
  return (value * 1e3).toFixed(Math.min(3, Math.ceil(-Math.log10(step * 1e3)))) + " ms";
}

function tooltip(tip, lines, x, y, width) {
  tip.replaceChildren(...lines.map((text, i) => { const e = document.createElement(i ? "span" : "b"); e.textContent = text; return e; }));
  tip.hidden = false;
  tip.style.left = Math.min(x + 14, Math.max(0, width - tip.offsetWidth - 4)) + "px";
  tip.style.top = y + 16 + "px";
}
