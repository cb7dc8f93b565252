// Dialogs that change something. Each shows first what the change hits.

import * as api from "./api.js";
import { h, replace, setText } from "./dom.js";
import { plural } from "./format.js";

// EXPECTED is how many sessions the API kicks or bans without being told how many are meant.
const EXPECTED = 20;
let serial = 0;

// open shows a dialog of fields. submit gets the values of the form and returns the notice of success.
function open({ title, fields, action, isDangerous, submit, prepare }) {
  const id = `dialog-${++serial}`;
  const error = h("p", { class: "error", role: "alert" });
  const confirm = h("button", { type: "submit", class: isDangerous ? "danger" : "primary" }, action);
  const form = h("form", { method: "dialog" }, h("h2", { id }, title), fields, error,
    h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), confirm));
  const dialog = h("dialog", { "aria-labelledby": id }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    setText(error, "");
    confirm.disabled = true;
    try {
      await submit(new FormData(form));
      dialog.close();
    } catch (failure) {
      confirm.disabled = false;
      if (failure.impact) await prepare?.({ form, confirm, error });
      // If counting anew failed, error says why.
      setText(error, failure.impact ? `It hits more now than was shown, and nothing is done. ${error.textContent}`.trimEnd() : failure.message);
    }
  });
  const opener = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (opener?.isConnected) opener.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  prepare?.({ form, confirm, error });
  return dialog;
}

const durations = (list, chosen) => h("label", null, "Duration",
  h("select", { name: "duration" }, list.map(([value, text]) => h("option", { value, selected: value === chosen }, text))));
const reasonField = () => h("label", null, "Reason, for the audit", h("input", { name: "reason", maxlength: 180, autocomplete: "off" }));

// measured shows the impact of what call does, and has the operator confirm more than EXPECTED sessions. It returns the element,
// the function that measures again, and what to send as expect: some more, since sessions come meanwhile.
function measured(call) {
  const text = h("span", null, "Counting what it hits…");
  const box = h("input", { type: "checkbox", required: true });
  const many = h("label", { class: "check", hidden: true }, box, h("span"));
  const element = h("div", { class: "impact", role: "status" }, text, many);
  let impact = null, serial = 0;
  return {
    element,
    expect: () => (impact && impact.sessions > EXPECTED ? impact.sessions + Math.floor(impact.sessions / 10) + EXPECTED : undefined),
    async measure({ confirm, error }) {
      const own = ++serial;
      impact = null;
      confirm.disabled = true;
      many.hidden = true;
      box.required = box.checked = false;
      setText(text, "Counting what it hits…");
      setText(error, "");
      try {
        const got = await call();
        if (own !== serial) return;
        impact = got;
        const about = got.approximate ? "about " : "";
        replace(text, "Hits ", h("strong", null, about + plural(got.sessions, "session", "sessions")), ` from ${about}${plural(got.addresses, "address", "addresses")}.`);
        if (got.unreachable_nodes?.length) text.append(` Not counted: ${got.unreachable_nodes.join(", ")} did not respond.`);
        many.hidden = got.sessions <= EXPECTED;
        box.required = !many.hidden;
        setText(many.lastChild, `Yes, all ${plural(got.sessions, "session", "sessions")}`);
        confirm.disabled = false;
      } catch (failure) {
        if (own !== serial) return;
        setText(text, "What it hits is unknown.");
        setText(error, failure.message);
      }
    },
  };
}

const later = (result) => (result.pending ? ` ${result.pending}.` : "");

// kickDialog kicks the viewer of a session.
export function kickDialog(app, s, done) {
  const path = `sessions/${s.id}/kick`;
  const impact = measured(() => api.write("POST", path, { dry_run: true }));
  open({
    title: `Kick ${s.user || s.user_id || "the viewer"} on ${s.channel}`, action: "Kick", isDangerous: true,
    fields: [impact.element,
      durations([["", "as configured"], ["1m", "1 minute"], ["15m", "15 minutes"], ["1h", "1 hour"], ["24h", "24 hours"]], ""), reasonField()],
    prepare: impact.measure,
    async submit(values) {
      const result = await api.write("POST", path, { duration: values.get("duration") || undefined, reason: values.get("reason"), expect: impact.expect() });
      app.notify(`Kicked ${plural(result.kicked, "session", "sessions")}.${later(result)}`);
      done?.();
    },
  });
}

// banDialog bans the viewer of a session.
export function banDialog(app, s, done) {
  const user = s.user_id || s.user;
  const subjects = [
    user && ["user", `User ${s.user || s.user_id}, on every channel`, { user }],
    ["credentials", "Everyone with the same credentials", { credentials_of: s.id }],
    s.address && ["address", `Address ${s.address}`, { address: s.address }],
    ["session", "This session alone", { session: s.id }],
  ].filter(Boolean);
  let chosen = subjects[0][2], parts = null;
  const impact = measured(() => api.write("POST", "bans", { ...chosen, duration: "1h", dry_run: true }));
  const radios = h("fieldset", null, h("legend", null, "Ban"), subjects.map(([key, text, subject], i) => h("label", { class: "check" },
    h("input", { type: "radio", name: "subject", value: key, checked: i === 0, onchange: () => { chosen = subject; impact.measure(parts); } }), text)));
  open({
    title: `Ban ${s.user || s.user_id || "the viewer"}`, action: "Ban", isDangerous: true,
    fields: [radios, impact.element, durations([["1h", "1 hour"], ["24h", "24 hours"], ["168h", "7 days"], ["720h", "30 days"], ["8760h", "1 year"]], "24h"), reasonField()],
    prepare: (p) => { parts = p; return impact.measure(p); },
    async submit(values) {
      const result = await api.write("POST", "bans", { ...chosen, duration: values.get("duration"), reason: values.get("reason"), expect: impact.expect() });
      app.notify(`Banned; ${plural(result.sessions, "session", "sessions")} ended.${later(result)}`);
      done?.();
    },
  });
}

// confirmDialog asks before a change that hits no more than it says.
export function confirmDialog({ title, text, action, isDangerous, fields = [], submit }) {
  open({ title, action, isDangerous, fields: [h("p", null, text), fields], submit });
}

export { durations, reasonField, later };
