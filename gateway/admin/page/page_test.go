package page_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/gateway/admin/access"
	"usher/gateway/admin/audit"
	"usher/gateway/admin/page"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	adminToken = "the token of admin"
	readToken  = "the token of grafana"
)

// site is a listener with the page and one API operation, which answers who has called it.
type site struct {
	*httptest.Server
	page     *page.Page
	replaced chan struct{}

	mu     sync.Mutex
	now    time.Time
	tokens []access.Token
	log    bytes.Buffer
}

// Write appends to the log.
func (s *site) Write(text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(text)
}

func (s *site) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// pass lets time pass.
func (s *site) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func (s *site) logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

func (s *site) currentTokens() []access.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens
}

// newSite returns a site whose overviews count up.
func newSite(t *testing.T, edits ...func(*http.Server)) *site {
	t.Helper()
	s := &site{replaced: make(chan struct{}), now: time.Unix(1_800_000_000, 0), tokens: []access.Token{
		{Name: "admin", Token: adminToken, Role: access.Write}, {Name: "grafana", Token: readToken, Role: access.Read}, {Name: "empty", Role: access.Write},
	}}
	var overviews atomic.Int64
	s.page = page.New(page.Options{
		Tokens: s.currentTokens, Authenticator: access.NewAuthenticator(adminToken, s.tokens[1:]),
		Overview: func(context.Context) []byte { return fmt.Appendf(nil, "{\"number\":%d}\n", overviews.Add(1)) },
		Audit:    audit.New(slog.New(slog.NewJSONHandler(s, nil)), nil), Replaced: s.replaced, Now: s.clock,
	})
	mux := http.NewServeMux()
	s.page.Register(mux)
	mux.Handle("/api/v1/who", s.page.Identify("who", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := access.FromContext(r.Context())
		_, _ = fmt.Fprintf(w, "%s %s", p.Name, p.Role)
	})))
	s.Server = httptest.NewUnstartedServer(mux)
	for _, edit := range edits {
		edit(s.Config)
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// send sends a request with header fields in pairs.
func (s *site) send(t *testing.T, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// attempt tries to log in.
func (s *site) attempt(t *testing.T, token string, header ...string) *http.Response {
	t.Helper()
	header = append([]string{"Content-Type", "application/x-www-form-urlencoded"}, header...)
	resp, _ := s.send(t, http.MethodPost, "/ui/login", url.Values{"token": {token}}.Encode(), header...)
	return resp
}

// login logs in and returns the cookie and the CSRF token.
func (s *site) login(t *testing.T, token string) (cookie, csrf string) {
	t.Helper()
	resp := s.attempt(t, token)
	if resp.StatusCode != http.StatusNoContent || len(resp.Cookies()) != 1 {
		t.Fatalf("login: %d, %v", resp.StatusCode, resp.Cookies())
	}
	cookie = page.CookieName + "=" + resp.Cookies()[0].Value
	var me struct{ Name, Role, CSRF string }
	_, body := s.send(t, http.MethodGet, "/ui/me", "", "Cookie", cookie)
	if err := json.Unmarshal([]byte(body), &me); err != nil || me.CSRF == "" {
		t.Fatalf("me: %v, %s", err, body)
	}
	return cookie, me.CSRF
}

func TestPage_Login_Cookie(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for name, test := range map[string]struct {
		header []string
		secure bool
	}{
		"plain HTTP":            {nil, false},
		"TLS at a proxy":        {[]string{"X-Forwarded-Proto", "https"}, true},
		"TLS at a far proxy":    {[]string{"X-Forwarded-Proto", "https, http"}, true},
		"TLS in capitals":       {[]string{"X-Forwarded-Proto", "HTTPS"}, true},
		"TLS between proxies":   {[]string{"X-Forwarded-Proto", "http,https"}, false},
		"plain HTTP at a proxy": {[]string{"X-Forwarded-Proto", "http"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := s.attempt(t, adminToken, test.header...).Cookies()[0]
			if c.Name != page.CookieName || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" ||
				c.Secure != test.secure || c.MaxAge != int(page.Lifetime/time.Second) || strings.Contains(c.Value, adminToken) {
				t.Errorf("cookie %v", c)
			}
		})
	}
}

func TestPage_Login_WhoIsLoggedIn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for token, want := range map[string]string{adminToken: "admin write", readToken: "grafana read"} {
		cookie, csrf := s.login(t, token)
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			if _, got := s.send(t, method, "/api/v1/who", "", "Cookie", cookie, page.CSRFHeader, csrf); got != want {
				t.Errorf("%s with the cookie of %q: got %q, want %q", method, token, got, want)
			}
		}
	}
	if log := s.logged(); !strings.Contains(log, `"actor":"grafana","client_address":"127.0.0.1","action":"login","target":"page","result":"done"`) {
		t.Errorf("the log has no login of grafana:\n%s", log)
	}
	if log := s.logged(); strings.Contains(log, adminToken) || strings.Contains(log, readToken) {
		t.Errorf("the log has a token:\n%s", log)
	}
}

func TestPage_Login_Refused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		token  string
		header []string
		want   int
	}{
		"another token":        {"another", nil, http.StatusUnauthorized},
		"no token":             {"", nil, http.StatusUnauthorized},
		"the token of the URL": {"", nil, http.StatusUnauthorized},
		"another site's form":  {adminToken, []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		"another port's form":  {adminToken, []string{"Sec-Fetch-Site", "same-site"}, http.StatusForbidden},
		"another origin":       {adminToken, []string{"Origin", "http://evil.example"}, http.StatusForbidden},
		"no form":              {adminToken, []string{"Content-Type", "text/plain"}, http.StatusUnauthorized},
		"a form too long":      {strings.Repeat("x", 5000), nil, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			resp := s.attempt(t, test.token, test.header...)
			if strings.Contains(name, "URL") {
				resp, _ = s.send(t, http.MethodPost, "/ui/login?token="+url.QueryEscape(adminToken), "", "Content-Type", "application/x-www-form-urlencoded")
			}
			if resp.StatusCode != test.want || len(resp.Cookies()) > 0 {
				t.Errorf("got %d and cookies %v, want %d", resp.StatusCode, resp.Cookies(), test.want)
			}
			why := map[int]string{http.StatusUnauthorized: "unknown token", http.StatusBadRequest: "the form cannot be read"}[test.want]
			if !strings.Contains(s.logged(), `"action":"login","target":"page","result":"`+why) && why != "" {
				t.Errorf("the log has no failed login:\n%s", s.logged())
			}
		})
	}
}

func TestPage_Login_TooManyFailures(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for range 10 {
		if got := s.attempt(t, "a guess").StatusCode; got != http.StatusUnauthorized {
			t.Fatalf("got %d", got)
		}
	}
	for range 2 {
		resp := s.attempt(t, "a guess")
		if wait, err := strconv.Atoi(resp.Header.Get("Retry-After")); resp.StatusCode != http.StatusTooManyRequests || err != nil || wait < 1 || wait > 61 {
			t.Errorf("got %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
		}
	}
	if got := strings.Count(s.logged(), "too many failed logins"); got != 1 {
		t.Errorf("the log has %d refusals, want the first:\n%s", got, s.logged())
	}
	for range 30 { // the right token is neither refused nor a failure
		s.login(t, adminToken)
	}
	s.pass(time.Minute)
	s.login(t, adminToken)
	if got := s.attempt(t, "a guess").StatusCode; got != http.StatusUnauthorized {
		t.Errorf("a minute later: got %d", got)
	}
}

func TestPage_Identify_Refused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cookie, csrf := s.login(t, adminToken)
	other, otherCSRF := s.login(t, adminToken)
	value := strings.TrimPrefix(cookie, page.CookieName+"=")
	flipped := func(at int) string { // one letter is another
		text := []byte(value)
		if text[at]++; text[at] == 'z'+1 || text[at] == 'Z'+1 || text[at] == '9'+1 {
			text[at] = 'A'
		}
		return page.CookieName + "=" + string(text)
	}
	const nobody, forged = " ", "the request is not the page's own"
	for name, test := range map[string]struct {
		method string
		header []string
		want   string // a part of the body
		status int
	}{
		"a read":                       {"GET", []string{"Cookie", cookie}, "admin write", 200},
		"a write":                      {"POST", []string{"Cookie", cookie, page.CSRFHeader, csrf}, "admin write", 200},
		"a write of its own origin":    {"POST", []string{"Cookie", cookie, page.CSRFHeader, csrf, "Sec-Fetch-Site", "same-origin", "Origin", s.URL}, "admin write", 200},
		"a link that was typed":        {"GET", []string{"Cookie", cookie, "Sec-Fetch-Site", "none"}, "admin write", 200},
		"no CSRF token":                {"POST", []string{"Cookie", cookie}, forged, 403},
		"an empty CSRF token":          {"DELETE", []string{"Cookie", cookie, page.CSRFHeader, ""}, forged, 403},
		"a wrong CSRF token":           {"POST", []string{"Cookie", cookie, page.CSRFHeader, csrf[:len(csrf)-1]}, forged, 403},
		"another login's CSRF token":   {"POST", []string{"Cookie", cookie, page.CSRFHeader, otherCSRF}, forged, 403},
		"its own":                      {"POST", []string{"Cookie", other, page.CSRFHeader, otherCSRF}, "admin write", 200},
		"a write from another site":    {"POST", []string{"Cookie", cookie, page.CSRFHeader, csrf, "Sec-Fetch-Site", "cross-site"}, forged, 403},
		"a write from another port":    {"POST", []string{"Cookie", cookie, page.CSRFHeader, csrf, "Sec-Fetch-Site", "same-site"}, forged, 403},
		"a write from another origin":  {"POST", []string{"Cookie", cookie, page.CSRFHeader, csrf, "Origin", "http://evil.example"}, forged, 403},
		"a read from another site":     {"GET", []string{"Cookie", cookie, "Sec-Fetch-Site", "cross-site"}, forged, 403},
		"another host by DNS":          {"POST", []string{"Cookie", cookie, page.CSRFHeader, csrf, "Origin", s.URL, "Host", "rebound.example"}, forged, 403},
		"no cookie":                    {"POST", nil, nobody, 200},
		"an empty cookie":              {"GET", []string{"Cookie", page.CookieName + "="}, nobody, 200},
		"a tampered beginning":         {"GET", []string{"Cookie", flipped(0)}, nobody, 200},
		"a tampered middle":            {"GET", []string{"Cookie", flipped(len(value) / 2)}, nobody, 200},
		"a tampered end":               {"GET", []string{"Cookie", flipped(len(value) - 2)}, nobody, 200},
		"a shorter cookie":             {"GET", []string{"Cookie", cookie[:len(cookie)-4]}, nobody, 200},
		"a long cookie":                {"GET", []string{"Cookie", cookie + strings.Repeat("A", 400)}, nobody, 200},
		"the token itself":             {"GET", []string{"Cookie", page.CookieName + "=" + url.QueryEscape(adminToken)}, nobody, 200},
		"a bearer token and no cookie": {"POST", []string{"Authorization", "Bearer x"}, nobody, 200},
		"a cookie and a bearer token":  {"POST", []string{"Authorization", "Bearer x", "Cookie", cookie}, nobody, 200},
		"a cookie and bearer x":        {"POST", []string{"Authorization", "bearer x", "Cookie", cookie}, nobody, 200},
		"a cookie and a proxy's login": {"GET", []string{"Authorization", "Basic YTpi", "Cookie", cookie}, "admin write", 200},
		"the same without its token":   {"POST", []string{"Authorization", "Basic YTpi", "Cookie", cookie}, forged, 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, body := s.send(t, test.method, "/api/v1/who", "", test.header...)
			if resp.StatusCode != test.status || !strings.Contains(body, test.want) || test.want == nobody && body != nobody {
				t.Errorf("got %d %q, want %d %q", resp.StatusCode, body, test.status, test.want)
			}
		})
	}
}

func TestPage_Identify_LoginEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end  func(t *testing.T, s *site, cookie, csrf string)
		want string
	}{
		"shortly before its end": {func(_ *testing.T, s *site, _, _ string) { s.pass(page.Lifetime - time.Second) }, "admin write"},
		"after its life":         {func(_ *testing.T, s *site, _, _ string) { s.pass(page.Lifetime) }, " "},
		"its token is another": {func(_ *testing.T, s *site, _, _ string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.tokens = []access.Token{{Name: "admin", Token: "another token", Role: access.Write}}
		}, " "},
		"its role is another": {func(_ *testing.T, s *site, _, _ string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.tokens = []access.Token{{Name: "admin", Token: adminToken, Role: access.Read}}
		}, "admin read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			cookie, csrf := s.login(t, adminToken)
			test.end(t, s, cookie, csrf)
			if _, got := s.send(t, http.MethodGet, "/api/v1/who", "", "Cookie", cookie); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestPage_Identify_AnotherNode logs in at one node and goes on at another, as behind a load balancer.
func TestPage_Identify_AnotherNode(t *testing.T) {
	t.Parallel()
	first, second := newSite(t), newSite(t)
	cookie, csrf := first.login(t, readToken)
	if _, got := second.send(t, http.MethodPost, "/api/v1/who", "", "Cookie", cookie, page.CSRFHeader, csrf); got != "grafana read" {
		t.Errorf("got %q", got)
	}
}

func TestPage_Logout(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cookie, csrf := s.login(t, adminToken)
	if resp, _ := s.send(t, http.MethodPost, "/ui/logout", "", "Cookie", cookie); resp.StatusCode != http.StatusForbidden {
		t.Errorf("without the CSRF token: %d", resp.StatusCode)
	}
	events := openEvents(t, s, cookie)
	events.next(t)
	resp, _ := s.send(t, http.MethodPost, "/ui/logout", "", "Cookie", cookie, page.CSRFHeader, csrf)
	if resp.StatusCode != http.StatusNoContent || len(resp.Cookies()) != 1 || resp.Cookies()[0].MaxAge >= 0 || resp.Cookies()[0].Value != "" {
		t.Errorf("got %d, cookies %v", resp.StatusCode, resp.Cookies())
	}
	events.awaitEnd(t)
	if !strings.Contains(s.logged(), `"action":"logout"`) {
		t.Errorf("the log has no logout:\n%s", s.logged())
	}
	if resp, _ := s.send(t, http.MethodPost, "/ui/logout", ""); resp.StatusCode != http.StatusNoContent {
		t.Errorf("without a login: %d", resp.StatusCode)
	}
}

func TestPage_Headers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for path, kind := range map[string]string{
		"/": "text/html; charset=utf-8", "/ui/main.js": "text/javascript; charset=utf-8", "/ui/page.css": "text/css; charset=utf-8",
		"/ui/icon.svg": "image/svg+xml", "/ui/me": "application/json", "/ui/nothing.js": "text/plain; charset=utf-8", "/ui/events": "text/plain; charset=utf-8",
	} {
		resp, body := s.send(t, http.MethodGet, path, "")
		for name, want := range map[string]string{
			"Content-Type": kind, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
				"base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		if want := http.StatusOK; (resp.StatusCode == want) == (path == "/ui/nothing.js" || path == "/ui/events") {
			t.Errorf("%s: status %d: %s", path, resp.StatusCode, body)
		}
	}
	for _, path := range []string{"/ui/", "/ui/../page.go", "/ui/%2e%2e%2fpage.go", "/index.html", "/nothing"} {
		if resp, _ := s.send(t, http.MethodGet, path, ""); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: status %d", path, resp.StatusCode)
		}
	}
}
