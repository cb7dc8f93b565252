package freerides

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"time"

	"usher/backends"
)

const (
	// lookInterval is how often it is looked whether an outage is over.
	lookInterval = time.Second
	// saveEvery is how many looks are between two saves of an outage that runs: what a killed node saw since is lost.
	saveEvery = 10
	// maxReports is how many reports of a backend are kept.
	maxReports = 100
	// saveTimeout bounds one call of the store, and lastSaveTimeout all calls when the node ends.
	saveTimeout, lastSaveTimeout = 2 * time.Second, 5 * time.Second
	// queryTimeout bounds the wait for the replies of all nodes.
	queryTimeout = 2 * time.Second
	// queryKind is the kind of the query that makes each node save what it knows.
	queryKind = "free-rides"
)

// Store keeps the parts of reports where all nodes read them. It may be shared with other nodes.
type Store interface {
	// SaveReport stores a part of the subject, in place of the one that had the id, for as long as the retention. At most so
	// many parts of each live node are kept.
	SaveReport(ctx context.Context, subject, id string, part []byte, limit int, retention time.Duration) error
	// Reports returns the parts of the subject by their ids.
	Reports(ctx context.Context, subject string, retention time.Duration) (map[string][]byte, error)
}

// Options are what a [Tracker] needs. All functions are safe for concurrent use and do not block, except Ask.
type Options struct {
	// Node is the name of this node.
	Node string
	// Backends returns the names of all backends.
	Backends func() []string
	Store    Store
	// Ask sends a request to all nodes, which reply by [Tracker.Answer]. It returns the replies by the nodes' names, and the
	// names of the nodes that did not reply.
	Ask func(ctx context.Context, request []byte) (replies map[string][]byte, silent []string)
	// IsDown reports whether the breaker of a backend is not closed.
	IsDown func(backend string) bool
	// Session returns how many bytes this node has sent to the session's viewer, and when the session was opened; zero: it is not
	// known here.
	Session func(id backends.SessionID) (bytes int64, opened time.Time)
	// TokenLife returns how long the backend knows a token; zero: for ever.
	TokenLife func(backend string) time.Duration
	// Retention is how long a report is kept.
	Retention time.Duration
	Logger    *slog.Logger // nil: none
}

// New returns a tracker of nothing. [Tracker.Run] saves what it sees.
func New(o Options) *Tracker {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Tracker{
		o: o, process: newProcessID(), started: time.Now(), sessions: map[backends.SessionID]unverifiedSession{},
		current: map[string]*outage{},
	}
}

// Run saves what the node sees until ctx ends, and once more then.
func (t *Tracker) Run(ctx context.Context) {
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSaveTimeout)
			defer cancel()
			t.save(last, true)
			return
		case <-ticker.C:
		}
		t.tick(ctx, time.Now())
		if n%saveEvery == 0 {
			t.save(ctx, false)
			t.forget(ctx, n)
		}
	}
}

// forgetEvery is how many looks are between two times that the store deletes what is too old, although nothing is saved.
const forgetEvery = 3600

func (t *Tracker) forget(ctx context.Context, n int) {
	if n%forgetEvery != 0 {
		return
	}
	for _, backend := range t.o.Backends() {
		_, _ = t.stored(ctx, backend)
	}
}

// unsaved is a part that the store lacks.
type unsaved struct {
	outage  *outage
	part    *part
	changes int
}

// save stores the parts that the store lacks, and forgets outages that are over.
func (t *Tracker) save(ctx context.Context, isLast bool) {
	t.saving.Lock()
	defer t.saving.Unlock()
	for _, u := range t.unsaved(time.Now()) {
		u.part.IsLeft = isLast
		callCtx, cancel := context.WithTimeout(ctx, saveTimeout)
		err := t.o.Store.SaveReport(callCtx, u.outage.backend, t.id(u.outage), u.part.encode(), maxReports, t.o.Retention)
		cancel()
		if err != nil {
			// The store logs its own outage. The next save stores it again.
			t.o.Logger.Debug("part of a report not saved", slog.String("backend", u.outage.backend), slog.Any("error", err))
			continue
		}
		t.mu.Lock()
		u.outage.saved = u.changes
		t.mu.Unlock()
	}
	t.drop()
}

func (t *Tracker) unsaved(now time.Time) (all []unsaved) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.outages {
		if o.changes != o.saved || !o.isOver() {
			all = append(all, unsaved{o, t.part(o, now), o.changes})
		}
	}
	return all
}

// drop forgets the outages that are over, logged and saved, and the oldest beyond those that are kept.
func (t *Tracker) drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := map[string]int{}
	slices.Reverse(t.outages)
	t.outages = slices.DeleteFunc(t.outages, func(o *outage) bool {
		kept[o.backend]++
		return o.isLogged && o.isOver() && o.changes == o.saved || kept[o.backend] > maxReports
	})
	slices.Reverse(t.outages)
}

// query is the query that a node sends to all nodes.
type query struct {
	Kind string `json:"ask"`
}

// reply is the reply of a node.
type reply struct {
	Process string `json:"process"`
}

// Answer returns the reply of this node to a query for free rides: by then it has saved what it knows. isMine is false for
// other requests.
func (t *Tracker) Answer(ctx context.Context, request []byte) (answer []byte, isMine bool) {
	var q query
	if err := json.Unmarshal(request, &q); err != nil || q.Kind != queryKind {
		return nil, false
	}
	t.tick(ctx, time.Now())
	t.save(ctx, false)
	return encode(reply{t.process}), true
}

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error()) // it holds only strings
	}
	return text
}

// Reports returns the reports that match, the newest first.
func (t *Tracker) Reports(ctx context.Context, f Filter) List {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	replies, silent := t.o.Ask(ctx, encode(query{queryKind}))
	list := List{Reports: []Report{}}
	alive := map[string]bool{t.process: true}
	for node, body := range replies {
		var r reply
		if err := json.Unmarshal(body, &r); err != nil || r.Process == "" {
			silent = append(silent, node) // of another version
			continue
		}
		alive[r.Process] = true
	}
	slices.Sort(silent)
	list.UnreachableNodes = slices.Compact(silent)
	for _, backend := range t.backends(f) {
		parts, err := t.parts(context.WithoutCancel(ctx), backend)
		if err != nil {
			list.IsIncomplete = true
		}
		now := time.Now()
		for _, p := range parts {
			isSilent := len(silent) > 0 && now.UnixMilli()-p.Written < gap.Milliseconds()
			if p.isRunning() && (p.IsLeft || !alive[p.Process] && !isSilent) {
				p.close()
			}
		}
		list.Reports = append(list.Reports, mergeReports(backend, parts, now.Add(-t.o.Retention))...)
	}
	list.Reports = slices.DeleteFunc(list.Reports, func(r Report) bool { return !f.matches(&r) })
	slices.SortStableFunc(list.Reports, func(a, b Report) int { return b.Started.Compare(a.Started) })
	return list
}

func (t *Tracker) backends(f Filter) []string {
	if f.Backend != "" {
		return []string{f.Backend}
	}
	return slices.Sorted(slices.Values(t.o.Backends()))
}

// parts returns the parts of all nodes. The error says that those of others are missing.
func (t *Tracker) parts(ctx context.Context, backend string) ([]*part, error) {
	byID := map[string]*part{}
	bodies, err := t.stored(ctx, backend)
	for id, body := range bodies {
		p, err := decodePart(body)
		if err != nil {
			t.o.Logger.Debug("part of a report skipped", slog.String("backend", backend), slog.Any("error", err))
			continue
		}
		byID[id] = p
	}
	t.mu.Lock()
	for _, o := range t.outages { // the store may lack it
		if o.backend == backend {
			byID[t.id(o)] = t.part(o, time.Now())
		}
	}
	t.mu.Unlock()
	return slices.Collect(maps.Values(byID)), err
}

func (t *Tracker) stored(ctx context.Context, backend string) (map[string][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	return t.o.Store.Reports(ctx, backend, t.o.Retention)
}
