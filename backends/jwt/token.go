package jwt

import (
	"strings"

	"usher/backends"
	"usher/backends/httpbackend"
)

// maxTokenBytes is the longest accepted token. Players and edges cut longer URLs.
const maxTokenBytes = 8 << 10

// findToken returns the viewer's token as sent, from the parameter or else from the header; empty: none. It ignores
// headers with a scheme other than Bearer.
func (b *Backend) findToken(r *backends.Request) string {
	if b.cfg.Parameter != "" {
		if token := httpbackend.QueryValue(r.Query, b.cfg.Parameter); token != "" {
			return token
		}
	}
	for _, field := range r.Headers {
		if b.header == "" || field.Name != b.header {
			continue
		}
		token := strings.TrimSpace(field.Value)
		if scheme, rest, found := strings.Cut(token, " "); found {
			if !strings.EqualFold(scheme, "Bearer") {
				continue
			}
			token = strings.TrimSpace(rest)
		}
		if token != "" && !strings.EqualFold(token, "Bearer") {
			return token
		}
	}
	return ""
}

// hasTokenCharacters reports whether s consists of a token's characters alone. Go's base64 skips line ends, so one token
// could otherwise have many spellings, each a different viewer.
func hasTokenCharacters(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}
