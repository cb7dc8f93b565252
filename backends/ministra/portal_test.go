package ministra

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"usher/backends/backendtest"
	"usher/backends/httpbackend"
)

// version holds the headers of an allowed response of one version of the portal's script.
type version map[string]string

// versions returns all known versions of the script, by date or release.
func versions() map[string]version {
	return map[string]version{
		"2014-06-23": {},
		"2014-06-25": {"X-AuthDuration": "36000", "X-Unique": "true", "X-UserId": "7"},
		"5.1.0":      {"X-AuthDuration": "36000", "X-Unique": "true", "X-UserId": "7", "X-Max-Sessions": "1"},
		"5.1.1":      {"X-AuthDuration": "36000", "X-Unique": "true", "X-UserId": "7", "X-Max-Sessions": "10"},
	}
}

// respond imitates the script. It reads only the token, the last one as PHP does, and treats "0" as empty.
func (v version) respond(w http.ResponseWriter, known bool, r *http.Request) {
	tokens := r.URL.Query()["token"]
	if len(tokens) > 0 && (tokens[len(tokens)-1] == "" || tokens[len(tokens)-1] == "0") {
		known = false
	}
	if !known {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	for name, value := range v {
		w.Header()[name] = []string{value} // in the script's spelling
	}
	w.WriteHeader(http.StatusOK)
}

// dialect responds for users whose tokens never expire.
func (v version) dialect(w http.ResponseWriter, r *http.Request, _ backendtest.User, known bool) {
	v.respond(w, known, r)
}

// clock is the portal's clock, set by the test: seconds since the token was issued.
type clock struct{ age atomic.Int64 }

// dialect responds for users whose tokens live for ttl and are not consumed by a check.
func (c *clock) dialect(v version, ttl time.Duration) backendtest.Dialect {
	return func(w http.ResponseWriter, r *http.Request, _ backendtest.User, known bool) {
		v.respond(w, known && time.Duration(c.age.Load())*time.Second <= ttl, r)
	}
}

// startPortal starts a portal with the token 0123456789abcdef0123456789abcdef, and with "0", which its script rejects.
func startPortal(t testing.TB, d backendtest.Dialect) *backendtest.Server {
	t.Helper()
	cfg := backendtest.DefaultConfig()
	cfg.Users = map[string]backendtest.User{token: {}, "0": {}, "": {}}
	s := backendtest.New(cfg)
	s.SetDialect(d)
	if err := s.Start(); err != nil {
		t.Fatalf("start the portal: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

const token = "0123456789abcdef0123456789abcdef"

func newBackend(t testing.TB, address string) *Backend {
	t.Helper()
	cfg := DefaultConfig()
	cfg.HTTP.Address = address
	b, err := New("portal", cfg, httpbackend.Deps{})
	if err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	t.Cleanup(b.Close)
	return b
}
