package variants

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/actors/session"
	"usher/backends"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seenSession is a live session.
type seenSession struct {
	session.Handle
	lastSeen time.Time
}

func (s *seenSession) LastSeen() time.Time { return s.lastSeen }

// node is a detector with its live sessions.
type node struct {
	*Detector
	live map[backends.SessionID]*seenSession
	log  bytes.Buffer
	now  time.Time
	next byte
}

func newNode(t *testing.T, limit int) *node {
	t.Helper()
	n := &node{live: map[backends.SessionID]*seenSession{}, now: time.Unix(1_790_000_000, 0)}
	find := func(id backends.SessionID) session.Handle {
		if s := n.live[id]; s != nil {
			return s
		}
		return nil
	}
	n.Detector = New(limit, time.Minute, find, slog.New(slog.NewTextHandler(&n.log, nil)))
	t.Cleanup(n.Close)
	return n
}

func allowed() *backends.Decision {
	return &backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend}
}

// open opens a session with that query, after edit, and reports whether it was refused.
func (n *node) open(query string, d *backends.Decision, edit func(*Opening)) (id backends.SessionID, isRefused bool) {
	n.next++
	o := Opening{
		Session: backends.SessionID{n.next}, Prefix: netip.MustParsePrefix("203.0.113.7/32"), Agent: "box",
		Route: "/play/{channel}/*", Channel: "a001",
		Credentials: &backends.Credentials{Query: query}, IsNamed: func(string) bool { return false },
	}
	if edit != nil {
		edit(&o)
	}
	if err := n.Refuse(&o, n.now); err != nil {
		return o.Session, true
	}
	n.live[o.Session] = &seenSession{lastSeen: n.now}
	n.Opened(&o, d, n.now)
	return o.Session, false
}

func TestDetector_Refuse(t *testing.T) {
	t.Parallel()
	const many = 30
	denied := &backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}
	cases := map[string]struct {
		query    string // %d is the number of the opening
		limit    int
		every    time.Duration
		decision func(i int) *backends.Decision
		edit     func(i int, o *Opening)
		want     int // how many of them are refused
	}{
		"a parameter that changes at each reload": {query: "token=1&x=%d", want: many - 8},
		"in front":                        {query: "x=%d&token=1", want: many - 8},
		"in another encoding":             {query: "%%78=%d&token=1", want: many - 8},
		"behind one that is there twice":  {query: "token=1&token=1&x=%d", want: many - 8},
		"with a lower limit":              {query: "token=1&x=%d", limit: 2, want: many - 2},
		"without a limit":                 {query: "token=1&x=%d", limit: -1},
		"slowly, a few within the window": {query: "token=1&x=%d", every: 10 * time.Second},
		"beside the user's name in a header": {
			query: "x=%d", want: many - 8,
			edit: func(_ int, o *Opening) { o.Credentials.Headers = []backends.Header{{Name: "X-User", Value: "ann"}} },
		},
		"a token that stands alone": {query: "token=%d"},
		"two that change together":  {query: "token=%d&mac=%[1]d"},
		"a token that the route names": {
			query: "token=%d&lang=en", edit: func(_ int, o *Opening) { o.IsNamed = func(name string) bool { return name == "token" } },
		},
		"tokens of different users": {
			query: "token=%d&lang=en", decision: func(i int) *backends.Decision {
				d := allowed()
				d.UserID = fmt.Sprint(i)
				return d
			},
		},
		"tokens of which one is refused": {
			query: "token=%d&lang=en", decision: func(i int) *backends.Decision {
				if i == 7 {
					return denied
				}
				return allowed()
			},
		},
		"tokens that are refused": {query: "token=%d&lang=en", decision: func(int) *backends.Decision { return denied }},
		"an outage, which says nothing of them": {
			query: "token=%d&lang=en", decision: func(int) *backends.Decision {
				return &backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen}
			},
		},
		"at different addresses": {
			query: "token=1&x=%d",
			edit:  func(i int, o *Opening) { o.Prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32) },
		},
		"of different players":  {query: "token=1&x=%d", edit: func(i int, o *Opening) { o.Agent = fmt.Sprint(i) }},
		"on different channels": {query: "token=1&x=%d", edit: func(i int, o *Opening) { o.Channel = fmt.Sprint(i) }},
		"in different folders":  {query: "token=1&x=%d", edit: func(i int, o *Opening) { o.Folder = fmt.Sprint(i) }},
		"on different routes":   {query: "token=1&x=%d", edit: func(i int, o *Opening) { o.Route = fmt.Sprint(i) }},
		"the same session again": {
			query: "token=1&x=1", edit: func(_ int, o *Opening) { o.Session = backends.SessionID{1} },
		},
		"no credentials at all": {query: ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, max(0, tc.limit+8*btoi(tc.limit == 0)))
			got := 0
			for i := range many {
				d := allowed()
				if tc.decision != nil {
					d = tc.decision(i)
				}
				edit := func(o *Opening) {
					if tc.edit != nil {
						tc.edit(i, o)
					}
				}
				query := tc.query
				if strings.Contains(query, "%") {
					query = fmt.Sprintf(query, i)
				}
				if _, isRefused := n.open(query, d, edit); isRefused {
					got++
				}
				n.now = n.now.Add(tc.every)
			}
			if got != tc.want {
				t.Errorf("refused %d of %d, want %d", got, many, tc.want)
			}
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestDetector_Refuse_EndsWithTheWindow(t *testing.T) {
	t.Parallel()
	n := newNode(t, 8)
	for i := range 9 {
		n.open(fmt.Sprintf("token=1&x=%d", i), allowed(), nil)
	}
	if _, isRefused := n.open("token=1&x=late", allowed(), nil); !isRefused {
		t.Fatal("the tenth is not refused")
	}
	n.now = n.now.Add(time.Minute)
	if _, isRefused := n.open("token=1&x=still", allowed(), nil); !isRefused {
		t.Error("not refused exactly a minute later")
	}
	n.now = n.now.Add(time.Second)
	if _, isRefused := n.open("token=1&x=later", allowed(), nil); isRefused {
		t.Error("refused a minute later, when none of them counts any more")
	}
}

// TestDetector_Refuse_BoxesBehindOneAddress has boxes of one kind that differ in their token alone and keep playing, beside
// a parameter that all of them send. The middleware names no user.
func TestDetector_Refuse_BoxesBehindOneAddress(t *testing.T) {
	t.Parallel()
	n := newNode(t, 8)
	refused := 0
	var boxes []backends.SessionID
	for i := range 40 {
		if id, isRefused := n.open(fmt.Sprintf("token=%d&lang=en", i), allowed(), nil); isRefused {
			refused++
		} else {
			boxes = append(boxes, id)
		}
		n.now = n.now.Add(500 * time.Millisecond)
		for _, box := range boxes {
			n.live[box].lastSeen = n.now
		}
	}
	if refused > 0 {
		t.Errorf("refused %d boxes that play, want none", refused)
	}
}

// TestDetector_Refuse_AnOldOpening has one that counts no more before those that do.
func TestDetector_Refuse_AnOldOpening(t *testing.T) {
	t.Parallel()
	n := newNode(t, 8)
	n.open("token=1&x=old", allowed(), nil)
	n.now = n.now.Add(time.Minute + time.Second)
	for i := range 8 {
		if _, isRefused := n.open(fmt.Sprintf("token=1&x=%d", i), allowed(), nil); isRefused {
			t.Fatalf("opening %d within the window is refused", i)
		}
	}
	if _, isRefused := n.open("token=1&x=late", allowed(), nil); !isRefused {
		t.Error("the ninth within the window is not refused")
	}
}

// TestDetector_Refuse_ClearedOnItsRoute has two users show that the token tells viewers apart on this route. Then boxes at
// another address differ in their token, and a player adds a parameter of its own behind it.
func TestDetector_Refuse_ClearedOnItsRoute(t *testing.T) {
	t.Parallel()
	n := newNode(t, 2)
	for _, user := range []string{"ann", "bob"} {
		d := allowed()
		d.UserID = user
		n.open("token="+user+"&lang=en", d, nil)
	}
	elsewhere := func(o *Opening) { o.Prefix = netip.MustParsePrefix("192.0.2.1/32") }
	refused := map[string]int{}
	for i := range 10 {
		for kind, query := range map[string]string{"boxes": "token=%d&lang=en", "the player": "token=1&x=%d"} {
			if _, isRefused := n.open(fmt.Sprintf(query, i), allowed(), elsewhere); isRefused {
				refused[kind]++
			}
		}
	}
	if refused["boxes"] != 0 || refused["the player"] != 8 {
		t.Errorf("refused %v, want none of the boxes and the player's third to tenth", refused)
	}
}

// TestDetector_Opened_Again counts a session that ended and was opened again. It says nothing of the parameter.
func TestDetector_Opened_Again(t *testing.T) {
	t.Parallel()
	n := newNode(t, 2)
	again := func(o *Opening) { o.Session = backends.SessionID{100} }
	n.open("token=1&x=a", allowed(), again)
	n.open("token=1&x=a", allowed(), again)
	if _, isRefused := n.open("token=1&x=b", allowed(), nil); isRefused {
		t.Error("the second session is refused; the first was counted twice")
	}
	if _, isRefused := n.open("token=1&x=c", allowed(), nil); !isRefused {
		t.Error("the third session is not refused")
	}
}

// TestDetector_Opened_AtOnce has two boxes that opened before either was counted, beyond a limit of one. Both play on.
func TestDetector_Opened_AtOnce(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	for i := range byte(2) {
		o := Opening{
			Session: backends.SessionID{200 + i}, Prefix: netip.MustParsePrefix("203.0.113.7/32"), Agent: "box",
			Route: "/play/{channel}/*", Channel: "a001", IsNamed: func(string) bool { return false },
			Credentials: &backends.Credentials{Query: fmt.Sprintf("token=%d&lang=en", i)},
		}
		n.Opened(&o, allowed(), n.now)
		n.live[o.Session] = &seenSession{lastSeen: n.now.Add(10 * time.Second)}
	}
	n.now = n.now.Add(10 * time.Second)
	if _, isRefused := n.open("token=3&lang=en", allowed(), nil); isRefused {
		t.Error("a third box is refused although the first plays beside the second")
	}
}

func TestDetector_NoOpening_CountsNever(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	n.Opened(nil, allowed(), n.now)
	if err := n.Refuse(nil, n.now); err != nil {
		t.Errorf("a viewer whose openings are not counted is refused: %v", err)
	}
}

// TestDetector_Refuse_StragglersDoNotClear has a player that requests a segment of the last playlist a little later.
func TestDetector_Refuse_StragglersDoNotClear(t *testing.T) {
	t.Parallel()
	for _, later := range []time.Duration{straggle / 2, straggle} {
		testStraggler(t, later)
	}
}

func testStraggler(t *testing.T, later time.Duration) {
	t.Helper()
	n := newNode(t, 8)
	refused, last := 0, backends.SessionID{}
	for i := range 20 {
		id, isRefused := n.open(fmt.Sprintf("token=1&x=%d", i), allowed(), nil)
		if isRefused {
			refused++
		}
		if s := n.live[last]; s != nil {
			s.lastSeen = n.now.Add(later)
		}
		last = id
		n.now = n.now.Add(6 * time.Second)
	}
	if refused == 0 {
		t.Errorf("%v later: refused none, want the openings beyond the eighth in a minute", later)
	}
}

func TestDetector_Warns_OncePerParameter(t *testing.T) {
	t.Parallel()
	n := newNode(t, 2)
	for i := range 20 {
		n.open(fmt.Sprintf("token=s3cret&x=%d", i), allowed(), nil)
	}
	log := n.log.String()
	if strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "parameter=x") || !strings.Contains(log, "ignore_query") ||
		strings.Contains(log, "s3cret") {
		t.Errorf("got the log %q, want one warning that names x and ignore_query, and no token", log)
	}
}

func TestOpening_Suspects_Bounded(t *testing.T) {
	t.Parallel()
	n := newNode(t, 8)
	var query strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&query, "p%d=1&", i)
	}
	o := Opening{Credentials: &backends.Credentials{Query: query.String()}, IsNamed: func(string) bool { return false }}
	count := 0
	for range o.suspects(n.seed) {
		count++
	}
	if count != maxParameters {
		t.Errorf("suspects %d parameters, want %d", count, maxParameters)
	}
}
