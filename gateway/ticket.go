package gateway

import (
	"strings"

	"usher/backends"
	"usher/gateway/hls"
	"usher/gateway/ticket"
)

// invalidTicket tells a viewer of a ticket of another channel or route, or of a key that is no longer known.
const invalidTicket = "the ticket is not valid for this channel"

// whyMissing tells a viewer that a required credential is missing, and that their ticket does not stand in for it.
func (rc *requestContext) whyMissing(credential string) string {
	why := "the credential " + credential + " is missing"
	if rc.hasBadTicket {
		why = invalidTicket + ", and " + why
	}
	return why
}

// isRefusedByBackend reports whether a backend has refused the viewer, and no operator, ban or limit.
func isRefusedByBackend(d *backends.Decision) bool {
	return d.Verdict == backends.Denied && (d.Source == backends.FromBackend || d.Source == backends.FromLocal)
}

// isSettledBy reports whether a session's decision holds for the request. A session that was admitted by ticket alone is
// checked once credentials arrive, and a denial of credentials may not concern the ticket.
func (rc *requestContext) isSettledBy(d *backends.Decision, hasCredentials bool) bool {
	return (d.Source != backends.FromTicket || !hasCredentials) && (!rc.hasTicket || !isRefusedByBackend(d))
}

// leaveTicket makes the request one of the credentials beside its ticket, if the ticket's session was refused and they are
// others: the answer to a challenge, or a new token. It reports whether it did.
func (g *Gateway) leaveTicket(rc *requestContext, d *backends.Decision) bool {
	isRefused := isRefusedByBackend(d) || d.Verdict == backends.Denied && d.Source == backends.FromTicket
	if !rc.hasTicket || !isRefused || rc.credentials.IsEmpty() {
		return false
	}
	id := g.hasher.sessionID(&rc.target, &rc.credentials, rc.request, rc.viewer)
	if id == rc.id {
		return false
	}
	rc.id, rc.root, rc.claims = id, backends.SessionID{}, ticket.Claims{}
	rc.hasTicket, rc.isTicketInPath = false, false // playlists list the new session's ticket
	return true
}

// ticketInPath returns the ticket in front of the path, and the rest of the path.
func ticketInPath(path string) (ticket, rest string, found bool) {
	after, found := strings.CutPrefix(path, "/~")
	if !found {
		if after, found = cutPrefixFold(path, "/%7e"); !found {
			return "", path, false
		}
	}
	slash := strings.IndexByte(after, '/')
	if slash < 0 {
		return after, "/", true
	}
	return after[:slash], after[slash:], true
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return s[len(prefix):], true
	}
	return s, false
}

// ticketInQueryOrCookie returns the ticket in the query or the cookie, whichever the route uses, or "".
func ticketInQueryOrCookie(t *target, req *Request, c *TicketsConfig) string {
	switch t.route.config.TicketIn {
	case hls.TicketInQuery:
		return parameter(req.Query, c.Parameter)
	case hls.TicketInCookie:
		for _, field := range req.Header.Values("Cookie") {
			if ticket := cookieValue(field, c.CookieName); ticket != "" {
				return ticket
			}
		}
	}
	return ""
}

// cookieValue returns the value of a cookie in a Cookie field, or "".
func cookieValue(field, name string) string {
	for pair := range strings.SplitSeq(field, ";") {
		if n, value, found := strings.Cut(strings.TrimSpace(pair), "="); found && n == name {
			return value
		}
	}
	return ""
}
