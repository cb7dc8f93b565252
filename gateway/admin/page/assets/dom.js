// Builds and updates elements. Text is always set as text, so that no user name or reason becomes markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((c) => c !== undefined && c !== null && c !== false));
  return element;
}

// h returns an element: h("p", { class: "hint" }, "text", child).
export const h = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);

// svg returns an SVG element.
export const svg = (tag, properties, ...children) => fill(document.createElementNS(SVG, tag), properties, children);

// setText changes text only if it differs, so that nothing is repainted or announced in vain. It reports whether it did.
export function setText(element, text) {
  text = String(text);
  if (element.textContent === text) return false;
  element.textContent = text;
  return true;
}

// replace gives an element new children.
export const replace = (element, ...children) => element.replaceChildren(...children.flat(Infinity).filter((c) => c || c === 0));

// updateRows makes the children of body those of the items, in their order, and keeps the rows that are there. build returns the
// row of an item, and update changes a row.
export function updateRows(body, items, key, build, update) {
  const rows = new Map([...body.children].map((row) => [row.dataset.key, row]));
  let at = body.firstElementChild;
  for (const item of items) {
    let row = rows.get(key(item));
    if (row) rows.delete(key(item));
    else {
      row = build(item);
      row.dataset.key = key(item);
    }
    update(row, item);
    if (row === at) at = at.nextElementSibling;
    else body.insertBefore(row, at);
  }
  for (const row of rows.values()) row.remove();
}

// table returns a table that becomes cards on a phone, and its body. Each column is its title.
export function table(caption, columns) {
  const body = h("tbody");
  const head = h("tr", null, columns.map((c) => h("th", { scope: "col" }, c)));
  const t = h("table", { class: "cards" }, h("caption", { class: "unseen" }, caption), h("thead", null, head), body);
  return { element: t, body, columns };
}

// cells returns a row with a cell of each column, which a phone shows beside its value.
export const cells = (columns, properties) => h("tr", properties, columns.map((c) => h("td", { "data-label": c })));

// badge returns a state as a word with a sign, so that it does not hang on the colour.
export function badge(state, text) {
  return h("span", { class: "badge " + tone(state) }, text ?? state);
}

// setBadge changes a badge.
export function setBadge(element, state, text) {
  element.className = "badge " + tone(state);
  return setText(element, text ?? state);
}

function tone(state) {
  switch (state) {
    case "allowed": case "closed": case "alive": return "good";
    case "half-open": case "fail-open": case "cached": case "ticket": case "draining": case "unverified": return "warn";
    case "denied": case "open": case "silent": return "bad";
    default: return "plain";
  }
}
