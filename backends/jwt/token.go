package jwt

import (
	"strings"

	"usher/backends"
	"usher/backends/httpbackend"
)

// maxTokenBytes is the longest token that is read, in bytes. Players and edges cut longer URLs.
const maxTokenBytes = 8 << 10

// findToken finds the viewer's token as he sent it, in the parameter or else in the header; empty: he has none. A header
// with another scheme than Bearer is not for us.
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

// hasTokenCharacters reports whether s has the letters of a token and no others. Go's base64 skips line ends, so a token
// could be spelled in many ways, each a viewer of his own.
func hasTokenCharacters(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}
