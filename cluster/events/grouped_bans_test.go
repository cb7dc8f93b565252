package events

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/redisclient"
)

// manyViewers are viewers of a channel, each with a user and credentials.
func manyViewers(from, count int) (viewers []Viewer) {
	for i := from; i < from+count; i++ {
		viewers = append(viewers, Viewer{
			Session: sessionNumber(i), User: fmt.Sprint("user", i), Credentials: fmt.Sprintf("hls.h%d", i), Backend: "portal", Channel: "goal",
		})
	}
	return viewers
}

// TestGroupedBans_Match_AsDefined compares the index with the definition of a group, while groups come and go.
func TestGroupedBans_Match_AsDefined(t *testing.T) {
	t.Parallel()
	name := rapid.SampledFrom([]string{"", "a", "b"})
	hashes := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"h1", "h2", "h3", "h4"}), 0, 4, rapid.ID)
	viewer := rapid.Custom(func(t *rapid.T) Viewer {
		return Viewer{
			Session: sessionNumber(rapid.IntRange(0, 9).Draw(t, "session")), User: name.Draw(t, "user"),
			Credentials: strings.Join(hashes.Draw(t, "hashes"), "."), Backend: name.Draw(t, "backend"), Channel: name.Draw(t, "channel"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		bans, now := NewBans(), time.Now()
		active := map[string][]Viewer{}
		for i := range rapid.IntRange(0, 6).Draw(t, "kicks") {
			kick := session.Ban{ID: fmt.Sprint(i), IsKick: true, Until: now.Add(time.Duration(rapid.IntRange(1, 3).Draw(t, "hours")) * time.Hour)}
			viewers := rapid.SliceOfN(viewer, 0, 5).Draw(t, "viewers")
			bans.Add(now, Group(kick, viewers)...)
			active[kick.ID] = viewers
			if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
				bans.Remove(kick.ID, now.Add(time.Hour))
				delete(active, kick.ID)
			}
		}
		for range 20 {
			r := &backends.Request{
				Session: sessionNumber(rapid.IntRange(0, 12).Draw(t, "of session")), Backend: name.Draw(t, "of backend"), Channel: name.Draw(t, "of channel"),
			}
			d, presented := &backends.Decision{UserID: name.Draw(t, "id"), User: name.Draw(t, "name")}, hashes.Draw(t, "presented")
			want := false
			for _, viewers := range active {
				want = want || slices.ContainsFunc(viewers, func(v Viewer) bool { return isViewer(v, r, d, presented) })
			}
			got, isBanned := bans.Match(r, d, func() []string { return presented })
			if isBanned != want || isBanned && (isGroup(&got) || active[got.Cause] == nil) {
				t.Fatalf("%+v, %+v who presents %q: banned %t by %+v, want %t", r, d, presented, isBanned, got, want)
			}
		}
	})
}

// isViewer is the definition of a viewer of a group.
func isViewer(v Viewer, r *backends.Request, d *backends.Decision, presented []string) bool {
	if v.Session == r.Session {
		return true
	}
	if v.Backend != r.Backend || v.Channel != r.Channel {
		return false
	}
	isPresented := v.Credentials != ""
	for hash := range strings.SplitSeq(v.Credentials, ".") {
		isPresented = isPresented && slices.Contains(presented, hash)
	}
	return isPresented || v.User != "" && (v.User == d.UserID || v.User == d.User)
}

// TestGroup_Bounds lists at most so many viewers a group, each once, and at most so many in all.
func TestGroup_Bounds(t *testing.T) {
	t.Parallel()
	bans, now := NewBans(), time.Now()
	kick := session.Ban{ID: "k", IsKick: true, Reason: "rights", Until: now.Add(time.Hour)}
	viewers := append(manyViewers(0, 2*maxGroupSize), Viewer{Session: sessionNumber(9000), User: "user0", Credentials: "hls.h0", Backend: "portal", Channel: "goal"},
		Viewer{Session: sessionNumber(9001), Backend: "portal", Channel: "news"})
	groups := Group(kick, viewers)
	var sizes []string
	for _, g := range groups {
		if g.Cause != "k" || !strings.HasPrefix(g.ID, "k-") || !g.IsKick || g.Reason != "rights" || !g.Until.Equal(kick.Until) {
			t.Errorf("a group of the kick is %.300v", fmt.Sprint(g))
		}
		sizes = append(sizes, fmt.Sprintf("%s %d %d %d", g.Channel, len(g.Sessions), len(g.Users), len(g.CredentialSets)))
	}
	if want := []string{"goal 500 500 500", "goal 500 500 500", "goal 1 0 0", "news 1 0 0"}; !slices.Equal(sizes, want) {
		t.Errorf("the groups have %q, want %q", sizes, want)
	}
	bans.Add(now, groups...)
	if !bans.IsKicked("k", sessionNumber(7)) || bans.IsKicked("k", sessionNumber(10_000)) || bans.IsKicked("other", sessionNumber(7)) {
		t.Error("the kick lists other sessions than its own, or another kick does")
	}
	for _, test := range []struct {
		viewers, channels int
		want              string // in the error
	}{
		{maxGroupedViewers - len(viewers), 1, ""},
		{maxGroupedViewers - len(viewers) + 1, 1, "above the maximum of 500000"},
		{100_000, maxBans - 200 - len(groups), ""},
		{100_000, maxBans - 200 - len(groups) + 1, "above the maximum of 100000"},
	} {
		err := bans.HasRoom(test.viewers, test.channels)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%d more viewers on %d channels: %v, want %q", test.viewers, test.channels, err, test.want)
		}
	}
	bans.Remove("k", now.Add(time.Hour))
	if got := bans.groups.viewers.Load(); got != 0 || !bans.IsEmpty() {
		t.Errorf("%d viewers are left after the kick", got)
	}
}

// TestBans_Group_Ends forgets what has ended.
func TestBans_Group_Ends(t *testing.T) {
	t.Parallel()
	bans, now := NewBans(), time.Now()
	for id, lasts := range map[string]time.Duration{"short": time.Minute, "long": time.Hour} {
		bans.Add(now, Group(session.Ban{ID: id, Until: now.Add(lasts)}, manyViewers(len(id), 10))...)
	}
	bans.expire(now.Add(time.Minute))
	if got, ids := bans.groups.viewers.Load(), bans.List(now); got != 10 || len(ids) != 1 || ids[0].Cause != "long" {
		t.Errorf("%d viewers and %d groups are left, want those of the long kick", got, len(ids))
	}
}

// TestBans_Find_Kick finds a kick by what follows from it.
func TestBans_Find_Kick(t *testing.T) {
	t.Parallel()
	bans, now := NewBans(), time.Now()
	groups := Group(session.Ban{ID: "k", Until: now.Add(time.Hour)}, manyViewers(0, maxGroupSize+1))
	bans.Add(now, groups...)
	ids, until := bans.Find("k", now)
	slices.Sort(ids)
	want := []string{groups[0].ID, groups[1].ID}
	if slices.Sort(want); !slices.Equal(ids, want) || !until.Equal(now.Add(time.Hour)) {
		t.Errorf("found %q until %v, want %q", ids, until, want)
	}
}

// TestDecodeBan_Group reads a group as it was written, and by a version that knows none nothing of it.
func TestDecodeBan_Group(t *testing.T) {
	t.Parallel()
	cipher, now := goldenCipher(t), time.Unix(1_700_000_000, 0)
	want := Group(session.Ban{ID: "k", IsKick: true, Reason: "rights", Until: now.Add(time.Hour)}, manyViewers(0, 3))[0]
	m, got, err := decodeRevocation(cipher, encodeBanned(want, encodeBan(cipher, want), now), 0, now)
	if diff := cmp.Diff(want, got.Ban, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); err != nil || diff != "" || m.ID != "ban-"+want.ID {
		t.Errorf("read %q, %v (-want +got):\n%s", m.ID, err, diff)
	}
	if m, got, err := decodeRevocation(cipher, encodeBanned(want, nil, now), 0, now); err != nil || m.ID != "ban-"+want.ID ||
		got.Ban.ID != want.ID || hasSubject(&got.Ban) {
		t.Errorf("without its viewers it is %q, %+v, %v", m.ID, got, err)
	}
	for _, plain := range []string{
		`{"v":1,"us":["ann"]}`, `{"v":2}`, `{"v":2,"u":"ann"}`, `{"v":3,"us":["ann"]}`, `{"v":2,"ss":["x"]}`, `{"v":2,"us":"ann"}`,
	} {
		if b, err := decodeBan(cipher, "b", cipher.Encrypt([]byte(plain), "ban b")); err == nil {
			t.Errorf("%s is taken for %+v", plain, b)
		}
	}
	plain, err := cipher.Decrypt(encodeBan(cipher, want), "ban "+want.ID)
	if wanted := `{"v":2,"b":"portal","h":"goal","r":"rights","e":"k","k":true,"ss":[`; err != nil || !strings.HasPrefix(string(plain), wanted) {
		t.Errorf("a group is %s, %v; want it to begin with %s", plain, err, wanted)
	}
}

// TestBanSync_OnMessage_IDAlone has the next heartbeat fetch a group that a replay names alone, unless it is known.
func TestBanSync_OnMessage_IDAlone(t *testing.T) {
	t.Parallel()
	now := time.Now()
	known := session.Ban{ID: "known", Users: []string{"ann"}, Until: now.Add(time.Hour)}
	for name, test := range map[string]struct {
		ban             session.Ban
		isNeeded, taken bool
	}{
		"an unknown group": {session.Ban{ID: "new"}, true, false},
		"a known group":    {session.Ban{ID: "known"}, false, false},
		"an unbanned one":  {session.Ban{ID: "unbanned"}, false, false},
		"a whole group":    {session.Ban{ID: "new", Users: []string{"bob"}}, false, true},
	} {
		s, _ := newTestSync(t)
		taken := false
		s.onRevocation = func(session.Revocation) { taken = true }
		s.bans.isUnsynced = false
		s.bans.Add(now, known)
		s.bans.Remove("unbanned", now.Add(time.Hour))
		s.onMessage(session.Revocation{Kind: session.RevokedBanned, Ban: test.ban})
		if s.isNeeded() != test.isNeeded || taken != test.taken {
			t.Errorf("%s: fetched %t, taken %t; want %t, %t", name, s.isNeeded(), taken, test.isNeeded, test.taken)
		}
	}
}

// TestBanSync_StoreBans_BoundsBytes writes groups by calls of a bounded size.
func TestBanSync_StoreBans_BoundsBytes(t *testing.T) {
	t.Parallel()
	s, _ := newTestSync(t)
	groups := Group(session.Ban{ID: "k", Until: time.Now().Add(time.Hour)}, manyViewers(0, 30*maxGroupSize))
	written, largest := 0, 0
	must(t, s.storeBans(t.Context(), func(_ context.Context, _ *redisclient.Script, _ []string, args ...any) (any, error) {
		size := 0
		for _, arg := range args {
			if text, isBytes := arg.([]byte); isBytes {
				size += len(text)
			}
		}
		written, largest = written+(len(args)-3)/6, max(largest, size)
		return nil, nil
	}, groups))
	if written != len(groups) || largest > maxBytesPerCall+256<<10 {
		t.Errorf("%d of %d groups written, %d bytes by one call", written, len(groups), largest)
	}
}
