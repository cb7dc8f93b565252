// What every part of the page uses to write to it. Data from outside is set as text, never as markup.

export const byId = (id) => document.getElementById(id);

// setText sets the text of an element. Screen readers announce every write to a live region, so what is unchanged is not written.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export const set = (id, text) => setText(byId(id), text);

// element creates an element with attributes and children; undefined ones are omitted.
export function element(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== undefined));
  return node;
}

// nbsp keeps a number and its unit on one line.
const nbsp = "\u00a0";

export function duration(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (Number.isNaN(s)) return "–";
  if (s < 60) return s + nbsp + "s";
  if (s < 3600) return Math.floor(s / 60) + nbsp + "min";
  return Math.floor(s / 3600) + nbsp + "h";
}

export function size(bytes) {
  if (!(bytes >= 1000)) return (bytes ?? 0) + nbsp + "B";
  if (bytes < 1e6) return (bytes / 1e3).toFixed(0) + nbsp + "kB";
  if (bytes < 1e9) return (bytes / 1e6).toFixed(1) + nbsp + "MB";
  return (bytes / 1e9).toFixed(2) + nbsp + "GB";
}

export const plural = (n, noun) => (n === 1 ? `1 ${noun}` : `${n.toLocaleString("en")} ${noun}s`);
