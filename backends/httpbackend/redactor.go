package httpbackend

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"usher/backends/setting"
)

// minHiddenValue is the length in bytes from which a value of the config is hidden wherever an answer holds it. A shorter one is part of
// many words, and hidden beside its parameter's name.
const minHiddenValue = 6

// redactor hides secrets in a text, however an answer escapes them. The zero value hides nothing.
type redactor struct {
	secrets *regexp.Regexp
	shown   string // in the place of each
}

// redact returns the text with its secrets hidden.
func (r redactor) redact(text string) string {
	if r.secrets == nil {
		return text
	}
	return r.secrets.ReplaceAllString(text, r.shown)
}

// secret is a value to hide, behind the name of its parameter or anywhere.
type secret struct{ name, value string }

// newRedactor returns what hides the config's secrets, the signatures and a viewer's Authorization, of a request with that header.
func (c *Client) newRedactor(sent http.Header) redactor {
	var all []secret
	hide := func(value string) {
		for _, form := range []string{value, unescapeLeniently(value)} {
			if len(form) >= minHiddenValue {
				all = append(all, secret{"", form})
			}
		}
	}
	for query := c.address.RawQuery; len(query) > 0; {
		var parameter string
		parameter, _, query = nextParameter(query)
		name, value, isNamed := strings.Cut(parameter, "=")
		switch {
		case !isNamed:
			value = name
		case value != "":
			all = append(all, secret{name + "=", value}, secret{name + "=", unescapeLeniently(value)})
		}
		hide(value)
	}
	headers := maps.Clone(c.headers)
	if values := sent["Authorization"]; len(values) > 0 {
		headers["Authorization"] = values
	}
	for name, values := range headers {
		if setting.IsPublicHeader(name) {
			continue
		}
		hide(values[0])
		for _, part := range secretParts(name, values[0]) {
			hide(part)
		}
	}
	for _, signature := range c.signer.Signatures(sent) {
		hide(signature)
	}
	return redactorOf(all)
}

// redactorOf returns what hides those secrets, longer ones first, since one may begin like another.
func redactorOf(all []secret) redactor {
	slices.SortFunc(all, func(a, b secret) int {
		return cmp.Or(len(b.name+b.value)-len(a.name+a.value), strings.Compare(a.name, b.name), strings.Compare(a.value, b.value))
	})
	all = slices.Compact(all)
	if len(all) == 0 {
		return redactor{}
	}
	var r redactor
	patterns := make([]string, len(all))
	for i, s := range all {
		patterns[i] = escapedPattern(s.value)
		if s.name != "" {
			patterns[i] = "(" + escapedPattern(s.name) + ")" + patterns[i]
		}
	}
	r.secrets = regexp.MustCompile(strings.Join(patterns, "|"))
	for i := range r.secrets.NumSubexp() { // one at most is not empty
		r.shown += fmt.Sprintf("${%d}", i+1)
	}
	r.shown += setting.Hidden
	return r
}

// secretParts returns the parts of a header's value that are secret by themselves: the credentials without their scheme, a password, or the
// user without one, and the values of parameters and cookies.
func secretParts(name, value string) (parts []string) {
	_, credentials, _ := strings.Cut(value, " ")
	parts = append(parts, strings.TrimSpace(credentials))
	if user, password, isBasic := (&http.Request{Header: http.Header{"Authorization": {value}}}).BasicAuth(); isBasic {
		parts = append(parts, cmp.Or(password, user))
	}
	isCookie := strings.EqualFold(name, "Cookie")
	separators := ",; "
	if isCookie {
		separators = ";"
	}
	isSeparator := func(c rune) bool { return strings.ContainsRune(separators, c) }
	for parameter := range strings.FieldsFuncSeq(value, isSeparator) { // net/http reads none of a line with a cookie that it does not know
		name, value, isNamed := strings.Cut(parameter, "=")
		if isCookie && !isNamed {
			value = name
		}
		parts = append(parts, strings.Trim(value, " \t\""))
	}
	return parts
}

// escapedPattern returns an expression that matches a text as it is, and with any of its characters in an escape of URLs, JSON, JavaScript
// or HTML, also one of the other. Which ones are escaped differs with each language's function. None escapes ASCII letters and digits.
func escapedPattern(text string) string {
	var out strings.Builder
	for len(text) > 0 {
		char, size := utf8.DecodeRuneInString(text)
		if char < utf8.RuneSelf && (unicode.IsLetter(char) || unicode.IsDigit(char)) {
			out.WriteRune(char)
		} else {
			fmt.Fprintf(&out, `(?:\\*(?:%s|%s)|%s)`, regexp.QuoteMeta(string(char)), backslashEscapes(char), otherEscapes(char, text[:size]))
		}
		text = text[size:]
	}
	return out.String()
}

// backslashEscapes returns an expression for the escapes of a character that begin with a backslash, without it: JSON in JSON has several.
func backslashEscapes(char rune) string {
	var out strings.Builder
	out.WriteString("(?i:")
	for i, unit := range utf16.AppendRune(nil, char) {
		if i > 0 {
			out.WriteString(`\\*`)
		}
		fmt.Fprintf(&out, "u%04x", unit)
	}
	fmt.Fprintf(&out, "|x%02x)", char)
	return out.String()
}

// otherEscapes returns an expression for the escapes of a character of those bytes in URLs, and in HTML by its number or name, which may
// have the name of any. A URL in a URL is escaped once more, as HTML in HTML is. An old script has one byte for a character of Latin-1.
func otherEscapes(char rune, bytes string) string {
	var out strings.Builder
	for i := range len(bytes) {
		fmt.Fprintf(&out, "%%(?:25)*(?i:%02x)", bytes[i])
	}
	fmt.Fprintf(&out, "|&(?:amp;)*(?i:#0*%d|#x0*%x|[a-z][a-z0-9]*);", char, char)
	switch {
	case char == ' ':
		out.WriteString(`|\+`)
	case char >= utf8.RuneSelf && char <= unicode.MaxLatin1:
		fmt.Fprintf(&out, `|%%(?:25)*(?i:%02x)|\x{fffd}`, char)
	}
	return out.String()
}
