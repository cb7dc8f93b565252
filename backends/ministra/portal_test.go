package ministra

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"usher/backends/backendtest"
	"usher/backends/httpbackend"
)

// version is what the check script of one version of the portal says beside a yes.
type version map[string]string

// versions are all that there have been, by what is known of when.
func versions() map[string]version {
	return map[string]version{
		"2014-06-23": {},
		"2014-06-25": {"X-AuthDuration": "36000", "X-Unique": "true", "X-UserId": "7"},
		"5.1.0":      {"X-AuthDuration": "36000", "X-Unique": "true", "X-UserId": "7", "X-Max-Sessions": "1"},
		"5.1.1":      {"X-AuthDuration": "36000", "X-Unique": "true", "X-UserId": "7", "X-Max-Sessions": "10"},
	}
}

// answer is the script. It looks at the token alone, the last one as PHP does, and finds "0" as empty as "".
func (v version) answer(w http.ResponseWriter, known bool, r *http.Request) {
	tokens := r.URL.Query()["token"]
	if len(tokens) > 0 && (tokens[len(tokens)-1] == "" || tokens[len(tokens)-1] == "0") {
		known = false
	}
	if !known {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	for name, value := range v {
		w.Header()[name] = []string{value} // spelled as the script spells it
	}
	w.WriteHeader(http.StatusOK)
}

// dialect answers for users whose tokens never end.
func (v version) dialect(w http.ResponseWriter, r *http.Request, _ backendtest.User, known bool) {
	v.answer(w, known, r)
}

// clock is the portal's, moved by the test: seconds since the token was made.
type clock struct{ age atomic.Int64 }

// dialect answers for users whose tokens live for ttl, and are not used up by a check.
func (c *clock) dialect(v version, ttl time.Duration) backendtest.Dialect {
	return func(w http.ResponseWriter, r *http.Request, _ backendtest.User, known bool) {
		v.answer(w, known && time.Duration(c.age.Load())*time.Second <= ttl, r)
	}
}

// startPortal starts a portal that knows the token 0123456789abcdef0123456789abcdef, and "0" too if it would look.
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
	cfg.HTTP.URL = address
	b, err := New("portal", cfg, httpbackend.Deps{})
	if err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	t.Cleanup(b.Close)
	return b
}
