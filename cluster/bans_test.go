package cluster

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
	"usher/cluster/redistest"
)

// newSingleNode returns a node without others that has these bans.
func newSingleNode(t testing.TB, bans ...session.Ban) *Node {
	t.Helper()
	c := DefaultConfig()
	c.Memory.MaxSessions = 10
	n, err := Open(Options{Config: c, ReviveFor: reviveFor, Limits: testRules})
	must(t, err)
	t.Cleanup(n.Close)
	for _, b := range bans {
		if b.Until.IsZero() {
			b.Until = time.Now().Add(time.Hour)
		}
		_, err := n.Ban(t.Context(), b)
		must(t, err)
	}
	return n
}

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func TestNode_Banned(t *testing.T) {
	t.Parallel()
	seller := &backends.Request{Query: "token=sold", Headers: []backends.Header{{Name: "X-Key", Value: "1"}}}
	n := newSingleNode(t)
	soldHash := n.Credentials(seller)
	n = newSingleNode(t)
	sold := session.Ban{Credentials: n.Credentials(seller)}
	if soldHash == sold.Credentials {
		t.Error("two nodes that are alone hash alike")
	}
	until := time.Now().Add(time.Hour)
	for _, b := range []session.Ban{
		{User: "Ann"},
		{User: "17"},
		{Prefix: prefix("192.0.2.0/24")},
		{Prefix: prefix("::ffff:198.51.100.7/128")},
		{Prefix: prefix("2001:db8::/32")},
		{Session: idOf(9)},
		sold,
	} {
		b.Until = until
		_, err := n.Ban(t.Context(), b)
		must(t, err)
	}
	at := func(address string) *backends.Request {
		return &backends.Request{Session: idOf(1), Address: netip.MustParseAddr(address), Query: "token=fine"}
	}
	home := at("203.0.113.9")
	tests := map[string]struct {
		r    *backends.Request
		d    *backends.Decision
		want bool
	}{
		"a user by name":                    {home, &backends.Decision{User: "Ann"}, true},
		"a user by id":                      {home, &backends.Decision{UserID: "17", User: "Bob"}, true},
		"another user":                      {home, &backends.Decision{UserID: "18", User: "Bob"}, false},
		"an unknown user":                   {home, nil, false},
		"a user without a name":             {home, &backends.Decision{}, false},
		"an address within":                 {at("192.0.2.77"), nil, true},
		"the same as IPv6 has it":           {at("::ffff:192.0.2.77"), nil, true},
		"an address without":                {at("192.0.3.77"), nil, false},
		"a prefix that was given as mapped": {at("198.51.100.7"), nil, true},
		"an IPv6 address within":            {at("2001:db8:1::1%eth0"), nil, true},
		"an IPv6 address without":           {at("2001:db9::1"), nil, false},
		"a session":                         {&backends.Request{Session: idOf(9)}, nil, true},
		"credentials":                       {seller, nil, true},
		"the same query, another header":    {&backends.Request{Query: "token=sold", Headers: []backends.Header{{Name: "X-Key", Value: "2"}}}, nil, false},
		"no credentials":                    {&backends.Request{}, nil, false},
	}
	number := 100
	for name, test := range tests {
		number++
		r := *test.r
		if r.Session != idOf(9) {
			r.Session = idOf(number) // a session that was banned once is banned by its id
		}
		test.r = &r
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if b, got := n.Banned(test.r, test.d); got != test.want || got && b.ID == "" {
				t.Errorf("banned: %t, by %+v", got, b)
			}
		})
	}
}

// unban removes a ban that exists.
func unban(t *testing.T, n *Node, id string) {
	t.Helper()
	if found, err := n.Unban(t.Context(), id); !found || err != nil {
		t.Fatalf("unban: found %t, %v", found, err)
	}
}

func TestNode_Unban_RemovesCausedBans(t *testing.T) {
	t.Parallel()
	n, ctx := newSingleNode(t), t.Context()
	short, err := n.Ban(ctx, session.Ban{User: "Ann", Until: time.Now().Add(20 * time.Millisecond)})
	must(t, err)
	redistest.Eventually(t, "it ends", func() bool {
		_, banned := n.Banned(&backends.Request{}, &backends.Decision{User: "Ann"})
		return !banned
	})
	if found, err := n.Unban(ctx, short.ID); found || err != nil {
		t.Errorf("lifted when it is over: %v", err)
	}
	cause, err := n.Ban(ctx, session.Ban{User: "Bob", Until: time.Now().Add(time.Hour)})
	must(t, err)
	one, err := n.Ban(ctx, session.Ban{Credentials: "x", Cause: cause.ID, Until: cause.Until})
	must(t, err)
	two, err := n.Ban(ctx, session.Ban{Credentials: "x", Cause: cause.ID, Until: cause.Until})
	must(t, err)
	if one.ID != two.ID || len(n.Bans()) != 2 {
		t.Errorf("the same caused ban twice is two bans: %+v", n.Bans())
	}
	unban(t, n, cause.ID)
	if left := n.Bans(); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	_, err = n.Ban(ctx, session.Ban{Credentials: "y", Cause: cause.ID, Until: cause.Until})
	must(t, err)
	if left := n.Bans(); len(left) != 0 {
		t.Errorf("a ban that an unbanned one caused is active: %+v", left)
	}
}

func TestNode_Ban_Invalid(t *testing.T) {
	t.Parallel()
	later := time.Now().Add(time.Hour)
	for want, b := range map[string]session.Ban{
		"names 0 of":           {Until: later},
		"names 2 of":           {Until: later, User: "a", Session: idOf(1)},
		"which is in the past": {Until: time.Now(), User: "a"},
		"at most ten years":    {Until: later.AddDate(11, 0, 0), User: "a"},
	} {
		if _, err := newSingleNode(t).Ban(t.Context(), b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestNode_Banned_NoAllocations(t *testing.T) {
	r, d := &backends.Request{Session: idOf(1), Address: netip.MustParseAddr("203.0.113.9"), Query: "token=x"}, &backends.Decision{User: "Ann"}
	for name, n := range map[string]*Node{
		"no bans":                     newSingleNode(t),
		"bans of addresses and users": newSingleNode(t, session.Ban{Prefix: prefix("192.0.2.0/24")}, session.Ban{Prefix: prefix("2001:db8::/32")}, session.Ban{User: "Bob"}),
	} {
		if allocations := testing.AllocsPerRun(100, func() { n.Banned(r, d) }); allocations != 0 {
			t.Errorf("%s: %v allocations", name, allocations)
		}
	}
}

func BenchmarkNode_Banned(b *testing.B) {
	r, d := &backends.Request{Session: idOf(1), Address: netip.MustParseAddr("203.0.113.9"), Query: "token=x"}, &backends.Decision{User: "Ann"}
	for _, count := range []int{0, 100, 10_000} {
		n := newSingleNode(b)
		var all []session.Ban
		for i := range count {
			all = append(all, session.Ban{ID: fmt.Sprint(i), Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24), Until: time.Now().Add(time.Hour)})
		}
		n.bans.Add(time.Now(), all...)
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n.Banned(r, d)
			}
		})
	}
}

// TestNode_Banned_Scope bans users and credentials on a channel, at a backend, or everywhere.
func TestNode_Banned_Scope(t *testing.T) {
	t.Parallel()
	sold := &backends.Request{Query: "token=sold"}
	for _, subject := range []string{"a user", "credentials"} {
		for name, test := range map[string]struct {
			ban  session.Ban
			want bool
		}{
			"everywhere":                    {ban: session.Ban{}, want: true},
			"on its channel":                {ban: session.Ban{Channel: "a001"}, want: true},
			"on another channel":            {ban: session.Ban{Channel: "a002"}},
			"at its backend":                {ban: session.Ban{Backend: "portal"}, want: true},
			"at another backend":            {ban: session.Ban{Backend: "other"}},
			"at its backend on its channel": {ban: session.Ban{Backend: "portal", Channel: "a001"}, want: true},
			"at its backend elsewhere":      {ban: session.Ban{Backend: "portal", Channel: "a002"}},
		} {
			t.Run(subject+" "+name, func(t *testing.T) {
				t.Parallel()
				n := newSingleNode(t)
				b := test.ban
				b.Until, b.User = time.Now().Add(time.Hour), "17"
				if subject == "credentials" {
					b.User, b.Credentials = "", n.Credentials(sold)
				}
				_, err := n.Ban(t.Context(), b)
				must(t, err)
				r := &backends.Request{Session: idOf(1), Backend: "portal", Channel: "a001", Query: "x=1&token=sold"}
				if got, isBanned := n.Banned(r, &backends.Decision{UserID: "17"}); isBanned != test.want {
					t.Errorf("banned: %t by %+v, want %t", isBanned, got, test.want)
				}
			})
		}
	}
}

// TestNode_Banned_OldKey bans credentials before the key of the hashes changes.
func TestNode_Banned_OldKey(t *testing.T) {
	t.Parallel()
	open := func(keys ...setting.Key) *Node {
		c := testConfig(&redistest.Server{Socket: "/nowhere"})
		c.EncryptionKeys = keys
		n, err := Open(Options{Config: c, ReviveFor: reviveFor, Limits: testRules})
		must(t, err)
		t.Cleanup(n.Close)
		return n
	}
	first, second := setting.Key{ID: "a", Secret: "the first secret"}, setting.Key{ID: "b", Secret: "the second secret"}
	sold := &backends.Request{Query: "token=sold&format=hls"}
	ban := session.Ban{ID: "b1", Credentials: open(first).Credentials(sold), Until: time.Now().Add(time.Hour)}
	for name, test := range map[string]struct {
		keys []setting.Key
		want bool
	}{
		"the same key":                    {[]setting.Key{first}, true},
		"a new key, and the old one kept": {[]setting.Key{second, first}, true},
		"a new key, the old one is gone":  {[]setting.Key{second}, false},
		"a key that is added at the end":  {[]setting.Key{first, second}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := open(test.keys...)
			n.bans.Add(time.Now(), ban)
			if _, got := n.Banned(&backends.Request{Query: "x=1&format=hls&token=sold"}, nil); got != test.want {
				t.Errorf("banned: %t, want %t", got, test.want)
			}
			if _, got := n.Banned(&backends.Request{Query: "format=hls&token=fine"}, nil); got {
				t.Error("a viewer with one of two parts is banned")
			}
		})
	}
}

// TestNode_Credentials_Bounded bans a viewer who presented very many parameters.
func TestNode_Credentials_Bounded(t *testing.T) {
	t.Parallel()
	n := newSingleNode(t)
	query := "token=a-long-value"
	for i := range 200 {
		query = fmt.Sprintf("p%d=%d&%s&q%d", i, i, query, i)
	}
	hashes := n.Credentials(&backends.Request{Query: query})
	if got := strings.Count(hashes, ".") + 1; got != maxBannedParts {
		t.Errorf("the ban has %d hashes, want %d", got, maxBannedParts)
	}
	_, err := n.Ban(t.Context(), session.Ban{Credentials: hashes, Until: time.Now().Add(time.Hour)})
	must(t, err)
	if _, got := n.Banned(&backends.Request{Query: "x&" + query}, nil); !got {
		t.Error("the viewer is not banned")
	}
	if _, got := n.Banned(&backends.Request{Query: strings.Replace(query, "a-long", "another", 1)}, nil); got {
		t.Error("a viewer with another token is banned")
	}
	if strings.Contains(hashes, "token") || strings.Contains(hashes, "long") {
		t.Errorf("the ban can be read: %s", hashes)
	}
}
