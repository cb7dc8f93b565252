package sessions

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"usher/gateway/admin/freerides"
)

type freeRidesCommand struct {
	adminFlags
	Backend string `help:"Outages of this backend."`
	From    string `help:"Outages that ended at this time or later, such as 2026-01-31T20:15:00Z, or that run."`
	To      string `help:"Outages that began before this time."`
	CSV     bool   `help:"Print CSV." xor:"format"`
}

// Help explains the columns.
func (freeRidesCommand) Help() string {
	return "A session is unverified while it is allowed without an answer of its backend. It is a FREE RIDE if the backend then denies it, " +
		"VERIFIED if it allows it, REFUSED if a limit, a ban or an operator ends it before, and UNKNOWN if it closes before. " +
		"EXPIRED are those without an answer whom nobody can ask any more, because the life of their token is over. " +
		"Below the outages are the users who rode free for the longest time."
}

// Run prints what outages cost.
func (c freeRidesCommand) Run(r Runtime) error {
	query := url.Values{}
	for name, value := range map[string]string{"backend": c.Backend, "from": c.From, "to": c.To} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if c.CSV {
		return c.printCSV(r, query)
	}
	var list freerides.List
	return c.get(r, "free-rides", query, &list, func() error { return printFreeRides(r, list) })
}

// printCSV prints the CSV of the API.
func (c freeRidesCommand) printCSV(r Runtime, query url.Values) error {
	query.Set("format", "csv")
	status, header, answer, err := c.exchange(r, http.MethodGet, "free-rides", query, nil)
	if err != nil {
		return err
	}
	if err := c.refusal(r, "free-rides", status, answer); err != nil {
		return err
	}
	if kind := header.Get("Content-Type"); !strings.HasPrefix(kind, "text/csv") {
		return fmt.Errorf("--admin=%s is not the admin listener of a node: its answer is %s, not CSV", c.Admin, cmp.Or(kind, "of no type"))
	}
	if _, err := r.Out.Write(answer); err != nil {
		return err
	}
	var silent []string
	if nodes := header.Get("X-Usher-Unreachable-Nodes"); nodes != "" {
		silent = strings.Split(nodes, ", ")
	}
	return warnMissing(r, header.Get("X-Usher-Incomplete") != "", silent)
}

// warnMissing says what is not listed.
func warnMissing(r Runtime, isIncomplete bool, silent []string) error {
	if isIncomplete {
		if _, err := fmt.Fprintln(r.Err, "warning: redis unavailable, only what this node saw is listed"); err != nil {
			return err
		}
	}
	return warnUnreachable(r, silent)
}

func printFreeRides(r Runtime, list freerides.List) error {
	if len(list.Reports) == 0 {
		if err := printLine(r, "no outages\n"); err != nil {
			return err
		}
	} else if err := printOutages(r, list.Reports); err != nil {
		return err
	}
	return warnMissing(r, list.IsIncomplete, list.UnreachableNodes)
}

func printOutages(r Runtime, reports []freerides.Report) error {
	var rows, users [][]string
	for _, o := range reports {
		lasted := "running"
		if o.Ended != nil {
			lasted = o.Ended.Sub(o.Started).Round(time.Second).String()
		}
		about := ""
		if o.IsApproximate {
			about = "~"
		}
		number := func(n int64) string { return about + fmt.Sprint(n) }
		rows = append(rows, []string{
			o.Backend, o.Started.Format(time.RFC3339), lasted, number(o.Sessions), about + inSeconds(o.UnverifiedSeconds),
			number(o.FreeRides), about + inSeconds(o.FreeRideSeconds), number(o.Bytes),
			number(o.Verified), number(o.Refused), number(o.Unknown), number(o.Unverified), number(o.ExpiredTokens),
		})
		for _, u := range o.Users {
			users = append(users, []string{
				cmp.Or(u.User, "session "+u.Session), o.Backend, o.Started.Format(time.RFC3339), fmt.Sprint(u.Count), inSeconds(u.Seconds),
				fmt.Sprint(u.Bytes),
			})
		}
	}
	err := table(r, []string{
		"BACKEND", "STARTED", "LASTED", "SESSIONS", "FOR", "FREE RIDES", "FOR", "BYTES", "VERIFIED", "REFUSED", "UNKNOWN", "UNVERIFIED", "EXPIRED",
	}, rows)
	if err != nil || len(users) == 0 {
		return err
	}
	if err := printLine(r, "\n"); err != nil {
		return err
	}
	return table(r, []string{"USER", "BACKEND", "STARTED", "SESSIONS", "FREE FOR", "BYTES"}, users)
}

// inSeconds returns a time in seconds as a duration, for people. It may be longer than the longest [time.Duration].
func inSeconds(s float64) string {
	whole := int64(math.Round(s))
	if whole < 3600 {
		return (time.Duration(whole) * time.Second).String()
	}
	return fmt.Sprintf("%dh%dm%ds", whole/3600, whole/60%60, whole%60)
}
