package setting

import "log/slog"

// Secret is a string that no log, error or printed config shows. Reveal alone returns its value.
type Secret string

// Hidden is the text that every way of printing a [Secret] shows.
const Hidden = "[hidden]"

// Reveal returns the value, for code that signs or sends it.
func (s Secret) Reveal() string { return string(s) }

// String hides the value.
func (s Secret) String() string { return Hidden }

// GoString hides the value from %#v.
func (s Secret) GoString() string { return Hidden }

// LogValue hides the value from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(Hidden) }

// MarshalText hides the value from JSON and YAML. An empty secret is empty, which says that it is not set.
func (s Secret) MarshalText() ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	return []byte(Hidden), nil
}
