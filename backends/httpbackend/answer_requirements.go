package httpbackend

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// answerRequirements is what a yes must have beside its status, so that the error page or the login page of whatever answers at a
// wrong address, with 200, is not taken for one. The zero value requires nothing.
type answerRequirements struct {
	header string // its canonical name; empty: none
	value  string // empty: any
	body   *regexp.Regexp
}

func newAnswerRequirements(cfg Config) (answerRequirements, error) {
	var r answerRequirements
	if cfg.RequireHeader != "" {
		name, value, _ := strings.Cut(cfg.RequireHeader, ":")
		if !isToken(name) {
			return answerRequirements{}, fmt.Errorf("require_header: %q: want a header's name, or name: value", cfg.RequireHeader)
		}
		r.header, r.value = http.CanonicalHeaderKey(name), strings.TrimSpace(value)
	}
	if cfg.RequireBody != "" {
		body, err := regexp.Compile(cfg.RequireBody)
		if err != nil {
			return answerRequirements{}, fmt.Errorf("require_body: %w", err)
		}
		r.body = body
	}
	return r, nil
}

// verify reports what a yes lacks. Its words hold nothing of the answer.
func (r answerRequirements) verify(a Response) error {
	switch {
	case r.header != "" && !r.matchesHeader(a.Header.Get(r.header)):
		return fmt.Errorf("a yes without what require_header=%q wants%s", r.headerSetting(), webPageHint(a))
	case r.body != nil && !r.body.Match(a.Body):
		return fmt.Errorf("a yes whose body does not match require_body=%q%s", r.body, webPageHint(a))
	}
	return nil
}

// matchesHeader reports whether the header's value is what is wanted, parameters such as a charset left aside.
func (r answerRequirements) matchesHeader(value string) bool {
	plain, _, _ := strings.Cut(value, ";")
	return value != "" && (r.value == "" || value == r.value || strings.TrimSpace(plain) == r.value)
}

func (r answerRequirements) headerSetting() string {
	if r.value == "" {
		return r.header
	}
	return r.header + ": " + r.value
}

// webPageHint adds what is most likely the matter.
func webPageHint(a Response) string {
	if a.IsWebPage() {
		return "; it is a web page"
	}
	return ""
}

// IsWebPage reports whether the answer is one for people, which no middleware's is.
func (a Response) IsWebPage() bool {
	return strings.HasPrefix(strings.ToLower(a.Header.Get("Content-Type")), "text/html")
}
