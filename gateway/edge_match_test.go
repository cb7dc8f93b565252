package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/edge"
)

// sharedTickets are what nodes of a test share. Package matches has tests of what they share in Redis.
type sharedTickets struct {
	mu      sync.Mutex
	tickets map[[16]byte][]string
	lookUps int
	keys    int // that were looked up
	adds    int
	lost    time.Time
	err     error
}

func newSharedTickets() *sharedTickets { return &sharedTickets{tickets: map[[16]byte][]string{}} }

func (s *sharedTickets) Add(_ context.Context, keys [][16]byte, _ backends.SessionID, _ time.Time, ticket string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.adds++
	for _, key := range keys {
		s.tickets[key] = append([]string{ticket}, s.tickets[key]...)
	}
}

func (s *sharedTickets) Find(_ context.Context, keys [][16]byte) ([][]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookUps++
	s.keys += len(keys)
	found := make([][]string, len(keys))
	for i, key := range keys {
		found[i] = s.tickets[key]
	}
	return found, s.err
}

// lose forgets the tickets.
func (s *sharedTickets) lose(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tickets)
	s.lost = now
}

func (s *sharedTickets) LostAt() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

func (s *sharedTickets) numLookUps() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lookUps
}

// newEdgeNode is newEdgeTestGateway for one of several nodes.
func newEdgeNode(t *testing.T, shared *sharedTickets, routes ...RouteConfig) *edgeTestGateway {
	t.Helper()
	g := newEdgeTestGateway(t, nil, routes...)
	g.Gateway.options.Matches = shared
	return g
}

// TestServe_EdgeCheck_AnotherNodeKnowsTheViewer has an edge ask one node about the playlist, and another about what it lists.
func TestServe_EdgeCheck_AnotherNodeKnowsTheViewer(t *testing.T) {
	t.Parallel()
	needToken := func(r *RouteConfig) { r.Required = []string{"token"} }
	share := func(r *RouteConfig) { r.OnNewAddress = ShareSession }
	for name, tc := range map[string]struct {
		edit    func(*RouteConfig)
		asked   edgeViewer
		is      int // zero: 200
		isFresh bool
	}{
		"a segment":                            {edit: needToken, asked: edgeViewer{uri: "/play/a001/seg-17.ts"}},
		"a segment in a folder":                {edit: needToken, asked: edgeViewer{uri: "/play/a001/hd/seg-17.ts"}},
		"a listed playlist":                    {edit: needToken, asked: edgeViewer{uri: "/play/a001/hd/index.m3u8"}},
		"a listed playlist, no token required": {asked: edgeViewer{uri: "/play/a001/hd/index.m3u8"}},
		"a segment of a shared session":        {edit: share, asked: edgeViewer{uri: "/play/a001/seg-17.ts"}},
		"with the token":                       {asked: edgeViewer{uri: "/play/a001/seg-17.ts?token=1", agent: "hls.js"}, isFresh: true},
		"with the token, in a folder":          {asked: edgeViewer{uri: "/play/a001/hd/seg-17.ts?token=1", agent: "hls.js"}, isFresh: true},
		"a listed playlist with the token":     {edit: needToken, asked: edgeViewer{uri: "/play/a001/hd/index.m3u8?token=1"}, isFresh: true},
		"with the token, at another address":   {asked: edgeViewer{uri: "/play/a001/seg-17.ts?token=1", address: "192.0.2.8"}, isFresh: true},
		"another address":                      {asked: edgeViewer{uri: "/play/a001/seg-17.ts", address: "192.0.2.8"}, is: 403},
		"another player":                       {asked: edgeViewer{uri: "/play/a001/seg-17.ts", agent: "hls.js"}, is: 403},
		"another channel":                      {asked: edgeViewer{uri: "/play/a002/seg-17.ts"}, is: 403},
		"another token":                        {asked: edgeViewer{uri: "/play/a001/seg-17.ts?token=2", agent: "hls.js"}, is: 403},
		"another address and no token":         {edit: needToken, asked: edgeViewer{uri: "/play/a001/hd/index.m3u8", address: "192.0.2.8"}, is: 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, d := range proxyDialects() {
				shared, route := newSharedTickets(), edgeRoute(d)
				if tc.edit != nil {
					tc.edit(&route)
				}
				first, second := newEdgeNode(t, shared, route), newEdgeNode(t, shared, route)
				first.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
				second.wantCheck(t, d, cmp.Or(tc.is, 200), tc.asked)
				opened := second.table.openRequests()
				if tc.is != 0 {
					if len(opened) != 0 {
						t.Errorf("%s: refused, and a session was opened: %+v", d, opened)
					}
					continue
				}
				known, lookUps := first.table.liveSessions()[0], shared.numLookUps()
				if len(opened) != 1 || opened[0].HasCredentials != tc.isFresh || !tc.isFresh && opened[0].Ticket != known.ticket {
					t.Errorf("%s: opened with %+v, want the ticket %v or credentials", d, opened, known.ticket)
				}
				if id := first.table.openedIDs()[0]; tc.asked.address == "" && opened[0].Request.Session != id {
					t.Errorf("%s: opened %v, want %v", d, opened[0].Request.Session, id)
				}
				second.wantCheck(t, d, 200, tc.asked)
				if n := shared.numLookUps(); n != lookUps {
					t.Errorf("%s: looked up again: %d times, want %d", d, n, lookUps)
				}
			}
		})
	}
}

// TestServe_EdgeCheck_OneOfSeveralFound has two viewers of one address and player, of whom the node takes only one.
func TestServe_EdgeCheck_OneOfSeveralFound(t *testing.T) {
	t.Parallel()
	shared := newSharedTickets()
	first, second := newEdgeNode(t, shared, edgeRoute(edge.Nginx)), newEdgeNode(t, shared, edgeRoute(edge.Nginx))
	for _, token := range []string{"1", "2"} {
		first.wantCheck(t, edge.Nginx, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=" + token})
	}
	newest := first.table.openedIDs()[1]
	second.table.decideFunc = func(r session.OpenRequest) (backends.Decision, error) {
		if r.Request.Session == newest {
			return backends.Decision{}, backends.NewOverload("sessions.max", 1)
		}
		return backends.Decision{Verdict: backends.Allowed}, nil
	}
	second.wantCheck(t, edge.Nginx, 200, edgeViewer{uri: "/play/a001/seg-17.ts"})
}

// TestServe_EdgeCheck_RefusedHereAllowedElsewhere has a viewer whose session was ended open another one at another node.
func TestServe_EdgeCheck_RefusedHereAllowedElsewhere(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		shared := newSharedTickets()
		first, second := newEdgeNode(t, shared, edgeRoute(d)), newEdgeNode(t, shared, edgeRoute(d))
		seg := edgeViewer{uri: "/play/a001/seg-17.ts"}
		first.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=ended"})
		second.wantCheck(t, d, 200, seg)
		ended := backends.Decision{Verdict: backends.Denied, Source: backends.FromLimit, Reason: "another stream of the user began"}
		first.table.decideAll(ended)
		second.table.decideAll(ended)
		if got := second.wantCheck(t, d, 403, seg); got.body != "denied by limit\n" {
			t.Errorf("%s: got %q, want the denial", d, got.body)
		}
		shared.err = errors.New("no answer of 10.0.0.5:6379")
		second.wantCheck(t, d, 403, seg) // not 503: it is known
		shared.err = nil
		first.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=new"})
		second.wantCheck(t, d, 200, seg)
		n := shared.numLookUps()
		second.wantCheck(t, d, 200, seg)
		if shared.numLookUps() != n {
			t.Errorf("%s: a known viewer was looked up", d)
		}
	}
}

// TestServe_EdgeCheck_OpensTheViewersAlone has a node that knows nobody be asked about one of many viewers of an address and player.
func TestServe_EdgeCheck_OpensTheViewersAlone(t *testing.T) {
	t.Parallel()
	denied, allowed := backends.Decision{Verdict: backends.Denied, Reason: "no"}, backends.Decision{Verdict: backends.Allowed}
	overload := backends.NewOverload("backends.b.answer_deadline", 1)
	for name, tc := range map[string]struct {
		decide func(age int) (backends.Decision, error) // of how many are newer
		opened int                                      // by the first request
		is     int
		next   int // what the next request gets
	}{
		"all are allowed": {func(int) (backends.Decision, error) { return allowed, nil }, 1, 200, 200},
		"the newest is refused": {func(age int) (backends.Decision, error) {
			return [...]backends.Decision{denied, allowed}[min(age, 1)], nil
		}, 2, 200, 200},
		"all are refused":        {func(int) (backends.Decision, error) { return denied, nil }, 3, 403, 403},
		"the four newest are":    {func(age int) (backends.Decision, error) { return [...]backends.Decision{denied, allowed}[age/4], nil }, 3, 403, 200},
		"none can be opened":     {func(int) (backends.Decision, error) { return denied, overload }, 3, 503, 503},
		"the newest cannot be":   {func(age int) (backends.Decision, error) { return allowed, [...]error{overload, nil}[min(age, 1)] }, 2, 200, 200},
		"refused or not to open": {func(age int) (backends.Decision, error) { return denied, [...]error{overload, nil}[age%2] }, 3, 403, 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const d = edge.ForwardAuth
			shared := newSharedTickets()
			first, second := newEdgeNode(t, shared, edgeRoute(d)), newEdgeNode(t, shared, edgeRoute(d))
			for i := range edge.MaxSessionsPerFingerprint {
				first.wantCheck(t, d, 200, edgeViewer{uri: fmt.Sprintf("/play/a001/index.m3u8?token=%d", i)})
			}
			ids := first.table.openedIDs()
			second.table.decideFunc = func(r session.OpenRequest) (backends.Decision, error) {
				return tc.decide(len(ids) - 1 - slices.Index(ids, r.Request.Session))
			}
			second.wantCheck(t, d, tc.is, edgeViewer{uri: "/play/a001/seg-17.ts"})
			if n := len(second.table.openRequests()); n != tc.opened {
				t.Errorf("%d sessions were opened for one viewer, want %d", n, tc.opened)
			}
			second.wantCheck(t, d, tc.next, edgeViewer{uri: "/play/a001/seg-18.ts"})
		})
	}
}

// TestServe_EdgeCheck_CrowdIsToldOnce has more viewers of one address and player ask in turn than are remembered.
func TestServe_EdgeCheck_CrowdIsToldOnce(t *testing.T) {
	t.Parallel()
	const viewers, rounds = edge.MaxSessionsPerFingerprint + 1, 10
	shared := newSharedTickets()
	g := newEdgeNode(t, shared, edgeRoute(edge.ForwardAuth))
	for range rounds {
		for i := range viewers {
			g.wantCheck(t, edge.ForwardAuth, 200, edgeViewer{uri: fmt.Sprintf("/play/a001/index.m3u8?token=%d", i)})
		}
	}
	if shared.adds < viewers || shared.adds > 2*viewers {
		t.Errorf("the tickets of %d viewers were stored %d times", viewers, shared.adds)
	}
}

// TestServe_EdgeCheck_SharedAgain has a session opened anew, whose ticket of before is worth nothing.
func TestServe_EdgeCheck_SharedAgain(t *testing.T) {
	t.Parallel()
	shared := newSharedTickets()
	first, second := newEdgeNode(t, shared, edgeRoute(edge.Nginx)), newEdgeNode(t, shared, edgeRoute(edge.Nginx))
	playlist, seg := edgeViewer{uri: "/play/a001/index.m3u8?token=1"}, edgeViewer{uri: "/play/a001/seg-17.ts"}
	first.wantCheck(t, edge.Nginx, 200, playlist)
	opened := first.table.liveSessions()[0]
	first.table.mu.Lock()
	opened.ticket.Opened = opened.ticket.Opened.Add(time.Second)
	first.table.mu.Unlock()
	first.wantCheck(t, edge.Nginx, 200, seg)
	second.wantCheck(t, edge.Nginx, 200, seg)
	requests := second.table.openRequests()
	if last := requests[len(requests)-1]; last.Ticket.Opened.Unix() != opened.ticket.Opened.Unix() {
		t.Errorf("opened with the ticket of %v, want %v", last.Ticket.Opened, opened.ticket.Opened)
	}
}

// TestServe_EdgeCheck_LostIsSharedAgain has what nodes share be lost while viewers play.
func TestServe_EdgeCheck_LostIsSharedAgain(t *testing.T) {
	t.Parallel()
	shared := newSharedTickets()
	first, second := newEdgeNode(t, shared, edgeRoute(edge.Nginx)), newEdgeNode(t, shared, edgeRoute(edge.Nginx))
	first.wantCheck(t, edge.Nginx, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
	shared.lose(time.Now())
	second.wantCheck(t, edge.Nginx, 403, edgeViewer{uri: "/play/a001/seg-17.ts"})
	for range 3 {
		first.wantCheck(t, edge.Nginx, 200, edgeViewer{uri: "/play/a001/hd/index.m3u8"})
	}
	second.wantCheck(t, edge.Nginx, 200, edgeViewer{uri: "/play/a001/seg-17.ts"})
	shared.lose(time.Now().Add(-time.Minute)) // before they were told
	second.wantCheck(t, edge.Nginx, 200, edgeViewer{uri: "/play/a001/seg-18.ts"})
}

// TestServe_EdgeCheck_NobodyCanTell has the store of the tickets not answer.
func TestServe_EdgeCheck_NobodyCanTell(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		shared := newSharedTickets()
		shared.err = errors.New("no answer of 10.0.0.5:6379")
		g := newEdgeNode(t, shared, edgeRoute(d))
		want := http.StatusServiceUnavailable
		if d == edge.Nginx {
			want = http.StatusForbidden
		}
		if got := g.wantCheck(t, d, want, edgeViewer{uri: "/play/a001/seg-17.ts"}); got.body != errUnknowable.Error()+"\n" {
			t.Errorf("%s: got %q", d, got.body)
		}
		g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8"}) // which may open a session
	}
}

// TestServe_EdgeCheck_SomeAreFound has one of several servers not answer, of those that hold what may show whose request it is.
func TestServe_EdgeCheck_SomeAreFound(t *testing.T) {
	t.Parallel()
	shared := newSharedTickets()
	first, second := newEdgeNode(t, shared, edgeRoute(edge.ForwardAuth)), newEdgeNode(t, shared, edgeRoute(edge.ForwardAuth))
	first.wantCheck(t, edge.ForwardAuth, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
	shared.err = errors.New("no answer of 10.0.0.5:6379")
	second.wantCheck(t, edge.ForwardAuth, 200, edgeViewer{uri: "/play/a001/hd/seg-17.ts"})
	second.wantCheck(t, edge.ForwardAuth, 503, edgeViewer{uri: "/play/a002/hd/seg-17.ts"})
}

// TestServe_EdgeCheck_FruitlessLookUpsCount has viewers be looked up often who are found, and get nothing by it.
func TestServe_EdgeCheck_FruitlessLookUpsCount(t *testing.T) {
	t.Parallel()
	const most, asked = 100, 240
	deep := "/play/a001/" + strings.Repeat("x/", 20)
	for name, tc := range map[string]struct {
		before func(*sharedTickets, *edgeTestGateway)
		uri    string // %d is another number each time
	}{
		"tickets of a key that is gone": {func(s *sharedTickets, _ *edgeTestGateway) {
			for _, tickets := range s.tickets {
				tickets[0] = "gone" + tickets[0]
			}
		}, "/play/a001/seg-%d.ts"},
		"refused viewers": {func(_ *sharedTickets, g *edgeTestGateway) {
			g.table.decideFunc = func(session.OpenRequest) (backends.Decision, error) {
				return backends.Decision{Verdict: backends.Denied}, nil
			}
		}, "/play/a001/seg-%d.ts"},
		"tokens that nobody knows": {func(_ *sharedTickets, g *edgeTestGateway) {
			g.table.decideFunc = func(session.OpenRequest) (backends.Decision, error) {
				return backends.Decision{}, backends.NewOverload("sessions.open_rate_per_address", 1)
			}
		}, deep + "index.m3u8?token=a%d"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const d = edge.ForwardAuth
			shared := newSharedTickets()
			first, second := newEdgeNode(t, shared, edgeRoute(d)), newEdgeNode(t, shared, edgeRoute(d))
			first.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
			tc.before(shared, second)
			begin := time.Now()
			for i := range asked {
				second.check(t, d, edgeViewer{uri: fmt.Sprintf(tc.uri, i)})
			}
			seconds := int(time.Since(begin)/time.Second) + 2 // a part of one at either end
			if shared.keys == 0 || shared.keys > seconds*most {
				t.Errorf("%d keys were looked up in %d seconds, want %d in each", shared.keys, seconds, most)
			}
		})
	}
}

// TestServe_EdgeCheck_UnknownViewersAreBounded has strangers of one address ask more often than they are looked up.
func TestServe_EdgeCheck_UnknownViewersAreBounded(t *testing.T) {
	t.Parallel()
	const most, asked = 100, 240
	shared := newSharedTickets()
	g := newEdgeNode(t, shared, edgeRoute(edge.ForwardAuth))
	var over []string
	g.Gateway.options.OnOverload = func(setting string) { over = append(over, setting) }
	for range asked {
		g.check(t, edge.ForwardAuth, edgeViewer{uri: "/play/a001/seg-17.ts", agent: "stranger"})
	}
	seconds := (asked + most - 1) / most // the requests may take more than one
	if n := shared.numLookUps(); n < most || n > seconds*most {
		t.Errorf("%d look-ups, want about %d", n, most)
	}
	if len(over) != asked-shared.numLookUps() || len(over) > 0 && over[0] != "unknown viewers of an address at edges" {
		t.Errorf("%d overloads were told: %v", len(over), over)
	}
}

// TestSessionHasher_MatchKey_TellsApart has what is not the same viewer have another key.
func TestSessionHasher_MatchKey_TellsApart(t *testing.T) {
	t.Parallel()
	g := newBareEdgeTestGateway(t, nil, edgeRoute(edge.Nginx))
	route := g.routes[0]
	seen := map[[16]byte]string{}
	for _, channel := range []string{"c", "cc"} {
		for _, folder := range []string{"", "c"} {
			for _, address := range []string{"192.0.2.7", "::192.0.2.7", "2001:db8::7"} {
				for _, agent := range []string{"", "a"} {
					for _, isPublish := range []bool{false, true} {
						what := strings.Join([]string{channel, folder, address, agent, map[bool]string{true: "publishes"}[isPublish]}, "|")
						request := &Request{Header: http.Header{"User-Agent": {agent}}, isPublish: isPublish}
						key := g.hasher.matchKey(&target{route: route, channel: channel, folder: folder}, netip.MustParseAddr(address), request)
						if other, taken := seen[key]; taken {
							t.Errorf("%s looks like %s", what, other)
						}
						seen[key] = what
					}
				}
			}
		}
	}
	group := g.hasher.groupKey(backends.SessionID{1})
	if other, taken := seen[group]; taken || group != g.hasher.groupKey(backends.SessionID{1}) {
		t.Errorf("a group looks like %s", other)
	}
}
