package users

import (
	"strings"

	"usher/backends/httpbackend"
)

// Bounds of credentials. Longer ones are wrong, and are not hashed.
const (
	maxLoginBytes    = 256
	maxPasswordBytes = 1024
	maxTokenBytes    = 1024
)

// credentials are the credentials in a viewer's query.
type credentials struct {
	token           string
	login, password string
	// isIncomplete means a login without a password, or a password without a login. Both are then empty.
	isIncomplete bool
}

// isEmpty reports whether the viewer sent no credentials.
func (c credentials) isEmpty() bool { return c.token == "" && c.login == "" && !c.isIncomplete }

// readCredentials reads credentials from a raw query. Of several parameters of one name the first non-empty one counts.
// auth takes precedence over user and password.
func (c Config) readCredentials(query string) credentials {
	found := credentials{token: parameterValue(query, c.TokenParameter)}
	if auth := parameterValue(query, c.AuthParameter); auth != "" {
		found.login, found.password, _ = strings.Cut(auth, ":")
	} else {
		found.login, found.password = parameterValue(query, c.UserParameter), parameterValue(query, c.PasswordParameter)
		if found.login == "" && found.password == "" {
			return found
		}
	}
	if found.login == "" || found.password == "" {
		found.login, found.password, found.isIncomplete = "", "", true
	}
	return found
}

func parameterValue(query, name string) string {
	if name == "" {
		return ""
	}
	return httpbackend.QueryValue(query, name)
}
