package events

import (
	"encoding/binary"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// sessionNumber returns the id of one of many sessions.
func sessionNumber(n int) (id backends.SessionID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n)+1)
	return id
}

func TestTombstone(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_790_000_000, 0)
	ban := session.Ban{ID: "ban", User: "ann", Reason: "sharing", IsKick: true, Until: now.Add(time.Hour)}
	want := session.Ban{ID: "ban-" + someSession.String(), Session: someSession, Reason: "sharing", IsKick: true, Cause: "ban", Until: ban.Until}
	if got := Tombstone(ban, someSession, now.Add(2*time.Hour)); !reflect.DeepEqual(got, want) || !isTombstone(&got) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := Tombstone(ban, someSession, now.Add(time.Minute)); !got.Until.Equal(now.Add(time.Minute)) {
		t.Errorf("ends at %s, want no later than a minute", got.Until)
	}
	caused := ban
	caused.ID, caused.Cause = "caused", "cause"
	if got := Tombstone(caused, someSession, now.Add(time.Hour)); got.Cause != "cause" || got.ID != "cause-"+someSession.String() {
		t.Errorf("got %+v, want the cause of the ban as its own", got)
	}
	for name, b := range map[string]session.Ban{"a ban of a session": {Session: someSession}, "a caused ban of a user": {Cause: "cause", User: "ann"}} {
		if isTombstone(&b) {
			t.Errorf("%s is taken for a tombstone", name)
		}
	}
}

// TestBans_Tombstones follows the tombstones of a session that two bans refused.
func TestBans_Tombstones(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bans, now := NewBans(), time.Now()
		of := func(id string, lasts time.Duration) session.Ban {
			return Tombstone(session.Ban{ID: id, Until: now.Add(lasts)}, someSession, now.Add(24*time.Hour))
		}
		wantMatch := func(cause string) {
			t.Helper()
			r := &backends.Request{Session: someSession}
			if got, isBanned := bans.Match(r, nil, nil); got.Cause != cause || isBanned != (cause != "") {
				t.Errorf("banned %v by %+v, want %q", isBanned, got, cause)
			}
			if bans.IsEmpty() != (cause == "") {
				t.Errorf("empty %v", bans.IsEmpty())
			}
		}
		wantMatch("")
		if got := bans.Add(now, of("long", 2*time.Hour), of("short", time.Hour), of("long", 3*time.Hour)); len(got) != 2 {
			t.Errorf("added %+v, want one for each ban", got)
		}
		wantMatch("long")
		if got := bans.Tombstones("short"); len(got) != 1 || got[0].Cause != "short" {
			t.Errorf("got the tombstones %+v of one ban", got)
		}
		if _, isBanned := bans.Match(&backends.Request{Session: backends.SessionID{9}}, nil, nil); isBanned {
			t.Error("another session is banned")
		}
		if got := bans.Remove("long", now.Add(time.Hour)); len(got) != 1 || got[0].Cause != "long" {
			t.Errorf("removed %+v, want the tombstone of the ban", got)
		}
		wantMatch("short")
		<-time.After(time.Hour)
		if _, isBanned := bans.Match(&backends.Request{Session: someSession}, nil, nil); isBanned {
			t.Error("banned by a tombstone that ends now")
		}
		bans.expire(time.Now())
		wantMatch("")
		if len(bans.sessions.of)+len(bans.sessions.perCause) != 0 {
			t.Errorf("remembers %v, %v", bans.sessions.of, bans.sessions.perCause)
		}
	})
}

// TestBannedSessions_Bounded fills what one ban may have, then what all may have. What has ended makes room, looked for once
// a minute.
func TestBannedSessions_Bounded(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_790_000_000, 0)
	var x bannedSessions
	add := func(n int, cause byte, now time.Time) bool {
		return x.add(session.Ban{Session: sessionNumber(n), Cause: string(cause), Until: now.Add(time.Hour)}, now)
	}
	for i := range maxBannedSessions {
		if !add(i, 'a'+byte(i/maxPerBan), now) {
			t.Fatalf("tombstone %d finds no room", i)
		}
		if i == maxPerBan-1 && (x.hasDropped.Load() || add(-1, 'a', now) || !x.hasDropped.Load()) {
			t.Error("one too many of a ban finds room, or is not noted")
		}
	}
	x.hasDropped.Store(false)
	if add(-1, 'z', now.Add(time.Minute)) || !x.hasDropped.Load() {
		t.Error("one too many finds room, or is not noted")
	}
	x.removeLocked(func(b session.Ban) bool { return b.Session == sessionNumber(0) })
	if !x.add(session.Ban{Session: sessionNumber(0), Cause: "a", Until: now.Add(61 * time.Second)}, now) {
		t.Error("none finds the room that another left")
	}
	if add(-1, 'z', now.Add(2*time.Minute)) {
		t.Error("what has ended was looked for again within the minute")
	}
	if !add(-1, 'z', now.Add(2*time.Minute+1)) {
		t.Error("none finds the room of what has ended")
	}
}

// TestBans_Add_TombstoneBeforeBan adds both at once, as when a node hears of all that another knows.
func TestBans_Add_TombstoneBeforeBan(t *testing.T) {
	t.Parallel()
	bans, now := NewBans(), time.Now()
	ban := session.Ban{ID: "ban", User: "ann", Until: now.Add(time.Hour)}
	if got := bans.Add(now, Tombstone(ban, someSession, ban.Until), ban); len(got) != 2 {
		t.Errorf("added %+v, want the tombstone and the ban", got)
	}
	if _, isBanned := bans.Match(&backends.Request{}, &backends.Decision{User: "ann"}, nil); !isBanned {
		t.Error("the ban behind the tombstone does not hold")
	}
}

// TestBannedSessions_Match_Longest returns the tombstone that holds longest, in whatever order they came.
func TestBannedSessions_Match_Longest(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_790_000_000, 0)
	for _, lasts := range [][]time.Duration{{1, 2, 3}, {3, 2, 1}, {2, 3, 1}} {
		var x bannedSessions
		for i, hours := range lasts {
			x.add(session.Ban{Session: someSession, Cause: string(byte('a' + i)), Until: now.Add(hours * time.Hour)}, now)
		}
		if got, found := x.match(someSession, now); !found || got.Until.Sub(now) != 3*time.Hour {
			t.Errorf("of %v hours it matches one that ends in %v", lasts, got.Until.Sub(now))
		}
		if got, found := x.match(someSession, now.Add(3*time.Hour)); found {
			t.Errorf("when all have ended it matches %+v", got)
		}
	}
}
