package httpbackend

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// required is what a yes must have beside its status, so that the error page or the login page of whatever answers at a
// wrong address, with 200, is not taken for one. The zero value requires nothing.
type required struct {
	header string // its canonical name; empty: none
	value  string // empty: any
	body   *regexp.Regexp
}

func newRequired(cfg Config) (required, error) {
	var r required
	if cfg.RequireHeader != "" {
		name, value, _ := strings.Cut(cfg.RequireHeader, ":")
		if !isToken(name) {
			return required{}, fmt.Errorf("require_header: %q: want a header's name, or name: value", cfg.RequireHeader)
		}
		r.header, r.value = http.CanonicalHeaderKey(name), strings.TrimSpace(value)
	}
	if cfg.RequireBody != "" {
		body, err := regexp.Compile(cfg.RequireBody)
		if err != nil {
			return required{}, fmt.Errorf("require_body: %w", err)
		}
		r.body = body
	}
	return r, nil
}

// check reports what a yes lacks. Its words hold nothing of the answer.
func (r required) check(a Response) error {
	switch {
	case r.header != "" && !r.holds(a.Header.Get(r.header)):
		return fmt.Errorf("a yes without what require_header=%q wants%s", r.setting(), webPage(a))
	case r.body != nil && !r.body.Match(a.Body):
		return fmt.Errorf("a yes whose body does not match require_body=%q%s", r.body, webPage(a))
	}
	return nil
}

// holds reports whether the header's value is what is wanted, parameters such as a charset left aside.
func (r required) holds(value string) bool {
	plain, _, _ := strings.Cut(value, ";")
	return value != "" && (r.value == "" || value == r.value || strings.TrimSpace(plain) == r.value)
}

func (r required) setting() string {
	if r.value == "" {
		return r.header
	}
	return r.header + ": " + r.value
}

// webPage adds what is most likely the matter.
func webPage(a Response) string {
	if a.IsWebPage() {
		return "; it is a web page"
	}
	return ""
}

// IsWebPage reports whether the answer is one for people, which no middleware's is.
func (a Response) IsWebPage() bool {
	return strings.HasPrefix(strings.ToLower(a.Header.Get("Content-Type")), "text/html")
}
