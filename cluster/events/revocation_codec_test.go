package events

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

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

func FuzzParseStreamID(f *testing.F) {
	f.Add("1700000000000-3")
	f.Add("-")
	f.Fuzz(func(t *testing.T, text string) {
		id, ok := parseStreamID(text)
		if again, _ := parseStreamID(id.String()); ok && again != id {
			t.Errorf("%q is %v, then %v", text, id, again)
		}
		if ok && id.isAfter(id.next()) {
			t.Errorf("%v is after its next", id)
		}
	})
}
