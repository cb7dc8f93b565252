package admin

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
)

// TestAnswerSessionQuery_Kick kicks the sessions that match on a node, and none by an order that is not one.
func TestAnswerSessionQuery_Kick(t *testing.T) {
	t.Parallel()
	var here fakeNodeSessions
	for i, channel := range []string{"a001", "a001", "a002"} {
		here = append(here, &fakeHandle{id: backends.SessionID{byte(i + 1)}, request: backends.Request{Channel: channel}})
	}
	onChannel, order := Filter{Channel: "a001"}, kickOrder{ID: "k1", Duration: 60_000, Reason: "goal"}
	repeated := order
	repeated.IsRepeated = true
	kickOf := func(sessions string) []string {
		return []string{"kick k1 of " + sessions + ` sessions for 1m0s, reason "goal"`}
	}
	earlier := []session.Ban{
		{ID: "k1-x", Cause: "k1", Sessions: []backends.SessionID{{1}, {7}, {8}}}, {ID: "k2-x", Cause: "k2", Sessions: []backends.SessionID{{9}}},
	}
	for name, test := range map[string]struct {
		query   sessionQuery
		err     error
		asked   []string
		matched int
		pending bool
		failed  string // the error in the answer
		isNone  bool
	}{
		"a channel":         {query: sessionQuery{Filter: onChannel, Kick: &order}, asked: kickOf("2"), matched: 2},
		"no match":          {query: sessionQuery{Filter: Filter{Channel: "b"}, Kick: &order}, asked: kickOf("0")},
		"of this node":      {query: sessionQuery{Filter: Filter{Node: "n1"}, Kick: &order}, asked: kickOf("3"), matched: 3},
		"of another node":   {query: sessionQuery{Filter: Filter{Node: "n2"}, Kick: &order}, asked: kickOf("0")},
		"once more":         {query: sessionQuery{Filter: onChannel, Kick: &repeated}, asked: kickOf("2"), matched: 4},
		"redis unavailable": {query: sessionQuery{Filter: onChannel, Kick: &order}, err: backends.ErrStoreUnavailable, asked: kickOf("2"), matched: 2, pending: true},
		"too many":          {query: sessionQuery{Filter: onChannel, Kick: &order}, err: errors.New("too many"), asked: kickOf("2"), matched: 2, failed: "too many"},
		"no order":          {query: sessionQuery{Filter: onChannel}, isNone: true},
		"everybody":         {query: sessionQuery{Filter: Filter{After: anID}, Kick: &order}, isNone: true},
		"no id":             {query: sessionQuery{Filter: onChannel, Kick: &kickOrder{Duration: 1}}, isNone: true},
		"no duration":       {query: sessionQuery{Filter: onChannel, Kick: &kickOrder{ID: "k1"}}, isNone: true},
		"for too long":      {query: sessionQuery{Filter: onChannel, Kick: &kickOrder{ID: "k1", Duration: maxKick.Milliseconds() + 1}}, isNone: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &fakeCluster{err: test.err, bans: earlier}
			test.query.Kind, test.query.Limit = kickQueryKind, 1
			answer := AnswerSessionQuery(t.Context(), here, store, encode(test.query))
			if diff := cmp.Diff(test.asked, store.asked); diff != "" || (answer == nil) != test.isNone {
				t.Fatalf("answered %q; wanted of the cluster (-want +got):\n%s", answer, diff)
			}
			if test.isNone {
				return
			}
			var got nodeKick
			if err := json.Unmarshal(answer, &got); err != nil || got.Matched.Count != test.matched || got.IsPending != test.pending || got.Error != test.failed {
				t.Errorf("answered %s, %v; want %d, pending %t, error %q", answer, err, test.matched, test.pending, test.failed)
			}
		})
	}
	if answer := AnswerSessionQuery(t.Context(), here, new(fakeCluster), encode(sessionQuery{Kind: listQueryKind, Limit: 1, Kick: &order})); answer != nil {
		t.Errorf("a list with an order is answered by %s", answer)
	}
}

// TestListBans_Groups lists the groups of one kick as one ban.
func TestListBans_Groups(t *testing.T) {
	t.Parallel()
	until := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	group := func(id, cause, channel string, sessions ...backends.SessionID) session.Ban {
		return session.Ban{ID: id, Cause: cause, IsKick: true, Reason: "goal", Until: until, Backend: "portal", Channel: channel, Sessions: sessions}
	}
	bans := []session.Ban{
		group("k1-x", "k1", "a001", backends.SessionID{1}, backends.SessionID{2}),
		{ID: "b", User: "ann", Until: until},
		group("k2-x", "k2", "a001", backends.SessionID{1}), group("k1-y", "k1", "a001", backends.SessionID{2}, backends.SessionID{3}),
		group("k2-y", "k2", "a002", backends.SessionID{5}),
	}
	want := []Ban{
		{ID: "k1", Viewers: 3, Backend: "portal", Channel: "a001", Until: until, Reason: "goal", IsKick: true},
		{ID: "b", User: "ann", Until: until},
		{ID: "k2", Viewers: 2, Backend: "portal", Until: until, Reason: "goal", IsKick: true},
	}
	got := listBans(bans)
	if diff := cmp.Diff(want, got); diff != "" || countBans(bans) != len(want) {
		t.Errorf("%d bans (-want +got):\n%s", countBans(bans), diff)
	}
	if subject := got[0].Subject(); subject != "the viewers of 3 sessions on channel a001" || strings.Contains(got[2].Subject(), "channel") {
		t.Errorf("they are of %q and %q", subject, got[2].Subject())
	}
}
