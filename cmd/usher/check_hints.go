package main

import (
	"fmt"
	"strings"
	"time"

	"usher/backends"
)

// advice says what a failure usually means, in the words of whoever has to mend it: the causes that Astra's manual lists
// (refused, hanging, wrong URL), and their kin.
func advice(err error, timeout time.Duration) string {
	f := backends.AsFailure(err)
	if f == nil {
		return err.Error()
	}
	text := err.Error()
	switch {
	case f.Kind == backends.FailureTimeout:
		return fmt.Sprintf("%s: the request hangs; look at the network between here and there, or at timeout=%v", text, timeout)
	case f.Kind == backends.FailureTransport && strings.Contains(text, "refused"):
		return text + ": connection refused; the backend server is down, or the port in address is wrong"
	case f.Kind == backends.FailureTransport && strings.Contains(text, "no such host"):
		return text + ": wrong URL; the host name in address is unknown"
	case f.Kind == backends.FailureTransport && strings.Contains(text, "TLS"):
		return text + ": its certificate is not believed; look at tls.ca_file and tls.server_name, or at http:// against https://"
	case f.Kind == backends.FailureTransport:
		return text + ": it cannot be reached; check address and network"
	case f.Status == 404:
		return text + ": wrong URL; check the path in address"
	case f.Status == 429:
		return text + ": it is asked too much; look at max_in_flight and recheck_rate"
	case f.Kind == backends.FailureStatus:
		return text + ": the backend itself fails; look at its log"
	case strings.Contains(text, "own host"):
		return text + ": wrong URL, or it wants a login; check address and headers"
	default:
		return text + ": something else than the backend answers; check address"
	}
}

// inOutage is what viewers are told while nobody answers.
func inOutage(p backends.Policy) string {
	switch p {
	case backends.PolicyDeny:
		return "while the backend is away, on_failure=deny refuses everybody, paying viewers too"
	case backends.PolicyKeep:
		return "while the backend is away, on_failure=keep asks unknown viewers to come back (503)"
	default:
		return "while the backend is away, on_failure=allow lets unknown viewers in unchecked: free access"
	}
}

// doubts is what makes an answer suspect, or empty.
func doubts(d backends.Decision, calls []checkCall) string {
	for _, c := range calls {
		switch {
		case c.Status == 404 && d.Verdict == backends.Denied:
			return "404 counts as a no here, but is most often a wrong URL; check the path in address"
		case c.isWebPage() && d.Verdict == backends.Allowed:
			return "the answer is a web page, so everybody may be let in by it: is address right? " +
				"Set require_header or require_body to what only the backend says"
		case d.Redirect != "" && strings.Contains(strings.ToLower(d.Redirect), "login"):
			return "refused viewers are sent to what looks like a login page; check address and headers"
		}
	}
	return ""
}
