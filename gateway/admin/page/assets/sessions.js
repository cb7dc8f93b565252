// The table of sessions. The nodes search and page, so that a million sessions cost the browser no more than a page of them.

import * as api from "./api.js";
import { cells, h, badge, replace, setBadge, setText, table, updateRows } from "./dom.js";
import { banDialog, kickDialog } from "./dialogs.js";
import { age, ago, count } from "./format.js";
import { paced } from "./paced.js";

const LIMIT = 50;
const verdicts = ["allowed", "denied", "pending"];
const sources = ["backend", "local", "fail-open", "cached", "ticket", "limit", "ban", "operator"];

export function sessions(app) {
  // The filter stays in memory: the URL holds no name of a user.
  const search = (app.memory.sessions ??= { q: "", verdict: "", source: "", starts: [""] });
  const columns = ["User", "Channel", "Verdict", "Address", "Age", "Last seen", "Nodes", "Actions"];
  const list = table("Sessions", columns);
  const summary = h("p", { class: "summary", role: "status" }, "Searching…");
  const previous = h("button", { type: "button", disabled: true, onclick: () => page(-1) }, "Previous");
  const next = h("button", { type: "button", disabled: true, onclick: () => page(1) }, "Next");
  const aborter = new AbortController();
  let shown = [], lastID = "", hasMore = false, isClosed = false;
  let wanted = { state: "loading" }; // the page to show: loading, shown, or failed, which leaves the rows of the one before

  const choice = (label, name, values) => {
    const select = h("select", { onchange: () => { search[name] = select.value; restart(); } },
      h("option", { value: "" }, "any"), values.map((v) => h("option", { value: v, selected: search[name] === v }, v)));
    return h("label", null, label, select);
  };
  let typed = 0;
  const field = h("input", {
    type: "search", value: search.q, autocomplete: "off", spellcheck: "false", placeholder: "user, channel, address, id…",
    oninput: () => { clearTimeout(typed); typed = setTimeout(searchNow, 300); },
  });
  function searchNow() {
    clearTimeout(typed);
    if (search.q === field.value.trim()) return;
    search.q = field.value.trim();
    restart();
  }
  const form = h("form", { class: "filters", role: "search", onsubmit: (e) => { e.preventDefault(); searchNow(); if (wanted.state !== "loading") refresh(); } },
    h("label", { class: "grow" }, "Search, by how it begins", field), choice("Verdict", "verdict", verdicts), choice("Source", "source", sources),
    h("button", { type: "submit", class: "primary" }, "Search"));

  const element = h("div", null, h("h1", null, "Sessions"), form, summary,
    h("div", { class: "scroll" }, list.element),
    h("div", { class: "paging" }, previous, next));

  function build(s) {
    const row = cells(columns);
    const [user, , verdict, , , , , actions] = row.children;
    user.append(h("a", { href: "#/sessions/" + s.id }, ""));
    verdict.append(badge(s.verdict), h("span", { class: "hint" }));
    if (app.canWrite) {
      const who = `${name(s)} on ${s.channel}`;
      actions.append(
        h("button", { type: "button", class: "small", "aria-label": "Kick " + who, onclick: () => kickDialog(app, row.session, rows.now) }, "Kick"),
        h("button", { type: "button", class: "small", "aria-label": "Ban " + who, onclick: () => banDialog(app, row.session, rows.now) }, "Ban"));
    } else actions.append(h("span", { class: "hint" }, "–"));
    return row;
  }

  function update(row, s) {
    const [user, channel, verdict, address, started, seen, nodes] = row.children;
    const isNew = !row.session;
    row.session = s;
    setText(user.firstChild, name(s));
    setText(channel, s.channel);
    const changed = setBadge(verdict.firstChild, s.ended ? "ended" : unverified(s) ? s.source : s.verdict, s.ended ? "ended" : s.verdict);
    setText(verdict.lastChild, s.ended ? "" : `by ${s.source}${s.reason ? ": " + s.reason : ""}`);
    verdict.lastChild.title = s.reason ?? "";
    setText(address, s.address || "–");
    setText(started, age(s.started));
    setText(seen, ago(s.last_seen));
    setText(nodes, s.nodes?.filter(Boolean).join(", ") || "–");
    row.classList.toggle("ended", Boolean(s.ended));
    row.dataset.verdict = s.ended ? "ended" : s.verdict;
    if (changed && !isNew) {
      row.classList.remove("changed");
      requestAnimationFrame(() => row.classList.add("changed"));
    }
  }

  const draw = () => updateRows(list.body, shown, (s) => s.id, build, update);

  // load shows the sessions that match. It adds none to a full page that is shown, so that no row moves below a pointer: then what
  // follows is on the next page, which may show rows of this one again and leaves out none.
  async function load() {
    const own = wanted;
    try {
      const found = await api.get("sessions", { q: search.q, verdict: search.verdict, source: search.source, after: search.starts.at(-1), limit: LIMIT }, aborter.signal);
      if (own !== wanted || isClosed) return;
      const isFull = shown.length >= LIMIT, isNew = own.state !== "shown", foundLast = found.sessions.at(-1)?.id ?? "";
      if (isNew || !isFull) {
        const kept = isNew ? [] : shown.filter((s) => s.ended && !found.sessions.some((f) => f.id === s.id));
        shown = [...found.sessions, ...kept].sort((a, b) => (a.id < b.id ? -1 : 1));
        lastID = foundLast;
        hasMore = Boolean(found.more) && lastID !== "";
        draw();
      } else {
        hasMore = foundLast !== "" && (Boolean(found.more) || foundLast > lastID);
        if (hasMore && foundLast < lastID) lastID = foundLast;
      }
      own.state = "shown";
      describe(found);
    } catch (failure) {
      if (own !== wanted || isClosed) return;
      if (own.state === "loading") own.state = "failed";
      setText(summary, failure.message);
    }
  }

  function describe(found) {
    const first = (search.starts.length - 1) * LIMIT;
    const here = shown.length ? `${count(first + 1)}–${count(first + shown.length)} of ` : "";
    setText(summary, found.matched
      ? `${here}${count(found.matched, found.approximate)} matching, ${count(found.total, found.approximate)} in all`
      : `No session matches, ${count(found.total, found.approximate)} in all`);
    if (found.unreachable_nodes?.length) summary.append(` – nodes that did not respond: ${found.unreachable_nodes.join(", ")}`);
    previous.disabled = search.starts.length < 2;
    next.disabled = !hasMore;
  }

  // rows reads the rows that are shown again, by their ids.
  const rows = paced(async () => {
    const ids = shown.filter((s) => !s.ended).map((s) => s.id);
    if (!ids.length) return;
    const found = await api.get("sessions/lookup", { ids: ids.join(",") }).catch(() => null);
    if (!found || isClosed) return;
    const now = new Map(found.sessions.map((s) => [s.id, s]));
    const isEnded = (s) => ids.includes(s.id) && !found.unreachable_nodes?.length;
    shown = shown.map((s) => (now.has(s.id) ? withUser(now.get(s.id), s) : isEnded(s) ? { ...s, ended: true } : s));
    draw();
  });

  const reload = paced(load);

  // refresh has the page show what matches now, in place of its rows.
  function refresh() {
    wanted = { state: "loading" };
    reload.now();
  }

  function restart() {
    search.starts = [""];
    refresh();
  }

  // page goes to the next page, or to the one before. While one loads it is not known where the next begins. One that failed to load is
  // tried again.
  function page(step) {
    if (wanted.state === "loading") return;
    if (step < 0 && search.starts.length > 1) search.starts.pop();
    if (step > 0 && wanted.state === "shown") search.starts.push(lastID);
    refresh();
    element.scrollIntoView();
  }

  reload.now();
  return {
    element,
    onOverview() {
      rows();
      reload();
    },
    close() {
      isClosed = true;
      aborter.abort();
      clearTimeout(typed);
    },
  };
}

// withUser keeps the user of a session whose newest decision names none, as that of a kick.
export const withUser = (s, before) => (s.user || s.user_id ? s : { ...s, user: before.user, user_id: before.user_id });
export const name = (s) => s.user || s.user_id || s.id;
export const unverified = (s) => s.verdict === "allowed" && ["fail-open", "cached", "ticket"].includes(s.source);
