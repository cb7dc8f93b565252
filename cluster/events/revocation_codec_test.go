package events

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
	"usher/cluster/redisclient"
)

func idOf(i int) (id backends.SessionID) {
	binary.BigEndian.PutUint64(id[8:], uint64(i)+1)
	id[0] = byte(i)
	return id
}

func denial(reason string) backends.Decision {
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromOperator, Reason: reason}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func FuzzDecodeRevocation(f *testing.F) {
	cipher, err := redisclient.NewCipher([]setting.Key{{ID: "a", Secret: "a secret of the cluster"}})
	if err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1700000000, 0)
	f.Add([]byte(`{"v":1,"k":6,"u":"n","b":"b","f":9223372036854775807}`))
	for kind := session.RevokedDenied; kind <= session.RevokedUnbanned; kind++ {
		f.Add(encodeRevocation(cipher, "name", session.Revocation{
			Kind: kind, Session: idOf(1), Opened: now, Decision: denial("x"), Until: now.Add(time.Minute),
			Ban: session.Ban{ID: "b", Prefix: netip.MustParsePrefix("192.0.2.0/24"), Until: now.Add(time.Hour)},
		}, now))
	}
	group := Group(session.Ban{ID: "k", IsKick: true, Until: now.Add(time.Hour)}, manyViewers(0, 2))[0]
	f.Add(encodeBanned(group, encodeBan(cipher, group), now))
	f.Add(encodeBanned(group, nil, now))
	f.Fuzz(func(t *testing.T, payload []byte) {
		m, v, err := decodeRevocation(cipher, payload, time.Second, now)
		if err == nil && (m.ID == "" || v.Kind < session.RevokedDenied || v.Kind > session.RevokedUnbanned) {
			t.Errorf("read %q, %+v", m.ID, v)
		}
		ends := v.Until
		if v.Kind == session.RevokedBanned || v.Kind == session.RevokedUnbanned {
			ends = v.Ban.Until
		}
		if err == nil && !ends.IsZero() && ends.After(now) != (m.HoldsFor > time.Second.Milliseconds()) {
			t.Errorf("what holds for %d ms ends at %v", m.HoldsFor, ends)
		}
	})
}

// FuzzDecodeBan decodes what a node with the keys may have stored of a ban. What can be decoded means the same again, and can be
// added to the bans.
func FuzzDecodeBan(f *testing.F) {
	cipher, now := goldenCipher(f), time.Now().Truncate(time.Millisecond)
	add := func(b session.Ban, until time.Time) {
		b.ID = "b"
		plain, err := cipher.Decrypt(encodeBan(cipher, b), "ban b")
		must(f, err)
		f.Add(until.UnixMilli(), plain)
	}
	add(session.Ban{User: "ann", Backend: "portal", Reason: "unpaid"}, now.Add(time.Hour))
	add(session.Ban{Credentials: "h1.h2", Cause: "c", Channel: "a001"}, now.Add(-time.Hour))
	add(session.Ban{Prefix: netip.MustParsePrefix("2001:db8::/48"), IsKick: true}, time.UnixMilli(math.MaxInt64))
	add(session.Ban{Session: idOf(1)}, time.UnixMilli(math.MinInt64))
	add(Group(session.Ban{ID: "k", IsKick: true}, manyViewers(0, 2))[0], now.Add(time.Hour))
	f.Add(int64(0), []byte(`{"v":1,"p":"::ffff:192.0.2.7/99","s":"x"}`))
	f.Add(int64(0), []byte(`{"v":2,"us":[""],"u":"ann"}`))
	f.Fuzz(func(t *testing.T, millis int64, plain []byte) {
		until, encrypted := splitValue(append(millisOf(time.UnixMilli(millis)), cipher.Encrypt(plain, "ban b")...))
		if until.UnixMilli() != millis {
			t.Errorf("ends at %d, is read as %d", millis, until.UnixMilli())
		}
		b, err := decodeBan(cipher, "b", encrypted)
		if err != nil {
			return
		}
		again, err := decodeBan(cipher, "b", encodeBan(cipher, b))
		if diff := cmp.Diff(b, again, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{})); diff != "" || err != nil {
			t.Errorf("%v, decoded again (-first +again):\n%s", err, diff)
		}
		b.Until = until
		bans := NewBans()
		bans.Add(now, b)
		if active, _ := bans.snapshot(); len(active) > 0 && !until.After(now) {
			t.Errorf("one that has ended at %v is active", until)
		}
		bans.Remove("b", now.Add(time.Hour))
		if active, _ := bans.snapshot(); len(active) > 0 {
			t.Errorf("%+v is active once it is unbanned", active)
		}
	})
}

// FuzzDecodeDecision decodes what a node with the keys may have sent of a decision. What can be decoded means the same again.
func FuzzDecodeDecision(f *testing.F) {
	cipher := goldenCipher(f)
	encode := func(d backends.Decision) revocationMessage {
		return newMessage(cipher, "n1", session.Revocation{Kind: session.RevokedDenied, Decision: d}, 0, time.Unix(1700000000, 0))
	}
	for _, d := range []backends.Decision{
		denial("shared"),
		{},
		{Verdict: backends.Allowed, Source: backends.FromBackend, UserID: "17", User: "Ann", ValidFor: time.Minute, Redirect: "http://x/", Challenge: "Basic"},
		{Verdict: backends.Denied, Source: backends.FromLocal, ValidFor: math.MaxInt64},
	} {
		plain, err := cipher.Decrypt(encode(d).Encrypted, "revocation n1")
		must(f, err)
		f.Add(plain)
	}
	f.Add([]byte(`{"v":"denied","s":"operator","f":9223372036854775807}`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		d, err := decodeDecision(cipher, revocationMessage{ID: "n1", Encrypted: cipher.Encrypt(plain, "revocation n1")})
		if err != nil {
			if d != (backends.Decision{}) {
				t.Errorf("refused with %+v", d)
			}
			return
		}
		if again, err := decodeDecision(cipher, encode(d)); err != nil || again != d {
			t.Errorf("decoded %+v, then %+v, %v", d, again, err)
		}
		var sent struct {
			ValidFor int64 `json:"f"`
		}
		if json.Unmarshal(plain, &sent) == nil && (d.ValidFor > 0) != (sent.ValidFor > 0) {
			t.Errorf("valid for %d ms is read as %v", sent.ValidFor, d.ValidFor)
		}
	})
}

func TestEncodeRevocation_RoundTrip(t *testing.T) {
	t.Parallel()
	cipher, err := redisclient.NewCipher([]setting.Key{{ID: "a", Secret: "a secret of the cluster"}})
	must(t, err)
	now := time.Unix(1700000000, 0)
	kick := session.Revocation{Kind: session.RevokedKicked, Session: idOf(1), Opened: now.Add(-time.Hour), Decision: denial("shared"), Until: now.Add(time.Minute)}
	kick.Decision.Redirect, kick.Decision.Challenge = "http://promo.example.net/", "Bearer\nBasic"
	sent := encodeRevocation(cipher, "n1", kick, now)
	m, got, err := decodeRevocation(cipher, sent, 10*time.Second, now.Add(time.Hour)) // by another clock, ten seconds later
	must(t, err)
	if left := got.Until.Sub(now.Add(time.Hour)); m.ID != "n1" || left != 50*time.Second || !got.Opened.Equal(kick.Opened) || got.Decision != kick.Decision {
		t.Errorf("%q: %+v, %v left", m.ID, got, left)
	}
	if strings.Contains(string(sent), "shared") {
		t.Errorf("the reason can be read: %s", sent)
	}
	for what, payload := range map[string]string{
		"a newer version": strings.Replace(string(sent), `"v":1`, `"v":2`, 1), "an unknown kind": strings.Replace(string(sent), `"k":2`, `"k":99`, 1), "not a revocation": "{}",
	} {
		if _, _, err := decodeRevocation(cipher, []byte(payload), 0, now); !errors.Is(err, errUnknownMessage) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestDecodeRevocation_OtherVersions drops what a newer version may mean otherwise.
func TestDecodeRevocation_OtherVersions(t *testing.T) {
	t.Parallel()
	cipher, now := goldenCipher(t), time.Unix(1700000000, 0)
	for plain, isKnown := range map[string]bool{
		`{"v":"denied","s":"operator"}`: true, `{"v":"denied","s":"oracle"}`: false, `{"v":"perhaps","s":"operator"}`: false,
		`{"v":"perhaps","s":"oracle"}`: false, `{}`: false, `[]`: false,
	} {
		message := marshal(revocationMessage{
			Version: messageVersion, Kind: session.RevokedDenied, ID: "n1", Session: idOf(1).String(),
			Encrypted: cipher.Encrypt([]byte(plain), "revocation n1"),
		})
		if _, _, err := decodeRevocation(cipher, message, 0, now); (err == nil) != isKnown {
			t.Errorf("a decision %s: error %v", plain, err)
		}
	}
	for plain, isKnown := range map[string]bool{
		`{"v":1,"u":"ann"}`: true, `{"v":2,"u":"ann"}`: false, `{"u":"ann"}`: false, `{"v":1,"u":7}`: false, `{"v":1,"p":"x"}`: false,
		`{"v":1,"s":"x"}`: false, `[]`: false,
	} {
		if _, err := decodeBan(cipher, "b", cipher.Encrypt([]byte(plain), "ban b")); (err == nil) != isKnown {
			t.Errorf("a ban %s: error %v", plain, err)
		}
	}
}

// TestDecodeRevocation_HoldsForLong keeps what holds for longer than a duration can be.
func TestDecodeRevocation_HoldsForLong(t *testing.T) {
	t.Parallel()
	now := time.Unix(1700000000, 0)
	for holdsFor, isActive := range map[int64]bool{math.MaxInt64: true, 1 << 44: true, 2: true, 1: false, -1: false, math.MinInt64: false} {
		payload := marshal(revocationMessage{Version: messageVersion, Kind: session.RevokedUnbanned, ID: "n1", BanID: "b", HoldsFor: holdsFor})
		_, r, err := decodeRevocation(goldenCipher(t), payload, time.Millisecond, now)
		if err != nil || r.Ban.Until.After(now) != isActive {
			t.Errorf("for %d ms: until %v, %v; want after %v: %t", holdsFor, r.Ban.Until, err, now, isActive)
		}
	}
}

func FuzzParseStreamID(f *testing.F) {
	f.Add("1700000000000-3")
	f.Add("-")
	f.Add("1700000000000-18446744073709551615")
	clock := new(redisclient.Clock)
	clock.Set(1_700_000_000_000, time.Now())
	f.Fuzz(func(t *testing.T, text string) {
		id, ok := parseStreamID(text)
		if again, _ := parseStreamID(id.String()); ok && again != id {
			t.Errorf("%q is %v, then %v", text, id, again)
		}
		if ok && id.isAfter(id.next()) {
			t.Errorf("%v is after its next", id)
		}
		if age := id.age(clock); age < 0 || id.ms > 1_800_000_000_000 && age > 0 {
			t.Errorf("%v is %v old", id, age)
		}
	})
}
