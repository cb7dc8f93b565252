package actors

import (
	"bytes"
	"context"
	"errors"
	"hash/fnv"
	"iter"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/chain"
)

// fakeBackend is a backend behind a real outage policy. A test sets its answers and its breaker's state.
type fakeBackend struct {
	*chain.FailOpen
	health         atomic.Uint32
	isImpaired     atomic.Bool // a part of it is down
	beforeFallback func()      // called before the outage policy decides
	checks         atomic.Int64
	check          func(context.Context, *backends.Request) (backends.Decision, error)

	mu      sync.Mutex
	history []checkedRequest
}

type checkedRequest struct {
	at      time.Time
	request backends.Request
}

// newFakeBackend returns a backend that answers as check does; nil allows.
func newFakeBackend(p backends.Policy, check func(context.Context, *backends.Request) (backends.Decision, error)) *fakeBackend {
	f := &fakeBackend{check: check}
	f.FailOpen = chain.NewFailOpen("portal", p, backends.BackendFunc(f.answer), nil, nil)
	return f
}

func (f *fakeBackend) answer(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	f.checks.Add(1)
	f.mu.Lock()
	f.history = append(f.history, checkedRequest{at: time.Now(), request: *r})
	check := f.check
	f.mu.Unlock()
	if check == nil {
		return allowedDecision(), nil
	}
	return check(ctx, r)
}

// setCheck changes the answers of a backend that is in use.
func (f *fakeBackend) setCheck(check func(context.Context, *backends.Request) (backends.Decision, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.check = check
}

// requests returns the checks so far.
func (f *fakeBackend) requests() []checkedRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]checkedRequest(nil), f.history...)
}

func (f *fakeBackend) State() backends.BreakerState { return backends.BreakerState(f.health.Load()) }

func (f *fakeBackend) IsImpaired() bool {
	return f.isImpaired.Load() || f.State() != backends.BreakerClosed
}

func (f *fakeBackend) IsBacklogged() bool { return false }

func (f *fakeBackend) Fallback(r *backends.Request, err error) (backends.Decision, error) {
	if f.beforeFallback != nil {
		f.beforeFallback()
	}
	return f.FailOpen.Fallback(r, err)
}

// hang reports the check as sent, and never answers.
func hang(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	r.OnSent()
	<-ctx.Done()
	return backends.Decision{}, ctx.Err()
}

// breakerOpen fails as a backend behind an open breaker does.
func breakerOpen(context.Context, *backends.Request) (backends.Decision, error) {
	return backends.Decision{}, &backends.Failure{Kind: backends.FailureBreakerOpen, Backend: "portal"}
}

// fakeCluster is a store in a map. Its hooks run before the calls that they name.
type fakeCluster struct {
	beforeJoin   func(ctx context.Context) error
	beforeLease  func(ctx context.Context) error
	beforeSave   func(ctx context.Context) error
	beforeRevoke func(ctx context.Context) error
	awaitBans    func(ctx context.Context) error
	banned       func(*backends.Request, *backends.Decision) (session.Ban, bool) // nil: nobody is
	isShared     bool

	mu        sync.Mutex
	addresses fakeAddresses
	records   map[backends.SessionID]session.Record
	closing   []session.ClosingRecord
	leases    map[backends.SessionID]time.Time // until when they are held; nil: none is granted
	revision  uint64                           // of the newest one
	loads     int
	shared    []uint64 // keys of viewers who were allowed
	announced []session.Revocation
}

func runHook(ctx context.Context, before func(context.Context) error) error {
	if before == nil {
		return nil
	}
	return before(ctx)
}

func (f *fakeCluster) AcquireLease(ctx context.Context, c session.LeaseRequest) (session.LeaseResult, error) {
	if err := runHook(ctx, f.beforeLease); err != nil {
		return session.LeaseResult{}, err
	}
	for waited := time.Duration(0); ; waited += 10 * time.Millisecond {
		result := f.lookUp(c)
		if !result.HeldElsewhere || waited >= c.Wait {
			return result, nil
		}
		time.Sleep(10 * time.Millisecond) // in a bubble: only tests there have leases
	}
}

func (f *fakeCluster) lookUp(c session.LeaseRequest) session.LeaseResult {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loads++
	r, found := f.records[c.ID]
	result := session.LeaseResult{Record: r, Found: found}
	if f.leases != nil && c.Lease > 0 {
		f.grant(&result, c)
	}
	return result
}

// grant grants one node the lease unless a newer decision answers it.
func (f *fakeCluster) grant(result *session.LeaseResult, c session.LeaseRequest) {
	r, now := &result.Record, time.Now()
	switch {
	case result.Found && r.Revision > c.KnownRevision && r.Decision.Source.IsAuthoritative() && now.Before(r.Expires):
	case now.Before(f.leases[c.ID]):
		result.HeldElsewhere = true
	default:
		f.revision++
		f.leases[c.ID], result.Revision = now.Add(c.Lease), f.revision
	}
}

func (f *fakeCluster) SaveDecision(ctx context.Context, p session.DecisionUpdate) (session.UpdateOutcome, error) {
	before := f.beforeSave
	if p.RevokeTicket {
		before = f.beforeRevoke
	}
	if err := runHook(ctx, before); err != nil {
		return 0, err
	}
	r := p.Record
	if r.RevokedBefore = f.get(r.ID).RevokedBefore; p.RevokeTicket {
		r.RevokedBefore = r.Opened
	}
	f.set(r)
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Revision != 0 {
		delete(f.leases, r.ID)
	}
	return session.OutcomeStored, nil
}

func (f *fakeCluster) AddCounters(_ context.Context, id backends.SessionID, t session.Counters) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closing = append(f.closing, session.ClosingRecord{Record: f.records[id], Counters: t, LastSeen: time.Now()})
	return nil
}

func (f *fakeCluster) RecordHeartbeats(context.Context, []session.Heartbeat) ([]backends.SessionID, error) {
	return nil, nil
}

func (f *fakeCluster) ExpireIdle(context.Context, time.Duration, int) ([]session.ClosingRecord, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	over := f.closing
	f.closing = nil
	return over, nil
}

func (f *fakeCluster) ConfirmClosed(context.Context, []session.ClosingRecord) error { return nil }

func (f *fakeCluster) ReportStreams(ctx context.Context, entries ...session.StreamEntry) session.LimitResult {
	if entries[0].IsNew {
		_ = runHook(ctx, f.beforeJoin)
	}
	return session.LimitResult{States: make([]session.StreamState, len(entries))}
}

func (f *fakeCluster) ReportAddresses(_ context.Context, entries ...session.StreamEntry) session.LimitResult {
	return f.addresses.report(entries)
}

func (f *fakeCluster) SetEvicted(_ context.Context, id backends.SessionID, isEvicted bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r, found := f.records[id]; found {
		r.IsEvicted = isEvicted
		f.records[id] = r
	}
	return nil
}

func (f *fakeCluster) RevokeSession(context.Context, backends.SessionID, time.Time) error {
	return nil
}

func (f *fakeCluster) Shared() bool { return f.isShared }

// InMemory has calls be bounded: a hook may wait.
func (*fakeCluster) InMemory() bool { return false }

func (f *fakeCluster) Live() int { return 1 }

// hashPrefix begins a hash of the fake store, which tells it from a user.
const hashPrefix = "hash of "

func (f *fakeCluster) UserHash(user string) string { return hashPrefix + user }

// told returns the keys of the viewers of whom the other nodes were told.
func (f *fakeCluster) told() []uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.shared)
}

func (f *fakeCluster) ViewerKey(shown []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(shown)
	return h.Sum64()
}

func (f *fakeCluster) ShareKnown(key uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shared = append(f.shared, key)
}

func (f *fakeCluster) Banned(r *backends.Request, d *backends.Decision) (session.Ban, bool) {
	if f.banned != nil {
		return f.banned(r, d)
	}
	return session.Ban{}, false
}

func (f *fakeCluster) AwaitBans(ctx context.Context) error {
	if f.awaitBans != nil {
		return f.awaitBans(ctx)
	}
	return nil
}

func (f *fakeCluster) BanCredentials(context.Context, iter.Seq2[session.Ban, *backends.Request]) error {
	return nil
}

func (f *fakeCluster) Revoke(_ context.Context, v session.Revocation) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.announced = append(f.announced, v)
	return nil
}

func (f *fakeCluster) set(r session.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.records == nil {
		f.records = make(map[backends.SessionID]session.Record)
	}
	f.records[r.ID] = r
}

func (f *fakeCluster) get(id backends.SessionID) session.Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.records[id]
}

// node is a registry with its fakes.
type node struct {
	*Registry
	backend *fakeBackend
	cluster *fakeCluster
	log     *lockedBuffer
}

// lockedBuffer is a log that a test may read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// setup is what a test may change before its node starts.
type setup struct {
	Options
	rules BackendRules
}

// newNode starts a node with one backend, "portal".
func newNode(b *fakeBackend, store *fakeCluster, edit func(*setup)) *node {
	n := &node{backend: b, cluster: store, log: new(lockedBuffer)}
	s := setup{
		Options: Options{
			Config:     DefaultConfig(),
			ReviveFor:  6 * time.Hour,
			Cluster:    store,
			SigningKey: func() string { return "a" },
			Logger:     slog.New(slog.NewTextHandler(n.log, nil)),
			OnClosed:   logClosed(slog.New(slog.NewTextHandler(n.log, nil))),
		},
		rules: BackendRules{Validity: 3 * time.Minute, RecheckRate: 200, AnswerDeadline: time.Second},
	}
	c := &s.Config
	c.OpenBurstPerAddress, c.OpenBurstPerNetwork, c.OpenBurst = 1_000_000, 1_000_000, 1_000_000
	c.DeniedRate, c.DeniedRatePerNetwork = 100_000, 100_000
	if edit != nil {
		edit(&s)
	}
	s.Backends = map[string]BackendOptions{"portal": {Backend: b, Rules: s.rules}}
	n.Registry = NewRegistry(s.Options)
	return n
}

// logClosed logs what is to be recorded of sessions.
func logClosed(log *slog.Logger) func([]session.ClosingRecord) error {
	return func(all []session.ClosingRecord) error {
		for _, c := range all {
			log.Info("session closed", slog.String("session", c.Record.ID.String()), slog.String("why", c.Reason().String()),
				slog.String("history", c.Counters.History), slog.Int64("requests", c.Counters.Requests))
		}
		return nil
	}
}

// inBubble runs the test on a clock that jumps. It must close the nodes that it starts, by closeAndDrain.
func inBubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

// closeAndDrain closes the node, and waits until protoactor stops counting dead letters.
func (n *node) closeAndDrain() {
	n.Close()
	time.Sleep(2 * time.Second)
}

// openRequest returns the opening of the test's viewer of that number, with credentials.
func openRequest(i int) session.OpenRequest {
	return session.OpenRequest{
		HasCredentials: true,
		Request: &backends.Request{
			Session: idOf(i), Route: "play", Channel: "a001", Backend: "portal",
			Query: "token=s3cret", Path: "/play/a001/index.m3u8",
			Address: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}),
		},
	}
}

// ticketRequest returns the opening of the same viewer with a ticket alone.
func ticketRequest(i int, opened time.Time) session.OpenRequest {
	a := openRequest(i)
	a.HasCredentials, a.Request.Query = false, ""
	a.Ticket = session.Ticket{Opened: opened.Truncate(time.Second), KeyID: "a"}
	return a
}

// watch makes a request of the viewer: it finds or opens the session, and counts as seen.
func (n *node) watch(t testing.TB, a session.OpenRequest) backends.Decision {
	t.Helper()
	s := n.Find(a.Request.Session)
	if s == nil || s.Decision() == nil || s.Decision().Verdict == backends.Denied && !time.Now().Before(s.Expires()) {
		var err error
		if s, err = n.Open(t.Context(), a); err != nil {
			t.Fatalf("open session: %v", err)
		}
	}
	s.Seen(time.Now(), true)
	return *s.Decision()
}

// keepWatching makes a request every second for the given time, and calls each with each decision.
func (n *node) keepWatching(t testing.TB, a session.OpenRequest, d time.Duration, each func(backends.Decision)) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
		got := n.watch(t, a)
		if each != nil {
			each(got)
		}
	}
}

// oneNode is the usual number of nodes.
func oneNode() int { return 1 }

// errBroken is an error whose cause does not matter.
var errBroken = errors.New("broken")
