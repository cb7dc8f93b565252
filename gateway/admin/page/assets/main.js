// The page: login, views by the fragment of the URL, and what changes live.

import * as api from "./api.js";
import * as live from "./live.js";
import { h, replace, setText } from "./dom.js";
import { backends } from "./backends.js";
import { bans } from "./bans.js";
import { freeRides } from "./free_rides.js";
import { nodes } from "./nodes.js";
import { overview } from "./overview.js";
import { session } from "./session.js";
import { sessions } from "./sessions.js";

const views = { overview, sessions, backends, nodes, bans, "free-rides": freeRides };
const titles = { overview: "Overview", sessions: "Sessions", backends: "Backends", nodes: "Nodes", bans: "Bans", "free-rides": "Free rides" };

const main = document.querySelector("#main"), header = document.querySelector("#top"), state = document.querySelector("#live");
const links = {};

// app is what the views share.
const app = { canWrite: false, last: null, memory: {}, notify };
let view = null;

// notify shows a notice for a while.
function notify(text, isBad = false) {
  const notice = h("div", { class: isBad ? "notice bad" : "notice" }, text,
    h("button", { type: "button", class: "quiet", "aria-label": "Close the notice", onclick: () => notice.remove() }, "×"));
  const all = document.querySelector("#notices");
  all.append(notice);
  while (all.children.length > 3) all.firstElementChild.remove();
  setTimeout(() => notice.remove(), isBad ? 15000 : 6000);
}

// route shows the view of the fragment: #/VIEW or #/sessions/ID.
function route() {
  const [, name, id] = location.hash.split("/");
  const isSession = name === "sessions" && id;
  const make = isSession ? session : views[name] ?? overview;
  const link = views[name] ? name : "overview";
  view?.close?.();
  view = make(app, id && decodeURIComponent(id));
  for (const [n, a] of Object.entries(links)) {
    if (n === link) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  document.title = `${isSession ? "Session" : titles[link]} – Usher`;
  replace(main, view.element);
  if (app.last) view.onOverview?.(app.last);
}

function onHash() {
  if (header.hidden) return;
  route();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function onOverview(o) {
  app.last = o;
  view?.onOverview?.(o);
}

const states = { live: "live", connecting: "connecting", paused: "paused", refused: "not live" };

function onState(s) {
  state.className = s;
  setText(state, states[s]);
  if (s === "refused") api.me().then((who) => (who ? onLogin(who) : showLogin()), () => {});
}

function showName(who) {
  app.canWrite = who.role === "write";
  setText(document.querySelector("#who"), app.canWrite ? who.name : `${who.name} (read only)`);
}

// onLogin shows the login of another tab. The view is made anew if it has other buttons now.
function onLogin(who) {
  const before = app.canWrite;
  showName(who);
  if (app.canWrite !== before) route();
}

function showPage(who) {
  showName(who);
  header.hidden = false;
  route();
  live.start(onOverview, onState);
}

function showLogin() {
  live.stop();
  view?.close?.();
  view = null;
  app.last = null;
  header.hidden = true;
  for (const open of document.querySelectorAll("dialog[open]")) open.close();
  document.title = "Log in – Usher";
  main.replaceChildren(document.querySelector("#login-form").content.cloneNode(true));
  const form = main.querySelector("form"), field = form.querySelector("input"), error = form.querySelector(".error");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    error.textContent = "";
    try {
      await api.login(field.value);
      field.value = "";
      await begin();
    } catch (failure) {
      error.textContent = failure.message;
      field.select();
    }
  });
  field.focus();
}

async function begin() {
  const who = await api.me();
  if (who) showPage(who);
  else showLogin();
}

for (const [name, title] of Object.entries(titles)) {
  links[name] = h("a", { href: "#/" + name }, title);
  document.querySelector("#views").append(h("li", null, links[name]));
}
document.querySelector("#logout").addEventListener("click", () => {
  api.logout().then(showLogin, (failure) => notify(`You are still logged in: ${failure.message}`, true));
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment is the view's
  main.focus();
});
addEventListener("hashchange", onHash);
api.whenLoggedIn(onLogin);
api.whenLoggedOut(() => { if (!header.hidden) showLogin(); });
begin().catch((failure) => main.replaceChildren(h("p", { class: "card error", role: "alert" }, `The node does not answer: ${failure.message}`)));
