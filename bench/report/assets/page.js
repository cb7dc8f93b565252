"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const titles = {
    latency: "Latency (ms)", requests: "Requests (1/s)", errors: "Errors (1/s)", openings: "Viewers who start (1/s)",
    viewers: "Viewers", decisions: "Decisions by source (1/s)", middleware: "Calls of the middleware (1/s)",
    sessions: "Sessions", memory: "Memory (MB)", cpu: "CPU (cores)", bytes: "Bytes (MB/s)", free_rides: "Free rides (1/s)", free_riders: "Free riders", denials: "Denials (1/s)", breakers: "Breakers by state", rechecks: "Re-checks that wait", rechecks_granted: "Re-checks that recheck_rate let be made (1/s)", admissions: "Viewers admitted without an answer (1/s)",
  };
  const order = Object.keys(titles);
  const scales = { s: 1e3, B: 1e-6, "B/s": 1e-6 };
  const colours = ["#0969da", "#cf222e", "#2da44e", "#bf8700", "#8250df", "#1b7c83", "#bc4c00", "#e85aad", "#6e7781", "#9a6a4f"];
  const charts = document.getElementById("charts"), which = document.getElementById("which"), log = document.getElementById("log");
  const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  let plots = [];

  // bands draws the faults behind the lines, with their names, which have room until the next fault.
  const bands = faults => ({
    hooks: {
      drawClear: u => {
        const end = u.bbox.left + u.bbox.width;
        for (const fault of faults) {
          const left = Math.max(u.valToPos(fault.from, "x", true), u.bbox.left);
          const right = Math.min(u.valToPos(fault.to, "x", true), end);
          if (!(right > left)) continue;
          u.ctx.fillStyle = "rgba(207, 34, 46, .14)";
          u.ctx.fillRect(left, u.bbox.top, right - left, u.bbox.height);
          u.ctx.save();
          u.ctx.beginPath();
          const next = faults.find(f => f.from > fault.from);
          const room = Math.min(next ? u.valToPos(next.from, "x", true) : end, end) - left;
          u.ctx.rect(left, u.bbox.top, room, u.bbox.height);
          u.ctx.clip();
          u.ctx.fillStyle = style("--quiet");
          u.ctx.font = 11 * devicePixelRatio + "px system-ui, sans-serif";
          u.ctx.textAlign = "left";
          u.ctx.textBaseline = "top";
          u.ctx.fillText(fault.name, left + 4 * devicePixelRatio, u.bbox.top + 3 * devicePixelRatio);
          u.ctx.restore();
        }
      },
    },
  });

  const short = v => v == null ? "" : Math.abs(v) >= 1e6 ? (v / 1e6).toPrecision(3) + "M" : Math.abs(v) >= 1e4 ? (v / 1e3).toPrecision(3) + "k" : String(+v.toPrecision(3));
  const axis = extra => ({ stroke: style("--text"), grid: { stroke: style("--line"), width: .5 }, ticks: { stroke: style("--line") }, ...extra });

  function draw(title, x, lines, options) {
    const box = document.createElement("div");
    box.className = "chart";
    const heading = document.createElement("h3");
    heading.textContent = title;
    box.append(heading);
    charts.append(box);
    const width = box.clientWidth;
    plots.push(new uPlot({
      width, height: 230, padding: [null, 24, null, null], // half of the last label
      cursor: { sync: options.isTime ? { key: "time" } : undefined, drag: { x: true, y: false } },
      scales: { x: { time: false }, y: { distr: options.isLog ? 3 : 1, range: options.isLog ? undefined : (u, low, high) => [Math.min(low ?? 0, 0), high > 0 ? high * (options.faults?.length ? 1.2 : 1.05) : 1] } },
      axes: [axis({ values: options.labels ?? ((u, all) => all.map(v => short(v) + (options.isTime ? " s" : ""))) }), axis({ size: 56, values: (u, all) => all.map(short) })],
      series: [{ label: options.isTime ? "second" : "share" , value: (u, v) => options.name ? options.name(v) : short(v) },
        ...lines.map((line, i) => ({ label: line.name, stroke: colours[i % colours.length], dash: i < colours.length ? undefined : [6, 4], width: 1.5, points: { show: x.length < 3 }, value: (u, v) => short(v) }))],
      plugins: options.faults ? [bands(options.faults)] : [],
    }, [x, ...lines.map(line => line.values)], box));
  }

  function show() {
    for (const plot of plots) plot.destroy();
    plots = [];
    charts.replaceChildren();
    const m = data.measurements[+which.value || 0];
    document.getElementById("faults").textContent = (m.faults ?? []).map(f => `${f.name}: ${short(f.from)} s to ${short(f.to)} s`).join(", ");
    const groups = new Map();
    for (const line of m.lines) {
      const group = line.name.split(".")[0], name = line.name.slice(group.length + 1) || group;
      const scale = scales[line.unit] ?? 1;
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push({ name, values: line.values.map(v => v == null ? null : log.checked && group === "latency" && v <= 0 ? null : v * scale) });
    }
    const rank = name => order.includes(name) ? order.indexOf(name) : order.length;
    const shown = [...groups].filter(([group, lines]) => titles[group] || lines.some(line => line.values.some(v => v)));
    for (const [group, lines] of shown.sort((a, b) => rank(a[0]) - rank(b[0]) || a[0].localeCompare(b[0]))) {
      draw(titles[group] ?? group, m.seconds, lines, { isTime: true, isLog: log.checked && group === "latency", faults: m.faults ?? [] });
    }
    if (m.curves?.length) {
      const x = data.quantiles.map(q => -Math.log10(1 - q)), share = v => v == null ? "" : (100 * (1 - 10 ** -v)).toPrecision(6).replace(/\.?0+$/, "") + " %";
      draw("Latency by share of the requests (ms)", x, m.curves, { name: share, isLog: log.checked, labels: (u, all) => all.map(v => Number.isInteger(v) ? share(v) : "") });
    }
  }

  if (!data.measurements?.some(m => m.seconds?.length)) return;
  document.getElementById("plots").hidden = false;
  data.measurements.forEach((m, i) => which.append(new Option(m.name, i)));
  which.addEventListener("change", show);
  log.addEventListener("change", show);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; show(); } });
  show();
})();
