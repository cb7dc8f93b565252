package httpbackend

import (
	"net/http"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"usher/backends"
)

// Bounds of what a backend may ask a viewer for. A challenge beyond them is ignored with an alarm.
const (
	maxChallenges      = 4
	maxChallengeLength = 1024
)

// readChallenge reads the challenges of a 401 (RFC 9110 §11.6.1). Each is kept as sent, because a player answers its realm
// and its parameters. No other status has challenges.
func (c *Classification) readChallenge(a Response) {
	if a.Status != http.StatusUnauthorized {
		return
	}
	var kept []string
	for _, challenge := range a.Header.Values("WWW-Authenticate") {
		challenge = strings.Trim(challenge, " \t")
		if len(kept) == maxChallenges || !isChallenge(challenge) {
			c.raise(backends.AlarmBadHeader, "WWW-Authenticate")
			continue
		}
		kept = append(kept, challenge)
	}
	c.Decision.Challenge = strings.Join(kept, "\n")
}

// isChallenge reports whether a value begins with a scheme and holds nothing that a header cannot. It is UTF-8, because
// Envoy takes no other text.
func isChallenge(value string) bool {
	scheme, _, _ := strings.Cut(value, " ")
	return isToken(scheme) && len(value) <= maxChallengeLength && utf8.ValidString(value) &&
		!strings.ContainsFunc(value, unicode.IsControl)
}

// ownRefusal is how an answer refuses the credentials that the config sets, in which no viewer can replace them: a challenge speaks of
// the Authorization that was sent (RFC 9110 §15.5.2), or of the Proxy-Authorization (§15.5.8).
type ownRefusal struct {
	status    int
	challenge string // the header
	// isMeant: statuses says what the status means, and is believed.
	isMeant bool
	// isFailure: it says nothing of the viewer. A preset that reads each status but 200 as a denial reads it as one.
	isFailure bool
	detail    string // of the alarm
}

// ownRefusals returns the refusals of the credentials that are among the headers of every call.
func ownRefusals(cfg Config, headers http.Header) []ownRefusal {
	var all []ownRefusal
	for name := range headers {
		r := ownRefusal{isFailure: hasStatusFailures(cfg.Preset)}
		switch http.CanonicalHeaderKey(name) {
		case "Authorization":
			r.status, r.challenge = http.StatusUnauthorized, "WWW-Authenticate"
			r.detail = "status 401 with WWW-Authenticate refuses the user and password of address, or headers.Authorization"
		case "Proxy-Authorization":
			r.status, r.challenge = http.StatusProxyAuthRequired, "Proxy-Authenticate"
			r.detail = "status 407 with Proxy-Authenticate refuses headers.Proxy-Authorization"
		default:
			continue
		}
		_, isSet := cfg.Statuses[strconv.Itoa(r.status)]
		_, isClassSet := cfg.Statuses["4xx"]
		r.isMeant = isSet || isClassSet
		all = append(all, r)
	}
	return all
}

// readOwnRefusal reads a refusal of Usher's own credentials. No viewer is asked for theirs, which no call would send.
func (c *Client) readOwnRefusal(r *Classification, a Response) {
	for _, own := range c.ownRefusals {
		if a.Status != own.status || len(a.Header.Values(own.challenge)) == 0 {
			continue
		}
		r.Decision.Challenge = ""
		if own.isMeant {
			continue
		}
		if own.isFailure {
			r.Decision, r.relayed = backends.Decision{}, ""
			r.Failure = &backends.Failure{Kind: backends.FailureStatus, Backend: c.name, Status: a.Status, MayBeDenial: true}
		}
		r.raise(backends.AlarmUnexpectedStatus, own.detail)
	}
}
