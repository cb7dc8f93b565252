// Calls the API with the page's cookie. Writes carry the CSRF token.

let csrf = "";
let onLoggedOut = () => {}, onLoggedIn = () => {};

// Failure is an answer of the API that is no success. impact is set if a kick or a ban would hit more than expected.
export class Failure extends Error {
  constructor(status, message, impact) {
    super(message);
    this.status = status;
    this.impact = impact;
  }
}

// whenLoggedOut sets what to do once the login has ended.
export function whenLoggedOut(then) { onLoggedOut = then; }

// whenLoggedIn sets what to do once another tab has logged in, which changes the login of all tabs.
export function whenLoggedIn(then) { onLoggedIn = then; }

// me returns who is logged in, or null.
export async function me() {
  const response = await fetch("/ui/me");
  if (!response.ok) throw new Failure(response.status, await response.text());
  const who = await response.json();
  if (!who.csrf) return null;
  csrf = who.csrf;
  return who;
}

// login sends the token once, in the body.
export async function login(token) {
  const response = await fetch("/ui/login", { method: "POST", body: new URLSearchParams({ token }) });
  if (!response.ok) throw new Failure(response.status, (await response.text()).trim());
}

export async function logout() {
  const response = await send("/ui/logout", { method: "POST" });
  if (!response.ok) throw new Failure(response.status, (await response.text()).trim());
  csrf = "";
}

// send sends a write with the CSRF token. If another tab has logged in, it is sent once more with the token of that login.
async function send(path, { headers, ...options }) {
  const once = () => fetch(path, { ...options, headers: { ...headers, "X-Usher-CSRF": csrf } });
  const sent = csrf, response = await once();
  if (response.status !== 403) return response;
  const who = await me().catch(() => null);
  if (!who || csrf === sent) return response;
  onLoggedIn(who);
  return once();
}

async function answer(response) {
  if (response.status === 401) {
    onLoggedOut();
    throw new Failure(401, "The login has ended.");
  }
  const isJSON = response.headers.get("Content-Type")?.startsWith("application/json");
  if (response.status === 409 && isJSON) {
    const refused = await response.json();
    throw new Failure(409, refused.error, refused);
  }
  if (!response.ok) throw new Failure(response.status, (await response.text()).trim());
  return response.json();
}

// get reads path below /api/v1/. Parameters that are empty are left out.
export async function get(path, parameters = {}, signal) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value));
  return answer(await fetch(`/api/v1/${path}${query.size ? "?" + query : ""}`, { signal }));
}

// write changes something. It reports what has not reached all nodes yet as pending.
export async function write(method, path, body) {
  const response = await send("/api/v1/" + path, { method, headers: { "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
  const result = await answer(response);
  return { ...result, pending: response.headers.get("X-Usher-Pending") };
}
