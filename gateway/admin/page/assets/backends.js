// The backends of the node that serves the page, with the breaker's history over all nodes.

import * as api from "./api.js";
import { badge, cells, h, replace, setBadge, setText, table, updateRows } from "./dom.js";
import { describe, history } from "./chart.js";
import { confirmDialog, durations, later, reasonField } from "./dialogs.js";
import { count, milliseconds, percent, rate, timeOfDay, until } from "./format.js";
import { paced } from "./paced.js";

const policies = { allow: "allow: admits", keep: "keep: keeps who watches", deny: "deny: refuses" };

export function backends(app) {
  const summary = h("p", { class: "summary", role: "status" }, "Reading…"), list = h("div", { class: "backends" });
  const element = h("div", null, h("h1", null, "Backends"), summary, list);
  let isClosed = false;

  function force(b, state) {
    const text = { open: "No check calls the backend: viewers get what the outage policy says.", closed: "Every check calls the backend, whatever fails.", auto: "The breaker decides by itself again." }[state];
    confirmDialog({
      title: state === "auto" ? `Let the breaker of ${b.name} decide` : `Force the breaker of ${b.name} ${state}`, text: text + " On all nodes.", action: state === "auto" ? "Let it decide" : `Force ${state}`, isDangerous: state === "open",
      fields: state === "auto" ? [reasonField()] : [durations([["5m", "5 minutes"], ["10m", "10 minutes"], ["1h", "1 hour"], ["8h", "8 hours"]], "10m"), reasonField()],
      async submit(values) {
        const body = { state, reason: values.get("reason") || undefined, duration: values.get("duration") ?? undefined };
        const result = await api.write("POST", `backends/${encodeURIComponent(b.name)}/breaker`, body);
        const missing = Object.entries(result.not_forced ?? {}).map(([node, why]) => `${node}: ${why}`);
        app.notify(`The breaker of ${b.name} is ${state === "auto" ? "automatic again" : "forced " + state}.${missing.length ? " Not yet on " + missing.join("; ") : ""}${later(result)}`, missing.length > 0);
        refresh.now();
      },
    });
  }

  async function probe(b) {
    try {
      const result = await api.write("POST", `backends/${encodeURIComponent(b.name)}/probe`);
      const said = result.probes.map((p) => `${p.node ? p.node + ": " : ""}${p.outcome || "not asked"}${p.outcome ? " in " + milliseconds(p.duration_ms) : ""}${p.error ? ` (${p.error})` : ""}`);
      if (result.unreachable_nodes?.length) said.push(`no response from ${result.unreachable_nodes.join(", ")}`);
      app.notify(`Probe of ${b.name}: ${said.join("; ")}.`);
      refresh.now();
    } catch (failure) {
      app.notify(failure.message, true);
    }
  }

  function build(b) {
    const strip = history(), facts = h("dl", { class: "facts" }), failures = table(`Last failures of ${b.name}`, ["Time", "Outcome", "Error"]), changes = h("ol", { class: "changes" });
    const state = badge(b.breaker), forced = h("p", { class: "banner", hidden: true }), said = h("span", { class: "hint" });
    const shownFailures = h("details", { hidden: true }, h("summary", null, "Last failures"), h("div", { class: "scroll" }, failures.element));
    const shownChanges = h("details", { hidden: true }, h("summary", null, "Changes of the breaker on this node, the newest first"), changes);
    const actions = h("div", { class: "actions" });
    const card = h("section", { class: "card" }, h("h2", null, b.name, " ", state), forced, strip.element, said, facts, shownFailures, shownChanges, actions);
    Object.assign(card, { strip, facts, failures, state, forced, said, shownFailures, shownChanges, changes, actions });
    if (app.canWrite && b.rates) {
      actions.append(
        h("button", { type: "button", onclick: () => probe(b) }, "Probe now"), h("button", { type: "button", onclick: () => force(b, "open") }, "Force open"),
        h("button", { type: "button", onclick: () => force(b, "closed") }, "Force closed"), h("button", { type: "button", onclick: () => force(b, "auto") }, "Automatic"));
    }
    return card;
  }

  function inFlight(b) {
    const now = count((b.checks_in_flight ?? 0) + (b.rechecks_in_flight ?? 0));
    return b.checks_limit ? `${now} of ${count(b.checks_limit + b.rechecks_limit)}` : now;
  }

  function update(card, b) {
    setBadge(card.state, b.breaker);
    const violations = Object.entries(b.contract_violations ?? {}).filter(([, v]) => v.active).map(([name, v]) => name.replaceAll("_", " ") + (v.detail ? `: ${v.detail}` : ""));
    const lines = [
      ["Kind", b.kind], ["Address", b.address], ["When unavailable", policies[b.on_failure] ?? b.on_failure],
      ["Checks", b.rates && `${rate(b.rates.checks_per_second)} / s`], ["Failures", b.rates && `${rate(b.rates.failures_per_second)} / s`], ["Denials", b.rates && `${percent(b.rates.denials_share)} of answers`],
      ["In flight", inFlight(b)], ["Re-checks waiting", b.rechecks_waiting && count(b.rechecks_waiting)],
      ["Contract violations", violations.join("; ")],
    ];
    replace(card.facts, lines.filter(([, value]) => value).map(([title, value]) => h("div", title === "Address" || title === "Contract violations" ? { class: "wide" } : null, h("dt", null, title), h("dd", null, value))));
    card.forced.hidden = !b.forced;
    if (b.forced) setText(card.forced, `Forced ${b.forced.state}, ends ${until(b.forced.until)}${b.forced.by ? `, by ${b.forced.by}` : ""}${b.forced.reason ? `: ${b.forced.reason}` : ""}`);
    const failures = b.last_failures ?? [];
    card.shownFailures.hidden = failures.length === 0;
    card.shownChanges.hidden = !b.history?.length;
    replace(card.changes, [...(b.history ?? [])].reverse().map((c) => h("li", null, timeOfDay(c.time), " ", badge(c.state))));
    updateRows(card.failures.body, failures, (f) => f.time + f.outcome, () => cells(card.failures.columns), (row, f) => {
      [timeOfDay(f.time), f.outcome, f.error].forEach((text, i) => setText(row.children[i], text || "–"));
    });
  }

  const refresh = paced(async () => {
    try {
      const all = ((await api.get("backends")).backends ?? []).sort((a, b) => (a.name < b.name ? -1 : 1));
      if (isClosed) return;
      setText(summary, all.length ? "Numbers are of the node that serves this page, histories of all nodes." : "There are no backends.");
      updateRows(list, all, (b) => b.name, build, update);
      if (app.last) draw(app.last);
    } catch (failure) {
      setText(summary, failure.message);
    }
  });

  function draw(o) {
    for (const card of list.children) {
      const b = o.backends.find((x) => x.name === card.dataset.key);
      if (!b) continue;
      card.strip.draw(b.name, b.history, o.interval_seconds);
      setText(card.said, describe(b.history, o.interval_seconds));
    }
  }

  refresh.now();
  return { element, onOverview(o) { draw(o); refresh(); }, close: () => { isClosed = true; } };
}
