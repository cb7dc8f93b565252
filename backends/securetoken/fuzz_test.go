package securetoken

import (
	"encoding/hex"
	"strings"
	"testing"

	"usher/backends"
	"usher/backends/httpbackend"
)

// A parsed token has one spelling: formatted again, it equals the input. Its times cannot overflow.
func FuzzParseToken(f *testing.F) {
	for _, seed := range []string{
		vector1, vector3, vector6, "", "---", vector2 + "-", vector2[:41] + "a-b-1669890000-1669810000",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := parseToken(text)
		if !ok {
			return
		}
		if again := hex.EncodeToString(got.hash[:]) + "-" + got.salt + "-" + got.end + "-" + got.start; again != text {
			t.Errorf("%q was read as %q", text, again)
		}
		for _, at := range []int64{got.from, got.until} {
			if at < 1_000_000_000 || at > 9_999_999_999 {
				t.Errorf("%q was read as a time of %d", text, at)
			}
		}
	})
}

// Only the tokens made with the key are allowed, only for their channel, and only with their user.
func FuzzCheck_OnlySignedTokensAllowed(f *testing.F) {
	b := newBackend(f, inside, signsUsers)
	f.Add("token="+vector5+"&user=user1", "travel-channel")
	f.Add("token="+vector2, "travel-channel")
	f.Add("token="+strings.Replace(vector5, "a5cd6c00", "a5cd6c00us", 1)+"&user=er1", "travel-channel")
	f.Add("token="+vector5[:40]+"-a5cd6c00-6698100001669890000-1&user=user1", "travel-channel")
	f.Add("token="+vector1+"&token=%zz&%74oken=;user=+&user", "travel-channe")
	f.Add("&&=&token", "l")
	f.Fuzz(func(t *testing.T, query, channel string) {
		r := exampleRequest("")
		r.Query, r.Channel = query, channel
		d := mustCheck(t, b, r)
		if d.Verdict != backends.Allowed {
			if d.UserID != "" || d.ValidFor != 0 {
				t.Errorf("%q: denied with the facts of an allowed decision: %+v", query, d)
			}
			return
		}
		token, user := httpbackend.QueryValue(query, "token"), httpbackend.QueryValue(query, "user")
		signed := token == vector5 && user == "user1" || token == vector2 && user == ""
		if !signed || channel != "travel-channel" || d.UserID != user {
			t.Errorf("%q opened %q as %q", query, channel, d.UserID)
		}
	})
}
