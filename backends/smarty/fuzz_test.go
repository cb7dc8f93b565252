package smarty

import (
	"encoding/json"
	"strings"
	"testing"

	"usher/backends"
	"usher/backends/httpbackend"
)

// Only `error: 0` allows, and where the status allows a response without a code never denies.
func FuzzCheck(f *testing.F) {
	for _, seed := range []string{
		`{"error": 0}`, `{"error": "0"}`, `{"error": 1}`, `{"error": 7}`, `{"error": -0}`, `{"Error": 0}`, `{"error": 0`,
		`{"error": 1, "error": 0}`, `{"error": {"error": 0}}`, `[0]`, ``, `null`, "\ufeff{\"error\": 0}", `{"\u0065rror":0}`,
	} {
		f.Add(200, []byte(seed))
		f.Add(403, []byte(seed))
		f.Add(302, []byte(seed))
		f.Add(503, []byte(seed))
	}
	cfg := DefaultConfig()
	cfg.HTTP.Address = "http://smarty.example.com"
	cfg.HTTP.Statuses = httpbackend.Statuses{"302": httpbackend.OutcomeAllow, "403": httpbackend.OutcomeAllow}
	b, err := New("middleware", cfg, httpbackend.Deps{})
	if err != nil {
		f.Fatalf("make the backend: %v", err)
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		d, err := b.decide(httpbackend.Response{Status: status, Body: body})
		if (err == nil) == (d == backends.Decision{}) || err != nil && backends.AsFailure(err) == nil {
			t.Fatalf("got %+v and error %v, want a decision or a failure", d, err)
		}
		value := errorByOtherReader(body)
		switch {
		case d.Verdict == backends.Allowed && value != "0":
			t.Errorf("got allowed for %q with %d", body, status)
		case d.Verdict == backends.Denied && value != "1" && value != "2" && value != "3" && (status == 200 || status == 302 || status == 403):
			t.Errorf("got denied for %q with %d", body, status)
		}
	})
}

// errorByOtherReader returns the value of `error` as another JSON parser reads it; empty: none.
func errorByOtherReader(body []byte) string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return ""
	}
	var text string
	if json.Unmarshal(fields["error"], &text) == nil {
		return text
	}
	return string(fields["error"])
}

func FuzzEndpoint(f *testing.F) {
	for _, seed := range []string{
		"", "?", "//", "http://host", "http://host/token/check?a=1", "http://host/x/token/check/?a=1?b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		got := endpoint(address)
		if again := endpoint(got); again != got {
			t.Errorf("%q: got %q, and %q once more", address, got, again)
		}
		_, query, _ := strings.Cut(address, "?")
		if _, kept, _ := strings.Cut(got, "?"); kept != query {
			t.Errorf("%q: got query %q, want %q", address, kept, query)
		}
	})
}
