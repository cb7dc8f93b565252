package users

import (
	"strings"

	"usher/backends/httpbackend"
)

// Bounds of what a viewer may say. What is longer is wrong, whoever says it, and is not hashed.
const (
	maxLogin    = 256
	maxPassword = 1024
	maxToken    = 1024
)

// credentials are what a viewer gave.
type credentials struct {
	token           string
	login, password string
	// incomplete: there is a login without a password, or the other way round.
	incomplete bool
}

// none reports whether the viewer gave nothing that an account could be known by.
func (c credentials) none() bool { return c.token == "" && c.login == "" && !c.incomplete }

// credentialsIn reads a viewer's raw query. Of several parameters of one name the first that is not empty counts, and
// auth stands before user and password.
func (c Config) credentialsIn(query string) credentials {
	found := credentials{token: value(query, c.TokenParameter)}
	if auth := value(query, c.AuthParameter); auth != "" {
		found.login, found.password, _ = strings.Cut(auth, ":")
	} else {
		found.login, found.password = value(query, c.UserParameter), value(query, c.PasswordParameter)
		if found.login == "" && found.password == "" {
			return found
		}
	}
	if found.login == "" || found.password == "" {
		found.login, found.password, found.incomplete = "", "", true
	}
	return found
}

func value(query, name string) string {
	if name == "" {
		return ""
	}
	return httpbackend.QueryValue(query, name)
}
