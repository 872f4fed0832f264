// What both pages have in common: the command's result, elements, numbers for people, light and dark.

const RESULT = JSON.parse(document.getElementById("result").textContent);

function byId(id) { return document.getElementById(id); }

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== "") node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function bytes(value) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (value < 1000 || unit === "GB") return `${unit === "B" ? value : value.toFixed(unit === "GB" ? 2 : 1)} ${unit}`;
    value /= 1000;
  }
}

function count(value) { return value < 1e6 ? value.toLocaleString("en") : `${(value / 1e6).toFixed(value < 1e7 ? 2 : 1)} M`; }

function exactSeconds(value) {
  if (value >= 100) return value.toFixed(1) + " s";
  if (value >= 1) return value.toFixed(2) + " s";
  if (value >= 1e-3) return (value * 1e3).toFixed(value < 0.01 ? 2 : 1) + " ms";
  return (value * 1e6).toFixed(0) + " \u00b5s";
}

function choose(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = theme === "dark" ? "\u263c" : "\u263e";
}

/** As the system is, until the button is pressed; `redraw` is for what does not follow the style by itself. */
function themed(redraw) {
  const dark = window.matchMedia && matchMedia("(prefers-color-scheme: dark)").matches;
  choose(dark ? "dark" : "light");
  byId("theme").addEventListener("click", () => { choose(document.documentElement.dataset.theme === "dark" ? "light" : "dark"); redraw(); });
}
