package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"usher/backends/backendtest"
	"usher/bench/stage"
)

// manualNode is a node in front of an origin, as an operator of Astra would put it, with a middleware that records its calls.
type manualNode struct {
	t       *testing.T
	portal  *backendtest.Server
	node    *node
	address string
	text    string // its settings
}

// startManualNode starts a node whose settings are those of settingsFor, with the middleware at /check.
func startManualNode(t *testing.T, edit ...string) *manualNode {
	t.Helper()
	origin := httptest.NewServer(stage.NewOrigin(stage.Config{}))
	t.Cleanup(origin.Close)
	s := &manualNode{t: t, portal: middleware(t)}
	s.text = strings.NewReplacer(append([]string{"http://127.0.0.1:9", origin.URL, "required: [token]", "name: play"}, edit...)...).
		Replace(settingsFor(s.portal.URL() + "/check"))
	s.node, s.address, _ = launchNode(t, s.text, sdktrace.NewTracerProvider())
	return s
}

// watch requests a channel's playlist with a query, and returns the status and the body.
func (s *manualNode) watch(query string) (status int, body string) {
	s.t.Helper()
	return get(s.t, s.address+"/play/a001/index.m3u8"+query)
}

// wantStatus requests a channel's playlist, and requires that status.
func (s *manualNode) wantStatus(want int, query string) {
	s.t.Helper()
	if status, body := s.watch(query); status != want {
		s.t.Errorf("%s: got %d %s, want %d", query, status, body, want)
	}
}

// call returns the only call of the middleware.
func (s *manualNode) call() backendtest.Request {
	s.t.Helper()
	calls := s.portal.Requests()
	if len(calls) != 1 {
		s.t.Fatalf("the middleware got %d calls, want 1", len(calls))
	}
	return calls[0]
}

// set makes the middleware behave so.
func (s *manualNode) set(m backendtest.Mode) {
	s.t.Helper()
	if err := s.portal.SetMode(m); err != nil {
		s.t.Fatal(err)
	}
}

// wantHeader requires a header field of the only call.
func (s *manualNode) wantHeader(name, want string) {
	s.t.Helper()
	if got := s.call().Header.Get(name); got != want {
		s.t.Errorf("%s: %q, want %q", name, got, want)
	}
}

// calledAddress returns the address that a kind calls for the address in the settings.
func calledAddress(t *testing.T, kind, address string) string {
	t.Helper()
	text := regexp.MustCompile(`portal: \{ .*`).ReplaceAllLiteralString(settingsFor("x"), fmt.Sprintf("portal: { kind: %s, address: %q }", kind, address))
	n, _, _ := launchNode(t, text, sdktrace.NewTracerProvider())
	return n.current.Load().adapters["portal"].url
}

// TestNode_AstraManual has a row for each sentence of Cesbo Astra's page "Auth: HTTP Backend" that promises something, in its
// order. The names are the sentences in our words. Every row runs a node, and a middleware, over HTTP.
func TestNode_AstraManual(t *testing.T) {
	rows := []struct {
		name string
		run  func(t *testing.T)
	}{
		{"your own user management decides who may watch", func(t *testing.T) {
			s := startManualNode(t)
			s.wantStatus(http.StatusForbidden, "?token=carol")
			s.portal.SetUser("carol", backendtest.User{ID: "9", Name: "carol", ValidFor: time.Minute})
			s.wantStatus(http.StatusOK, "?token=carol&again=1")
		}},
		{"a player's request for a channel has its token or credentials", func(t *testing.T) {
			s := startManualNode(t)
			s.wantStatus(http.StatusOK, "?token=good")
		}},
		{"the details of the request go to the middleware", func(t *testing.T) {
			s := startManualNode(t)
			s.wantStatus(http.StatusOK, "?token=good")
			if c := s.call(); c.Path != "/check" || c.RawQuery != "token=good" {
				t.Errorf("called %s?%s, want /check?token=good", c.Path, c.RawQuery)
			}
		}},
		{"the middleware decides on this user and this channel", func(t *testing.T) {
			s := startManualNode(t)
			s.wantStatus(http.StatusOK, "?token=good")
			s.wantHeader("X-Channel-ID", "a001")
		}},
		{"viewers who are granted access get the stream, others are blocked", func(t *testing.T) {
			s := startManualNode(t)
			status, playlist := s.watch("?token=good")
			variant := withTicket(t, playlist)
			if next, body := get(t, s.address+variant); status != http.StatusOK || next != http.StatusOK || !strings.Contains(body, "#EXTINF") {
				t.Errorf("a good viewer: got %d, then %d %s; want media", status, next, body)
			}
			s.wantStatus(http.StatusForbidden, "?token=bad")
		}},
		{"Ministra: the address is that of the portal", func(t *testing.T) {
			if got := calledAddress(t, "ministra", "http://example.com/stalker_portal"); got != "http://example.com/stalker_portal/server/api/chk_flussonic_tmp_link.php" {
				t.Errorf("calls %s", got)
			}
		}},
		{"IPTVportal: the address of the cloud platform", func(t *testing.T) {
			if got := calledAddress(t, "iptvportal", "https://go.iptvportal.cloud"); got != "https://go.iptvportal.cloud/auth/arescrypt/" {
				t.Errorf("calls %s", got)
			}
		}},
		{"IPTVportal: a local installation has your server's address", func(t *testing.T) {
			if got := calledAddress(t, "iptvportal", "http://your-server.com"); got != "http://your-server.com/auth/arescrypt/" {
				t.Errorf("calls %s", got)
			}
		}},
		{"Smarty: the address is that of the server", func(t *testing.T) {
			if got := calledAddress(t, "smarty", "http://example.com"); got != "http://example.com/tvmiddleware/api/streamservice/token/check/" {
				t.Errorf("calls %s", got)
			}
		}},
		{"HTTP Request: the address is your own endpoint, as it stands", func(t *testing.T) {
			if got := calledAddress(t, "httprequest", "https://auth.example.com/check"); got != "https://auth.example.com/check" {
				t.Errorf("calls %s", got)
			}
		}},
		{"the call is a GET", func(t *testing.T) {
			s := startManualNode(t)
			s.wantStatus(http.StatusOK, "?token=good")
			if got := s.call().Method; got != http.MethodGet {
				t.Errorf("called with %s", got)
			}
		}},
		{"all parameters of the viewer's query are passed on, byte for byte", func(t *testing.T) {
			s := startManualNode(t)
			const query = "token=good&b=%7e&a=1&a=2&empty=&name=J%C3%B6rg+x"
			s.wantStatus(http.StatusOK, "?"+query)
			if got := s.call().RawQuery; got != query {
				t.Errorf("got the query %q, want %q", got, query)
			}
		}},
		{"X-Session-ID is a number, and unique to the session", func(t *testing.T) {
			s := startManualNode(t)
			s.wantStatus(http.StatusOK, "?token=good")
			s.wantStatus(http.StatusOK, "?token=good&box=2")
			calls := s.portal.Requests()
			a, b := calls[0].Header.Get("X-Session-ID"), calls[1].Header.Get("X-Session-ID")
			if number := regexp.MustCompile(`^[1-9][0-9]*$`); !number.MatchString(a) || !number.MatchString(b) || a == b {
				t.Errorf("got %q and %q, want two numbers", a, b)
			}
		}},
		{"X-Channel-ID identifies the channel", func(t *testing.T) {
			s := startManualNode(t)
			s.wantStatus(http.StatusOK, "?token=good")
			s.wantHeader("X-Channel-ID", "a001")
		}},
		{"X-Real-IP is the viewer's address", func(t *testing.T) {
			s := startManualNode(t)
			s.wantStatus(http.StatusOK, "?token=good")
			s.wantHeader("X-Real-IP", "127.0.0.1")
		}},
		{"X-Real-Path is the path that the viewer requested", func(t *testing.T) {
			s := startManualNode(t)
			s.wantStatus(http.StatusOK, "?token=good")
			s.wantHeader("X-Real-Path", "/play/a001/index.m3u8")
		}},
		{"X-Real-UA is the viewer's User-Agent", func(t *testing.T) {
			s := startManualNode(t)
			s.wantStatus(http.StatusOK, "?token=good")
			s.wantHeader("X-Real-UA", "Go-http-client/1.1")
		}},
		{"X-Real-Host is the host that the viewer requested", func(t *testing.T) {
			s := startManualNode(t)
			s.wantStatus(http.StatusOK, "?token=good")
			s.wantHeader("X-Real-Host", strings.TrimPrefix(s.address, "http://"))
		}},
		{"200 grants access", func(t *testing.T) {
			s := startManualNode(t)
			s.set(backendtest.Status(http.StatusOK))
			s.wantStatus(http.StatusOK, "?token=whoever")
		}},
		{"403 denies access", func(t *testing.T) {
			s := startManualNode(t)
			s.set(backendtest.Status(http.StatusForbidden))
			s.wantStatus(http.StatusForbidden, "?token=good")
		}},
		{"401 denies access", func(t *testing.T) {
			s := startManualNode(t)
			s.set(backendtest.Status(http.StatusUnauthorized))
			s.wantStatus(http.StatusForbidden, "?token=good")
		}},
		{"X-Session-Name, if it is there, is the user's login name", func(t *testing.T) {
			s := startManualNode(t, "routes:", "admin: { token: 7f3a9c1e5b8d2046 }\nroutes:")
			s.wantStatus(http.StatusOK, "?token=good")
			if list := adminGet(t, s.node, "/api/v1/sessions"); !strings.Contains(list, `"user":"alice"`) {
				t.Errorf("the list of sessions names no alice: %s", list)
			}
			s.set(backendtest.Status(http.StatusOK)) // without the field
			s.wantStatus(http.StatusOK, "?token=good&box=2")
		}},
		{"the example: a viewer's token=123 becomes /check?token=123 with their path in X-Real-Path", func(t *testing.T) {
			s := startManualNode(t)
			s.set(backendtest.Status(http.StatusOK))
			s.wantStatus(http.StatusOK, "?token=123")
			if c := s.call(); c.Path+"?"+c.RawQuery != "/check?token=123" {
				t.Errorf("called %s?%s", c.Path, c.RawQuery)
			}
			s.wantHeader("X-Real-Path", "/play/a001/index.m3u8")
		}},
		{"an unreachable middleware admits by default", func(t *testing.T) {
			s := startManualNode(t)
			s.set(backendtest.Refuse())
			s.wantStatus(http.StatusOK, "?token=bad")
		}},
		{"an outage of the middleware does not end the service", func(t *testing.T) {
			s := startManualNode(t)
			_, playlist := s.watch("?token=good")
			s.set(backendtest.Hang())
			if status, _ := get(t, s.address+withTicket(t, playlist)); status != http.StatusOK {
				t.Errorf("a running viewer gets %d in an outage, want 200", status)
			}
			s.wantStatus(http.StatusOK, "?token=unknown")
		}},
		{"users get free access during outages, which is counted and shown", func(t *testing.T) {
			s := startManualNode(t, "routes:", "admin: { token: 7f3a9c1e5b8d2046 }\nroutes:")
			s.set(backendtest.Refuse())
			s.wantStatus(http.StatusOK, "?token=bad")
			if list := adminGet(t, s.node, "/api/v1/sessions?source=fail-open"); !strings.Contains(list, `"source":"fail-open"`) {
				t.Errorf("the list of free riders is %s, want one", list)
			}
		}},
	}
	for _, row := range rows {
		t.Run(row.name, row.run)
	}
	t.Run("troubleshooting, as README.md has it", checkTroubleshooting)
}

// troubleshooting are the causes of the page's section "Troubleshooting", and related ones: what README.md says that a command
// prints, by the command's doing.
func troubleshooting() map[string]func(s *manualNode) string {
	check := func(m backendtest.Mode, args ...string) func(*manualNode) string {
		return func(s *manualNode) string {
			s.set(m)
			return s.check(s.text, args...)
		}
	}
	at := func(address string) func(*manualNode) string {
		return func(s *manualNode) string {
			return s.check(regexp.MustCompile(`address: "[^"]*"`).ReplaceAllLiteralString(s.text, "address: \""+address+"\""))
		}
	}
	page := func(body string) func(*manualNode) string {
		return func(s *manualNode) string {
			s.portal.SetDialect(func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
				w.Header().Set("Content-Type", "text/html")
				_, _ = fmt.Fprint(w, body)
			})
			return s.check(s.text)
		}
	}
	gateway := func(path string) func(*manualNode) string {
		return func(s *manualNode) string {
			_, body := get(s.t, s.address+path)
			return body
		}
	}
	return map[string]func(s *manualNode) string{
		"connection refused": check(backendtest.Refuse()),
		"the request hangs":  check(backendtest.Hang()),
		"wrong URL":          check(backendtest.Status(http.StatusNotFound)),
		"wrong URL, by a host that does not exist":  at("http://nosuchhost.invalid/check"),
		"another server than the backend answers":   check(backendtest.Garbage()),
		"the answer is a web page":                  page("<html><title>Welcome</title></html>"),
		"the answer begins with PHP's warnings":     page("<br><b>Notice</b>: m in <b>/srv/check.php</b> on line <b>3</b><br>OK"),
		"the answer is an error page":               page("<html>Fatal error: Uncaught Error in check.php</html>"),
		"on_failure=allow … free access":            check(backendtest.Refuse()),
		"verdict denied":                            check(backendtest.Healthy(), "token=bad"),
		"reason":                                    check(backendtest.Healthy(), "token=bad"),
		"refused without a check":                   func(s *manualNode) string { return s.checkURL("/play/a001/seg.ts?token=good") },
		"no route serves this path and host":        func(s *manualNode) string { return s.checkURL("/elsewhere?token=good") },
		"denied by backend":                         gateway("/play/a001/index.m3u8?token=bad"),
		"no ticket":                                 gateway("/play/a001/seg-1.ts"),
		"the ticket is not valid for this channel":  gateway("/~a.none/play/a001/seg-1.ts"),
		"the ticket is for another entry":           gateway("/~a." + strings.Repeat("A", 48) + "B/play/a001/other/seg-1.ts"),
		"the ticket was issued for another address": func(s *manualNode) string { return s.newAddressRefusal() },
		"no session matches this request":           func(s *manualNode) string { return s.edgeRefusal() },
		"the backend's own log, by its status":      check(backendtest.Status(http.StatusInternalServerError)),
		"a valid token, tested manually":            check(backendtest.Healthy()),
	}
}

// check runs "usher check" with settings, for a viewer with a query, by default a good one, and returns what it prints.
func (s *manualNode) check(settings string, query ...string) string {
	s.t.Helper()
	viewer := "http://tv.example/play/a001/index.m3u8?" + strings.Join(append(query, []string{"token=good"}[min(len(query), 1):]...), "&")
	_, out, errs := usher("check", "--config", writeFile(s.t, settings), "--url", viewer)
	return out + errs
}

// checkURL runs "usher check" for a path.
func (s *manualNode) checkURL(path string) string {
	s.t.Helper()
	_, out, errs := usher("check", "--config", writeFile(s.t, s.text), "--url", "http://tv.example"+path)
	return out + errs
}

// newAddressRefusal plays at one address, and requests media from another on a route that refuses that.
func (s *manualNode) newAddressRefusal() string {
	s.t.Helper()
	text := strings.NewReplacer("name: play", "name: play, on_new_address: refuse", "routes:", "trusted_proxies: [ 127.0.0.1/32 ]\nroutes:").Replace(s.text)
	_, address, _ := launchNode(s.t, text, sdktrace.NewTracerProvider())
	playlist := getWith(s.t, address+"/play/a001/index.m3u8?token=good", "X-Forwarded-For: 192.0.2.7")
	return getWith(s.t, address+withTicket(s.t, playlist), "X-Forwarded-For: 198.51.100.9")
}

// getWith gets a URL with header fields, "Name: value", and returns the body.
func getWith(t *testing.T, url string, fields ...string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Set(name, value)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// edgeRefusal asks as nginx does about a segment whose viewer is unknown, and returns the refusal.
func (s *manualNode) edgeRefusal() string {
	s.t.Helper()
	text := regexp.MustCompile(`(?m)^  - .*`).ReplaceAllLiteralString(s.text,
		`  - { path: /auth, backend: portal, edge: { dialect: nginx, networks: [ 127.0.0.1/32 ], viewer_path: "/play/{channel}/*" } }`)
	_, address, _ := launchNode(s.t, text, sdktrace.NewTracerProvider())
	return getWith(s.t, address+"/auth", "X-Original-Uri: /play/a001/seg-1.ts", "X-Real-Ip: 192.0.2.7")
}

// checkTroubleshooting runs what the section "Troubleshooting" of README.md tells operators to run, and requires that they see
// what it says, and that it says nothing that no command prints.
func checkTroubleshooting(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Troubleshooting\n")
	section, _, _ = strings.Cut(section, "\n## ")
	if !strings.Contains(section, "**Users getting free access.**") || !strings.Contains(section, "**Users can't access paid channels.**") {
		t.Fatalf("README.md lacks one of the page's two headings:\n%s", section)
	}
	scenarios := troubleshooting()
	for _, phrase := range printedPhrases(section) {
		if scenarios[phrase] == nil {
			t.Errorf("README.md says that %q is printed, and no row runs what prints it", phrase)
		}
	}
	blanks := regexp.MustCompile(`\s+`)
	for phrase, run := range scenarios {
		t.Run(phrase, func(t *testing.T) {
			printed := blanks.ReplaceAllString(run(startManualNode(t)), " ")
			phrase, _, isVariant := strings.Cut(phrase, ", by ")
			if want := map[string]string{"a valid token, tested manually": "verdict allowed (source backend)", "the backend's own log": "the backend itself fails; check its log"}[phrase]; want != "" {
				phrase = want
			} else if !isVariant && !slices.Contains(printedPhrases(section), phrase) {
				t.Errorf("README.md does not have %q", phrase)
			}
			for part := range strings.SplitSeq(phrase, " … ") {
				if !strings.Contains(printed, part) {
					t.Errorf("%q is not in what is printed:\n%s", part, printed)
				}
			}
		})
	}
}

// printedPhrases returns what the section says that "usher check" and refusals print: the first column of its table, and what
// the first three items of its list quote, but no setting and no command. Further items are about 503 and the log.
func printedPhrases(section string) []string {
	section, _, _ = strings.Cut(section, "\n4. ")
	var phrases []string
	quoted := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		switch {
		case len(cells) > 2:
			line = cells[1]
		case !regexp.MustCompile(`^(\d\.|   )`).MatchString(line):
			continue
		}
		for _, m := range quoted.FindAllStringSubmatch(line, -1) {
			isName := regexp.MustCompile(`^[a-z_.]*[._][a-z_.]*$|^--|^usher |^required$|^/`).MatchString(m[1])
			if !isName {
				phrases = append(phrases, m[1])
			}
		}
	}
	return phrases
}
