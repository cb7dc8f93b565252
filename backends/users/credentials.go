package users

import (
	"encoding/base64"
	"strings"

	"usher/backends"
	"usher/backends/httpbackend"
)

// Bounds of credentials. Longer ones are wrong, and are not hashed.
const (
	maxLoginBytes    = 256
	maxPasswordBytes = 1024
	maxTokenBytes    = 1024
)

// credentials are what a viewer sent to log in.
type credentials struct {
	token           string
	login, password string
	// isIncomplete means a login without a password, or a password without a login. Both are then empty.
	isIncomplete bool
}

// isEmpty reports whether the viewer sent no credentials.
func (c credentials) isEmpty() bool { return c.token == "" && c.login == "" && !c.isIncomplete }

// readCredentials reads the credentials of a viewer. Of several parameters of one name the first non-empty one counts. auth
// takes precedence over user and password, and both over the header.
func (c Config) readCredentials(r *backends.Request) credentials {
	found := credentials{token: parameterValue(r.Query, c.TokenParameter)}
	if auth := parameterValue(r.Query, c.AuthParameter); auth != "" {
		found.login, found.password, _ = strings.Cut(auth, ":")
	} else {
		found.login, found.password = parameterValue(r.Query, c.UserParameter), parameterValue(r.Query, c.PasswordParameter)
		if found.login == "" && found.password == "" {
			var isSent bool
			if found.login, found.password, isSent = basicCredentials(r.Headers); !isSent {
				return found
			}
		}
	}
	if found.login == "" || found.password == "" {
		found.login, found.password, found.isIncomplete = "", "", true
	}
	return found
}

// basicCredentials returns the login and password of the Authorization header (RFC 7617), and reports whether one with the
// scheme Basic was sent. Both are empty if it cannot be decoded.
func basicCredentials(headers []backends.Header) (login, password string, isSent bool) {
	for _, h := range headers {
		scheme, encoded, _ := strings.Cut(h.Value, " ")
		if h.Name != "Authorization" || !strings.EqualFold(scheme, "Basic") {
			continue
		}
		text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		if err != nil {
			return "", "", true
		}
		login, password, _ = strings.Cut(string(text), ":")
		return login, password, true
	}
	return "", "", false
}

func parameterValue(query, name string) string {
	if name == "" {
		return ""
	}
	return httpbackend.QueryValue(query, name)
}
