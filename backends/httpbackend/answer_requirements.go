package httpbackend

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// UnmetRequirement is what an answer means that would allow but lacks what require_header or require_body demands.
type UnmetRequirement uint8

// The meanings.
const (
	// UnmetRequirementFailure takes it for something else than the backend's answer. It is the zero value.
	UnmetRequirementFailure UnmetRequirement = iota
	// UnmetRequirementDeny takes it for a denial, of a backend that denies with status 200.
	UnmetRequirementDeny
)

// String returns the meaning as the config spells it.
func (u UnmetRequirement) String() string { return [...]string{"failure", "deny"}[u] }

// MarshalText returns the meaning as the config spells it.
func (u UnmetRequirement) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText parses a meaning of the config.
func (u *UnmetRequirement) UnmarshalText(text []byte) error {
	for candidate := UnmetRequirementFailure; candidate <= UnmetRequirementDeny; candidate++ {
		if candidate.String() == string(text) {
			*u = candidate
			return nil
		}
	}
	return fmt.Errorf("on_unmet_requirement %q: want failure or deny", text)
}

// answerRequirements holds what an allowing answer must have beside its status, so that an error page or a login page with
// status 200 admits no viewer. The zero value requires nothing.
type answerRequirements struct {
	header  string // the canonical name; empty: none
	value   string // empty: any
	body    *regexp.Regexp
	onUnmet UnmetRequirement
}

func newAnswerRequirements(cfg Config) (answerRequirements, error) {
	r := answerRequirements{onUnmet: cfg.OnUnmetRequirement}
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
		return fmt.Errorf("without require_header=%q", r.headerSetting())
	case r.body != nil && !r.body.Match(a.Body):
		return fmt.Errorf("the body does not match require_body=%q", r.body)
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

// IsWebPage reports whether the answer's body, as far as it was read, is a web page, which no middleware sends. PHP's warnings before what a
// middleware sends are none.
func (a Response) IsWebPage() bool {
	return a.page >= pageHTML || a.page == pageNone && !startsAsDeclared(a.Header, a.Body) && isHTML(a.Body)
}
