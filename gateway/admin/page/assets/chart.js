// Draws small charts as SVG, without a library.

import { svg } from "./dom.js";
import { seconds } from "./format.js";

const WIDTH = 240, HEIGHT = 48;

// KEPT is how many values the longest series has: those of ten minutes. A shorter one begins further right.
const KEPT = 120;

// sparkline returns a chart and a function that draws values into it. The scale begins at zero.
export function sparkline(label) {
  const title = svg("title", null, label);
  const area = svg("path", { class: "area" });
  const line = svg("path", { class: "line" });
  const chart = svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label }, title, area, line);
  return {
    element: chart,
    draw(values, most = 0) {
      const top = Math.max(most, ...values, 1e-9);
      const step = WIDTH / (KEPT - 1), first = WIDTH - (values.length - 1) * step;
      const points = values.map((v, i) => `${(first + i * step).toFixed(1)},${(HEIGHT - 2 - (v / top) * (HEIGHT - 4)).toFixed(1)}`);
      line.setAttribute("d", points.length ? "M" + points.join("L") : "");
      area.setAttribute("d", points.length ? `M${first.toFixed(1)},${HEIGHT}L${points.join("L")}L${WIDTH},${HEIGHT}Z` : "");
    },
  };
}

const words = { c: "closed", h: "half-open", o: "open", "-": "unknown" };
const heights = { c: 6, h: 14, o: 22, "-": 2 };

// history returns a strip of a breaker's states over time, and a function that draws it. A worse state is higher, so that it does
// not hang on the colour.
export function history() {
  const chart = svg("svg", { class: "history", preserveAspectRatio: "none", role: "img" });
  let drawn = "";
  return {
    element: chart,
    draw(name, states, interval) {
      if (states === drawn) return;
      drawn = states;
      chart.setAttribute("viewBox", `0 0 ${KEPT} 24`);
      const bars = [...states].map((s, i) => svg("rect", { class: words[s] ?? "unknown", x: KEPT - states.length + i, width: 1.02, y: 24 - heights[s], height: heights[s] }));
      chart.replaceChildren(...bars);
      chart.setAttribute("aria-label", `Breaker of ${name}: ${describe(states, interval)}`);
    },
  };
}

// describe says what a history shows.
export function describe(states, interval) {
  const open = [...states].filter((s) => s === "o").length, half = [...states].filter((s) => s === "h").length;
  const last = seconds([...states].filter((s) => s !== "-").length * interval);
  if (open + half === 0) return `closed for the last ${last}`;
  const parts = [["open", open], ["half-open", half]].filter(([, n]) => n).map(([state, n]) => `${state} for ${seconds(n * interval)}`);
  return `${parts.join(", ")} of the last ${last}`;
}
