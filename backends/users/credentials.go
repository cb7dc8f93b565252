package users

import (
	"strings"

	"usher/backends/httpbackend"
)

// Bounds of what a viewer may say. What is longer is wrong, whoever says it, and is not hashed.
const (
	maxLoginBytes    = 256
	maxPasswordBytes = 1024
	maxTokenBytes    = 1024
)

// credentials are what a viewer gave.
type credentials struct {
	token           string
	login, password string
	// isIncomplete: there is a login without a password, or the other way round.
	isIncomplete bool
}

// isEmpty reports whether the viewer gave nothing that an account could be known by.
func (c credentials) isEmpty() bool { return c.token == "" && c.login == "" && !c.isIncomplete }

// readCredentials reads a viewer's raw query. Of several parameters of one name the first that is not empty counts, and
// auth stands before user and password.
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
