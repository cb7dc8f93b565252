package httpbackend

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// answerRequirements holds what an allowing answer must have beside its status, so that an error page or a login page with
// status 200 admits no viewer. The zero value requires nothing.
type answerRequirements struct {
	header string // the canonical name; empty: none
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

// verify returns what an allowing answer lacks. The error quotes nothing of the answer.
func (r answerRequirements) verify(a Response) error {
	switch {
	case r.header != "" && !r.matchesHeader(a.Header.Get(r.header)):
		return fmt.Errorf("allowed, but without require_header=%q%s", r.headerSetting(), webPageHint(a))
	case r.body != nil && !r.body.Match(a.Body):
		return fmt.Errorf("allowed, but the body does not match require_body=%q%s", r.body, webPageHint(a))
	}
	return nil
}

// matchesHeader reports whether the header has the required value. Parameters, for example a charset, are ignored.
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

// webPageHint returns a hint if the answer is a web page, the most likely mistake.
func webPageHint(a Response) string {
	if a.IsWebPage() {
		return "; it is a web page"
	}
	return ""
}

// IsWebPage reports whether the answer is a web page, which no middleware sends.
func (a Response) IsWebPage() bool {
	return strings.HasPrefix(strings.ToLower(a.Header.Get("Content-Type")), "text/html")
}
