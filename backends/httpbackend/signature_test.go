package httpbackend

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"usher/backends"
	"usher/backends/setting"
)

// TestClient_Do_Signature_StaysWithTheAddress follows a redirect within the authority and one to another. A viewer sends a
// signature of their own.
func TestClient_Do_Signature_StaysWithTheAddress(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 3)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r }))
	t.Cleanup(other.Close)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		if r.URL.Path == "/check" {
			http.Redirect(w, r, "/moved", http.StatusFound)
			return
		}
		http.Redirect(w, r, other.URL, http.StatusFound)
	}))
	t.Cleanup(s.Close)
	cfg := DefaultConfig()
	cfg.Address, cfg.Redirects = s.URL+"/check", RedirectsFollow
	cfg.Signature.Keys = []setting.Key{{ID: "a", Secret: "0123456789abcdef"}}
	c, err := NewClient("portal", cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ctx, trace := WithTrace(t.Context())
	credentials := []backends.Header{{Name: "x-usher-signature", Value: "a=viewer"}, {Name: "X-Usher-Timestamp", Value: "1"}}
	if _, err := c.Do(ctx, Call{Credentials: credentials}); err != nil {
		t.Fatal(err)
	}
	first, moved, last := <-seen, <-seen, <-seen
	of := func(r *http.Request) string { return strings.Join(r.Header.Values("X-Usher-Signature"), " ") }
	if !strings.HasPrefix(of(first), "a=") || len(of(first)) != len("a=")+64 || of(moved) == of(first) || len(of(moved)) != len("a=")+64 {
		t.Errorf("got %q, then %q, want a signature of each path", of(first), of(moved))
	}
	if of(last) != "" || last.Header.Get("X-Usher-Timestamp") != "" {
		t.Errorf("another host got %q", of(last))
	}
	if got := trace.Entries()[0].RequestHeader.Get("X-Usher-Signature"); got != "a="+setting.Hidden {
		t.Errorf("the trace shows %q", got)
	}
}

// A middleware that says which signature it got shows an operator the time and the keys alone.
func TestTrace_NoSignatureInAnswer(t *testing.T) {
	t.Parallel()
	got := make(chan string, 2)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		signatures, timestamp := r.Header.Get("X-Usher-Signature"), r.Header.Get("X-Usher-Timestamp")
		got <- signatures
		got <- timestamp
		_, first, _ := strings.Cut(strings.Split(signatures, ",")[0], "=")
		w.Header().Set("X-Seen", signatures+" at "+timestamp)
		_, _ = io.WriteString(w, "wrong signature "+first)
	}))
	t.Cleanup(s.Close)
	cfg := DefaultConfig()
	cfg.Address = s.URL
	cfg.Signature.Keys = []setting.Key{{ID: "a", Secret: "0123456789abcdef"}, {ID: "b", Secret: "fedcba9876543210"}}
	c, err := NewClient("portal", cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ctx, trace := WithTrace(t.Context())
	if _, err := c.Do(ctx, Call{}); err != nil {
		t.Fatal(err)
	}
	x, signatures, timestamp := trace.Entries()[0], <-got, <-got
	const hidden = "a=" + setting.Hidden + ",b=" + setting.Hidden
	if x.RequestHeader.Get("X-Usher-Signature") != hidden || x.RequestHeader.Get("X-Usher-Timestamp") != timestamp {
		t.Errorf("sent: got %v, want %s at %s", x.RequestHeader, hidden, timestamp)
	}
	if x.ResponseHeader.Get("X-Seen") != hidden+" at "+timestamp || x.ResponseBody != "wrong signature "+setting.Hidden {
		t.Errorf("answered: got %v and %q, want no signature of %s", x.ResponseHeader, x.ResponseBody, signatures)
	}
}

func TestConfig_Validate_SignatureHeaders(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]bool{
		"X-Usher-Signature": true, "x-signature": true,
		"": false, "X Signature": false, "X-Real-Signature": false, "Host": false, "User-Agent": false, "authorization": false, "x-api-key": false,
	} {
		cfg := DefaultConfig()
		cfg.Address, cfg.Headers = "http://portal.example.com/", map[string]setting.Secret{"X-Api-Key": "5ecret"}
		cfg.Signature.Keys, cfg.Signature.Header = []setting.Key{{ID: "a", Secret: "0123456789abcdef"}}, header
		err := cfg.Validate()
		if (err == nil) != want || err != nil && !strings.HasPrefix(err.Error(), "signature.header: ") {
			t.Errorf("%q: got %v, want it valid: %t", header, err, want)
		}
	}
}
