package backendtest

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"usher/backends"
	"usher/backends/chain"
	"usher/backends/httpbackend"
)

// opensBreaker is how many failures in a row open a breaker, by default.
const opensBreaker = 5

// PresetOption adapts [RunPresets] to a backend.
type PresetOption func(*presetSuite)

// Speaking says how the middleware of this backend answers when it is well; without it, as [Astra] does.
func Speaking(d Dialect) PresetOption {
	return func(s *presetSuite) { s.dialect = d }
}

// Refusing says how it answers a viewer whom it refuses with 401 or 403, if the status alone is no answer.
func Refusing(with func(status int) Dialect) PresetOption {
	return func(s *presetSuite) { s.refusing = with }
}

// Instead replaces rows of the preset's table, for a backend that has reason to differ, such as one that reads bodies.
// They are written as in the table, a line each, without the line of headings:
//
//	302 to its own login page | malformed | unexpected_answer | shut out | shut out | shut out
func Instead(preset httpbackend.Preset, rows string) PresetOption {
	return func(s *presetSuite) {
		for row := range strings.Lines(strings.TrimSpace(rows)) {
			s.instead = append(s.instead, presetRow{preset, row})
		}
	}
}

// LeavingOut leaves out conditions that cannot be with this backend, and says why.
func LeavingOut(why string, conditions ...string) PresetOption {
	return func(s *presetSuite) {
		for _, condition := range conditions {
			s.leftOut[condition] = why
		}
	}
}

// RunPresets holds a backend that asks over HTTP to what each preset promises: one subtest for each preset and each
// condition that its table names (see presets_table.go), of what the backend answers itself and of what a chain with
// the preset's own policy makes of that.
//
// newBackend returns a backend that asks at address, which is a scheme, a host and a port, under that preset, with no
// statuses overridden, and with a dial_timeout and a tls_timeout that a busy machine keeps to. It must have the method
// Watch() *backends.Watch; one with a Close method is closed after use.
//
// No call leaves the machine: the unknown host's name is one that no resolver is asked for.
func RunPresets(
	t *testing.T,
	newBackend func(t *testing.T, address string, preset httpbackend.Preset) backends.Backend,
	options ...PresetOption,
) {
	t.Helper()
	s := &presetSuite{newBackend: newBackend, dialect: Astra, leftOut: make(map[string]string)}
	for _, option := range options {
		option(s)
	}
	tables := s.tables(t)
	for condition, why := range s.leftOut {
		t.Logf("without %q: %s", condition, why)
	}
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
	refusing   func(status int) Dialect // nil: with the status alone
	instead    []presetRow
	leftOut    map[string]string
}

type presetRow struct {
	preset httpbackend.Preset
	row    string
}

// cell is what one condition comes to under one preset.
type cell struct{ adapter, alarm, newcomer, later, running string }

// fails reports whether the answer is none, and so moves the breaker.
func (c cell) fails() bool { return c.adapter != "yes" && !strings.HasPrefix(c.adapter, "no") }

// parseRow reads a row of a table.
func parseRow(row string) (condition string, c cell, err error) {
	columns := strings.Split(row, "|")
	if len(columns) != 6 {
		return "", cell{}, fmt.Errorf("row %q: has %d columns, want 6", row, len(columns))
	}
	for i, text := range columns {
		columns[i] = strings.TrimSpace(text)
	}
	return columns[0], cell{
		adapter: columns[1], alarm: columns[2], newcomer: columns[3], later: columns[4], running: columns[5],
	}, nil
}

// tables reads the tables, with what the options change. They must name every condition once, and nothing else.
func (s *presetSuite) tables(t *testing.T) map[httpbackend.Preset]map[string]cell {
	t.Helper()
	all := make(map[httpbackend.Preset]map[string]cell)
	known := conditions()
	for preset, text := range presetTables() {
		all[preset] = make(map[string]cell)
		for _, row := range strings.Split(strings.TrimSpace(text), "\n")[1:] {
			condition, c := mustParseRow(t, row)
			if _, there := all[preset][condition]; there {
				t.Fatalf("%s: the condition %q stands there twice", preset, condition)
			}
			all[preset][condition] = c
		}
		if len(all[preset]) != len(known) {
			t.Fatalf("%s: got %d conditions in the table, want all %d", preset, len(all[preset]), len(known))
		}
	}
	for _, other := range s.instead {
		condition, c := mustParseRow(t, other.row)
		all[other.preset][condition] = c
	}
	for condition := range s.leftOut {
		if known[condition] == nil {
			t.Fatalf("LeavingOut: there is no condition %q", condition)
		}
		for preset := range all {
			delete(all[preset], condition)
		}
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

// run tries one cell: the backend by itself, then in a chain.
func (s *presetSuite) run(t *testing.T, preset httpbackend.Preset, condition string, want cell) {
	p := newPlace(t, s.dialect)
	p.refusing = s.refusing
	conditions()[condition](t, p)
	adapter := s.newBackend(t, p.address, preset)
	if closer, ok := adapter.(interface{ Close() }); ok {
		t.Cleanup(closer.Close)
	}
	watched, ok := adapter.(interface{ Watch() *httpbackend.Alarms })
	if !ok {
		t.Fatal("the backend has no method Watch, so nobody can see its alarms")
	}

	ctx, cancel := context.WithTimeout(t.Context(), p.timeout)
	defer cancel()
	d, err := adapter.Check(ctx, NewRequest(GoodToken))
	wantNoSecret(t, err)
	if got := p.adapterSays(d, err); got != want.adapter {
		t.Errorf("the adapter: got %q (error %v), want %q", got, err, want.adapter)
	}
	if got := alarmsOf(watched.Watch()); got != want.alarm {
		t.Errorf("the alarms: got %q, want %q", got, want.alarm)
	}
	if asked := p.elsewhere.Calls(); asked > 0 && strings.HasPrefix(want.adapter, "no") {
		t.Errorf("%d calls went to where the viewer is sent, want none", asked)
	}
	s.runChain(t, p, preset, adapter, want)
}

// runChain tries the cell with all that stands around an adapter, up to the answers that open a breaker and beyond.
func (s *presetSuite) runChain(t *testing.T, p *place, preset httpbackend.Preset, adapter backends.Backend, want cell) {
	cfg := chain.DefaultConfig()
	cfg.Timeout = p.timeout // long, so that no pause of a busy machine is taken for one of the middleware
	cfg.Breaker.Interval = max(cfg.Breaker.Interval, opensBreaker*p.timeout)
	chain := chain.New("middleware", cfg, adapter, chain.Deps{Kind: "test", DefaultPolicy: preset.Policy()})
	households := byte(0)
	check := func(who string, r *backends.Request, want string) {
		t.Helper()
		households++ // some failures count only once for each
		r.Address = netip.AddrFrom4([4]byte{192, 0, 2, households})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		d, err := chain.Check(ctx, r)
		wantNoSecret(t, err)
		if got := p.chainSays(d, err); got != want {
			t.Errorf("%s, check %d: got %q (error %v), want %q", who, households, got, err, want)
		}
	}
	check("a newcomer", NewRequest(GoodToken), want.newcomer)
	check("one who watches", newRunning(), want.running)
	for households < opensBreaker-1 {
		check("another newcomer", NewRequest(GoodToken), want.newcomer)
	}
	if chain.State() != backends.BreakerClosed {
		t.Errorf("the breaker is %s after %d answers, want closed", chain.State(), households)
	}
	check("the newcomer whose answer is one too many", NewRequest(GoodToken), want.later)
	if chain.IsDown() != want.fails() {
		t.Errorf("the breaker is %s after %d answers, which is wrong", chain.State(), households)
	}
	check("a newcomer later", NewRequest(GoodToken), want.later)
	check("one who watches, later", newRunning(), want.running)
}

// newRunning is a re-check of one who has been let in.
func newRunning() *backends.Request {
	r := NewRequest(GoodToken)
	r.Number, r.Bytes = 3, 1<<30
	r.Current = backends.Decision{
		Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "as before", User: "alice", ValidFor: time.Minute,
	}
	return r
}

// adapterSays puts an adapter's answer into the table's words. What they have no word for is shown as it is.
func (p *place) adapterSays(d backends.Decision, err error) string {
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
		return "yes"
	case d.Verdict == backends.Denied && d.Redirect == "":
		return "no"
	case d.Verdict == backends.Denied && d.Redirect == p.sentOn:
		return "no, sent on"
	default:
		return fmt.Sprintf("%+v", d)
	}
}

// chainSays does so with a chain's answer.
func (p *place) chainSays(d backends.Decision, err error) string {
	switch {
	case backends.AsFailure(err) != nil && d == backends.Decision{}:
		return "come back"
	case err != nil || d.Source == backends.FromBackend:
		return p.adapterSays(d, err)
	case d.Verdict == backends.Allowed && d.Source == backends.FromFailOpen:
		return "let in"
	case d.Verdict == backends.Denied && d.Source == backends.FromFailOpen:
		return "shut out"
	case d.Verdict == backends.Allowed && d.Source == backends.FromCached && d.User == "alice":
		return "kept"
	default:
		return fmt.Sprintf("%+v", d)
	}
}

// alarmsOf names what was raised by one answer.
func alarmsOf(w *httpbackend.Alarms) string {
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
