package freerides

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"usher/gateway/admin/printable"
)

// Filter selects reports.
type Filter struct {
	// Backend is the name of a backend; empty: all.
	Backend string
	// From and To select the outages that were running in the time between; zero: no bound.
	From, To time.Time
}

// matches reports whether the filter selects the report.
func (f Filter) matches(r *Report) bool {
	return (f.To.IsZero() || r.Started.Before(f.To)) && (f.From.IsZero() || r.Ended == nil || !r.Ended.Before(f.From))
}

// parseQuery reads the query of a request. An unknown parameter is an error, because without it too much would be listed.
func parseQuery(query url.Values) (f Filter, isCSV bool, err error) {
	for name, values := range query {
		switch value := values[0]; name {
		case "backend":
			f.Backend = value
		case "from":
			f.From, err = parseTime(name, value)
		case "to":
			f.To, err = parseTime(name, value)
		case "format":
			if isCSV = value == "csv"; !isCSV && value != "json" && value != "" {
				err = fmt.Errorf("format: %q; want csv or json", value)
			}
		default:
			err = fmt.Errorf("%s: unknown parameter; want backend, from, to or format", name)
		}
		if err != nil {
			return Filter{}, false, err
		}
	}
	return f, isCSV, nil
}

// parseTime parses a time. An empty text is zero.
func parseTime(name, value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %q; want a time such as 2026-01-31T20:15:00Z", name, value)
	}
	return t, nil
}

// ServeHTTP responds to GET /api/v1/free-rides with the reports as JSON or CSV.
func (t *Tracker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	f, isCSV, err := parseQuery(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	list := t.Reports(r.Context(), f)
	if !isCSV {
		h.Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(list) // it fails only if the client has disconnected
		return
	}
	h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
	h.Set("Content-Disposition", `attachment; filename="free-rides.csv"`)
	if len(list.UnreachableNodes) > 0 {
		h.Set("X-Usher-Unreachable-Nodes", strings.Join(list.UnreachableNodes, ", "))
	}
	if list.IsIncomplete {
		h.Set("X-Usher-Incomplete", "true")
	}
	_ = WriteCSV(w, list.Reports)
}

// WriteCSV writes the reports as CSV of RFC 4180, a record each under a header.
func WriteCSV(w io.Writer, reports []Report) error {
	c := csv.NewWriter(w)
	c.UseCRLF = true
	records := [][]string{{
		"id", "backend", "started", "recovered", "ended", "running", "sessions", "fail_open", "cached", "ticket",
		"unverified_seconds", "verified", "free_rides", "free_ride_seconds", "bytes", "refused", "unknown", "unverified",
		"expired_tokens", "approximate", "nodes", "users",
	}}
	for i := range reports {
		records = append(records, reports[i].record())
	}
	return c.WriteAll(records)
}

// record returns the report as a record of CSV.
func (r *Report) record() []string {
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	exact := func(s float64) string { return strconv.FormatFloat(s, 'f', 3, 64) }
	var nodes, users []string
	for _, n := range r.Nodes {
		nodes = append(nodes, n.Node)
	}
	for _, u := range r.Users {
		users = append(users, fmt.Sprintf("%s %ss", u.Name(), exact(u.Seconds)))
	}
	record := []string{
		r.ID, r.Backend, timeText(&r.Started), timeText(r.Recovered), timeText(r.Ended), strconv.FormatBool(r.IsRunning),
		number(r.Sessions), number(r.FailOpen), number(r.Cached), number(r.Ticket),
		exact(r.UnverifiedSeconds), number(r.Verified), number(r.FreeRides), exact(r.FreeRideSeconds), number(r.Bytes),
		number(r.Refused), number(r.Unknown), number(r.Unverified), number(r.ExpiredTokens), strconv.FormatBool(r.IsApproximate),
		strings.Join(nodes, "; "), strings.Join(users, "; "),
	}
	for i := range record {
		record[i] = withoutFormula(printable.Text(record[i]))
	}
	return record
}

// Name returns the user or, where no decision names one, the session.
func (u *User) Name() string {
	if u.User != "" {
		return u.User
	}
	return "session " + u.Session
}

// withoutFormula returns a field that no spreadsheet takes for a formula: a user's name is what a middleware says.
func withoutFormula(field string) string {
	if begins := strings.TrimLeft(field, " "); begins != "" && strings.ContainsRune("=+-@", rune(begins[0])) {
		return "'" + field
	}
	return field
}

func timeText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}
