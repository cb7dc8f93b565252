package backendtest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"usher/backends"
	"usher/backends/chain"
	"usher/backends/httpbackend"
)

// failuresToOpen is how many consecutive failures open a breaker by default.
const failuresToOpen = 5

// PresetOption adapts [RunPresets] to a backend.
type PresetOption func(*presetSuite)

// WithDialect sets how a healthy middleware of this backend answers. The default is [Astra].
func WithDialect(d Dialect) PresetOption {
	return func(s *presetSuite) { s.dialect = d }
}

// WithRows replaces rows of the preset's table, for a backend that differs for a reason, for example because it reads bodies.
// Each line is a row as in the table:
//
//	302 to its own login page | malformed | unexpected_answer | policy denies | policy denies | policy denies
func WithRows(preset httpbackend.Preset, rows string) PresetOption {
	return func(s *presetSuite) {
		for row := range strings.Lines(strings.TrimSpace(rows)) {
			s.rows = append(s.rows, presetRow{preset, row})
		}
	}
}

// RunPresets tests each preset of a backend over HTTP: one subtest for each preset and each condition of its
// table (see presets_table.go). It tests what the adapter answers, and what a chain with the preset's policy makes of it.
//
// newBackend returns a backend that calls address (a scheme, a host and a port) under the preset, with no statuses
// overridden, and with a dial_timeout and a tls_timeout that a busy machine keeps. It needs the method
// ContractAlarms() *httpbackend.Alarms. One with a Close method is closed after use.
//
// No call leaves the machine, not even to a resolver.
func RunPresets(
	t *testing.T,
	newBackend func(t *testing.T, address string, preset httpbackend.Preset) backends.Backend,
	options ...PresetOption,
) {
	t.Helper()
	s := &presetSuite{newBackend: newBackend, dialect: Astra}
	for _, option := range options {
		option(s)
	}
	tables := s.tables(t)
	for preset, table := range tables {
		t.Run(preset.String(), func(t *testing.T) {
			t.Parallel()
			for condition, want := range table {
				t.Run(condition, func(t *testing.T) {
					t.Parallel()
					s.run(t, preset, condition, want)
				})
			}
		})
	}
}

type presetSuite struct {
	newBackend func(t *testing.T, address string, preset httpbackend.Preset) backends.Backend
	dialect    Dialect
	rows       []presetRow
}

type presetRow struct {
	preset httpbackend.Preset
	row    string
}

// cell is the expected outcome of one condition under one preset.
type cell struct{ adapter, alarm, unknown, later, running string }

// fails reports whether the outcome is a failure, which moves the breaker.
func (c cell) fails() bool {
	return !slices.Contains([]string{"allowed", "denied", "redirected"}, c.adapter)
}

// parseRow parses a row of a table.
func parseRow(row string) (condition string, c cell, err error) {
	columns := strings.Split(row, "|")
	if len(columns) != 6 {
		return "", cell{}, fmt.Errorf("row %q: has %d columns, want 6", row, len(columns))
	}
	for i, text := range columns {
		columns[i] = strings.TrimSpace(text)
	}
	return columns[0], cell{
		adapter: columns[1], alarm: columns[2], unknown: columns[3], later: columns[4], running: columns[5],
	}, nil
}

// tables parses the tables and applies the options. Each table must hold every condition once, and nothing else.
func (s *presetSuite) tables(t *testing.T) map[httpbackend.Preset]map[string]cell {
	t.Helper()
	all := make(map[httpbackend.Preset]map[string]cell)
	known := conditions()
	for preset, text := range presetTables() {
		all[preset] = make(map[string]cell)
		for _, row := range strings.Split(strings.TrimSpace(text), "\n")[1:] {
			condition, c := mustParseRow(t, row)
			if _, there := all[preset][condition]; there {
				t.Fatalf("%s: the condition %q is there twice", preset, condition)
			}
			all[preset][condition] = c
		}
		if len(all[preset]) != len(known) {
			t.Fatalf("%s: got %d conditions in the table, want all %d", preset, len(all[preset]), len(known))
		}
	}
	for _, other := range s.rows {
		condition, c := mustParseRow(t, other.row)
		all[other.preset][condition] = c
	}
	return all
}

func mustParseRow(t *testing.T, row string) (string, cell) {
	t.Helper()
	condition, c, err := parseRow(row)
	if err != nil {
		t.Fatal(err)
	}
	if conditions()[condition] == nil {
		t.Fatalf("row %q: there is no condition %q", row, condition)
	}
	return condition, c
}

// run tests one cell: the adapter alone, then in a chain.
func (s *presetSuite) run(t *testing.T, preset httpbackend.Preset, condition string, want cell) {
	p := newScenario(t, s.dialect)
	conditions()[condition](t, p)
	adapter := s.newBackend(t, p.address, preset)
	if closer, ok := adapter.(interface{ Close() }); ok {
		t.Cleanup(closer.Close)
	}
	watched, ok := adapter.(interface{ ContractAlarms() *httpbackend.Alarms })
	if !ok {
		t.Fatal("the backend has no method ContractAlarms")
	}

	ctx, cancel := context.WithTimeout(t.Context(), p.timeout)
	defer cancel()
	d, err := adapter.Check(ctx, NewRequest(GoodToken))
	wantNoSecret(t, err)
	if got := p.adapterColumn(d, err); got != want.adapter {
		t.Errorf("the adapter: got %q (error %v), want %q", got, err, want.adapter)
	}
	if got := alarmColumn(watched.ContractAlarms()); got != want.alarm {
		t.Errorf("the alarms: got %q, want %q", got, want.alarm)
	}
	if calls := p.elsewhere.Calls(); calls > 0 && (want.adapter == "denied" || want.adapter == "redirected") {
		t.Errorf("%d calls went to the redirect's target, want none", calls)
	}
	s.runChain(t, p, preset, adapter, want)
}

// runChain tests the cell with the adapter in a chain, before and after the failures that open its breaker.
func (s *presetSuite) runChain(t *testing.T, p *scenario, preset httpbackend.Preset, adapter backends.Backend, want cell) {
	cfg := chain.DefaultConfig()
	cfg.Timeout = p.timeout // long, so that a busy machine is not taken for a slow middleware
	cfg.Breaker.Interval = max(cfg.Breaker.Interval, failuresToOpen*p.timeout)
	chain := chain.New("middleware", cfg, adapter, chain.Deps{Kind: "test", DefaultPolicy: preset.Policy()})
	addresses := byte(0)
	check := func(viewer string, r *backends.Request, want string) {
		t.Helper()
		addresses++ // some failures count once per address
		r.Address = netip.AddrFrom4([4]byte{192, 0, 2, addresses})
		ctx, cancel := context.WithTimeout(t.Context(), suiteTimeout)
		defer cancel()
		d, err := chain.Check(ctx, r)
		wantNoSecret(t, err)
		if got := p.chainColumn(d, err); got != want {
			t.Errorf("%s, check %d: got %q (error %v), want %q", viewer, addresses, got, err, want)
		}
	}
	check("an unknown viewer", NewRequest(GoodToken), want.unknown)
	check("a running session", newRunning(), want.running)
	for addresses < failuresToOpen-1 {
		check("another unknown viewer", NewRequest(GoodToken), want.unknown)
	}
	if chain.State() != backends.BreakerClosed {
		t.Errorf("the breaker is %s after %d answers, want closed", chain.State(), addresses)
	}
	check("the unknown viewer whose failure opens the breaker", NewRequest(GoodToken), want.later)
	if chain.IsDown() != want.fails() {
		t.Errorf("the breaker is %s after %d answers, want down: %t", chain.State(), addresses, want.fails())
	}
	check("an unknown viewer later", NewRequest(GoodToken), want.later)
	check("a running session later", newRunning(), want.running)
}

// newRunning returns a re-check of a viewer who is allowed.
func newRunning() *backends.Request {
	r := NewRequest(GoodToken)
	r.Number, r.Bytes = 3, 1<<30
	r.Current = backends.Decision{
		Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "as before", User: "alice", ValidFor: time.Minute,
	}
	return r
}

// adapterColumn returns the adapter's answer in the table's words, or in full if the table has no word for it.
func (p *scenario) adapterColumn(d backends.Decision, err error) string {
	if f := backends.AsFailure(err); f != nil && f.Kind == backends.FailureStatus {
		return "status " + strconv.Itoa(f.Status)
	} else if f != nil {
		return f.Kind.String()
	}
	switch {
	case err != nil:
		return "no failure, but an error"
	case d.Source != backends.FromBackend:
		return fmt.Sprintf("%+v", d)
	case d.Verdict == backends.Allowed && d.Redirect == "":
		return "allowed"
	case d.Verdict == backends.Denied && d.Redirect == "":
		return "denied"
	case d.Verdict == backends.Denied && d.Redirect == p.redirectTarget:
		return "redirected"
	default:
		return fmt.Sprintf("%+v", d)
	}
}

// chainColumn returns the chain's answer in the table's words.
func (p *scenario) chainColumn(d backends.Decision, err error) string {
	switch {
	case backends.AsFailure(err) != nil && d == backends.Decision{}:
		return "retry"
	case err != nil || d.Source == backends.FromBackend:
		return p.adapterColumn(d, err)
	case d.Verdict == backends.Allowed && d.Source == backends.FromFailOpen:
		return "fail-open"
	case d.Verdict == backends.Denied && d.Source == backends.FromFailOpen:
		return "policy denies"
	case d.Verdict == backends.Allowed && d.Source == backends.FromCached && d.User == "alice":
		return "cached"
	default:
		return fmt.Sprintf("%+v", d)
	}
}

// alarmColumn returns the alarms that one answer raised.
func alarmColumn(w *httpbackend.Alarms) string {
	var raised []string
	for _, a := range backends.AllAlarms() {
		switch n := w.Count(a); {
		case n == 1 && w.Active().Has(a):
			raised = append(raised, a.String())
		case n != 0:
			raised = append(raised, fmt.Sprintf("%s × %d", a, n))
		}
	}
	return strings.Join(raised, ", ")
}
