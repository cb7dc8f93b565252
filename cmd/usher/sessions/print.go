package sessions

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"usher/gateway/admin"
	"usher/gateway/admin/printable"
)

// Printf prints formatted text for a terminal. Strings among the arguments come from players and middlewares, and are printed
// without what would break the line, move the cursor or turn the line around.
func Printf(w io.Writer, format string, args ...any) error {
	for i, a := range args {
		if text, isString := a.(string); isString {
			args[i] = printable.Text(text)
		}
	}
	_, err := fmt.Fprintf(w, format, args...)
	return err
}

// printLine prints formatted text.
func printLine(r Runtime, format string, args ...any) error { return Printf(r.Out, format, args...) }

// table prints rows in columns under a header.
func table(r Runtime, head []string, rows [][]string) error {
	w := tabwriter.NewWriter(r.Out, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = printable.Text(cell)
		}
		if _, err := fmt.Fprintln(w, strings.Join(cells, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

func warnUnreachable(r Runtime, silent []string) error {
	if len(silent) == 0 {
		return nil
	}
	return Printf(r.Err, "warning: nodes that did not answer: %s\n", strings.Join(silent, ", "))
}

// orDash returns the text, or "-" for an empty one, so that no column is empty.
func orDash(text string) string { return cmp.Or(text, "-") }

func printSessions(r Runtime, found admin.SessionList) error {
	about := ""
	if found.Approximate {
		about = "about "
	}
	if len(found.Sessions) > 0 {
		var rows [][]string
		for _, s := range found.Sessions {
			rows = append(rows, []string{
				s.ID, orDash(s.Channel), orDash(cmp.Or(s.User, s.UserID)), s.Verdict, s.Source, s.Address,
				r.Now().Sub(s.Started).Round(time.Second).String(), orDash(strings.Join(s.Nodes, ",")),
			})
		}
		if err := table(r, []string{"SESSION", "CHANNEL", "USER", "VERDICT", "SOURCE", "ADDRESS", "AGE", "NODES"}, rows); err != nil {
			return err
		}
	}
	if err := printLine(r, "%d of %s%d matching sessions, %s%d in all\n", len(found.Sessions), about, found.Matched, about, found.Total); err != nil {
		return err
	}
	if listed := len(found.Sessions); listed > 0 && found.HasMore {
		if err := printLine(r, "more with --after=%s\n", found.Sessions[listed-1].ID); err != nil {
			return err
		}
	}
	return warnUnreachable(r, found.UnreachableNodes)
}

func printSession(r Runtime, s admin.Session) error {
	return table(r, []string{"session", s.ID}, [][]string{
		{"channel", orDash(s.Channel)},
		{"route", orDash(s.Route)},
		{"backend", orDash(s.Backend)},
		{"user", orDash(s.User)},
		{"user id", orDash(s.UserID)},
		{"address", orDash(s.Address)},
		{"user agent", orDash(s.UserAgent)},
		{"verdict", s.Verdict + ", by " + s.Source},
		{"reason", orDash(s.Reason)},
		{"started", s.Started.Format(time.RFC3339)},
		{"last seen", s.LastSeen.Format(time.RFC3339)},
		{"requests", fmt.Sprint(s.Requests)},
		{"bytes", fmt.Sprint(s.Bytes)},
		{"nodes", orDash(strings.Join(s.Nodes, ", "))},
	})
}

// timeOfCheck shows milliseconds, by which the checks of an opening differ.
const timeOfCheck = "2006-01-02T15:04:05.000Z07:00"

// printTimeline prints a row for each check. Why there was no answer counts more than the reason of what holds instead.
func printTimeline(r Runtime, t admin.Timeline) error {
	var rows [][]string
	for _, c := range t.Checks {
		trigger := c.Trigger
		if c.Count > 1 {
			trigger += fmt.Sprintf(" ×%d since %s", c.Count, c.Since.Format(time.TimeOnly))
		}
		if c.Omitted > 0 {
			trigger += fmt.Sprintf(" (%d left out before)", c.Omitted)
		}
		rows = append(rows, []string{
			c.Time.Format(timeOfCheck), orDash(c.Node), trigger, orDash(c.Backend), fmt.Sprintf("%.1fms", c.DurationMS),
			c.Verdict, c.Source, orDash(strings.Join(slices.DeleteFunc([]string{c.Error, c.Reason}, isEmpty), "; ")),
		})
	}
	head := []string{"TIME", "NODE", "WHY", "BACKEND", "TOOK", "VERDICT", "SOURCE", "ERROR OR REASON"}
	if err := table(r, head, rows); err != nil {
		return err
	}
	if t.TraceURL != "" {
		if err := printLine(r, "traces: %s\n", t.TraceURL); err != nil {
			return err
		}
	}
	return warnUnreachable(r, t.UnreachableNodes)
}

func isEmpty(text string) bool { return text == "" }

func printBans(r Runtime, bans []admin.Ban) error {
	if len(bans) == 0 {
		return printLine(r, "no bans\n")
	}
	var rows [][]string
	for _, b := range bans {
		why := b.Reason
		if b.IsKick {
			why = strings.TrimSpace("kick " + why)
		}
		if b.Cause != "" {
			why = strings.TrimSpace(why + " (follows from " + b.Cause + ")")
		}
		rows = append(rows, []string{b.ID, b.Subject(), b.Until.Format(time.RFC3339), orDash(why)})
	}
	return table(r, []string{"BAN", "SUBJECT", "UNTIL", "REASON"}, rows)
}

func printNodes(r Runtime, list admin.NodeList) error {
	if list.IsIncomplete {
		if _, err := fmt.Fprintln(r.Err, "warning: redis unavailable, the nodes are listed as this one saw them last"); err != nil {
			return err
		}
	}
	var rows [][]string
	for _, n := range list.Nodes {
		state := "alive"
		switch {
		case !n.IsAlive:
			state = "unreachable for " + r.Now().Sub(n.LastSeen).Round(time.Second).String()
		case n.IsDraining:
			state = "draining"
		}
		name := n.Name
		if n.IsSelf {
			name += " (self)"
		}
		rows = append(rows, []string{
			name, orDash(n.Address), state, fmt.Sprint(n.Sessions), r.Now().Sub(n.Started).Round(time.Second).String(), orDash(n.Version),
		})
	}
	return table(r, []string{"NODE", "ADDRESS", "STATE", "SESSIONS", "UP", "VERSION"}, rows)
}
