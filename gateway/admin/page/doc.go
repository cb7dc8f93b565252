// Package page serves the live page of the operator's listener: who watches, who is denied and why, and what the backends do.
// Its files are embedded, need no build step, and load nothing from another host.
//
//	/               the page; it asks the API under /api/v1/ for what it shows
//	/ui/{file}      its scripts and its style
//	/ui/login       POST: the API's token in the body, once; answers 204 and the cookie
//	/ui/logout      POST: ends the cookie, and the streams of its login on this node
//	/ui/me          who is logged in, with the CSRF token
//	/ui/events      server-sent events: the overview, at most one a second
//
// Begin with [New], [Page.Register] and [Page.Identify].
//
// Invariants:
//   - The cookie is HttpOnly and SameSite=Strict; no script sees it. No URL has a token, and the page's own
//     address no user's name and no filter.
//   - A write by the cookie needs the CSRF token of its login, and every request must be of the page's own origin.
//   - A login ends after [Lifetime], and with its token. A changed role applies at once.
//   - Failed logins are bounded for each subscriber prefix and in all, in bounded memory. Each is in the audit, and the first that is
//     refused beyond the bound. The right token is never refused. So are requests of the API without a known token, apart from the logins.
//   - Open pages cost a node at most a tenth of a processor, however many sessions it has: an overview, which all pages share, is
//     followed by a pause of ten times its duration, and so is a list in the browser. A row that is shown is read by its id.
//   - A stream ends with its client, its login, its page or the listener, and no client that stops to read holds one. A page ends when
//     a reload of the settings makes another one: then a browser connects again, and a login with a token that is gone is refused.
//
// Decided: nothing is kept for a login. The cookie is sealed with a key that is derived from the token by HKDF, so that every node
// with the same tokens accepts it behind any balancer. Logging out takes the cookie from the browser; a copy that was taken before
// lasts until its end, or until the token is changed.
//
// Decided: a login is that of all tabs of a browser. A tab whose write is refused after a login in another one reads the CSRF token and the
// name anew, and sends it once more.
//
// Decided: the cookie is Secure if the browser speaks TLS, as X-Forwarded-Proto tells. The listener itself has no TLS: behind
// http:// a Secure cookie would never come back.
//
// Decided: a bearer token overrides the cookie, and another scheme in Authorization does not. A browser behind a proxy with a password
// of its own sends that with every request.
//
// Decided: the streams carry the overview alone, and the page reads the rows that it shows again, by their ids. A stream that knew
// each page's filter would repeat its search on every node whether or not anybody looks.
//
// Refused: a hidden page that stays connected. A browser has six connections to a listener without HTTP/2.
//
// Refused: a framework or a bundler. Elements are built by one function, which sets text as text.
package page
