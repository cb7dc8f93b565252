package backends

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

const (
	// MinSecretSize is the least number of bytes of a secret that nobody can guess.
	MinSecretSize = 16
	// MaxKeyIDSize is the greatest number of bytes of a key's id.
	MaxKeyIDSize = 16
)

// Key is a secret that has a name, so that a list of keys can be rotated: the first key of a list signs or encrypts, and
// every key of it verifies or decrypts.
type Key struct {
	// ID names the key in everything that it signed or encrypted: 1 to 16 letters and digits.
	ID string `yaml:"id"`
	// Secret has at least 16 bytes.
	Secret Secret `yaml:"secret"`
}

// ValidateKeys reports every key of a list that cannot work. The path is the list's setting, such as "tickets.keys".
func ValidateKeys(path string, keys []Key) error {
	wellFormed := regexp.MustCompile(`^[A-Za-z0-9]{1,` + strconv.Itoa(MaxKeyIDSize) + `}$`)
	var errs []error
	seen := make(map[string]bool, len(keys))
	for i, k := range keys {
		if !wellFormed.MatchString(k.ID) || seen[k.ID] {
			errs = append(errs, fmt.Errorf("%s[%d].id: %q: want 1 to %d letters and digits, unlike any other key's",
				path, i, k.ID, MaxKeyIDSize))
		}
		seen[k.ID] = true
		if n := len(k.Secret.Reveal()); n < MinSecretSize {
			errs = append(errs, fmt.Errorf("%s[%d].secret: has %d bytes; want at least %d", path, i, n, MinSecretSize))
		}
	}
	return errors.Join(errs...)
}
