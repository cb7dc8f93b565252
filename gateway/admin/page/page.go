package page

import (
	"crypto/subtle"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path"
	"strconv"
	"time"

	"usher/backends/setting"
	"usher/gateway/admin/access"
	"usher/gateway/admin/audit"
)

// assets holds the page.
//
//go:embed assets
var assets embed.FS

// Lifetime is how long a login lasts.
const Lifetime = 12 * time.Hour

// contentSecurityPolicy allows the page to load only files of this listener, and no script or style inside a document.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// Options are the dependencies of a page. All functions are safe for concurrent use.
type Options struct {
	// Tokens returns the tokens of the API. A cookie is valid as long as the token that its operator logged in with.
	Tokens func() []access.Token
	// Authenticator knows whose they are.
	Authenticator *access.Authenticator
	// Overview returns what the page shows first, in JSON. It is called while a page is open.
	Overview OverviewFunc
	// Audit records logins and logouts.
	Audit *audit.Log
	// Replaced is closed when another page serves in this one's place, perhaps with other tokens: the streams end. Nil: never.
	Replaced <-chan struct{}
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Page is the live page. It is safe for concurrent use.
type Page struct {
	Options
	logins, requests limiter // requests are of the API
	streams          streams
	origins          *http.CrossOriginProtection
}

// New returns a page.
func New(o Options) *Page {
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &Page{Options: o, origins: http.NewCrossOriginProtection()}
	p.streams.overview = o.Overview
	return p
}

// Register adds the page to a listener.
func (p *Page) Register(mux *http.ServeMux) {
	handle := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, withHeaders(h)) }
	handle("GET /{$}", func(w http.ResponseWriter, r *http.Request) { serveAsset(w, r, "index.html") })
	handle("GET /ui/{file}", func(w http.ResponseWriter, r *http.Request) { serveAsset(w, r, r.PathValue("file")) })
	handle("POST /ui/login", p.login)
	handle("POST /ui/logout", p.logout)
	handle("GET /ui/me", p.me)
	handle("GET /ui/events", p.events)
}

// withHeaders adds the headers of every response of the page.
func withHeaders(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next(w, r)
	})
}

// contentTypes are those of the page's files, so that no table of the machine decides.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return ""
}

func serveAsset(w http.ResponseWriter, r *http.Request, name string) {
	body, err := assets.ReadFile("assets/" + name)
	if kind := contentType(name); err == nil && kind != "" {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(body)
		return
	}
	http.NotFound(w, r)
}

var (
	// errNoLogin means that the request has no cookie of a login, or one that has ended.
	errNoLogin = errors.New("no login, or it has ended")
	// errForged means that the request may be another page's.
	errForged = errors.New("the request is not the page's own")
	// errUnknownToken, errTooMany and errForm refuse a login.
	errUnknownToken = errors.New("unknown token; want admin.token or one of admin.tokens")
	errTooMany      = errors.New("too many failed logins; wait a minute")
	errForm         = errors.New("the form cannot be read")
	// errTooManyUnknown refuses a request of the API without a known token.
	errTooManyUnknown = errors.New("too many requests without a known token; wait a minute")
)

// Identify gives the requests with the page's cookie and without a bearer token their principal. It refuses those that may be
// another page's, and records them unless change, the name of what they would change, is empty. Those without a login have none.
func (p *Page) Identify(change string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, hasToken := access.Bearer(r); !hasToken {
			principal, _, err := p.authenticate(r)
			if err == nil || errors.Is(err, errForged) {
				r = r.WithContext(access.WithPrincipal(r.Context(), principal))
			}
			if errors.Is(err, errForged) {
				if change != "" {
					p.Audit.Record(r, change, audit.Target(r), err)
				}
				writeRefusal(w, err)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// authenticate returns who sent a request with the page's cookie. An error is errNoLogin or, if the request is a write without
// the CSRF token or comes from another origin, errForged: then the principal is whose cookie it has.
func (p *Page) authenticate(r *http.Request) (access.Principal, *login, error) {
	principal, l, err := p.find(r)
	if err != nil {
		return access.Principal{}, nil, err
	}
	if err := p.checkOrigin(r); err != nil {
		return principal, nil, err
	}
	isRead := r.Method == http.MethodGet || r.Method == http.MethodHead
	if !isRead && subtle.ConstantTimeCompare([]byte(r.Header.Get(CSRFHeader)), []byte(l.token())) != 1 {
		return principal, nil, fmt.Errorf("%w: it needs the header %s with the token of /ui/me", errForged, CSRFHeader)
	}
	return principal, l, nil
}

// checkOrigin returns errForged for a request of another origin, also for one that only reads.
func (p *Page) checkOrigin(r *http.Request) error {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return fmt.Errorf("%w: it comes from another origin", errForged)
	}
	if err := p.origins.Check(r); err != nil {
		return fmt.Errorf("%w: %w; a proxy must pass on the header Host", errForged, err)
	}
	return nil
}

// find returns the login of a request, if it has not ended.
func (p *Page) find(r *http.Request) (access.Principal, *login, error) {
	cookie, err := r.Cookie(CookieName)
	if err != nil {
		return access.Principal{}, nil, errNoLogin
	}
	for _, t := range p.Tokens() {
		if t.Token == "" {
			continue
		}
		if l, err := openLogin(cookie.Value, t.Token); err == nil && p.Now().Before(l.until) {
			return access.Principal{Name: t.Name, Role: t.Role}, l, nil
		}
	}
	return access.Principal{}, nil, errNoLogin
}

// maxFormBytes bounds the body of a login.
const maxFormBytes = 4 << 10

// login answers 204 and sets the cookie, if the form has a token of the API. Only others are limited.
func (p *Page) login(w http.ResponseWriter, r *http.Request) {
	if err := p.checkOrigin(r); err != nil {
		writeRefusal(w, err)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	status, why := http.StatusBadRequest, errForm
	if r.ParseForm() == nil {
		text := r.PostForm.Get("token")
		if principal, isKnown := p.Authenticator.FromToken(text); isKnown {
			p.Audit.Record(r.WithContext(access.WithPrincipal(r.Context(), principal)), "login", "page", nil)
			setCookie(w, r, newLogin(p.Now().Add(Lifetime)).seal(setting.Secret(text)), Lifetime)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		status, why = http.StatusUnauthorized, errUnknownToken
	}
	if !p.limit(w, r, &p.logins, failure{"login", "page", why, errTooMany}) {
		writeText(w, status, why.Error())
	}
}

// failure is a request that fails: what it would do to what, why it fails, and why beyond the bound.
type failure struct {
	action, target string
	why, tooMany   error
}

// limit counts a failed request and records it. Beyond the bound it answers 429, reports true, and records only the first such request.
func (p *Page) limit(w http.ResponseWriter, r *http.Request, l *limiter, f failure) (isAnswered bool) {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	wait, isFirst := l.fail(peer.Addr(), p.Now())
	if wait == 0 {
		p.Audit.Record(r, f.action, f.target, f.why)
		return false
	}
	if isFirst {
		p.Audit.Record(r, f.action, f.target, f.tooMany)
	}
	w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
	writeText(w, http.StatusTooManyRequests, f.tooMany.Error())
	return true
}

// LimitUnknown records a request of the API without a known token, and why it is refused. Beyond the bound of failed logins it answers
// 429 instead, and reports true. Neither counts for the other, so that a program with an old token keeps nobody from logging in.
func (p *Page) LimitUnknown(w http.ResponseWriter, r *http.Request, action string, why error) (isAnswered bool) {
	return p.limit(w, r, &p.requests, failure{action, audit.Target(r), why, errTooManyUnknown})
}

// logout ends the cookie, and the streams of its login on this node.
func (p *Page) logout(w http.ResponseWriter, r *http.Request) {
	principal, l, err := p.authenticate(r)
	if errors.Is(err, errForged) {
		writeRefusal(w, err)
		return
	}
	if err == nil {
		p.streams.end(l.id)
		p.Audit.Record(r.WithContext(access.WithPrincipal(r.Context(), principal)), "logout", "page", nil)
	}
	setCookie(w, r, "", 0)
	w.WriteHeader(http.StatusNoContent)
}

// me answers who is logged in, with the token that writes need; an empty object if nobody is.
func (p *Page) me(w http.ResponseWriter, r *http.Request) {
	answer := map[string]any{}
	switch principal, l, err := p.authenticate(r); {
	case err == nil:
		answer = map[string]any{"name": principal.Name, "role": principal.Role, "csrf": l.token(), "until": l.until.UTC()}
	case errors.Is(err, errForged):
		writeRefusal(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // it fails only if the client has disconnected
}

// writeRefusal answers 401 or 403.
func writeRefusal(w http.ResponseWriter, err error) {
	status := http.StatusUnauthorized
	if errors.Is(err, errForged) {
		status = http.StatusForbidden
	}
	writeText(w, status, err.Error())
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}

// loginID names a login in memory.
type loginID = [secretBytes]byte
