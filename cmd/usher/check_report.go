package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"usher/backends/httpbackend"
)

// checkReport is what check tells.
type checkReport struct {
	Backend string `json:"backend"`
	Kind    string `json:"kind"`
	Route   string `json:"route"`
	Channel string `json:"channel"`
	// The first call; empty where the backend decides by itself. Calls are all of them.
	Request string            `json:"request,omitempty"`
	Sent    map[string]string `json:"sent,omitempty"`
	Status  int               `json:"status,omitempty"`
	Answer  map[string]string `json:"answer,omitempty"`
	TookMS  float64           `json:"took_ms"`
	Calls   []checkCall       `json:"calls"`

	Verdict     string            `json:"verdict"`
	Source      string            `json:"source,omitempty"`
	Why         string            `json:"why"`
	User        string            `json:"user,omitempty"`
	UserID      string            `json:"user_id,omitempty"`
	ValidFor    string            `json:"valid_for,omitempty"`
	MaxSessions int               `json:"max_sessions,omitempty"`
	Redirect    string            `json:"redirect,omitempty"`
	Alarms      map[string]string `json:"alarms,omitempty"`
	Warning     string            `json:"warning,omitempty"`
}

// checkCall is one call to one backend.
type checkCall struct {
	Backend string            `json:"backend"`
	Request string            `json:"request"`
	Sent    map[string]string `json:"sent"`
	Status  int               `json:"status,omitempty"`
	Answer  map[string]string `json:"answer,omitempty"`
	Body    string            `json:"body,omitempty"`
	TookMS  float64           `json:"took_ms"`
}

func (c *checkCall) isWebPage() bool { return strings.HasPrefix(c.Answer["Content-Type"], "text/html") }

// addCalls takes over what went over the wire.
func (r *checkReport) addCalls(all []httpbackend.TraceEntry) {
	r.Calls = []checkCall{}
	for _, x := range all {
		r.Calls = append(r.Calls, checkCall{
			Backend: x.Backend, Request: x.Method + " " + x.URL, Sent: flat(x.RequestHeader), Status: x.Status,
			Answer: flat(x.ResponseHeader), Body: x.ResponseBody, TookMS: float64(x.Duration.Microseconds()) / 1000,
		})
	}
	if len(r.Calls) > 0 {
		first := r.Calls[0]
		r.Request, r.Sent, r.Status, r.Answer, r.TookMS = first.Request, first.Sent, first.Status, first.Answer, first.TookMS
	}
}

// warn notes what the operator should think about; an empty text is nothing.
func (r *checkReport) warn(text string) { r.Warning = text }

// flat is a header with one value a name.
func flat(h map[string][]string) map[string]string {
	m := make(map[string]string, len(h))
	for name, values := range h {
		m[name] = strings.Join(values, ", ")
	}
	return m
}

// json writes the report for programs.
func (r checkReport) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// text writes the report for people.
func (r checkReport) text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "backend   %s (%s; route %s, channel %s)\n", r.Backend, r.Kind, r.Route, r.Channel)
	if len(r.Calls) == 0 {
		b.WriteString("decided   here, nobody was asked\n")
	}
	for i := range r.Calls {
		r.Calls[i].text(&b, len(r.Calls) > 1)
	}
	fmt.Fprintf(&b, "verdict   %s", r.Verdict)
	if r.Source != "" {
		fmt.Fprintf(&b, " (source %s)", r.Source)
	}
	fmt.Fprintf(&b, "\nwhy       %s\n", r.Why)
	limit := ""
	if r.MaxSessions > 0 {
		limit = strconv.Itoa(r.MaxSessions) + " sessions"
	}
	for _, line := range []struct{ name, value string }{
		{"user", strings.TrimSpace(r.User + " " + r.UserID)},
		{"valid for", r.ValidFor},
		{"limit", limit},
		{"redirect", r.Redirect},
	} {
		if line.value != "" {
			fmt.Fprintf(&b, "%-9s %s\n", line.name, line.value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Alarms)) {
		fmt.Fprintf(&b, "ALARM     %s: %s\n", name, r.Alarms[name])
	}
	if r.Warning != "" {
		fmt.Fprintf(&b, "WARNING   %s\n", r.Warning)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// text writes one call; named says whose, where there are several.
func (c *checkCall) text(b *strings.Builder, named bool) {
	if named {
		fmt.Fprintf(b, "asked     %s\n", c.Backend)
	}
	fmt.Fprintf(b, "> %s\n", c.Request)
	for _, name := range slices.Sorted(maps.Keys(c.Sent)) {
		fmt.Fprintf(b, "> %s: %s\n", name, c.Sent[name])
	}
	if c.Status != 0 {
		fmt.Fprintf(b, "< %d\n", c.Status)
		for _, name := range slices.Sorted(maps.Keys(c.Answer)) {
			fmt.Fprintf(b, "< %s: %s\n", name, c.Answer[name])
		}
	}
	if c.Body != "" {
		fmt.Fprintf(b, "< %s\n", inLine(c.Body))
	}
	fmt.Fprintf(b, "took      %.1f ms\n", c.TookMS)
}

// inLine is the beginning of a body, fit for a terminal.
func inLine(body string) string {
	const most = 200
	line := strings.Map(func(c rune) rune {
		switch {
		case unicode.IsSpace(c):
			return ' '
		case !unicode.IsPrint(c):
			return -1
		}
		return c
	}, body)
	if runes := []rune(line); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return line
}
