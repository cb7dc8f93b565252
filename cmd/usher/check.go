package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"usher/backends"
	"usher/backends/httpbackend"
	"usher/cluster"
	"usher/gateway"
)

// checkCommand asks a configured backend once, past breaker and fail-open, so that the operator sees what it really says.
type checkCommand struct {
	fileFlag
	URL       string     `help:"What the viewer asks for, such as http://host/play/a001/index.m3u8?token=123." required:""`
	IP        netip.Addr `help:"The viewer's address." default:"192.0.2.1"`
	UserAgent string     `help:"The viewer's User-Agent." default:"usher-check"`
	Channel   string     `help:"The channel as the edge names it, where it is not in the URL's path."`
	Backend   string     `help:"Ask this backend; default: the one of the URL's route."`
	JSON      bool       `help:"Print JSON."`
}

// Run asks and prints. The exit code is 0 for allowed, 1 for denied, 2 if nobody answered.
func (c checkCommand) Run(r runtime) error {
	s, err := c.load(r.err)
	if err != nil {
		return err
	}
	s.Cluster = cluster.DefaultConfig() // it is none of the cluster's nodes
	n, err := newNode(s, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return err
	}
	defer n.close()
	question, err := c.question(n)
	if err != nil {
		return err
	}
	report, verdict := askOnce(r.ctx, n, question)
	write := report.text
	if c.JSON {
		write = report.json
	}
	if err := write(r.out); err != nil {
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
	view := gateway.Request{
		Method: "GET", Scheme: u.Scheme, Host: u.Host, Path: u.EscapedPath(), Query: u.RawQuery, Peer: c.IP.Unmap(),
		Header: checkHeader{c.UserAgent},
	}
	q, err := n.gateway.BackendRequest(&view, c.Channel)
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

// askOnce asks the adapter itself, past its breaker and its outage policy, and says what the latter would have made of a
// failure. Members of a backend that joins several are asked as they always are.
func askOnce(ctx context.Context, n *node, q *backends.Request) (checkReport, backends.Verdict) {
	around := n.settings.Backends[q.Backend].Around
	ctx, cancel := context.WithTimeout(ctx, around.timeout())
	defer cancel()
	ctx, calls := httpbackend.WithTrace(ctx)
	d, err := n.adapters[q.Backend].Check(ctx, q)
	if err == nil && d.Verdict == backends.Pending {
		d.Verdict, d.Reason = backends.Denied, "nobody speaks for the viewer: "+d.Reason
	}
	report := checkReport{
		Backend: q.Backend, Kind: n.settings.Backends[q.Backend].Kind, Route: q.Route, Channel: q.Channel,
		Verdict: d.Verdict.String(), Why: d.Reason, User: d.User, UserID: d.UserID, Redirect: d.Redirect,
		MaxSessions: d.MaxSessions, Alarms: raisedAlarms(n),
	}
	report.addCalls(calls.Entries())
	if err != nil {
		report.Verdict, report.Why = "no answer", advice(err, around.timeout())
		report.warn(inOutage(n.chains[q.Backend].FailOpen.Policy()))
		return report, backends.Pending
	}
	report.Source = d.Source.String()
	if d.ValidFor > 0 {
		report.ValidFor = d.ValidFor.String()
	}
	report.warn(doubts(d, report.Calls))
	return report, d.Verdict
}

// raisedAlarms are what was wrong with the answers, with advice.
func raisedAlarms(n *node) map[string]string {
	all := map[string]string{}
	for name, a := range n.adapters {
		if a.watch == nil {
			continue
		}
		for _, alarm := range backends.AllAlarms() {
			if a.watch.Active().Has(alarm) {
				all[name+": "+alarm.String()] = alarm.Advice()
			}
		}
	}
	return all
}
