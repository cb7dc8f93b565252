package httpbackend

import (
	"net/http"
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
