package setting

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

const (
	// MinSecretSize is the least number of bytes of a secret.
	MinSecretSize = 16
	// maxKeyIDSize is the greatest number of bytes of a key's id.
	maxKeyIDSize = 16
)

// Key is a named secret, so that a list of keys can be rotated: the first key of a list signs or encrypts, and
// every key of it verifies or decrypts.
type Key struct {
	// ID names the key in everything that it signed or encrypted: 1 to 16 letters and digits.
	ID string `yaml:"id"`
	// Secret has at least 16 bytes.
	Secret Secret `yaml:"secret"`
}

// ValidateKeys reports every invalid key of a list. The path is the list's setting, for example "tickets.keys".
func ValidateKeys(path string, keys []Key) error {
	wellFormed := regexp.MustCompile(`^[A-Za-z0-9]{1,` + strconv.Itoa(maxKeyIDSize) + `}$`)
	var errs []error
	seen := make(map[string]bool, len(keys))
	for i, k := range keys {
		if !wellFormed.MatchString(k.ID) || seen[k.ID] {
			errs = append(errs, fmt.Errorf("%s[%d].id: %q: want 1 to %d letters and digits, unlike any other key's",
				path, i, k.ID, maxKeyIDSize))
		}
		seen[k.ID] = true
		if n := len(k.Secret.Reveal()); n < MinSecretSize {
			errs = append(errs, fmt.Errorf("%s[%d].secret: has %d bytes; want at least %d", path, i, n, MinSecretSize))
		}
	}
	return errors.Join(errs...)
}
