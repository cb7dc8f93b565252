package backendtest

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// hangTimeout ends a call to a middleware that hangs. Other calls have suiteTimeout, which none needs.
const hangTimeout = 50 * time.Millisecond

// scenario is a middleware in one condition.
type scenario struct {
	middleware *Server
	// elsewhere is another host, by its name, that knows every viewer.
	elsewhere *Server
	// redirectTarget is a URL of elsewhere.
	redirectTarget string
	// address is where the backend calls.
	address string
	// timeout is when the backend gives up.
	timeout time.Duration
	dialect Dialect
}

func newScenario(t *testing.T, dialect Dialect) *scenario {
	t.Helper()
	start := func(cfg Config) *Server {
		s := New(cfg)
		s.SetDialect(dialect)
		if err := s.Start(); err != nil {
			t.Fatalf("start the middleware: %v", err)
		}
		t.Cleanup(s.Close)
		return s
	}
	cfg, other := DefaultConfig(), DefaultConfig()
	cfg.Users = map[string]User{GoodToken: {ID: "u1", Name: "alice"}}
	other.Lookup = func(string) (User, bool) { return User{ID: "u1", Name: "alice"}, true }
	p := &scenario{middleware: start(cfg), elsewhere: start(other), timeout: suiteTimeout, dialect: dialect}
	p.address = p.middleware.URL()
	p.redirectTarget = strings.Replace(p.elsewhere.URL(), "127.0.0.1", "localhost", 1) + "/elsewhere"
	return p
}

// conditions returns what sets up each condition, by its name.
func conditions() map[string]func(*testing.T, *scenario) {
	all := map[string]func(*testing.T, *scenario){
		"refused": func(t *testing.T, p *scenario) { setMode(t, p.middleware, Refuse()) },
		// A label has at most 63 bytes, so no resolver is asked for this one. A valid name under .invalid is looked up.
		"an unknown host": func(_ *testing.T, p *scenario) {
			p.address = "http://" + strings.Repeat("x", 64) + ".invalid"
		},
		"an untrusted certificate": untrustedCertificate,
		"a hang": func(t *testing.T, p *scenario) {
			p.timeout = hangTimeout
			setMode(t, p.middleware, Hang())
		},
		"a reset":                      func(t *testing.T, p *scenario) { setMode(t, p.middleware, Reset()) },
		"not HTTP":                     func(t *testing.T, p *scenario) { setMode(t, p.middleware, Garbage()) },
		"200":                          func(t *testing.T, p *scenario) { setMode(t, p.middleware, Healthy()) },
		"302 to another host":          func(t *testing.T, p *scenario) { setMode(t, p.middleware, Redirect(p.redirectTarget)) },
		"302 to its own login page":    func(_ *testing.T, p *scenario) { p.middleware.SetDialect(loginPage) },
		"302 to itself for ever":       func(t *testing.T, p *scenario) { setMode(t, p.middleware, RedirectSelf()) },
		"302 to another host for ever": endlessRedirects,
		"10 redirects to itself, then 200": func(_ *testing.T, p *scenario) {
			p.middleware.SetDialect(afterRedirects(10, p.dialect))
		},
		"11 redirects to itself, then 200": func(_ *testing.T, p *scenario) {
			p.middleware.SetDialect(afterRedirects(11, p.dialect))
		},
		"403 with X-Location": func(t *testing.T, p *scenario) {
			p.middleware.SetHeader("X-Location", p.redirectTarget)
			setMode(t, p.middleware, Status(http.StatusForbidden))
		},
		"302 to a channel of its own": func(_ *testing.T, p *scenario) { ownChannel(p, "http://"+p.middlewareHost()+promoPath) },
		"302 to a path of a channel":  func(_ *testing.T, p *scenario) { ownChannel(p, promoPath) },
		"302 to another port": func(t *testing.T, p *scenario) {
			p.redirectTarget = p.elsewhere.URL() + "/promo"
			setMode(t, p.middleware, Redirect(p.redirectTarget))
		},
		"301 to its path, slash or not": movedAddress,
		"200 with X-Location":           func(_ *testing.T, p *scenario) { p.middleware.SetHeader("X-Location", p.redirectTarget) },
	}
	for _, status := range []int{204, 400, 401, 403, 404, 429, 500, 502, 503} {
		all[strconv.Itoa(status)] = func(t *testing.T, p *scenario) { setMode(t, p.middleware, Status(status)) }
	}
	return all
}

// promoPath is a channel on the middleware's own box.
const promoPath = "/promo/index.m3u8"

func (p *scenario) middlewareHost() string { return strings.TrimPrefix(p.middleware.URL(), "http://") }

// ownChannel redirects every viewer to a channel on the middleware's own box, which refuses the check itself.
func ownChannel(p *scenario, location string) {
	p.redirectTarget = p.middleware.URL() + promoPath
	p.middleware.SetDialect(func(w http.ResponseWriter, r *http.Request, _ User, _ bool) {
		if r.URL.Path == promoPath {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusFound)
	})
}

// movedAddress redirects the check to its own path with a slash, as web servers do, or without the one that it has.
func movedAddress(_ *testing.T, p *scenario) {
	p.address += "/check"
	p.middleware.SetDialect(func(w http.ResponseWriter, r *http.Request, u User, known bool) {
		query := r.URL.Query()
		if query.Has("moved") {
			p.dialect(w, r, u, known)
			return
		}
		query.Set("moved", "1")
		moved := *r.URL
		moved.RawQuery = query.Encode()
		if moved.Path = strings.TrimSuffix(r.URL.Path, "/"); moved.Path == r.URL.Path {
			moved.Path += "/"
		}
		w.Header().Set("Location", moved.String())
		w.WriteHeader(http.StatusMovedPermanently)
	})
}

// untrustedCertificate puts a healthy middleware behind a self-signed certificate.
func untrustedCertificate(t *testing.T, p *scenario) {
	t.Helper()
	secured := New(p.middleware.cfg)
	secured.SetDialect(p.dialect)
	if err := secured.StartTLS(); err != nil {
		t.Fatalf("start the middleware: %v", err)
	}
	t.Cleanup(secured.Close)
	p.address = secured.URL()
}

// endlessRedirects redirects to another host, which redirects to itself for ever.
func endlessRedirects(t *testing.T, p *scenario) {
	t.Helper()
	setMode(t, p.middleware, Redirect(p.redirectTarget))
	setMode(t, p.elsewhere, RedirectSelf())
}

// loginPage answers as a portal that redirects every viewer to its login page.
func loginPage(w http.ResponseWriter, r *http.Request, _ User, _ bool) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if r.URL.Path != "/login" {
		w.Header().Set("Location", "/login")
		w.WriteHeader(http.StatusFound)
		return
	}
	_, _ = w.Write([]byte("<!doctype html><title>Log in</title>"))
}

// afterRedirects redirects to the server itself that many times, and then answers with the dialect.
func afterRedirects(redirects int, then Dialect) Dialect {
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
