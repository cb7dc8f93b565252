package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"usher/backends"
	"usher/gateway"
)

// checkCommand asks a configured backend once, past breaker and fail-open, so that the operator sees what it really says.
type checkCommand struct {
	fileFlag
	URL       string     `help:"What the viewer asks for, such as http://host/play/a001/index.m3u8?token=123." required:""`
	IP        netip.Addr `help:"The viewer's address." default:"192.0.2.1"`
	UserAgent string     `help:"The viewer's User-Agent." default:"usher-check"`
	Backend   string     `help:"Ask this backend; default: the one of the URL's route."`
	JSON      bool       `help:"Print JSON."`
}

// checkReport is what check tells.
type checkReport struct {
	Backend  string            `json:"backend"`
	Route    string            `json:"route"`
	Channel  string            `json:"channel"`
	Request  string            `json:"request"`
	Sent     map[string]string `json:"sent"`
	Status   int               `json:"status,omitempty"`
	Answer   map[string]string `json:"answer,omitempty"`
	TookMS   float64           `json:"took_ms"`
	Verdict  string            `json:"verdict"`
	Source   string            `json:"source,omitempty"`
	Why      string            `json:"why"`
	User     string            `json:"user,omitempty"`
	UserID   string            `json:"user_id,omitempty"`
	ValidFor string            `json:"valid_for,omitempty"`
	Warning  string            `json:"warning,omitempty"`
}

// Run asks and prints. The exit code is 0 for allowed, 1 for denied, 2 if nobody answered.
func (c checkCommand) Run(r runtime) error {
	s, err := c.load(r.err)
	if err != nil {
		return err
	}
	n, err := newNode(s, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return err
	}
	defer n.close()
	question, err := c.question(n)
	if err != nil {
		return err
	}
	report, verdict := c.ask(r.ctx, n, question)
	if err := c.print(r, report); err != nil {
		return err
	}
	switch verdict {
	case backends.Allowed:
		return nil
	case backends.Denied:
		return errNo
	default:
		return fmt.Errorf("backend %q did not answer", question.Backend)
	}
}

// question is what the gateway would ask for that URL.
func (c checkCommand) question(n *node) (*backends.Request, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("--url=%s: want an absolute URL as a viewer has it", c.URL)
	}
	view := gateway.View{
		Method: "GET", Scheme: u.Scheme, Host: u.Host, Path: u.EscapedPath(), Query: u.RawQuery, Peer: c.IP.Unmap(),
		Header: checkHeader{c.UserAgent},
	}
	q, err := n.edge.Question(&view)
	if err != nil {
		return nil, fmt.Errorf("--url=%s: %w", c.URL, err)
	}
	if c.Backend != "" {
		if n.adapters[c.Backend].Backend == nil {
			return nil, fmt.Errorf("--backend=%s: configured are %s", c.Backend,
				strings.Join(slices.Sorted(maps.Keys(n.adapters)), ", "))
		}
		q.Backend = c.Backend
	}
	return q, nil
}

// checkHeader is the header of a viewer who sends nothing but a User-Agent.
type checkHeader struct{ userAgent string }

// Get is the field's value.
func (h checkHeader) Get(name string) string {
	if name == "User-Agent" {
		return h.userAgent
	}
	return ""
}

// Values are the field's values.
func (h checkHeader) Values(name string) []string {
	if value := h.Get(name); value != "" {
		return []string{value}
	}
	return nil
}

// ask asks the adapter itself, and says what the outage policy would have made of a failure.
func (c checkCommand) ask(ctx context.Context, n *node, q *backends.Request) (checkReport, backends.Verdict) {
	timeout := n.settings.Backends[q.Backend].Around.timeout()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx, calls := backends.WithExchanges(ctx)
	d, err := n.adapters[q.Backend].Check(ctx, q)
	var x backends.Exchange
	if list := calls.List(); len(list) > 0 {
		x = list[0]
	}
	report := checkReport{
		Backend: q.Backend, Route: q.Route, Channel: q.Channel,
		Request: x.Method + " " + x.URL, Sent: flat(x.Header), Status: x.Status, Answer: flat(x.Answer),
		TookMS: float64(x.Took.Microseconds()) / 1000, Verdict: d.Verdict.String(), Why: d.Reason,
		User: d.User, UserID: d.UserID,
	}
	if err != nil {
		report.Verdict, report.Why = "no answer", advice(err, timeout)
		if instead, err := n.chains[q.Backend].Instead(q, &backends.Failure{Kind: backends.FailureBreakerOpen}); err == nil &&
			instead.Verdict == backends.Allowed {
			report.Warning = "while the backend is away, on_failure=allow lets unknown viewers in unchecked: free access"
		}
		return report, backends.Undecided
	}
	report.Source = d.Source.String()
	if d.ValidFor > 0 {
		report.ValidFor = d.ValidFor.String()
	}
	return report, d.Verdict
}

// advice says what a failure usually means, in the words of whoever has to mend it.
func advice(err error, timeout time.Duration) string {
	f := backends.AsFailure(err)
	if f == nil {
		return err.Error()
	}
	switch {
	case f.Kind == backends.FailureTimeout:
		return fmt.Sprintf("%v: the request hangs; look at the network between here and there, or at timeout=%v", err, timeout)
	case f.Kind == backends.FailureTransport && strings.Contains(err.Error(), "refused"):
		return fmt.Sprintf("%v: connection refused; the backend server is down, or the port in address is wrong", err)
	case f.Kind == backends.FailureTransport:
		return fmt.Sprintf("%v: it cannot be reached; check address and network", err)
	case f.Status == 404:
		return fmt.Sprintf("%v: wrong URL; check the path in address", err)
	default:
		return err.Error()
	}
}

// flat is a header with one value a name.
func flat(h map[string][]string) map[string]string {
	m := make(map[string]string, len(h))
	for name, values := range h {
		m[name] = strings.Join(values, ", ")
	}
	return m
}

func (c checkCommand) print(r runtime, report checkReport) error {
	if c.JSON {
		e := json.NewEncoder(r.out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(report)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "backend   %s (route %s, channel %s)\n> %s\n", report.Backend, report.Route, report.Channel, report.Request)
	for _, name := range slices.Sorted(maps.Keys(report.Sent)) {
		fmt.Fprintf(&b, "> %s: %s\n", name, report.Sent[name])
	}
	if report.Status != 0 {
		fmt.Fprintf(&b, "< %d\n", report.Status)
		for _, name := range slices.Sorted(maps.Keys(report.Answer)) {
			fmt.Fprintf(&b, "< %s: %s\n", name, report.Answer[name])
		}
	}
	fmt.Fprintf(&b, "took      %.1f ms\nverdict   %s", report.TookMS, report.Verdict)
	if report.Source != "" {
		fmt.Fprintf(&b, " (source %s)", report.Source)
	}
	fmt.Fprintf(&b, "\nwhy       %s\n", report.Why)
	for _, line := range []struct{ name, value string }{
		{"user", strings.TrimSpace(report.User + " " + report.UserID)}, {"valid for", report.ValidFor}, {"WARNING", report.Warning},
	} {
		if line.value != "" {
			fmt.Fprintf(&b, "%-9s %s\n", line.name, line.value)
		}
	}
	_, err := fmt.Fprint(r.out, b.String())
	return err
}
