package sessions

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"usher/gateway/admin"
)

type backendsCommand struct{ adminFlags }

// Run lists the backends of a node.
func (c backendsCommand) Run(r Runtime) error {
	var list struct{ Backends []admin.Backend }
	return c.get(r, "backends", nil, &list, func() error { return printBackends(r, list.Backends) })
}

func printBackends(r Runtime, all []admin.Backend) error {
	slices.SortFunc(all, func(a, b admin.Backend) int { return cmp.Compare(a.Name, b.Name) })
	var rows, failures [][]string
	for _, b := range all {
		checks, failing, denials := "-", "-", "-"
		if b.Rates != nil {
			checks, failing = fmt.Sprintf("%.1f", b.Rates.ChecksPerSecond), fmt.Sprintf("%.1f", b.Rates.FailuresPerSecond)
			denials = fmt.Sprintf("%.0f%%", 100*b.Rates.DenialsShare)
		}
		forced := ""
		if b.Forced != nil {
			forced = strings.TrimSpace(fmt.Sprintf("%s until %s %s", b.Forced.State, b.Forced.Until.Format(time.RFC3339), b.Forced.Reason))
		}
		var violations []string
		for _, name := range slices.Sorted(maps.Keys(b.ContractViolations)) {
			if b.ContractViolations[name].Active {
				violations = append(violations, name)
			}
		}
		rows = append(rows, []string{
			b.Name, b.Kind, b.Breaker, checks, failing, denials, b.OnFailure, orDash(forced), orDash(strings.Join(violations, ",")),
		})
		for _, f := range b.LastFailures {
			failures = append(failures, []string{b.Name, f.Time.Format(time.RFC3339), f.Outcome, f.Error})
		}
	}
	head := []string{"BACKEND", "KIND", "BREAKER", "CHECKS/S", "FAILURES/S", "DENIALS", "ON FAILURE", "FORCED", "VIOLATIONS"}
	if err := table(r, head, rows); err != nil || len(failures) == 0 {
		return err
	}
	if err := printLine(r, "\n"); err != nil {
		return err
	}
	return table(r, []string{"BACKEND", "LAST FAILURE", "OUTCOME", "ERROR"}, failures)
}

type forceCommand struct {
	adminFlags
	Backend  string        `arg:"" help:"The backend's name."`
	State    string        `arg:"" enum:"open,closed,auto" help:"open sends no check, closed sends every check, auto is the breaker's own state."`
	Duration time.Duration `help:"How long it lasts, 1s to 24h. Default: 10m."`
	Reason   string        `help:"The reason, for the log and the API."`
}

// Help explains what viewers feel.
func (forceCommand) Help() string {
	return "While a breaker is forced open the backend's on_failure decides about every viewer at once, as in an outage: for the " +
		"maintenance of a middleware. It holds on all nodes, also on those that start meanwhile. It fails if a node does not " +
		"force it yet; a node that was not reached does with its next heartbeat."
}

// Run forces the breaker of a backend.
func (c forceCommand) Run(r Runtime) error {
	fields := map[string]any{"state": c.State, "reason": c.Reason}
	if c.Duration != 0 {
		fields["duration"] = c.Duration.String()
	}
	var done admin.ForceResult
	err := c.send(r, "POST", backendPath(c.Backend, "breaker"), fields, &done, func() error { return printForced(r, done) })
	if err == nil && len(done.NotForced) > 0 {
		err = fmt.Errorf("not in force yet on %s", strings.Join(slices.Sorted(maps.Keys(done.NotForced)), ", "))
	}
	return err
}

func printForced(r Runtime, done admin.ForceResult) error {
	what := "has its own state again"
	if done.Forced != nil {
		what = fmt.Sprintf("is forced %s until %s", done.Forced.State, done.Forced.Until.Format(time.RFC3339))
	}
	err := printLine(r, "%s %s on %s\n", done.Backend, what, orDash(strings.Join(done.Nodes, ", ")))
	if err != nil || len(done.NotForced) == 0 {
		return err
	}
	var rows [][]string
	for _, node := range slices.Sorted(maps.Keys(done.NotForced)) {
		rows = append(rows, []string{node, done.NotForced[node]})
	}
	return table(r, []string{"NODE", "NOT IN FORCE"}, rows)
}

type probeCommand struct {
	adminFlags
	Backend string `arg:"" help:"The backend's name."`
}

// Help explains what a probe asks.
func (probeCommand) Help() string {
	return "Each node asks the backend again about the viewer whom it asked about last, whatever the breaker's state, and changes " +
		"nothing. It fails if no node gets an answer. \"usher check\" asks about credentials of your own."
}

// Run probes a backend.
func (c probeCommand) Run(r Runtime) error {
	var done admin.ProbeResult
	isAnswered := false
	err := c.send(r, "POST", backendPath(c.Backend, "probe"), nil, &done, func() error {
		var rows [][]string
		for _, p := range done.Probes {
			took := "-"
			if p.Outcome != "" {
				took = fmt.Sprintf("%.1fms", p.DurationMS)
			}
			rows = append(rows, []string{orDash(p.Node), orDash(p.Outcome), took, orDash(p.Error)})
		}
		return table(r, []string{"NODE", "OUTCOME", "TOOK", "ERROR"}, rows)
	})
	for _, p := range done.Probes {
		isAnswered = isAnswered || p.Outcome != "" && p.Error == ""
	}
	switch {
	case err != nil:
		return err
	case !isAnswered:
		return ErrNegative
	default:
		return warnUnreachable(r, done.UnreachableNodes)
	}
}

func backendPath(backend, what string) string {
	return "backends/" + url.PathEscape(backend) + "/" + what
}
