package events

import (
	"encoding/base64"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
	"usher/cluster/redisclient"
)

// The values of these tests are the same in all versions: nodes of two versions share Redis.

func goldenCipher(t testing.TB) *redisclient.Cipher {
	t.Helper()
	cipher, err := redisclient.NewCipher([]setting.Key{{ID: "a", Secret: "a secret of the cluster"}})
	must(t, err)
	return cipher
}

// TestDecodeRevocation_Golden reads messages as they were written by a node of another version.
func TestDecodeRevocation_Golden(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	opened := time.Unix(1_600_000_000, 0)
	decision := backends.Decision{
		Verdict: backends.Denied, Source: backends.FromOperator, Reason: "why", UserID: "17", User: "Ann", ValidFor: time.Second,
		Redirect: "https://example.com/pay",
	}
	for message, want := range map[string]session.Revocation{
		`{"v":1,"k":1,"u":"name","s":"AQAAAAAAAAAAAAAAAAAAAg","o":1600000000,"d":"AWGfQhCtUHgkwQKAkG2TRoMdRfFpOVR4aalCQ1snvea6nBtqhHyad5G3gg4+FiEpmXM8hlIm7LvudV22lHiMdKVXf5gBrU59ypffCXPQfizDzHFniJ5/ECQdw7TVsdLhQCgcc59/0eiBDFCH0OsT9GuVQrgnn9vA9MFwaDel2Q=="}`: {Kind: session.RevokedDenied, Session: idOf(1), Opened: opened, Decision: decision},
		`{"v":1,"k":2,"u":"name","s":"AQAAAAAAAAAAAAAAAAAAAg","f":60000,"d":"AWGBI2dMj3AybP//4FwqQ7j0/yMdy4VVi0KT52WWwbJn5jwIKlpmD4YChdwty/jfR9KV5Ogi1hmp57G/uUp5yca9MGwwcoFMDJRgmiJmwxgxaC/nuxpM6By7wIj9PG1BNR3M0j3DC2j8nQZ0kmfZujMmLoKgDhHtjauqGOmEqw=="}`:      {Kind: session.RevokedKicked, Session: idOf(1), Decision: decision, Until: now.Add(time.Minute)},
		`{"v":1,"k":3,"u":"name","s":"AQAAAAAAAAAAAAAAAAAAAg","o":1600000000,"d":"AWFT/jSYSNLSGAkiCj9j8aPSkLfj8t0Zc9vy+wAhfDzDFAHY9J2fbkJ9M/SBZSWAiRjKVD5bTF/ZCzyTi1vnYWInj9Y1dfST0nd7TyCxLdTfHRIQp7DLwhCmk5zFO1BFhENGx5Kh0c9PeNBr8BzV7mCltt+gq0h8Rd+Myb1BWQ=="}`: {Kind: session.RevokedEvicted, Session: idOf(1), Opened: opened, Decision: decision},
		`{"v":1,"k":4,"u":"name","s":"AQAAAAAAAAAAAAAAAAAAAg","o":1600000000,"d":"AWEZi9H1l/tpWV9NDEZkzofXkvXp7Sq5wzGkBVQyhpq7hC9mQ4nE/tN9RFT/0PsPqzcvYcY21wgbJdZ0ypEvttUMCHPL3EZPA3dobUkQlap8gsQZWLoB4JT0EycI7jF4mPJzTXfJJ8fJJirao2OS4PrWlODm6kNblbk8Ywn4Ow=="}`: {Kind: session.RevokedSuperseded, Session: idOf(1), Opened: opened, Decision: decision},
		`{"v":1,"k":5,"u":"name","f":3600000,"b":"b","d":"AWGLelKbwNsPUnWURShMv8/wXCvLDyzEdWv4SVbJiSLZQEzRHxE0CzI1DqHey4NSZr0vhrf77fj2jZoi"}`:                                                                                                                     {Kind: session.RevokedBanned, Ban: session.Ban{ID: "b", User: "Ann", Reason: "unpaid", Until: now.Add(time.Hour)}},
		`{"v":1,"k":5,"u":"name","f":3600000,"b":"b-c","d":"AWE2qKY/mYd8hqOJ0l67g4iuH1DTwl2Bo8s/u1XtSGXfiw4joSnQSUJqX4re8fpU8Rn2B0vkvRzF"}`:                                                                                                                       {Kind: session.RevokedBanned, Ban: session.Ban{ID: "b-c", Credentials: "h1.h2", Cause: "b", Until: now.Add(time.Hour)}},
		`{"v":1,"k":5,"u":"name","f":3600000,"b":"p","d":"AWHNDyjBbdfr06gRgaA8kcIm0F1vcYQ/pu0IVTYuPiTPgDRO5+ruDQuyk7C2ebO8MtKyJVozWpc="}`:                                                                                                                         {Kind: session.RevokedBanned, Ban: session.Ban{ID: "p", Prefix: netip.MustParsePrefix("192.0.2.0/24"), Until: now.Add(time.Hour)}},
		`{"v":1,"k":5,"u":"name","f":3600000,"b":"s","d":"AWFjSj+lu1dcu8CSbVEqRPUuzI4gBm36QGt9ZCbbdoVB1/ngxoKoAdYJJHvNCnVcOda020P9QS/P5vJV8dOD8X+BD2vBVW1bVGphwm+GfsNsC6Q="}`:                                                                                     {Kind: session.RevokedBanned, Ban: session.Ban{ID: "s", Session: idOf(1), Cause: "b", IsKick: true, Until: now.Add(time.Hour)}},
		`{"v":1,"k":6,"u":"name","f":3600000,"b":"b"}`: {Kind: session.RevokedUnbanned, Ban: session.Ban{ID: "b", Until: now.Add(time.Hour)}},
	} {
		m, got, err := decodeRevocation(goldenCipher(t), []byte(message), 0, now)
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); err != nil || diff != "" || m.ID != "name" {
			t.Errorf("read %q, %v (-want +got):\n%s\nit is\n%s", m.ID, err, diff, encodeRevocation(goldenCipher(t), "name", want, now))
		}
	}
}

// TestEncodeRevocation_Golden writes what the messages say in the open.
func TestEncodeRevocation_Golden(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	got := string(encodeRevocation(goldenCipher(t), "name", session.Revocation{
		Kind: session.RevokedKicked, Session: idOf(1), Opened: time.Unix(1_600_000_000, 0), Until: now.Add(time.Minute),
	}, now))
	begins, rest, _ := strings.Cut(got, `,"d":"`)
	if want := `{"v":1,"k":2,"u":"name","s":"AQAAAAAAAAAAAAAAAAAAAg","o":1600000000,"f":60000`; begins != want {
		t.Errorf("it begins with %s, want %s", begins, want)
	}
	encrypted, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(rest, `"}`))
	must(t, err)
	plain, err := goldenCipher(t).Decrypt(encrypted, "revocation name")
	if want := `{"v":"pending","s":"none"}`; err != nil || string(plain) != want {
		t.Errorf("its decision is %s, %v; want %s", plain, err, want)
	}
	ban := session.Ban{ID: "b", User: "Ann", Reason: "unpaid", Cause: "c"}
	plain, err = goldenCipher(t).Decrypt(encodeBan(goldenCipher(t), ban), "ban b")
	if want := `{"v":1,"u":"Ann","r":"unpaid","e":"c"}`; err != nil || string(plain) != want {
		t.Errorf("a ban is %s, %v; want %s", plain, err, want)
	}
}
