package backendtest

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// hangTimeout ends a call to a middleware that hangs. The other calls have all the suite's patience, which none needs.
const hangTimeout = 50 * time.Millisecond

// place is a middleware with something the matter with it.
type place struct {
	middleware *Server
	// elsewhere is another host, by its name, where everybody is known; sentOn is its address, for redirects.
	elsewhere *Server
	sentOn    string
	// address is where the backend asks, and timeout when it gives up.
	address string
	timeout time.Duration
	dialect Dialect
	// refusing is how it says 401 and 403; nil: with the status alone.
	refusing func(status int) Dialect
}

func newPlace(t *testing.T, dialect Dialect) *place {
	t.Helper()
	start := func(cfg Config) *Server {
		s := New(cfg)
		s.Speak(dialect)
		if err := s.Start(); err != nil {
			t.Fatalf("start the middleware: %v", err)
		}
		t.Cleanup(s.Close)
		return s
	}
	cfg, other := DefaultConfig(), DefaultConfig()
	cfg.Users = map[string]User{GoodToken: {ID: "u1", Name: "alice"}}
	other.Lookup = func(string) (User, bool) { return User{ID: "u1", Name: "alice"}, true }
	p := &place{middleware: start(cfg), elsewhere: start(other), timeout: patience, dialect: dialect}
	p.address = p.middleware.URL()
	p.sentOn = strings.Replace(p.elsewhere.URL(), "127.0.0.1", "localhost", 1) + "/elsewhere"
	return p
}

// conditions is all that may be the matter, by name.
func conditions() map[string]func(*testing.T, *place) {
	all := map[string]func(*testing.T, *place){
		"refused": func(t *testing.T, p *place) { set(t, p.middleware, Refuse()) },
		// No label is longer than 63 bytes, so nobody is asked for this one. A well-formed name under .invalid would be
		// looked up like any other.
		"an unknown host": func(_ *testing.T, p *place) {
			p.address = "http://" + strings.Repeat("x", 64) + ".invalid"
		},
		"an untrusted certificate": untrusted,
		"a hang": func(t *testing.T, p *place) {
			p.timeout = hangTimeout
			set(t, p.middleware, Hang())
		},
		"a reset":                      func(t *testing.T, p *place) { set(t, p.middleware, Reset()) },
		"not HTTP":                     func(t *testing.T, p *place) { set(t, p.middleware, Garbage()) },
		"200":                          func(t *testing.T, p *place) { set(t, p.middleware, Healthy()) },
		"302 to another host":          func(t *testing.T, p *place) { set(t, p.middleware, Redirect(p.sentOn)) },
		"302 to its own login page":    func(_ *testing.T, p *place) { p.middleware.Speak(wantingLogin) },
		"302 to itself for ever":       func(t *testing.T, p *place) { set(t, p.middleware, RedirectSelf()) },
		"302 to another host for ever": endless,
		"10 redirects to itself, then 200": func(_ *testing.T, p *place) {
			p.middleware.Speak(after(10, p.dialect))
		},
		"11 redirects to itself, then 200": func(_ *testing.T, p *place) {
			p.middleware.Speak(after(11, p.dialect))
		},
		"403 with X-Location": func(t *testing.T, p *place) {
			p.middleware.SetHeader("X-Location", p.sentOn)
			p.refuse(t, http.StatusForbidden)
		},
		"401": func(t *testing.T, p *place) { p.refuse(t, http.StatusUnauthorized) },
		"403": func(t *testing.T, p *place) { p.refuse(t, http.StatusForbidden) },
	}
	for _, status := range []int{204, 400, 404, 429, 500, 502, 503} {
		all[strconv.Itoa(status)] = func(t *testing.T, p *place) { set(t, p.middleware, Status(status)) }
	}
	return all
}

// refuse makes the middleware refuse everybody.
func (p *place) refuse(t *testing.T, status int) {
	t.Helper()
	if p.refusing != nil {
		refusal := p.refusing(status)
		p.middleware.Speak(func(w http.ResponseWriter, r *http.Request, _ User, _ bool) { refusal(w, r, User{}, false) })
		return
	}
	set(t, p.middleware, Status(status))
}

// untrusted puts a healthy middleware behind a certificate that nobody vouches for.
func untrusted(t *testing.T, p *place) {
	t.Helper()
	secured := New(p.middleware.cfg)
	secured.Speak(p.dialect)
	if err := secured.StartTLS(); err != nil {
		t.Fatalf("start the middleware: %v", err)
	}
	t.Cleanup(secured.Close)
	p.address = secured.URL()
}

// endless sends viewers to another host, which sends them on to itself for ever.
func endless(t *testing.T, p *place) {
	t.Helper()
	set(t, p.middleware, Redirect(p.sentOn))
	set(t, p.elsewhere, RedirectSelf())
}

// wantingLogin is a portal that shows whoever it does not know, which is everybody, its login page.
func wantingLogin(w http.ResponseWriter, r *http.Request, _ User, _ bool) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if r.URL.Path != "/login" {
		w.Header().Set("Location", "/login")
		w.WriteHeader(http.StatusFound)
		return
	}
	_, _ = w.Write([]byte("<!doctype html><title>Log in</title>"))
}

// after redirects to the server itself that many times, and then answers as well as ever.
func after(redirects int, then Dialect) Dialect {
	return func(w http.ResponseWriter, r *http.Request, u User, known bool) {
		query := r.URL.Query()
		hop, _ := strconv.Atoi(query.Get("hop")) // absent: the first
		if hop == redirects {
			then(w, r, u, known)
			return
		}
		query.Set("hop", strconv.Itoa(hop+1))
		next := *r.URL
		next.RawQuery = query.Encode()
		w.Header().Set("Location", next.String())
		w.WriteHeader(http.StatusFound)
	}
}
