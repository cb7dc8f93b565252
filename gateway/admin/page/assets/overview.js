// The first view: what the cluster does now, and did in the last minutes.

import { badge, h, replace, setBadge, setText, updateRows } from "./dom.js";
import { history, describe, sparkline } from "./chart.js";
import { count, percent, plural, rate } from "./format.js";

function figure(title, href) {
  const value = h("p", { class: "value" }, "–"), note = h("p", { class: "hint" });
  const head = h("h2", null, href ? h("a", { href }, title) : title);
  return { card: h("section", { class: "card figure" }, head, value, note), value, note };
}

function charted(title) {
  const f = figure(title);
  f.chart = sparkline(`${title}, last ten minutes`);
  f.card.insertBefore(f.chart.element, f.note);
  return f;
}

export function overview(app) {
  const sessions = figure("Sessions", "#/sessions"), openings = charted("Openings per second"), denials = charted("Denials per second"),
    failOpen = charted("Fail-open share");
  const warning = h("p", { class: "banner", role: "status", hidden: true });
  const lights = h("ul", { class: "lights" }, h("li", { class: "hint" }, "Waiting for the first overview."));
  const element = h("div", null, h("h1", null, "Overview"), warning,
    h("div", { class: "figures" }, sessions.card, openings.card, denials.card, failOpen.card),
    h("section", { class: "card" }, h("h2", null, h("a", { href: "#/backends" }, "Breakers"), h("span", { class: "hint" }, " last ten minutes, newest right")), lights));

  function light(backend) {
    const strip = history();
    const row = h("li", null, h("span", { class: "name" }, backend.name), badge(backend.breaker), strip.element, h("span", { class: "hint" }));
    row.strip = strip;
    return row;
  }

  return {
    element,
    onOverview(o) {
      setText(sessions.value, count(o.sessions, o.approximate));
      setText(sessions.note, `on ${plural(o.nodes.length, "node", "nodes")}; ${percent(o.unverified_share)} unverified`);
      setText(openings.value, rate(o.openings_per_second));
      setText(denials.value, rate(o.denials_per_second));
      setText(failOpen.value, percent(o.fail_open_share));
      const most = (values) => Math.max(0, ...values);
      setText(openings.note, `at most ${rate(most(o.series.openings_per_second))} in ten minutes`);
      setText(denials.note, `at most ${rate(most(o.series.denials_per_second))} in ten minutes`);
      setText(failOpen.note, `at most ${percent(most(o.series.fail_open_share))} in ten minutes`);
      openings.chart.draw(o.series.openings_per_second, 1);
      denials.chart.draw(o.series.denials_per_second, 1);
      failOpen.chart.draw(o.series.fail_open_share, 0.01);
      failOpen.card.classList.toggle("warned", o.fail_open_share > 0);
      const warnings = [];
      if (!o.redis_up) warnings.push("Redis is unavailable: nodes serve from local state.");
      if (o.unreachable_nodes?.length) warnings.push(`Nodes that did not respond: ${o.unreachable_nodes.join(", ")}.`);
      warning.hidden = warnings.length === 0;
      setText(warning, warnings.join(" "));
      if (!o.backends.length) return replace(lights, h("li", { class: "hint" }, "There are no backends."));
      lights.querySelector("li:not([data-key])")?.remove();
      updateRows(lights, o.backends, (b) => b.name, light, (row, b) => {
        setBadge(row.children[1], b.breaker);
        row.strip.draw(b.name, b.history, o.interval_seconds);
        setText(row.children[3], describe(b.history, o.interval_seconds));
      });
    },
  };
}
