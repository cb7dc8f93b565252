package events

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/redisclient"
)

// newLonelyClient returns a client whose Redis is not there. Its pool is larger than the number of calls of a test: after as many
// failures the library dials in the background.
func newLonelyClient(t *testing.T) *redisclient.Client {
	t.Helper()
	c := redisclient.Config{Addresses: []string{"/nowhere.sock"}, KeyPrefix: "usher", PoolSize: 100}
	client, err := redisclient.New(c, time.Second, discard())
	must(t, err)
	t.Cleanup(client.Close)
	return client
}

// newTestSync returns a synchronisation whose Redis is not there, and its log.
func newTestSync(t *testing.T) (*banSync, *bytes.Buffer) {
	t.Helper()
	var text bytes.Buffer
	client := newLonelyClient(t)
	return newBanSync(Options{
		Client: client, Cipher: goldenCipher(t), Bans: NewBans(), Retention: time.Hour, Logger: slog.New(slog.NewTextHandler(&text, nil)),
	}), &text
}

// TestBanSync_MissingIn returns what Redis lacks, except what ends within a second.
func TestBanSync_MissingIn(t *testing.T) {
	t.Parallel()
	s, _ := newTestSync(t)
	synctest.Test(t, func(t *testing.T) {
		s.bans = NewBans()
		now := time.Now()
		lasts := map[string]time.Duration{"stored": time.Hour, "missing": time.Hour, "soon": time.Second, "later": time.Second + 1}
		for id, d := range lasts {
			ban := session.Ban{ID: id, User: id, Until: now.Add(d)}
			s.bans.Add(now, ban, Tombstone(session.Ban{ID: "of-" + id, Until: now.Add(d)}, someSession, now.Add(24*time.Hour)))
			s.bans.unbanned["un"+id] = now.Add(d)
		}
		s.bans.unbanned["cause"] = now.Add(time.Second)
		tombstone := "of-stored-" + someSession.String()
		missing, unbanned := s.missingIn(storedBans{
			ids:      map[string]struct{}{"stored": {}, tombstone: {}, "unlater": {}, "cause-caused": {}, "stored-caused": {}},
			unbanned: map[string]time.Time{"unstored": now.Add(time.Hour)},
		})
		var ids []string
		for _, b := range missing {
			ids = append(ids, strings.TrimSuffix(b.ID, "-"+someSession.String()))
		}
		slices.Sort(ids)
		if want := []string{"later", "missing", "of-later", "of-missing"}; !slices.Equal(ids, want) {
			t.Errorf("missing are %v, want %v", ids, want)
		}
		if got, want := slices.Sorted(maps.Keys(unbanned)), []string{"cause-caused", "unlater", "unmissing"}; !slices.Equal(got, want) {
			t.Errorf("unbanned are %v, want %v", got, want)
		}
		if !unbanned["cause-caused"].IsZero() || unbanned["unlater"].IsZero() {
			t.Errorf("remembered are %v, want those that were unbanned themselves", unbanned)
		}
	})
}

func TestBanSync_AddPage(t *testing.T) {
	t.Parallel()
	s, _ := newTestSync(t)
	now := time.Unix(1_790_000_000, 0)
	good := string(encodeBan(s.cipher, session.Ban{ID: "b", User: "ann"}))
	stored := storedBans{ids: map[string]struct{}{}, unbanned: map[string]time.Time{}}
	for range 2 { // HSCAN may return a ban twice
		s.addPage(&stored, []any{
			"0",
			[]any{[]any{"b", int64(60_000), good}, []any{"c", int64(60_000), good}, []any{"d"}},
			[]any{[]any{"gone", int64(1_000)}},
		}, now)
	}
	want := session.Ban{ID: "b", User: "ann", Until: now.Add(time.Minute)}
	if len(stored.bans) != 1 || !reflect.DeepEqual(stored.bans[0], want) || len(stored.ids) != 3 {
		t.Errorf("read %+v of %v, want %+v and the ids of those that cannot be read", stored.bans, stored.ids, want)
	}
	if got := stored.unbanned["gone"]; !got.Equal(now.Add(time.Second)) {
		t.Errorf("remembered until %v, want a second", got)
	}
	if stored.unreadable != 2 {
		t.Errorf("%d bans cannot be read, want 2", stored.unreadable)
	}
}

// TestBanSync_AddPage_OldKey finds the bans to be encrypted anew, and those that need the old key.
func TestBanSync_AddPage_OldKey(t *testing.T) {
	t.Parallel()
	s, _ := newTestSync(t)
	s.cipher = cipherOf(t, "b", "a")
	stored := storedBans{ids: map[string]struct{}{}, unbanned: map[string]time.Time{}}
	for key, cipher := range map[string]*redisclient.Cipher{"old": cipherOf(t, "a"), "new": s.cipher} {
		var page []any
		for id, b := range map[string]session.Ban{
			"user": {User: "ann"}, "credentials": {Credentials: "h1.h2"}, "tombstone": {Session: someSession, Cause: "user"},
			"group": {Sessions: []backends.SessionID{someSession}}, "group-credentials": {CredentialSets: []string{"h1.h2"}},
		} {
			b.ID = key + "-" + id
			page = append(page, []any{b.ID, int64(60_000), string(encodeBan(cipher, b))})
		}
		s.addPage(&stored, []any{"0", page, nil}, time.Now())
	}
	var outdated, needOld []string
	for _, b := range stored.outdated {
		outdated = append(outdated, b.ID)
	}
	for _, b := range stored.bans {
		encrypted := encodeBan(s.cipher, b)
		if _, err := decodeBan(cipherOf(t, "b"), b.ID, encrypted); err != nil && b.OldKey == "a" {
			needOld = append(needOld, b.ID)
		}
	}
	slices.Sort(outdated)
	slices.Sort(needOld)
	if want := []string{"old-group", "old-tombstone", "old-user"}; !slices.Equal(outdated, want) {
		t.Errorf("to be encrypted anew are %v, want %v", outdated, want)
	}
	if want := []string{"old-credentials", "old-group-credentials"}; !slices.Equal(needOld, want) || len(stored.bans) != 10 {
		t.Errorf("of %d bans %v need the old key, want %v", len(stored.bans), needOld, want)
	}
}

// TestBanSync_LogKeys logs what has changed of bans that cannot be read, and of those that need an old key.
func TestBanSync_LogKeys(t *testing.T) {
	t.Parallel()
	s, text := newTestSync(t)
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().UTC()
		s.bans = NewBans()
		s.bans.Add(now,
			session.Ban{ID: "new", User: "ann", Until: now.Add(9 * time.Hour)},
			session.Ban{ID: "short", Credentials: "h1", OldKey: "a", Until: now.Add(time.Hour)},
			session.Ban{ID: "long", CredentialSets: []string{"h1"}, OldKey: "a", Until: now.Add(3 * time.Hour)},
			session.Ban{ID: "older", Credentials: "h1", OldKey: "0", Until: now.Add(2 * time.Hour)})
		for i, step := range []struct {
			after      time.Duration
			unreadable int
			want       string
		}{
			{0, 0, "key=0 bans=1 until=2000-01-01T02:00:00.000Z; key=a bans=2 until=2000-01-01T03:00:00.000Z"},
			{0, 0, ""},
			{0, 2, "bans=2"},
			{0, 2, ""},
			{time.Hour, 0, "key=a bans=1 until=2000-01-01T03:00:00.000Z"},
			{0, 2, "bans=2"},
			{2 * time.Hour, 2, ""},
		} {
			text.Reset()
			time.Sleep(step.after)
			s.logKeys(step.unreadable)
			var got []string
			for line := range strings.Lines(text.String()) {
				_, attributes, _ := strings.Cut(strings.TrimSpace(line), "\" ")
				got = append(got, attributes)
			}
			if got := strings.Join(got, "; "); got != step.want {
				t.Errorf("step %d: logged %q, want %q", i, got, step.want)
			}
		}
	})
}

// TestBanSync_Batches writes and removes many bans by several calls, each with all of a ban.
func TestBanSync_Batches(t *testing.T) {
	t.Parallel()
	for count, want := range map[int][]int{
		0: nil, 1: {1}, maxPerCall: {maxPerCall}, maxPerCall + 1: {maxPerCall, 1}, 2*maxPerCall + 5: {maxPerCall, maxPerCall, 5},
	} {
		s, _ := newTestSync(t)
		var bans []session.Ban
		unbanned := map[string]time.Time{}
		for i := range count {
			bans = append(bans, session.Ban{ID: fmt.Sprint(i), User: "ann", Until: time.Now().Add(time.Hour)})
			unbanned[fmt.Sprint(i)] = time.Now().Add(time.Hour)
		}
		ids := map[any]bool{}
		var sizes []int
		record := func(first, each int) runScript {
			sizes = nil
			clear(ids)
			return func(_ context.Context, _ *redisclient.Script, _ []string, args ...any) (any, error) {
				for i := first; i < len(args); i += each {
					ids[args[i]] = true
				}
				sizes = append(sizes, (len(args)-first)/each)
				return nil, nil
			}
		}
		must(t, s.storeBans(t.Context(), record(3, 6), bans))
		if !slices.Equal(sizes, want) || len(ids) != count {
			t.Errorf("%d bans stored: %d by calls of %v, want %v", count, len(ids), sizes, want)
		}
		must(t, s.replaceBans(t.Context(), record(0, 2), bans))
		if !slices.Equal(sizes, want) || len(ids) != count {
			t.Errorf("%d bans replaced: %d by calls of %v, want %v", count, len(ids), sizes, want)
		}
		must(t, s.removeBans(t.Context(), record(3, 3), unbanned))
		if !slices.Equal(sizes, want) || len(ids) != count {
			t.Errorf("%d bans removed: %d by calls of %v, want %v", count, len(ids), sizes, want)
		}
	}
}

func TestBanSync_WriteFails_Error(t *testing.T) {
	t.Parallel()
	s, _ := newTestSync(t)
	fails := func(context.Context, *redisclient.Script, []string, ...any) (any, error) {
		return nil, errUnknownMessage
	}
	many := map[string]time.Time{}
	for i := range maxPerCall {
		many[fmt.Sprint(i)] = time.Now().Add(time.Hour)
	}
	for name, err := range map[string]error{
		"a ban":                s.storeBans(t.Context(), fails, []session.Ban{{ID: "b"}}),
		"a ban encrypted anew": s.replaceBans(t.Context(), fails, []session.Ban{{ID: "b"}}),
		"an unbanned id":       s.removeBans(t.Context(), fails, map[string]time.Time{"b": {}}),
		"many unbanned ids":    s.removeBans(t.Context(), fails, many),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestBanSync_StoreQueued_LogsDropped warns once an hour of tombstones that found no room.
func TestBanSync_StoreQueued_LogsDropped(t *testing.T) {
	t.Parallel()
	s, text := newTestSync(t)
	synctest.Test(t, func(t *testing.T) {
		for i, step := range []struct {
			after   time.Duration
			dropped bool
			want    int
		}{{0, false, 0}, {0, true, 1}, {time.Minute, true, 1}, {time.Hour - time.Minute, true, 1}, {1, false, 2}, {time.Hour + 1, false, 2}} {
			time.Sleep(step.after)
			if step.dropped {
				s.bans.sessions.hasDropped.Store(true)
			}
			must(t, s.storeQueued(t.Context()))
			if got := strings.Count(text.String(), "bans have refused more sessions than are remembered"); got != step.want {
				t.Errorf("step %d: %d warnings, want %d", i, got, step.want)
			}
		}
	})
}

// TestBanSync_StoreQueued_Fails has the next heartbeat compare the bans: the tombstone is no longer queued.
func TestBanSync_StoreQueued_Fails(t *testing.T) {
	t.Parallel()
	s, _ := newTestSync(t)
	s.bans.isUnsynced = false
	must(t, s.storeQueued(t.Context()))
	if s.isNeeded() {
		t.Error("bans are compared though nothing was to be written")
	}
	s.queue(session.Ban{ID: "b", Session: someSession, Until: time.Now().Add(time.Hour)})
	if err := s.storeQueued(t.Context()); err == nil || !s.isNeeded() || len(s.queued) != 0 {
		t.Errorf("error %v, compared next: %t, still queued: %d", err, s.isNeeded(), len(s.queued))
	}
}

// TestBanSync_Sync_Fails compares again what could not be compared.
func TestBanSync_Sync_Fails(t *testing.T) {
	t.Parallel()
	s, _ := newTestSync(t)
	if err := s.sync(t.Context()); err == nil || !s.isNeeded() {
		t.Errorf("error %v, compared again: %t", err, s.isNeeded())
	}
}
