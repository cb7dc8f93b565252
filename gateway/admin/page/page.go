package page

import (
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"strconv"
	"time"

	"usher/backends/setting"
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

// Operator is who may log in.
type Operator struct {
	// Name is shown on the page and in the audit log.
	Name string
	// CanWrite reports whether they may change anything.
	CanWrite bool
	// Token is what they log in with.
	Token setting.Secret
}

// Options are the dependencies of a page. All functions are safe for concurrent use.
type Options struct {
	// Operators returns who may log in now. A cookie is valid as long as the token that it was got with.
	Operators func() []Operator
	// Overview returns what the page shows first, in JSON. It is called while a page is open.
	Overview OverviewFunc
	// Logger receives a record "audit" of every login and logout.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Page is the live page. It is safe for concurrent use.
type Page struct {
	Options
	limiter limiter
	streams streams
	origins *http.CrossOriginProtection
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

// Errors of [Page.Authenticate].
var (
	// ErrNoLogin means that the request has no cookie of a login, or one that has ended.
	ErrNoLogin = errors.New("no login, or it has ended")
	// ErrForged means that the request may be another page's.
	ErrForged = errors.New("the request is not the page's own")
)

// Authenticate returns who sent a request with the page's cookie. An error is [ErrNoLogin] or, if the request is a write
// without the CSRF token or comes from another site, [ErrForged].
func (p *Page) Authenticate(r *http.Request) (Operator, error) {
	o, l, err := p.find(r)
	if err != nil {
		return Operator{}, err
	}
	if err := p.checkOrigin(r); err != nil {
		return Operator{}, err
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return o, nil
	}
	if subtle.ConstantTimeCompare([]byte(r.Header.Get(CSRFHeader)), []byte(l.token())) != 1 {
		return Operator{}, fmt.Errorf("%w: it needs the header %s with the token of /ui/me", ErrForged, CSRFHeader)
	}
	return o, nil
}

// checkOrigin returns ErrForged for a request of another origin, also for one that only reads.
func (p *Page) checkOrigin(r *http.Request) error {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return fmt.Errorf("%w: it comes from another origin", ErrForged)
	}
	if err := p.origins.Check(r); err != nil {
		return fmt.Errorf("%w: %w; a proxy must pass on the header Host", ErrForged, err)
	}
	return nil
}

// find returns the login of a request, if it has not ended.
func (p *Page) find(r *http.Request) (Operator, *login, error) {
	cookie, err := r.Cookie(CookieName)
	if err != nil {
		return Operator{}, nil, ErrNoLogin
	}
	for _, o := range p.Operators() {
		if l, err := openLogin(cookie.Value, o.Token); err == nil {
			if !p.Now().Before(l.until) {
				break
			}
			return o, l, nil
		}
	}
	return Operator{}, nil, ErrNoLogin
}

// maxFormBytes bounds the body of a login.
const maxFormBytes = 4 << 10

// login answers 204 and sets the cookie, if the form has the token of an operator.
func (p *Page) login(w http.ResponseWriter, r *http.Request) {
	if err := p.checkOrigin(r); err != nil {
		writeText(w, http.StatusForbidden, err.Error())
		return
	}
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	succeeded, wait := p.limiter.begin(peer.Addr(), p.Now())
	if wait > 0 {
		p.audit(r, "login", "", "refused: too many failed logins")
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		writeText(w, http.StatusTooManyRequests, "too many failed logins; wait a minute")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	if err := r.ParseForm(); err != nil {
		writeText(w, http.StatusBadRequest, "the form cannot be read")
		return
	}
	o, found := p.operator(r.PostForm.Get("token"))
	if !found {
		p.audit(r, "login", "", "refused: unknown token")
		writeText(w, http.StatusUnauthorized, "this token is not known; it is admin.token, or one of admin.tokens")
		return
	}
	succeeded()
	setCookie(w, r, newLogin(p.Now().Add(Lifetime)).seal(o.Token), Lifetime)
	p.audit(r, "login", o.Name, "done")
	w.WriteHeader(http.StatusNoContent)
}

// operator returns whose token it is. It takes as long for any token.
func (p *Page) operator(token string) (found Operator, isFound bool) {
	given := sha256.Sum256([]byte(token))
	for _, o := range p.Operators() {
		want := sha256.Sum256([]byte(o.Token.Reveal()))
		if subtle.ConstantTimeCompare(given[:], want[:]) == 1 && o.Token.Reveal() != "" {
			found, isFound = o, true
		}
	}
	return found, isFound
}

// logout ends the cookie, and the streams of its login on this node.
func (p *Page) logout(w http.ResponseWriter, r *http.Request) {
	o, err := p.Authenticate(r)
	if errors.Is(err, ErrForged) {
		writeText(w, http.StatusForbidden, err.Error())
		return
	}
	if _, l, err := p.find(r); err == nil {
		p.streams.end(l.id)
		p.audit(r, "logout", o.Name, "done")
	}
	setCookie(w, r, "", 0)
	w.WriteHeader(http.StatusNoContent)
}

// me answers who is logged in, with the token that writes need.
func (p *Page) me(w http.ResponseWriter, r *http.Request) {
	o, l, err := p.find(r)
	if err == nil {
		err = p.checkOrigin(r)
	}
	if err != nil {
		writeRefusal(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // it fails only if the client has disconnected
		"name": o.Name, "can_write": o.CanWrite, "csrf": l.token(), "until": l.until.UTC(),
	})
}

// writeRefusal answers 401 or 403.
func writeRefusal(w http.ResponseWriter, err error) {
	status := http.StatusUnauthorized
	if errors.Is(err, ErrForged) {
		status = http.StatusForbidden
	}
	writeText(w, status, err.Error())
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}

// audit logs a login or a logout.
func (p *Page) audit(r *http.Request, action, name, result string) {
	p.Logger.LogAttrs(r.Context(), slog.LevelInfo, "audit", slog.String("actor", r.RemoteAddr), slog.String("action", action),
		slog.String("target", name), slog.String("result", result))
}

// loginID names a login in memory.
type loginID = [secretBytes]byte

