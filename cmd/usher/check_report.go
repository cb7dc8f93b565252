package main

import (
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"usher/backends/httpbackend"
	"usher/cmd/usher/sessions"
)

// checkReport is the output of check.
type checkReport struct {
	Backend string `json:"backend"`
	Kind    string `json:"kind"`
	Route   string `json:"route"`
	Channel string `json:"channel"`
	// Request to DurationMS describe the first call; they are empty for a backend that decides locally.
	Request         string            `json:"request,omitempty"`
	RequestHeaders  map[string]string `json:"request_headers,omitempty"`
	Status          int               `json:"status,omitempty"`
	ResponseHeaders map[string]string `json:"response_headers,omitempty"`
	DurationMS      float64           `json:"duration_ms"`
	Calls           []checkCall       `json:"calls"`

	Verdict            string            `json:"verdict"`
	Source             string            `json:"source,omitempty"`
	Reason             string            `json:"reason"`
	User               string            `json:"user,omitempty"`
	UserID             string            `json:"user_id,omitempty"`
	ValidFor           string            `json:"valid_for,omitempty"`
	MaxSessions        int               `json:"max_sessions,omitempty"`
	Redirect           string            `json:"redirect,omitempty"`
	Challenge          string            `json:"challenge,omitempty"`
	ContractViolations map[string]string `json:"contract_violations,omitempty"`
	Warning            string            `json:"warning,omitempty"`
}

// checkCall is one HTTP call to one backend.
type checkCall struct {
	Backend         string            `json:"backend"`
	Request         string            `json:"request"`
	RequestHeaders  map[string]string `json:"request_headers"`
	Status          int               `json:"status,omitempty"`
	ResponseHeaders map[string]string `json:"response_headers,omitempty"`
	Body            string            `json:"body,omitempty"`
	DurationMS      float64           `json:"duration_ms"`

	page       string // what the body of a yes looks like; empty: as it should
	isBodyless bool   // a yes has no body
}

// setCalls sets the calls from the recorded HTTP exchanges.
func (r *checkReport) setCalls(all []httpbackend.TraceEntry) {
	r.Calls = []checkCall{}
	for _, x := range all {
		r.Calls = append(r.Calls, checkCall{
			Backend: x.Backend, Request: x.Method + " " + x.URL, RequestHeaders: joinValues(x.RequestHeader), Status: x.Status,
			ResponseHeaders: joinValues(x.ResponseHeader), Body: x.ResponseBody, DurationMS: float64(x.Duration.Microseconds()) / 1000,
			page: x.Page, isBodyless: x.IsBodyless,
		})
	}
	if len(r.Calls) > 0 {
		first := r.Calls[0]
		r.Request, r.RequestHeaders, r.Status, r.ResponseHeaders, r.DurationMS = first.Request, first.RequestHeaders, first.Status, first.ResponseHeaders, first.DurationMS
	}
}

// setWarning sets what the operator should look into; an empty text means nothing.
func (r *checkReport) setWarning(text string) { r.Warning = text }

// joinValues returns a header with the values of each name joined by commas.
func joinValues(h map[string][]string) map[string]string {
	m := make(map[string]string, len(h))
	for name, values := range h {
		m[name] = strings.Join(values, ", ")
	}
	return m
}

// json writes the report as JSON.
func (r checkReport) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// text writes the report for a terminal. A strings.Builder fails at no write.
func (r checkReport) text(w io.Writer) error {
	var b strings.Builder
	_ = sessions.Printf(&b, "backend   %s (%s; route %s, channel %s)\n", r.Backend, r.Kind, r.Route, r.Channel)
	if len(r.Calls) == 0 {
		b.WriteString("decided   locally, no backend was called\n")
	}
	for i := range r.Calls {
		r.Calls[i].text(&b, len(r.Calls) > 1)
	}
	_ = sessions.Printf(&b, "verdict   %s", r.Verdict)
	if r.Source != "" {
		_ = sessions.Printf(&b, " (source %s)", r.Source)
	}
	_ = sessions.Printf(&b, "\nreason    %s\n", r.Reason)
	limit := ""
	if r.MaxSessions > 0 {
		limit = strconv.Itoa(r.MaxSessions) + " sessions"
	}
	for _, line := range []struct{ name, value string }{
		{"user", strings.TrimSpace(r.User + " " + r.UserID)},
		{"valid for", r.ValidFor},
		{"limit", limit},
		{"redirect", r.Redirect},
		{"challenge", strings.ReplaceAll(r.Challenge, "\n", ", ")},
	} {
		if line.value != "" {
			_ = sessions.Printf(&b, "%-9s %s\n", line.name, line.value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.ContractViolations)) {
		_ = sessions.Printf(&b, "VIOLATION %s: %s\n", name, r.ContractViolations[name])
	}
	if r.Warning != "" {
		_ = sessions.Printf(&b, "WARNING   %s\n", r.Warning)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// text writes one call, with the backend's name if isNamed.
func (c *checkCall) text(b *strings.Builder, isNamed bool) {
	if isNamed {
		_ = sessions.Printf(b, "called    %s\n", c.Backend)
	}
	_ = sessions.Printf(b, "> %s\n", c.Request)
	for _, name := range slices.Sorted(maps.Keys(c.RequestHeaders)) {
		_ = sessions.Printf(b, "> %s: %s\n", name, c.RequestHeaders[name])
	}
	if c.Status != 0 {
		_ = sessions.Printf(b, "< %d\n", c.Status)
		for _, name := range slices.Sorted(maps.Keys(c.ResponseHeaders)) {
			_ = sessions.Printf(b, "< %s: %s\n", name, c.ResponseHeaders[name])
		}
	}
	if c.Body != "" {
		_ = sessions.Printf(b, "< %s\n", singleLine(c.Body))
	}
	_ = sessions.Printf(b, "duration  %.1f ms\n", c.DurationMS)
}

// singleLine returns the beginning of a body on one line, without control characters.
func singleLine(body string) string {
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
