package events

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

var someSession = backends.SessionID{1, 2, 3}

func TestBans_Validate(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_790_000_000, 0)
	prefix := netip.MustParsePrefix
	for name, tc := range map[string]struct {
		ban     session.Ban
		lasts   time.Duration // 0: an hour
		want    string        // of the error
		wantFor netip.Prefix
	}{
		"a user":                       {ban: session.Ban{User: "ann"}},
		"credentials":                  {ban: session.Ban{Credentials: "h1"}},
		"a session":                    {ban: session.Ban{Session: someSession}},
		"an address":                   {ban: session.Ban{Prefix: prefix("192.0.2.1/32")}, wantFor: prefix("192.0.2.1/32")},
		"an address with host bits":    {ban: session.Ban{Prefix: prefix("192.0.2.1/24")}, wantFor: prefix("192.0.2.0/24")},
		"an IPv4-mapped address":       {ban: session.Ban{Prefix: prefix("::ffff:192.0.2.1/128")}, wantFor: prefix("192.0.2.1/32")},
		"all IPv4-mapped addresses":    {ban: session.Ban{Prefix: prefix("::ffff:0.0.0.0/96")}, wantFor: prefix("0.0.0.0/0")},
		"more than IPv4-mapped ones":   {ban: session.Ban{Prefix: prefix("::ffff:192.0.2.1/95")}, wantFor: prefix("::fffe:0:0/95")},
		"nobody":                       {ban: session.Ban{}, want: "it names 0 of"},
		"a user at an address":         {ban: session.Ban{User: "ann", Prefix: prefix("192.0.2.1/32")}, want: "it names 2 of"},
		"a session of credentials":     {ban: session.Ban{Session: someSession, Credentials: "h1"}, want: "it names 2 of"},
		"until now":                    {ban: session.Ban{User: "ann"}, lasts: -1, want: "in the past"},
		"for the longest time":         {ban: session.Ban{User: "ann"}, lasts: maxBanDuration},
		"for a little more":            {ban: session.Ban{User: "ann"}, lasts: maxBanDuration + 1, want: "at most ten years"},
		"until the end of this moment": {ban: session.Ban{User: "ann"}, lasts: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.ban.Until = now.Add(max(0, cmp.Or(tc.lasts, time.Hour)))
			got, err := NewBans().Validate(tc.ban, now)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got the error %v, want %q", err, tc.want)
			}
			if err == nil && (got.Prefix != tc.wantFor || got.ID == "") {
				t.Errorf("got %+v, want an id and the prefix %v", got, tc.wantFor)
			}
		})
	}
}

// TestBans_Validate_ID gives bans their ids. That of a ban with a cause is the same on every node, of any version.
func TestBans_Validate_ID(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_790_000_000, 0)
	ban := session.Ban{Credentials: "h1.h2", Backend: "b", Channel: "a001", Until: now.Add(time.Hour)}
	idOf := func(edit func(*session.Ban)) string {
		b := ban
		edit(&b)
		got, err := NewBans().Validate(b, now)
		if err != nil {
			t.Fatal(err)
		}
		return got.ID
	}
	if got := idOf(func(b *session.Ban) { b.ID = "mine" }); got != "mine" {
		t.Errorf("an id of its own became %q", got)
	}
	if a, b := idOf(func(*session.Ban) {}), idOf(func(*session.Ban) {}); a == b || len(a) != 12 {
		t.Errorf("got the ids %q and %q, want two of 12 letters", a, b)
	}
	if got := idOf(func(b *session.Ban) { b.Cause = "cause" }); got != "cause-37bd0bc3b8f7" {
		t.Errorf("caused: got %q", got)
	}
}

func TestBans_Validate_Bounded(t *testing.T) {
	t.Parallel()
	bans, now := NewBans(), time.Unix(1_790_000_000, 0)
	many := make([]session.Ban, maxBans)
	for i := range many {
		many[i] = session.Ban{ID: fmt.Sprint(i), User: "ann", Until: now.Add(time.Hour)}
	}
	bans.Add(now, many[1:]...)
	if _, err := bans.Validate(many[0], now); err != nil {
		t.Errorf("the last ban that there is room for: %v", err)
	}
	bans.Add(now, many[0])
	if _, err := bans.Validate(session.Ban{User: "bob", Until: now.Add(time.Hour)}, now); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("one too many: got the error %v", err)
	}
}

// TestBans_Match_Targets has a viewer and bans of each kind that are, or are not, of them. No ban holds when it ends.
// TestBans_EndedMakeRoom: a node without others removes what has ended when bans are added, looked for once a minute.
func TestBans_EndedMakeRoom(t *testing.T) {
	t.Parallel()
	now, bans := time.Unix(1_790_000_000, 0), NewBans()
	many := make([]session.Ban, maxBans)
	for i := range many {
		many[i] = session.Ban{ID: strconv.Itoa(i), User: strconv.Itoa(i), Until: now.Add(time.Minute)}
	}
	bans.Add(now, many...)
	one := session.Ban{User: "ann", Until: now.Add(time.Hour)}
	if _, err := bans.Validate(one, now.Add(time.Minute-1)); err == nil {
		t.Error("there is room before one has ended")
	}
	valid, err := bans.Validate(one, now.Add(2*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	bans.Add(now.Add(2*time.Minute), valid)
	if len(bans.active) != 1 {
		t.Errorf("%d bans are kept, want the one that has not ended", len(bans.active))
	}
}

func TestBans_Match_Targets(t *testing.T) {
	t.Parallel()
	at := func(prefix string) session.Ban { return session.Ban{Prefix: netip.MustParsePrefix(prefix)} }
	for name, tc := range map[string]struct {
		ban     session.Ban
		address string // 192.0.2.7 if empty
		want    bool
	}{
		"their session":                {ban: session.Ban{Session: someSession}, want: true},
		"another session":              {ban: session.Ban{Session: backends.SessionID{9}}},
		"their user id":                {ban: session.Ban{User: "id"}, want: true},
		"their user's name":            {ban: session.Ban{User: "name"}, want: true},
		"another user":                 {ban: session.Ban{User: "other"}},
		"their credentials":            {ban: session.Ban{Credentials: "h1.h2"}, want: true},
		"more credentials":             {ban: session.Ban{Credentials: "h1.h3"}},
		"their address":                {ban: at("192.0.2.7/32"), want: true},
		"their network":                {ban: at("192.0.2.0/24"), want: true},
		"everybody":                    {ban: at("0.0.0.0/0"), want: true},
		"another address":              {ban: at("192.0.2.8/32")},
		"everybody of the other kind":  {ban: at("::/0")},
		"their mapped address":         {ban: at("192.0.2.7/32"), address: "::ffff:192.0.2.7", want: true},
		"their IPv6 network":           {ban: at("2001:db8::/64"), address: "2001:db8::1", want: true},
		"their address with a zone":    {ban: at("fe80::1/128"), address: "fe80::1%eth0", want: true},
		"everybody, of IPv4 addresses": {ban: at("0.0.0.0/0"), address: "2001:db8::1"},
	} {
		for scope, limit := range map[string]struct {
			backend, channel string
			isElsewhere      bool
		}{
			"everywhere":                        {},
			"at the backend":                    {backend: "b"},
			"on the channel":                    {channel: "a001"},
			"at the backend on the channel":     {backend: "b", channel: "a001"},
			"at another backend":                {backend: "c", isElsewhere: true},
			"on another channel":                {channel: "a002", isElsewhere: true},
			"at another backend on the channel": {backend: "c", channel: "a001", isElsewhere: true},
		} {
			for lasts, holds := range map[time.Duration]bool{time.Nanosecond: true, 0: false} {
				t.Run(fmt.Sprintf("%s/%s/%v", name, scope, lasts), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						bans, ban := NewBans(), tc.ban
						ban.ID, ban.Backend, ban.Channel, ban.Until = "ban", limit.backend, limit.channel, time.Now().Add(lasts)
						bans.Add(time.Now().Add(-time.Hour), ban)
						r := &backends.Request{
							Session: someSession, Backend: "b", Channel: "a001", Address: netip.MustParseAddr(cmp.Or(tc.address, "192.0.2.7")),
						}
						d := &backends.Decision{UserID: "id", User: "name"}
						want := tc.want && holds && !limit.isElsewhere
						if got, isBanned := bans.Match(r, d, func() []string { return []string{"h2", "h1"} }); isBanned != want || isBanned && got.ID != ban.ID {
							t.Errorf("banned %v by %+v, want %v", isBanned, got, want)
						}
					})
				})
			}
		}
	}
}

func TestBans_Match_Unknown(t *testing.T) {
	t.Parallel()
	bans, now := NewBans(), time.Now()
	if !bans.IsEmpty() {
		t.Error("new bans are not empty")
	}
	for i, b := range []session.Ban{{User: "ann"}, {User: "bob", Backend: "b"}, {Prefix: netip.MustParsePrefix("0.0.0.0/0")}, {Prefix: netip.MustParsePrefix("::/0")}} {
		b.ID, b.Until = fmt.Sprint(i), now.Add(time.Hour)
		bans.Add(now, b)
	}
	if bans.IsEmpty() {
		t.Error("four bans are none")
	}
	hashes := func() []string { t.Error("hashed although no credentials are banned"); return nil }
	for name, d := range map[string]*backends.Decision{"no decision": nil, "a decision without a user": {}} {
		if got, isBanned := bans.Match(&backends.Request{Backend: "b"}, d, hashes); isBanned {
			t.Errorf("%s: banned by %+v", name, got)
		}
	}
}

// TestBans_Match_CredentialsElsewhere hashes no viewer's credentials where none are banned.
func TestBans_Match_CredentialsElsewhere(t *testing.T) {
	t.Parallel()
	bans, now := NewBans(), time.Now()
	bans.Add(now, session.Ban{ID: "1", Credentials: "h1", Backend: "b", Channel: "a001", Until: now.Add(time.Hour)})
	for _, r := range []backends.Request{{Backend: "c", Channel: "a001"}, {Backend: "b", Channel: "a002"}} {
		bans.Match(&r, nil, func() []string { t.Errorf("hashed for %+v", r); return nil })
	}
}

// TestBans_Match_LongestCounts has two bans on one user; of two that end at once the lower id counts.
func TestBans_Match_LongestCounts(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, tc := range map[string]struct {
		longer time.Duration // of the ban "1" than that of "2"
		want   string
	}{"longer": {time.Hour, "1"}, "shorter": {-time.Hour, "2"}, "as long": {0, "1"}} {
		for range 10 { // in the order of a map
			bans := NewBans()
			bans.Add(now, session.Ban{ID: "1", User: "ann", Until: now.Add(2*time.Hour + tc.longer)}, session.Ban{ID: "2", User: "ann", Until: now.Add(2 * time.Hour)})
			if got, _ := bans.Match(&backends.Request{}, &backends.Decision{User: "ann"}, nil); got.ID != tc.want {
				t.Fatalf("%s: got the ban %q, want %q", name, got.ID, tc.want)
			}
		}
	}
}

// TestBans_AddRemoveExpire follows bans and what they caused.
func TestBans_AddRemoveExpire(t *testing.T) {
	t.Parallel()
	bans, now := NewBans(), time.Unix(1_790_000_000, 0)
	ids := func(list []session.Ban) string {
		var all []string
		for _, b := range list {
			all = append(all, b.ID)
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	ban := func(id, cause string, lasts time.Duration) session.Ban {
		return session.Ban{ID: id, Cause: cause, User: id, Until: now.Add(lasts)}
	}
	added := func(want string, b ...session.Ban) {
		t.Helper()
		if got := ids(bans.Add(now, b...)); got != want {
			t.Errorf("added %q, want %q", got, want)
		}
	}
	hasChanged := func(want bool) {
		t.Helper()
		got := false
		select {
		case <-bans.changed:
			got = true
		default:
		}
		if got != want {
			t.Errorf("changed %v, want %v", got, want)
		}
	}
	added("ann bob", ban("ann", "", time.Hour), ban("bob", "ann", time.Hour), ban("ended", "", 0))
	hasChanged(true)
	added("", ban("ann", "", 2*time.Hour), ban("bob", "ann", time.Hour))
	hasChanged(false)
	added("eve short", ban("over", "", 0), ban("eve", "", 2*time.Hour), ban("ann", "", time.Hour), ban("short", "", time.Minute))
	hasChanged(true)
	if got := bans.List(now); got[0].ID != "eve" || got[1].ID != "ann" || got[2].ID != "bob" || got[3].ID != "short" || len(got) != 4 {
		t.Errorf("listed %+v, want those that end last first, then by id", got)
	}
	if got := ids(bans.List(now.Add(time.Minute))); got != "ann bob eve" {
		t.Errorf("listed %q a minute later, when one has ended", got)
	}
	if found, until := bans.Find("short", now.Add(time.Minute-1)); len(found) != 1 || !until.Equal(now.Add(time.Minute)) {
		t.Error("a ban is not found before it ends")
	}
	if found, _ := bans.Find("short", now.Add(time.Minute)); len(found) > 0 {
		t.Error("a ban is found that has ended")
	}
	if got := ids(bans.Remove("ann", now.Add(time.Hour))); got != "ann bob" {
		t.Errorf("removed %q, want it and what it caused", got)
	}
	hasChanged(true)
	added("", ban("ann", "", time.Hour), ban("carol", "ann", time.Hour))
	bans.expire(now.Add(time.Hour - 1))
	added("", ban("ann", "", 3*time.Hour))
	if got := ids(bans.List(now)); got != "eve" {
		t.Errorf("kept %q, want the one that has not ended", got)
	}
	bans.expire(now.Add(time.Hour))
	added("ann", ban("ann", "", 2*time.Hour))
	bans.expire(now.Add(2 * time.Hour))
	if !bans.IsEmpty() {
		t.Errorf("not empty when all have ended: %+v", bans.List(now))
	}
}

// TestBanIndex_RarestHash keys bans of credentials by what the fewest of them have, so that a "format=hls" in all of them
// makes no viewer's lookup long.
func TestBanIndex_RarestHash(t *testing.T) {
	t.Parallel()
	bans := map[string]session.Ban{}
	for _, hash := range []string{"a", "b", "c"} {
		bans[hash] = session.Ban{ID: hash, Credentials: "common." + hash}
		bans["z"+hash] = session.Ban{ID: "z" + hash, Credentials: hash + "z.common"}
	}
	if x := newBanIndex(bans); len(x.credentials["common"]) != 0 || len(x.credentials) != len(bans) {
		t.Errorf("keyed by %v, want one hash each and not the common one", x.credentials)
	}
}

// TestBans_Add_IndexesRecentApart builds the index of all bans anew once many have come, and not for what changes nothing.
func TestBans_Add_IndexesRecentApart(t *testing.T) {
	t.Parallel()
	bans, now := NewBans(), time.Now()
	add := func(i int) {
		bans.Add(now, session.Ban{ID: fmt.Sprint(i), User: fmt.Sprint(i), Until: now.Add(time.Hour)})
	}
	want := func(when string, recent, others int) {
		t.Helper()
		count := func(x *banIndex) int {
			if x == nil {
				return 0
			}
			return len(x.users)
		}
		index := bans.index.Load()
		if r, o := count(index.recent), count(index.others); r != recent || o != others {
			t.Errorf("%s: %d recent and %d others, want %d and %d", when, r, o, recent, others)
		}
	}
	for i := range maxRecent {
		add(i)
	}
	want("as many as may be recent", maxRecent, 0)
	add(maxRecent)
	want("one more", 0, maxRecent+1)
	add(maxRecent + 1)
	want("another one", 1, maxRecent+1)
	before := bans.index.Load()
	bans.Remove("unknown", now.Add(time.Hour))
	bans.expire(now)
	add(0)
	if bans.index.Load() != before {
		t.Error("the index is built anew though no ban came or went")
	}
	bans.Remove("0", now.Add(time.Hour))
	want("one less", 0, maxRecent+1)
}
