package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"usher/actors/records"
	"usher/backends"
	"usher/backends/httpbackend"
	"usher/cluster"
	"usher/cmd/usher/sessions"
	"usher/gateway"
	"usher/gateway/admin/audit"
)

// checkCommand calls a configured backend once, without its breaker and outage policy, and shows what it answers.
type checkCommand struct {
	fileFlag
	URL       string     `help:"The URL that the viewer requests, such as http://host/play/a001/index.m3u8?token=123." required:""`
	IP        netip.Addr `help:"The viewer's address." default:"192.0.2.1"`
	UserAgent string     `help:"The viewer's User-Agent." default:"usher-check"`
	Channel   string     `help:"The channel as the edge names it. Default: the channel in the URL's path."`
	Backend   string     `help:"The backend to call. Default: that of the URL's route."`
	JSON      bool       `help:"Print the report as JSON."`
}

// Run calls the backend and prints a report. The exit code is 0 for allowed, 1 for denied, 2 without an answer.
func (c checkCommand) Run(r runtime) error {
	n, end, err := c.build(r, func(s *settings) {
		// This process is not a node of the cluster, listens nowhere, exports no traces, and writes none of a node's files, which
		// its user may not be allowed to.
		s.Cluster, s.Gateway.TLS, s.ExtAuthz.TLS = cluster.DefaultConfig(), gateway.TLSConfig{}, gateway.TLSConfig{}
		s.Tracing, s.Records, s.Admin.Audit = tracingSettings{}, records.Config{}, audit.Config{}
		s.Gateway.Listen, s.Admin.Listen, s.ExtAuthz.Listen = "", "", ""
	})
	if err != nil {
		return err
	}
	defer end()
	request, err := c.request(n)
	if err != nil {
		return err
	}
	report, verdict := checkOnce(r.ctx, n, request)
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
		return sessions.ErrNegative
	default:
		return fmt.Errorf("backend %q did not answer", request.Backend)
	}
}

// request returns what the gateway would ask the backend for that URL.
func (c checkCommand) request(n *node) (*backends.Request, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("--url=%s: want an absolute URL, such as http://host/play/a001/index.m3u8", c.URL)
	}
	view := gateway.Request{
		Method: "GET", Scheme: u.Scheme, Host: u.Host, Path: u.EscapedPath(), Query: u.RawQuery, Peer: c.IP.Unmap(),
		Header: checkHeader{"User-Agent": c.UserAgent, "Authorization": basicAuthorization(u.User)},
	}
	q, err := n.current.Load().gateway.BackendRequest(&view, c.Channel)
	if err != nil {
		return nil, fmt.Errorf("--url=%s: %w", u.Redacted(), err)
	}
	if c.Backend != "" {
		if n.current.Load().adapters[c.Backend].Backend == nil {
			return nil, fmt.Errorf("--backend=%s: not configured; want one of %s", c.Backend,
				strings.Join(slices.Sorted(maps.Keys(n.current.Load().adapters)), ", "))
		}
		q.Backend = c.Backend
	}
	return q, nil
}

// checkHeader is the request header of a viewer.
type checkHeader map[string]string

// Get returns the value of a header field.
func (h checkHeader) Get(name string) string { return h[name] }

// Values returns all values of a header field.
func (h checkHeader) Values(name string) []string {
	if value := h.Get(name); value != "" {
		return []string{value}
	}
	return nil
}

// basicAuthorization returns what a player sends for the user and password of a URL, or "".
func basicAuthorization(user *url.Userinfo) string {
	if user == nil {
		return ""
	}
	password, _ := user.Password()
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user.Username(), password)
	return r.Header.Get("Authorization")
}

// checkOnce calls the adapter itself, without its breaker and outage policy, and reports what that policy does on a
// failure. The members of a composite backend keep their breakers.
func checkOnce(ctx context.Context, n *node, q *backends.Request) (checkReport, backends.Verdict) {
	s := n.current.Load().settings
	ctx, cancel := context.WithTimeout(ctx, s.Backends[q.Backend].rules().Timeout)
	defer cancel()
	ctx, calls := httpbackend.WithTrace(ctx)
	d, err := n.current.Load().adapters[q.Backend].Check(ctx, q)
	if err == nil && d.Verdict == backends.Pending {
		d.Verdict, d.Reason = backends.Denied, "no backend has an opinion on the viewer: "+d.Reason
	}
	report := checkReport{
		Backend: q.Backend, Kind: s.Backends[q.Backend].Settings.kind(), Route: q.Route, Channel: q.Channel,
		Verdict: d.Verdict.String(), Reason: d.Reason, User: calls.Redact(d.User), UserID: calls.Redact(d.UserID),
		Redirect: calls.Redact(d.Redirect), Challenge: calls.Redact(d.Challenge),
		MaxSessions: int(d.MaxSessions), ContractViolations: activeViolations(n),
	}
	report.setCalls(calls.Entries())
	if err != nil {
		report.Verdict, report.Reason = "no answer", failureHint(err, s, calls.Redact)
		report.setWarning(outageHint(n.current.Load().chains[q.Backend].FailOpen.Policy()))
		return report, backends.Pending
	}
	report.Source = d.Source.String()
	switch {
	case d.Verdict == backends.Denied: // whatever the answer says
		report.ValidFor = s.Sessions.DenialTTL.String()
	case d.ValidFor > 0:
		report.ValidFor = min(max(d.ValidFor, s.Sessions.Recheck.Min), s.Sessions.Recheck.Max).String()
	}
	report.setWarning(suspicion(d, report.Calls))
	return report, d.Verdict
}

// activeViolations returns how the answers violated the contract, with advice and detail, by backend and violation.
func activeViolations(n *node) map[string]string {
	all := map[string]string{}
	for name, a := range n.current.Load().adapters {
		if a.alarms == nil {
			continue
		}
		for _, alarm := range backends.AllAlarms() {
			if a.alarms.Active().Has(alarm) {
				all[name+": "+alarm.String()] = adviceOn(a.alarms, alarm)
			}
		}
	}
	return all
}
