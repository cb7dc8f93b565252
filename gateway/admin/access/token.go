package access

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"usher/backends/setting"
)

// AdminName is the name of the token that admin.token sets.
const AdminName = "admin"

// minTokenLength is the length of the shortest bearer token that cannot be guessed.
const minTokenLength = 12

// Role is what a token's bearer may do.
type Role string

const (
	// Read sees all that the API shows.
	Read Role = "read"
	// Write also changes.
	Write Role = "write"
)

// Allows reports whether a bearer of the role may do what needs the other.
func (r Role) Allows(needed Role) bool { return r == Write || r == Read && needed == Read }

// UnmarshalText parses a role.
func (r *Role) UnmarshalText(text []byte) error {
	switch role := Role(text); role {
	case Read, Write:
		*r = role
		return nil
	default:
		return fmt.Errorf("unknown role %q; want %s or %s", text, Read, Write)
	}
}

// Token is a bearer token of the API.
type Token struct {
	// Name names the token's bearer in the audit.
	Name string `yaml:"name"`
	// Token is the secret that the bearer presents.
	Token setting.Secret `yaml:"token"`
	// Role is what the bearer may do.
	Role Role `yaml:"role"`
}

// Validate reports every invalid token of a listener. The first is admin.token, which may be empty if there are others. Errors
// begin with the setting below "admin".
func Validate(admin setting.Secret, others []Token) error {
	var errs []error
	users := map[string]string{} // settings by the token that they hold
	check := func(path string, token setting.Secret) {
		text := token.Reveal()
		switch n := len(text); {
		case n < minTokenLength:
			errs = append(errs, fmt.Errorf("%s: has %d characters; want at least %d", path, n, minTokenLength))
		case strings.TrimSpace(text) != text:
			errs = append(errs, fmt.Errorf("%s: begins or ends with a space, which no header field keeps", path))
		case users[text] != "":
			errs = append(errs, fmt.Errorf("%s: is the token of admin.%s; want another, or nobody knows who used it", path, users[text]))
		default:
			users[text] = path
		}
	}
	if admin != "" || len(others) == 0 {
		check("token", admin)
	}
	names := map[string]bool{AdminName: true}
	wellFormed := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`)
	for i, t := range others {
		path := fmt.Sprintf("tokens[%d]", i)
		switch {
		case !wellFormed.MatchString(t.Name):
			errs = append(errs, fmt.Errorf(
				"%s.name: %q: want 1 to 32 letters, digits, '.', '_' and '-', a letter or digit first", path, t.Name))
		case names[t.Name]:
			errs = append(errs, fmt.Errorf("%s.name: %q is the name of another token, or of admin.token; want another", path, t.Name))
		}
		names[t.Name] = true
		check(path+".token", t.Token)
		if t.Role == "" {
			errs = append(errs, fmt.Errorf("%s.role: missing; want %s or %s", path, Read, Write))
		}
	}
	return errors.Join(errs...)
}
