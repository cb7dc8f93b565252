// Calls the API with the page's cookie. Writes carry the CSRF token.

let csrf = "";
let onLoggedOut = () => {};

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
  await fetch("/ui/logout", { method: "POST", headers: { "X-Usher-CSRF": csrf } });
  csrf = "";
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
  const response = await fetch("/api/v1/" + path, {
    method, headers: { "X-Usher-CSRF": csrf, "Content-Type": "application/json" }, body: body && JSON.stringify(body),
  });
  const result = await answer(response);
  return { ...result, pending: response.headers.get("X-Usher-Pending") };
}
