package main

import (
	"fmt"
	"regexp"
	"strings"

	"usher/backends"
	"usher/backends/setting"
)

// failureHint returns the error with its usual cause and what to check. The causes are those that Astra's manual lists
// (refused, hanging, wrong URL), and related ones. All but the host of an address to set are words of Usher and of the config: were they
// redacted, a secret that is such a word would be told.
func failureHint(err error, s *settings, redact func(string) string) string {
	f := backends.AsFailure(err)
	text := regexp.MustCompile(`set address to https?://[^/\s]+`).ReplaceAllStringFunc(err.Error(), func(match string) string {
		const words = "set address to "
		return words + redact(match[len(words):])
	})
	if f == nil {
		return text
	}
	switch {
	case f.Kind == backends.FailureTimeout:
		return text + ": the request hangs; check the network" + timeoutHint(s, f.Backend)
	case f.Kind == backends.FailureTransport:
		return text + transportHint(err)
	case f.Status == 404:
		return text + ": wrong URL; check the path in address. If other viewers get answers, this viewer's URL is wrong, and they are denied"
	case f.Status == 401, f.Status == 407:
		return text + ": it refuses Usher itself; check the user and password of address, and headers. If other viewers get answers, " +
			"this viewer is meant, and denied"
	case f.Status == 429:
		return text + ": it gets too many requests; check max_in_flight and recheck_rate"
	case f.Kind == backends.FailureStatus:
		return text + ": the backend itself fails; check its log"
	case strings.Contains(text, "set address to"):
		return text + ": wrong URL; if the redirect is for viewers, set redirects: viewer"
	case strings.Contains(text, "backend's own"):
		return text + ": wrong URL, or it wants a login; check address and headers"
	case strings.Contains(text, "an error page"):
		return text + ": the backend itself fails; check its log"
	default:
		return text + ": another server than the backend answers; check address"
	}
}

// timeoutHint names the setting that bounds a call of the backend; empty for a kind without one.
func timeoutHint(s *settings, backend string) string {
	if b := s.Backends[backend]; b != nil {
		if remote, isRemote := b.Settings.common().(remoteSettings); isRemote {
			return fmt.Sprintf(" and backends.%s.timeout=%v", backend, remote.Chain.Timeout)
		}
	}
	return ""
}

// transportHint returns the usual cause of a connection that failed with that error.
func transportHint(err error) string {
	text, advice := err.Error(), setting.TLSAdvice(err, "tls")
	switch {
	case advice != "":
		return ": " + advice
	case strings.Contains(text, "refused"):
		return ": connection refused; the backend server is down, or the port in address is wrong"
	case strings.Contains(text, "no such host"):
		return ": wrong URL; the host name in address is unknown"
	case strings.Contains(text, "EOF"):
		return ": the backend server closes the connection without an answer; check its log, and http:// against https:// in address"
	case strings.Contains(text, "TLS"):
		return ": its certificate is not trusted; check tls.ca_file and tls.server_name, and http:// against https:// in address"
	case strings.Contains(text, "jwks_url"):
		return ": it gives no keys; check jwks_url and the network"
	default:
		return ": it cannot be reached; check address and the network"
	}
}

// outageHint returns what viewers get while the backend does not answer.
func outageHint(p backends.Policy) string {
	switch p {
	case backends.PolicyDeny:
		return "while the backend is unavailable, on_failure=deny refuses viewers without a valid decision, subscribers too"
	case backends.PolicyKeep:
		return "while the backend is unavailable, on_failure=keep answers 503 to new viewers"
	default:
		return "while the backend is unavailable, on_failure=allow admits new viewers unverified: free access"
	}
}

// suspicion returns why an answer looks wrong, or an empty text.
func suspicion(d backends.Decision, calls []checkCall) string {
	for i := range calls {
		c := &calls[i]
		switch {
		case c.Status == 404 && d.Verdict == backends.Denied:
			return "404 counts as denied here, but usually means a wrong URL; check the path in address"
		case c.page != "" && d.Verdict == backends.Allowed:
			return c.pageHint()
		case d.Redirect != "" && strings.Contains(strings.ToLower(d.Redirect), "login"):
			return "denied viewers are redirected to what looks like a login page; check address and headers"
		}
	}
	return ""
}

// pageHint returns what the body of a yes means that should have none, or another one. Where it should have none, nothing can be required
// of it.
func (c *checkCall) pageHint() string {
	set := "Set broken_page: failure"
	switch {
	case c.page == "PHP's warnings":
		return "the answer begins with PHP's warnings, which admit nobody by themselves; check the backend's log, and turn display_errors off"
	case c.page == "an error page" && c.isBodyless:
		return "the answer is an error page, which admits everybody; check the backend's log. " + set
	case c.page == "an error page":
		return "the answer is an error page, which admits everybody; check the backend's log. " +
			set + ", or require_header or require_body to what only a sound answer has"
	case c.isBodyless:
		return "the answer has " + c.page + " and should have no body, so that it may admit everybody; check address. " + set
	default:
		return "the answer is " + c.page + ", which may admit everybody; check address. " +
			"Set require_header or require_body to what only the backend sends"
	}
}
