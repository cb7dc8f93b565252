package admin

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"usher/actors/session"
	"usher/backends"
)

// answerBody answers a query as it travels.
func answerBody(ctx context.Context, sessions iter.Seq[Session], asked []byte) []byte {
	q, isKnown := decodeQuery(asked)
	if !isKnown {
		return nil
	}
	return answerQuery(ctx, func(yield func(Session, bool) bool) {
		sessions(func(s Session) bool { return yield(s, true) })
	}, q)
}

// mergeNodes queries nodes and merges their responses.
func mergeNodes(t testing.TB, f Filter, limit int, nodes map[string]*fakeNode, silent ...string) SessionList {
	t.Helper()
	answers := map[string][]byte{}
	for name, n := range nodes {
		answers[name] = answerBody(t.Context(), n.EachSession, encodeQuery(listQueryKind, f, limit))
	}
	return mergeSessionLists(f, limit, answers, silent)
}

func TestMergeSessionLists_SameSessionOnSeveralNodes(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	nodes := map[string]*fakeNode{
		"n1": {sessions: []Session{
			{ID: "a", Verdict: "denied", Started: at, LastSeen: at.Add(time.Minute), Requests: 3, Bytes: 30},
			{ID: "b", Requests: 1},
		}},
		"n2": {sessions: []Session{
			{ID: "a", Verdict: "allowed", Started: at.Add(time.Second), LastSeen: at.Add(time.Second), Requests: 4, Bytes: 40},
		}},
	}
	got := mergeNodes(t, Filter{}, 10, nodes, "n4", "n3")
	want := SessionList{Total: 2, Matched: 2, UnreachableNodes: []string{"n3", "n4"}, Sessions: []Session{
		{
			ID: "a", Verdict: "denied", Started: at, LastSeen: at.Add(time.Minute), Requests: 7, Bytes: 70,
			Nodes: []string{"n1", "n2"},
		},
		{ID: "b", Requests: 1, Nodes: []string{"n1"}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	got = mergeNodes(t, Filter{Node: "n2"}, 10, nodes, "n3")
	if len(got.Sessions) != 1 || got.Sessions[0].Verdict != "allowed" || len(got.UnreachableNodes) != 0 {
		t.Errorf("of one node: %+v", got)
	}
}

func TestMergeSessionLists_UnreadableResponse_NodeIsSilent(t *testing.T) {
	t.Parallel()
	got := mergeSessionLists(Filter{}, 10, map[string][]byte{"old": nil, "odd": []byte("{"), "good": answerBody(t.Context(), newFakeNode().EachSession, encodeQuery(listQueryKind, Filter{}, 10))}, nil)
	if diff := cmp.Diff([]string{"odd", "old"}, got.UnreachableNodes); diff != "" || got.Matched != 3 {
		t.Errorf("matched %d, silent (-want +got):\n%s", got.Matched, diff)
	}
	for _, query := range []string{"", "{}", `{"ask":"secrets","limit":1}`, `{"ask":"sessions","limit":0}`, `{"ask":"sessions","limit":1,"filter":{"planet":"x"}}`} {
		if said := answerBody(t.Context(), newFakeNode().EachSession, []byte(query)); said != nil {
			t.Errorf("the query %q is answered: %s", query, said)
		}
	}
}

// TestMergeSessionLists_PagesHaveNoGaps compares the merged pages of nodes with random sessions with the sessions themselves.
func TestMergeSessionLists_PagesHaveNoGaps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		nodes, all := map[string]*fakeNode{}, map[string]bool{}
		for i := range rapid.IntRange(1, 4).Draw(t, "nodes") {
			n := new(fakeNode)
			held := map[string]bool{}
			for _, number := range rapid.SliceOf(rapid.IntRange(0, 60)).Draw(t, "sessions") {
				id := fmt.Sprintf("%03d", number)
				if !held[id] {
					n.sessions = append(n.sessions, Session{ID: id, Requests: 1})
				}
				held[id], all[id] = true, true
			}
			nodes[fmt.Sprint("n", i)] = n
		}
		limit := rapid.IntRange(1, 30).Draw(t, "limit")
		after := rapid.SampledFrom([]string{"", "007", "020", "060"}).Draw(t, "after")
		f := Filter{After: after}
		answers := map[string][]byte{}
		for name, n := range nodes {
			answers[name] = answerBody(t.Context(), n.EachSession, encodeQuery(listQueryKind, f, limit))
		}
		got := mergeSessionLists(f, limit, answers, nil)
		var want []string
		for id := range all {
			if id > after {
				want = append(want, id)
			}
		}
		slices.Sort(want)
		if got.Total != len(all) || got.Matched != len(all) || got.Approximate {
			t.Fatalf("%d matched of %d, want %d", got.Matched, got.Total, len(all))
		}
		var ids []string
		for _, s := range got.Sessions {
			ids = append(ids, s.ID)
			if int(s.Requests) != len(s.Nodes) {
				t.Fatalf("%s has %d requests on %d nodes", s.ID, s.Requests, len(s.Nodes))
			}
		}
		if !slices.Equal(ids, want[:min(limit, len(want))]) || got.HasMore != (len(ids) < len(want)) {
			t.Fatalf("got %v of %v, limit %d, more %t", ids, want, limit, got.HasMore)
		}
	})
}

func TestMergeSessionLists_ManySessions_Estimated(t *testing.T) {
	t.Parallel()
	const each, shared = 30_000, 10_000
	nodes := map[string]*fakeNode{}
	for i := range 3 {
		n := new(fakeNode)
		for k := range each {
			number := k
			if k >= shared {
				number += (i + 1) * 1_000_000
			}
			n.sessions = append(n.sessions, Session{ID: fmt.Sprintf("%08d", number)})
		}
		nodes[fmt.Sprint("n", i)] = n
	}
	const want = shared + 3*(each-shared)
	got := mergeNodes(t, Filter{}, maxLimit, nodes)
	if !got.Approximate || math.Abs(float64(got.Total)/want-1) > 0.15 { // five standard deviations
		t.Errorf("got %d (approximate: %t), want about %d", got.Total, got.Approximate, want)
	}
	got = mergeNodes(t, Filter{ID: "00000001"}, maxLimit, nodes)
	if !got.Approximate || got.Matched != 1 {
		t.Errorf("one of them: %d matched, approximate %t, want 1 of an approximate total", got.Matched, got.Approximate)
	}
}

// TestMergeSessionLists_TruncatedList lists no session beyond the last one of a node whose list is cut, because that node may
// hold it too.
func TestMergeSessionLists_TruncatedList(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 4000)
	held := func(step int, agent string) *fakeNode {
		n := new(fakeNode)
		for i := 0; i < maxLimit; i += step {
			n.sessions = append(n.sessions, Session{ID: fmt.Sprintf("%04d", i), UserAgent: agent})
		}
		return n
	}
	small, middle, large := held(1, ""), held(3, long), held(2, long)
	last := func(n *fakeNode) string {
		_, listed, err := decodeNodeSessions(answerBody(t.Context(), n.EachSession, encodeQuery(listQueryKind, Filter{}, maxLimit)))
		if err != nil {
			t.Fatal(err)
		}
		return listed[len(listed)-1].ID
	}
	for name, test := range map[string]struct {
		nodes map[string]*fakeNode
		want  string // the last one listed
	}{
		"none is cut":                {map[string]*fakeNode{"n1": small, "n2": small}, "0999"},
		"one is cut":                 {map[string]*fakeNode{"n1": small, "n2": large}, last(large)},
		"one is cut, and read first": {map[string]*fakeNode{"n1": large, "n2": small}, last(large)},
		"two are cut":                {map[string]*fakeNode{"n1": small, "n2": middle, "n3": large}, last(large)},
		"two are cut, in turn":       {map[string]*fakeNode{"n1": large, "n2": middle, "n3": small}, last(large)},
	} {
		got := mergeNodes(t, Filter{}, maxLimit, test.nodes)
		if end := got.Sessions[len(got.Sessions)-1].ID; end != test.want {
			t.Errorf("%s: the last one listed is %s, want %s", name, end, test.want)
		}
	}
}

func TestMergeSessionLists_MoreThanTheNodeLists(t *testing.T) {
	t.Parallel()
	answers := map[string][]byte{
		"n1": []byte(`{"total":{"count":1},"matched":{"count":1},"more":true}`), // its session is too large for a message
		"n2": answerBody(t.Context(), newFakeNode().EachSession, encodeQuery(listQueryKind, Filter{}, 10)),
	}
	if got := mergeSessionLists(Filter{}, 10, answers, nil); len(got.Sessions) != 3 {
		t.Errorf("%d sessions, want the 3 of the other node", len(got.Sessions))
	}
}

func TestAnswerSessionQuery_LargestList(t *testing.T) {
	t.Parallel()
	s := Session{ID: "a"}
	bare, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for more, want := range map[int]int{0: 1, 1: 0} {
		s.UserAgent = strings.Repeat("x", maxListBytes-len(bare)-len(`,"user_agent":""`)+more)
		n := &fakeNode{sessions: []Session{s}}
		got := mergeNodes(t, Filter{}, 10, map[string]*fakeNode{"n1": n})
		if len(got.Sessions) != want || got.Matched != 1 {
			t.Errorf("%d bytes more: listed %d of %d, want %d", more, len(got.Sessions), got.Matched, want)
		}
	}
}

func TestCountUnion(t *testing.T) {
	t.Parallel()
	of := func(count int, hashes ...uint64) encodedSketch {
		out := encodedSketch{Count: count}
		for _, h := range hashes {
			out.Hashes = binary.BigEndian.AppendUint64(out.Hashes, h)
		}
		return out
	}
	full := make([]uint64, sketchSize) // the hashes of twenty times as many
	small := make([]uint64, sketchSize)
	for i := range full {
		small[i] = uint64(i)
		full[i] = uint64(i+1) * (math.MaxUint64 / (20 * sketchSize))
	}
	for name, test := range map[string]struct {
		nodes   []encodedSketch
		want    int
		isExact bool
	}{
		"no node":                    {nil, 0, true},
		"one node, however many":     {[]encodedSketch{of(1_000_000, 1)}, 1_000_000, true},
		"two nodes":                  {[]encodedSketch{of(2, 1, 2), of(2, 2, 3)}, 3, true},
		"as many as a sketch holds":  {[]encodedSketch{of(sketchSize, full...), of(1, full[0])}, sketchSize, true},
		"counts without hashes":      {[]encodedSketch{of(1_000_000), of(2_000_000)}, 3_000_000, false},
		"counts with one hash alone": {[]encodedSketch{of(1_000_000, math.MaxUint64), of(2_000_000)}, 2_000_000, false},
		"implausibly small hashes":   {[]encodedSketch{of(2000, small...), of(2000, small...)}, 4000, false},
		"hashes of zero":             {[]encodedSketch{of(2000, 0), of(2000, 0)}, 4000, false},
		"a node that has nearly all": {[]encodedSketch{of(sketchSize+1, full...), of(1, 1)}, sketchSize + 2, false},
		"two nodes that share most":  {[]encodedSketch{of(15_000, full...), of(15_000, full...)}, 20 * (sketchSize - 1), false},
	} {
		if got, isExact := countUnion(test.nodes); got != test.want || isExact != test.isExact {
			t.Errorf("%s: got %d, exact %t; want %d, exact %t", name, got, isExact, test.want, test.isExact)
		}
	}
}

func TestSmallest_HoldsAtMostTwice(t *testing.T) {
	t.Parallel()
	s := smallest[int]{limit: 10, compare: func(a, b int) int { return a - b }}
	for v := range 1000 {
		s.add(1000 - v)
		if len(s.kept) >= 2*s.limit {
			t.Fatalf("it holds %d values, want less than %d", len(s.kept), 2*s.limit)
		}
	}
	if diff := cmp.Diff([]int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, s.sorted()); diff != "" {
		t.Errorf("the smallest (-want +got):\n%s", diff)
	}
}

func TestAnswerSessionQuery_BoundedSize(t *testing.T) {
	t.Parallel()
	n := new(fakeNode)
	for i := range maxLimit {
		n.sessions = append(n.sessions, Session{ID: fmt.Sprintf("%04d", i), UserAgent: strings.Repeat("x", 4000)})
	}
	answer := answerBody(t.Context(), n.EachSession, encodeQuery(listQueryKind, Filter{}, maxLimit))
	if len(answer) > maxListBytes+64<<10 {
		t.Errorf("the answer has %d bytes", len(answer))
	}
	got := mergeSessionLists(Filter{}, maxLimit, map[string][]byte{"n1": answer}, nil)
	if got.Matched != maxLimit || len(got.Sessions) == 0 || len(got.Sessions) == maxLimit {
		t.Errorf("%d of %d sessions", len(got.Sessions), got.Matched)
	}
}

func TestFilterMatches(t *testing.T) {
	t.Parallel()
	s := Session{ID: "id9", Channel: "a001", User: "Ann", UserID: "17", Address: "::ffff:192.0.2.7", UserAgent: "MAG250"}
	tests := map[string]struct {
		filter Filter
		want   bool
	}{
		"nothing asked":              {Filter{}, true},
		"an address within":          {Filter{Address: prefix{netip.MustParsePrefix("192.0.2.0/24")}}, true},
		"an address without":         {Filter{Address: prefix{netip.MustParsePrefix("192.0.3.0/24")}}, false},
		"a beginning in capitals":    {Filter{Query: "mag"}, true},
		"a beginning of the user":    {Filter{Query: "an"}, true},
		"a beginning of the id":      {Filter{Query: "ID"}, true},
		"the whole channel":          {Filter{Query: "A001"}, true},
		"something in the middle":    {Filter{Query: "250"}, false},
		"another node":               {Filter{Node: "n7"}, true},
		"all but one thing as asked": {Filter{Channel: "a001", User: "17", Verdict: "denied"}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := test.filter.Matches(&s); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}

func FuzzMergeSessionLists(f *testing.F) {
	f.Add([]byte(`{"total":{"count":1,"hashes":""},"matched":{},"sessions":[{"id":"a"}],"more":true}`))
	f.Add(answerBody(f.Context(), newFakeNode().EachSession, encodeQuery(listQueryKind, Filter{}, 10)))
	f.Fuzz(func(t *testing.T, body []byte) {
		got := mergeSessionLists(Filter{}, 5, map[string][]byte{"n1": body, "n2": answerBody(t.Context(), newFakeNode().EachSession, encodeQuery(listQueryKind, Filter{}, 5))}, nil)
		if len(got.Sessions) > 5 {
			t.Errorf("%d sessions, want 5 at most", len(got.Sessions))
		}
	})
}

// fakeHandle is a live session with fixed values.
type fakeHandle struct {
	session.Handle
	id       backends.SessionID
	request  backends.Request
	decision *backends.Decision
}

func (h *fakeHandle) ID() backends.SessionID       { return h.id }
func (h *fakeHandle) Request() *backends.Request   { return &h.request }
func (h *fakeHandle) Decision() *backends.Decision { return h.decision }
func (h *fakeHandle) Ticket() session.Ticket       { return session.Ticket{} }
func (h *fakeHandle) LastSeen() time.Time          { return time.Time{} }
func (h *fakeHandle) Requests() int64              { return 0 }
func (h *fakeHandle) Bytes() int64                 { return 0 }

// fakeNodeSessions are the live sessions of a node.
type fakeNodeSessions []*fakeHandle

func (n fakeNodeSessions) Len() int { return len(n) }

func (n fakeNodeSessions) Find(id backends.SessionID) session.Handle {
	for _, h := range n {
		if h.id == id {
			return h
		}
	}
	return nil
}

func (n fakeNodeSessions) Checks(backends.SessionID) ([]Check, bool) { return nil, false }

func (n fakeNodeSessions) Each(yield func(session.Handle) bool) {
	for _, h := range n {
		if !yield(h) {
			return
		}
	}
}

func TestAnswerSessionQuery_Count(t *testing.T) {
	t.Parallel()
	handle := func(i byte, channel, query, address string, d *backends.Decision) *fakeHandle {
		return &fakeHandle{id: backends.SessionID{i}, decision: d, request: backends.Request{
			Session: backends.SessionID{i}, Route: "play", Channel: channel, Backend: "portal", Query: query, Address: netip.MustParseAddr(address),
		}}
	}
	ann := &backends.Decision{Verdict: backends.Allowed, UserID: "17", User: "Ann"}
	here := fakeNodeSessions{
		handle(1, "a001", "token=a", "192.0.2.1", ann),
		handle(2, "a001", "x=1&token=a", "192.0.2.1", ann),
		handle(3, "a002", "token=a", "2001:db8::1", ann),
		handle(4, "a002", "token=b", "2001:db8::2", &backends.Decision{Verdict: backends.Denied, User: "17"}),
		handle(5, "a002", "", "198.51.100.1", nil), // by its ticket alone
	}
	store := &fakeCluster{record: session.Record{Request: &backends.Request{Query: "token=b"}}}
	ids := make([]string, len(here))
	for i, h := range here {
		ids[i] = h.id.String()
	}
	for name, test := range map[string]struct {
		filter Filter
		store  *fakeCluster
		want   Impact
	}{
		"all":                                {want: Impact{Sessions: 5, Addresses: 3}},
		"a user":                             {filter: Filter{User: "17"}, want: Impact{Sessions: 4, Addresses: 2}},
		"a user by name":                     {filter: Filter{User: "Ann"}, want: Impact{Sessions: 3, Addresses: 2}},
		"a user on a channel":                {filter: Filter{User: "17", Channel: "a001"}, want: Impact{Sessions: 2, Addresses: 1}},
		"at another backend":                 {filter: Filter{User: "17", Backend: "other"}},
		"on another route":                   {filter: Filter{Route: "other"}},
		"an address":                         {filter: Filter{Address: prefix{netip.MustParsePrefix("2001:db8::/64")}}, want: Impact{Sessions: 2, Addresses: 1}},
		"a session":                          {filter: Filter{ID: ids[4]}, want: Impact{Sessions: 1, Addresses: 1}},
		"credentials that are here":          {filter: Filter{CredentialsOf: ids[0]}, want: Impact{Sessions: 3, Addresses: 2}},
		"credentials on a channel":           {filter: Filter{CredentialsOf: ids[0], Channel: "a001"}, want: Impact{Sessions: 2, Addresses: 1}},
		"more credentials":                   {filter: Filter{CredentialsOf: ids[1]}, want: Impact{Sessions: 1, Addresses: 1}},
		"credentials that are in the store":  {filter: Filter{CredentialsOf: ids[4]}, want: Impact{Sessions: 1, Addresses: 1}},
		"credentials that nobody knows":      {filter: Filter{CredentialsOf: ids[4]}, store: new(fakeCluster)},
		"credentials that cannot be read":    {filter: Filter{CredentialsOf: ids[4]}, store: &fakeCluster{err: errNotFound}, want: Impact{UnreachableNodes: []string{"n1"}}},
		"credentials of what is no session":  {filter: Filter{CredentialsOf: "x"}, want: Impact{UnreachableNodes: []string{"n1"}}},
		"a count of what another node holds": {filter: Filter{Node: "n2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from := store
			if test.store != nil {
				from = test.store
			}
			answer := AnswerSessionQuery(t.Context(), here, from, encodeQuery(countQueryKind, test.filter, 1))
			got := mergeCounts(test.filter, map[string][]byte{"n1": answer}, nil)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("impact (-want +got):\n%s", diff)
			}
			if strings.Contains(string(answer), "token") {
				t.Errorf("the answer shows credentials: %s", answer)
			}
		})
	}
}

// TestAnswerSessionQuery_List counts all sessions of the node, also those that the filter leaves out.
func TestAnswerSessionQuery_List(t *testing.T) {
	t.Parallel()
	var here fakeNodeSessions
	for i, channel := range []string{"a001", "a001", "a002"} {
		here = append(here, &fakeHandle{id: backends.SessionID{byte(i + 1)}, request: backends.Request{Channel: channel}})
	}
	f := Filter{Channel: "a001"}
	answer := AnswerSessionQuery(t.Context(), here, new(fakeCluster), encodeQuery(listQueryKind, f, 10))
	got := mergeSessionLists(f, 10, map[string][]byte{"n1": answer}, nil)
	if got.Total != 3 || got.Matched != 2 || len(got.Sessions) != 2 {
		t.Errorf("listed %d, matched %d of %d; want 2, 2 of 3", len(got.Sessions), got.Matched, got.Total)
	}
}

func TestMergeCounts_SeveralNodes(t *testing.T) {
	t.Parallel()
	at := func(i byte, address string) *fakeHandle {
		return &fakeHandle{id: backends.SessionID{i}, request: backends.Request{Address: netip.MustParseAddr(address)}}
	}
	answers := map[string][]byte{"n3": []byte("{")}
	for name, here := range map[string]fakeNodeSessions{
		"n1": {at(1, "192.0.2.1"), at(2, "192.0.2.2")},
		"n2": {at(2, "192.0.2.2"), at(3, "192.0.2.1")},
	} {
		answers[name] = AnswerSessionQuery(t.Context(), here, new(fakeCluster), encodeQuery(countQueryKind, Filter{}, 1))
	}
	want := Impact{Sessions: 3, Addresses: 2, UnreachableNodes: []string{"n3", "n4"}}
	if diff := cmp.Diff(want, mergeCounts(Filter{}, answers, []string{"n4"})); diff != "" {
		t.Errorf("impact (-want +got):\n%s", diff)
	}
}

// TestNewSession_LongUserAgent_Shortened has pages and lookups of viewers with the longest headers hold all that they should.
func TestNewSession_LongUserAgent_Shortened(t *testing.T) {
	t.Parallel()
	const page = 50
	here := newRestingSessions(maxLookup + 1)
	var ids []string
	for i, s := range here.all {
		random := make([]byte, 12_000)                         // which do not compress
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(random) // it never fails
		s.request.UserAgent = base64.StdEncoding.EncodeToString(random)
		if shown := NewSession(s); shown.UserAgent != s.request.UserAgent[:maxUserAgent] {
			t.Fatalf("a session shows %d bytes of its agent", len(shown.UserAgent))
		}
		if ids = append(ids, s.id.String()); len(ids) > maxLookup {
			ids = ids[:maxLookup]
		}
	}
	answer := AnswerSessionQuery(t.Context(), here, nil, encodeQuery(listQueryKind, Filter{}, page))
	if got := mergeSessionLists(Filter{}, page, map[string][]byte{"n1": answer}, nil); len(got.Sessions) != page || !got.HasMore {
		t.Errorf("a page has %d sessions, more %t; want %d", len(got.Sessions), got.HasMore, page)
	}
	if answer := AnswerSessionQuery(t.Context(), here, nil, encode(sessionQuery{Kind: lookupQueryKind, IDs: ids, Limit: maxLookup})); len(answer) > maxListBytes {
		t.Errorf("a lookup has %d bytes", len(answer))
	}
}

// TestMergeSessionLists_CutPage_HasMore tells of more sessions where a node's list is cut before the limit.
func TestMergeSessionLists_CutPage_HasMore(t *testing.T) {
	t.Parallel()
	n := new(fakeNode)
	for i := range 100 {
		n.sessions = append(n.sessions, Session{ID: fmt.Sprintf("%04d", i), Channel: strings.Repeat("&", 8000)})
	}
	listed, after := 0, ""
	for page := 1; ; page++ {
		got := mergeNodes(t, Filter{After: after}, 50, map[string]*fakeNode{"n1": n})
		listed += len(got.Sessions)
		if !got.HasMore {
			break
		}
		if after = got.Sessions[len(got.Sessions)-1].ID; page > 100 {
			t.Fatal("the pages do not end")
		}
	}
	if listed != 100 {
		t.Errorf("the pages have %d sessions, want 100", listed)
	}
}
