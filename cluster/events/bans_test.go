package events

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"usher/actors/session"
	"usher/backends"
)

// TestBans_Match_AsDefined compares the index with the definition of a ban, while bans come, go and are many.
func TestBans_Match_AsDefined(t *testing.T) {
	t.Parallel()
	name := rapid.SampledFrom([]string{"", "a", "b"})
	hashes := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"h1", "h2", "h3", "h4"}), 0, 4, rapid.ID)
	rapid.Check(t, func(t *rapid.T) {
		bans, now := NewBans(), time.Now()
		active := map[string]session.Ban{}
		for i := range rapid.IntRange(0, 2*maxRecent).Draw(t, "bans") {
			b := session.Ban{ID: fmt.Sprint(i), Backend: name.Draw(t, "backend"), Channel: name.Draw(t, "channel"), Until: now.Add(time.Hour)}
			if presented := hashes.Draw(t, "hashes"); len(presented) > 0 {
				b.Credentials = strings.Join(presented, ".")
			} else {
				b.User = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "user")
			}
			bans.Add(now, b)
			active[b.ID] = b
			if rapid.IntRange(0, 9).Draw(t, "remove") == 0 {
				bans.Remove(b.ID, now.Add(time.Hour))
				delete(active, b.ID)
			}
		}
		for range 20 {
			r := &backends.Request{Backend: name.Draw(t, "backend"), Channel: name.Draw(t, "channel")}
			d, presented := &backends.Decision{UserID: name.Draw(t, "id"), User: name.Draw(t, "name")}, hashes.Draw(t, "presented")
			want := false
			for _, b := range active {
				want = want || isBannedBy(b, r, d, presented)
			}
			got, isBanned := bans.Match(r, d, func() []string { return presented })
			if isBanned != want || isBanned && !isBannedBy(got, r, d, presented) {
				t.Fatalf("%+v, %+v who presents %q: banned %t by %+v, want %t", r, d, presented, isBanned, got, want)
			}
		}
	})
}

// isBannedBy is the definition of a ban of a user or of credentials.
func isBannedBy(b session.Ban, r *backends.Request, d *backends.Decision, presented []string) bool {
	if b.Backend != "" && b.Backend != r.Backend || b.Channel != "" && b.Channel != r.Channel {
		return false
	}
	if b.User != "" {
		return b.User == d.UserID || b.User == d.User
	}
	for hash := range strings.SplitSeq(b.Credentials, ".") {
		if !slices.Contains(presented, hash) {
			return false
		}
	}
	return true
}
