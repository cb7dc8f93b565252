// Shows the page's own viewer: who they are, what was decided, by whom and why.
import { byId, set, element, duration } from "./page.js";

// deciders are the sources of decisions, as a sentence names them.
const deciders = {
  backend: "the middleware", local: "a rule of the gateway", "fail-open": "the outage policy", cached: "the last decision",
  ticket: "the ticket", limit: "the stream limit", ban: "a ban", operator: "an operator", gateway: "the gateway",
};

export function tone(session) {
  if (session.verdict === "denied") return "bad";
  if (session.verdict !== "allowed") return "idle";
  return ["fail-open", "cached", "ticket"].includes(session.source) ? "warn" : "good";
}

export const verdictOf = (session) => (session.verdict === "pending" ? "being checked" : session.verdict);

export function reasonOf(session) {
  return session.verdict === "allowed" && session.source === "backend" ? "" : session.reason ?? "";
}

export function badge(session, label) {
  return element("span", { class: "badge", "data-tone": tone(session) }, label);
}

const noToken = "no token";

// nameFromSource names the viewer of a source without a session.
function nameFromSource(src) {
  try {
    const url = new URL(src, location.href);
    const token = url.searchParams.get("token");
    if (token) return token.length > 64 ? token.slice(0, 63) + "…" : token;
    return /^\/(~|%7e)/i.test(url.pathname) ? "the ticket's viewer" : noToken;
  } catch {
    return noToken;
  }
}

function placeOf(src) {
  try {
    const parts = new URL(src, location.href).pathname.split("/").filter((part) => !/^(~|%7e)/i.test(part));
    return parts.slice(0, -1).join("/");
  } catch {
    return "";
  }
}

// Viewer is the viewer of the page's source. It remembers the denial that the screen shows for longer than the gateway does.
export class Viewer {
  constructor() {
    this.src = null;
    this.denied = null;
  }

  // update takes the status of a source. It returns the sessions to show: those of the gateway and, if the screen shows a
  // refusal whose session has ended, that one.
  update(status, facts) {
    if (facts.src !== this.src) Object.assign(this, { src: facts.src, denied: null });
    this.now = Date.parse(status.now);
    const sessions = status.sessions ?? [];
    this.session = sessions.find((s) => s.id === status.own);
    this.name = this.session?.name ?? this.denied?.name ?? nameFromSource(facts.src);
    if (this.session) this.denied = this.session.verdict === "denied" ? this.session : null;
    if (facts.state !== "denied") return sessions;
    if (this.session) return sessions;
    const [, source] = /^denied by (\S+)$/.exec(facts.refusal.body) ?? [];
    this.denied ??= {
      name: this.name, place: placeOf(facts.src), verdict: "denied", source: source ?? "gateway", reason: source ? "" : facts.refusal.body,
    };
    this.session = { ...this.denied, isEnded: true };
    return [this.session, ...sessions];
  }

  // show writes the viewer's state to the page and, of a refused one, to the screen.
  show(facts) {
    const s = this.session;
    const [label, why] = this.state(facts);
    byId("viewer").replaceChildren(element("bdi", { title: this.name }, this.name), " ", badge(s ?? {}, label));
    set("why", why || "–");
    set("session", s?.id || "–");
    byId("session").title = s?.id ?? "";
    set("opened", !s?.id ? "none" : s.isEnded ? "ended" : `opened ${duration(this.now - Date.parse(s.since))} ago`);
    set("announcement", `${this.name}: ${label}${why ? `, ${why}` : ""}`);
    document.title = `${this.name}: ${label} – Usher demo`;
    if (facts.state === "denied") set("overlay-text", this.refusal(facts.refusal));
  }

  state(facts) {
    const s = this.session;
    if (s) return [s.verdict === "pending" ? "being checked" : `${s.verdict} by ${s.source}`, s.reason ?? ""];
    if (facts.failure?.status >= 400) return [`got ${facts.failure.status}`, facts.failure.body];
    return [facts.state === "failed" ? "not playing" : facts.state, ""];
  }

  // refusal says who refused the viewer, why, and until when.
  refusal({ status, body, hadStarted }) {
    const s = this.session;
    const who = nameFromSource(this.src) === noToken ? "a viewer without a token" : this.name;
    const what = hadStarted ? `The gateway ended the session of ${who}` : `The gateway refused ${who}`;
    const sentences = [`${what} with ${status}${body ? `: “${body}”` : ""}.`];
    if (s.verdict === "pending") return [...sentences, "They are being checked again."].join(" ");
    if (s.verdict === "allowed") return [...sentences, `They are allowed by ${s.source} now: try again.`].join(" ");
    const reason = s.reason?.replace(/^ended by an operator(: )?/, "");
    if (s.source !== "gateway") sentences.push(`Decided by ${deciders[s.source] ?? s.source}${reason ? `: ${reason}` : ""}.`);
    if (s.refused_until) {
      const left = Date.parse(s.refused_until) - this.now;
      sentences.push(left > 0 ? `Refused for ${duration(left)} more.` : "The refusal is over: try again.");
    }
    return sentences.join(" ");
  }
}
