package httpbackend_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/httpbackend"
	"usher/backends/setting"
)

func newNamedClient(t *testing.T, name, address string, change func(*httpbackend.Config)) *httpbackend.Client {
	t.Helper()
	cfg := httpbackend.DefaultConfig()
	cfg.Address = address
	if change != nil {
		change(&cfg)
	}
	c, err := httpbackend.NewClient(name, cfg, httpbackend.Deps{})
	if err != nil {
		t.Fatalf("make the client: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

// Only a page that comes with a yes may admit a viewer.
func TestTrace_Page_OnlyOfAYes(t *testing.T) {
	t.Parallel()
	const errorPage = "<html>Fatal error: m</html>"
	for name, test := range map[string]struct {
		body, want string
		change     func(*httpbackend.Config)
	}{
		"a yes":         {loginPage, "a web page", nil},
		"an error page": {errorPage, "an error page", nil},
		"a failure":     {errorPage, "", func(cfg *httpbackend.Config) { cfg.BrokenPage = httpbackend.BrokenPageFailure }},
		"a denial": {loginPage, "", func(cfg *httpbackend.Config) {
			cfg.RequireHeader, cfg.OnUnmetRequirement = "X-UserId", httpbackend.UnmetRequirementDeny
		}},
		"an unmet requirement": {loginPage, "", func(cfg *httpbackend.Config) { cfg.RequireHeader = "X-UserId" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, nil)
			s.SetDialect(func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
				_, _ = io.WriteString(w, test.body)
			})
			ctx, trace := httpbackend.WithTrace(t.Context())
			d, err := newNamedClient(t, "portal", s.URL(), test.change).Decide(ctx, httpbackend.Call{})
			if got := trace.Entries()[0].Page; got != test.want || (d.Verdict == backends.Allowed) != (test.want != "") {
				t.Errorf("got %q with verdict %s and error %v, want %q", got, d.Verdict, err, test.want)
			}
		})
	}
}

func TestTrace_RecordsEveryCall(t *testing.T) {
	t.Parallel()
	first := startServer(t, map[string]backendtest.User{"good": {Name: "alice"}})
	second := startServer(t, nil)
	portal := newNamedClient(t, "portal", first.URL()+"/a%2Fb", nil)
	spare := newNamedClient(t, "spare", second.URL()+"/check", nil)
	ctx, all := httpbackend.WithTrace(t.Context())
	otherCtx, others := httpbackend.WithTrace(t.Context())
	for _, call := range []struct {
		ctx    context.Context
		client *httpbackend.Client
		query  string
	}{
		{ctx, spare, "token=good"},
		{t.Context(), portal, "token=unseen"},
		{ctx, portal, "token=good"},
		{otherCtx, portal, "token=other"},
		{ctx, spare, ""},
	} {
		if _, err := call.client.Do(call.ctx, httpbackend.Call{
			Query: call.query, Header: http.Header{"X-Real-Ip": {"192.0.2.7"}},
		}); err != nil {
			t.Fatalf("ask: %v", err)
		}
	}

	type seen struct {
		Backend, Method, URL string
		Status               int
	}
	var got []seen
	for _, x := range all.Entries() {
		got = append(got, seen{x.Backend, x.Method, x.URL, x.Status})
		if x.Duration <= 0 || x.RequestHeader["X-Real-Ip"][0] != "192.0.2.7" || x.ResponseHeader.Get("Date") == "" {
			t.Errorf("%s: took %s, sent %v, got %v", x.Backend, x.Duration, x.RequestHeader, x.ResponseHeader)
		}
	}
	want := []seen{
		{"spare", "GET", second.URL() + "/check?token=good", 403},
		{"portal", "GET", first.URL() + "/a%2Fb?token=good", 200},
		{"spare", "GET", second.URL() + "/check", 403},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if list := others.Entries(); len(list) != 1 || !strings.Contains(list[0].URL, "token=other") {
		t.Errorf("the other check: got %+v, want its own call alone", list)
	}
}

func TestTrace_Entries_ConcurrentWithCalls(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	c := newClient(t, s.URL(), nil)
	ctx, all := httpbackend.WithTrace(t.Context())
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			a, err := c.Do(ctx, httpbackend.Call{})
			if err != nil {
				t.Errorf("ask: %v", err)
				return
			}
			a.Header.Set("X-Late", "1") // the caller's own copy
		})
		group.Go(func() {
			for _, x := range all.Entries() {
				_ = fmt.Sprintf("%+v", x)
			}
		})
	}
	group.Wait()
	for _, x := range all.Entries() {
		if x.Status != http.StatusForbidden || x.ResponseHeader.Get("X-Late") != "" {
			t.Errorf("got %+v, want a 403 as it came", x)
		}
	}
	if n := len(all.Entries()); n != 8 {
		t.Errorf("got %d calls, want 8", n)
	}
}

func TestTrace_RecordsFailedCalls(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		mode   backendtest.Mode
		cancel bool
		want   error
	}{
		"a viewer who left":    {backendtest.Hang(), true, context.Canceled},
		"a timeout":            {backendtest.Hang(), false, context.DeadlineExceeded},
		"a broken connection":  {backendtest.Reset(), false, nil},
		"a refused connection": {backendtest.Refuse(), false, nil},
		"no HTTP":              {backendtest.Garbage(), false, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, nil)
			if err := s.SetMode(tt.mode); err != nil {
				t.Fatalf("set the middleware: %v", err)
			}
			ctx, all := httpbackend.WithTrace(t.Context())
			ctx, leave := context.WithCancel(ctx)
			defer leave()
			if tt.cancel {
				go func() {
					_ = s.Wait(t.Context(), 1)
					if list := all.Entries(); len(list) != 1 || list[0].Status != 0 || list[0].Duration != 0 {
						t.Errorf("under way: got %+v, want the call without an end", list)
					}
					leave()
				}()
			} else {
				var end context.CancelFunc
				ctx, end = context.WithTimeout(ctx, limitOf(tt.mode))
				defer end()
			}
			_, err := newClient(t, s.URL(), nil).Do(ctx, httpbackend.Call{Query: "token=123"})
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got error %v, want one of %v", err, tt.want)
			}
			list := all.Entries()
			if len(list) != 1 {
				t.Fatalf("got %d calls, want 1", len(list))
			}
			x := list[0]
			if x.Status != 0 || x.ResponseHeader != nil || x.ResponseBody != "" || x.Duration <= 0 || x.URL != s.URL()+"?token=123" {
				t.Errorf("got %+v, want the request, and no answer after a while", x)
			}
		})
	}
}

func limitOf(m backendtest.Mode) time.Duration {
	if m.Kind == backendtest.KindHang {
		return 30 * time.Millisecond
	}
	return 10 * time.Second
}

func TestTrace_NoSecretOfTheConfig(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		user, query string // of the address
		viewer      string
		shown       string
	}{
		"no query":                     {"", "", "token=123", "?token=123"},
		"a parameter":                  {"", "?key=5ecret", "token=123", "?key=[hidden]&token=123"},
		"several, and no viewer's":     {"", "?key=5ecret&site=5ecret", "", "?key=[hidden]&site=[hidden]"},
		"a bare value":                 {"", "?5ecret", "token=123", "?[hidden]&token=123"},
		"a name that PHP would change": {"", "?my.key=5ecret", "my_key=1&token=123", "?my.key=[hidden]&token=123"},
		"an escaped name":              {"", "?%6bey=5ecret", "token=123", "?%6bey=[hidden]&token=123"},
		"semicolons":                   {"", "?key=5ecret;site=5ecret", "token=123", "?key=[hidden];site=[hidden]&token=123"},
		"an escape that is none":       {"", "?key=5ecret%zz", "token=123", "?key=[hidden]&token=123"},
		"an equals sign in the value":  {"", "?key=a=5ecret", "token=123", "?key=[hidden]&token=123"},
		"nothing between two":          {"", "?key=5ecret&&site=5ecret", "", "?key=[hidden]&&site=[hidden]"},
		"a password":                   {"astra:5ecret@", "?key=5ecret", "", "?key=[hidden]"},
		"a viewer's of the same value": {"", "?key=5ecret", "token=5ecre", "?key=[hidden]&token=5ecre"},
		"a viewer's name twice":        {"", "?key=5ecret", "key=x&token=1&token=4", "?key=[hidden]&token=1&token=4"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, nil)
			address := strings.Replace(s.URL(), "://", "://"+tt.user, 1) + "/check" + tt.query
			c := newClient(t, address, func(cfg *httpbackend.Config) {
				cfg.Headers = map[string]setting.Secret{"x-api-key": "5ecret"}
			})
			ctx, all := httpbackend.WithTrace(t.Context())
			if _, err := c.Do(ctx, httpbackend.Call{
				Query:       tt.viewer,
				Credentials: []backends.Header{{Name: "X-Token", Value: "mine"}},
			}); err != nil {
				t.Fatalf("ask: %v", err)
			}
			x := all.Entries()[0]
			if text := fmt.Sprintf("%+v", x); strings.Contains(text, "5ecret") {
				t.Errorf("it shows a secret: %s", text)
			}
			if want := s.URL() + "/check" + tt.shown; x.URL != want {
				t.Errorf("got URL  %s\nwant URL %s", x.URL, want)
			}
			want := http.Header{"User-Agent": {"usher"}, "x-api-key": {"[hidden]"}, "X-Token": {"mine"}}
			if tt.user != "" {
				want["Authorization"] = []string{"[hidden]"}
			}
			if diff := cmp.Diff(want, x.RequestHeader); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
			sent := onlyRequest(t, s)
			if sent.Header.Get("X-Api-Key") != "5ecret" || strings.Contains(sent.RawQuery, "hidden") {
				t.Errorf("what is hidden was sent so: %v, query %q", sent.Header, sent.RawQuery)
			}
		})
	}
}

// An answer that repeats what the config sends shows no secret either.
func TestTrace_NoSecretOfTheConfigInAnswer(t *testing.T) {
	t.Parallel()
	const answer = "https://new.example.com/check?key=5ecret&token=1&site=a1&next=%2Fcheck%3Fkey%3D5ecret%26site%3Da1&x=a%20%2Fb&y=ap1k3y&z=pa55word"
	const shown = "https://new.example.com/check?key=[hidden]&token=1&site=[hidden]&next=%2Fcheck%3Fkey%3D[hidden]%26site%3D[hidden]" +
		"&x=[hidden]&y=[hidden]&z=[hidden]"
	s := startServer(t, nil)
	s.SetDialect(func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
		w.Header().Set("Location", answer)
		w.Header().Set("X-Seen", "a1, ap1k3y7, usher/2")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(http.StatusMovedPermanently)
		_, _ = io.WriteString(w, "<a href='"+answer+"'>")
	})
	address := strings.Replace(s.URL(), "://", "://astra:pa55word@", 1) + "/check?key=5ecret&site=a1&x=a+/b"
	c := newClient(t, address, func(cfg *httpbackend.Config) {
		cfg.Headers = map[string]setting.Secret{
			"x-api-key": "ap1k3y", "X-Other-Key": "ap1k3y7", "user-agent": "usher/2", "accept": "text/html", "Accept-Language": "ap1k3y",
		}
	})
	ctx, all := httpbackend.WithTrace(t.Context())
	if d, err := c.Decide(ctx, httpbackend.Call{Query: "token=1"}); backends.AsFailure(err) == nil {
		t.Errorf("got %+v and error %v, want a failure", d, err)
	}
	x := all.Entries()[0]
	if got := x.ResponseHeader.Get("Location"); got != shown {
		t.Errorf("got Location  %s\nwant Location %s", got, shown)
	}
	if got := x.ResponseHeader.Get("X-Seen"); got != "a1, [hidden], usher/2" {
		t.Errorf("got X-Seen %s", got)
	}
	if got := x.ResponseHeader.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("got Content-Type %s, want it shown: that the settings accept it is no secret", got)
	}
	wantSent := http.Header{
		"User-Agent": {"usher/2"}, "accept": {"text/html"}, "Accept-Language": {"[hidden]"},
		"Authorization": {"[hidden]"}, "x-api-key": {"[hidden]"}, "X-Other-Key": {"[hidden]"},
	}
	if diff := cmp.Diff(wantSent, x.RequestHeader); diff != "" {
		t.Errorf("headers sent (-want +got):\n%s", diff)
	}
	if want := "<a href='" + shown + "'>"; x.ResponseBody != want {
		t.Errorf("got body  %s\nwant body %s", x.ResponseBody, want)
	}
}

// An answer may repeat a part of what the config sends, in the escapes of its own form.
func TestTrace_NoSecretOfTheConfigInAnswer_PartOrEscaped(t *testing.T) {
	t.Parallel()
	basic := base64.StdEncoding.EncodeToString([]byte("astra:pa55/word"))
	plus := base64.StdEncoding.EncodeToString([]byte("astra:pa+55word"))
	tests := map[string]struct {
		name, value string // of a header
		query       string // of the address
		answer      string
		want        string
	}{
		"a token alone":              {"Authorization", "Bearer t0ken/a+b==", "", "invalid token t0ken/a+b==!", "invalid token [hidden]!"},
		"a token, and its scheme":    {"authorization", "Bearer t0ken-a", "", "got Bearer t0ken-a", "got [hidden]"},
		"a token of another scheme":  {"Authorization", "Token t0ken-a", "", "t0ken-a", "[hidden]"},
		"a token for a proxy":        {"Proxy-Authorization", "x t0ken-a", "", "t0ken-a", "[hidden]"},
		"a token in a field":         {"X-Auth", "bearer  t0ken-a", "", "t0ken-a", "[hidden]"},
		"base64 alone":               {"Authorization", "Basic " + basic, "", "got " + basic, "got [hidden]"},
		"base64 in Java's JSON":      {"Authorization", "Basic YXN0cmE6cGE1NQ==", "", `{"got":"YXN0cmE6cGE1NQ\u003d\u003d"}`, `{"got":"[hidden]"}`},
		"its password":               {"authorization", "Basic " + basic, "", "astra:pa55/word", "astra:[hidden]"},
		"its password in PHP's JSON": {"Authorization", "Basic " + basic, "", `{"user":"astra","pass":"pa55\/word"}`, `{"user":"astra","pass":"[hidden]"}`},
		"a cookie's value":           {"Cookie", "site=a1; sid=5ecret7", "", "unknown sid 5ecret7", "unknown sid [hidden]"},
		"a cookie before an end":     {"Cookie", "sid=5ecret7;", "", "unknown sid 5ecret7", "unknown sid [hidden]"},
		"a cookie in quotes":         {"cookie", `sid = "5ecret7" ; site=a1`, "", "unknown sid 5ecret7", "unknown sid [hidden]"},
		"a cookie beside an odd one": {"Cookie", `odd; a={"b",c}; sid=5ecret7=`, "", "unknown sid 5ecret7=", "unknown sid [hidden]"},
		"a cookie without a name":    {"Cookie", "5ecret7; site=a1", "", "unknown 5ecret7", "unknown [hidden]"},
		"a key in PHP's JSON":        {"X-Key", "5e/cr&et", "", `{"key":"5e\/cr&et"}`, `{"key":"[hidden]"}`},
		"a key in Go's JSON":         {"X-Key", "5e/cr&et", "", `{"key":"5e/cr\u0026et"}`, `{"key":"[hidden]"}`},
		"a key in both":              {"X-Key", `5e/"cr&et`, "", `{"key":"5e\/\"cr\u0026et"}`, `{"key":"[hidden]"}`},
		"a key in HTML":              {"X-Key", "5e/cr&et", "", "<p>5e/cr&amp;et</p>", "<p>[hidden]</p>"},
		"a key in PHP's HTML":        {"X-Key", `5e'c"ret`, "", "<p>5e&#039;c&quot;ret</p>", "<p>[hidden]</p>"},
		"a key in a URL":             {"X-Key", "5e/cr&et", "", "?k=5e%2fcr%26et", "?k=[hidden]"},
		"a plus in PHP's URL":        {"X-Key", "5e+cret7/x", "", "?k=5e%2Bcret7%2Fx", "?k=[hidden]"},
		"a plus in Python's URL":     {"X-Key", "5e+cret7/x", "", "?k=5e%2Bcret7/x", "?k=[hidden]"},
		"a plus of a password":       {"Authorization", "Basic " + plus, "", "?pass=pa%2B55word", "?pass=[hidden]"},
		"an escape in a URL":         {"X-Key", "5ecret%41x", "", "?k=5ecret%2541x", "?k=[hidden]"},
		"a key in JavaScript's URL":  {"X-Key", "5e/cret!7", "", "?k=5e%2Fcret!7", "?k=[hidden]"},
		"a key in Java's URL":        {"X-Key", "5e~ cret*", "", "?k=5e%7E+cret*", "?k=[hidden]"},
		"a key in a URL in a URL":    {"X-Key", "5e/cret 7", "", "?to=%2F%3Fk%3D5e%252Fcret%25207", "?to=%2F%3Fk%3D[hidden]"},
		"a key in another script":    {"X-Key", "5écret😀", "", `5\u00e9cret\ud83d\ude00 5%C3%A9cret%f0%9f%98%80 5&#xE9;cret&#128512;`, "[hidden] [hidden] [hidden]"},
		"a key that is no UTF-8":     {"X-Key", "5ecret\xff7", "", "5ecret%FF7", "[hidden]"},
		"a key in JSON in JSON":      {"X-Key", `5e"cr\et`, "", `{"got":"{\"key\":\"5e\\\"cr\\\\et\"}"}`, `{"got":"{\"key\":\"[hidden]\"}"}`},
		"escapes in JSON in JSON":    {"X-Key", "5e&écret", "", `5e\\u0026\\u00e9cret`, "[hidden]"},
		"a key in HTML in HTML":      {"X-Key", `5e"cr<et`, "", "5e&amp;quot;cr&amp;amp;lt;et 5e&amp;#34;cr&lt;et", "[hidden] [hidden]"},
		"a key in HTML's names":      {"X-Key", "5e@cr/öt", "", "5e&commat;cr&sol;&ouml;t", "[hidden]"},
		"a key in JavaScript":        {"X-Key", "5e@cr/öt", "", `5e\x40cr\x2f\xf6t`, "[hidden]"},
		"a key in Latin-1":           {"X-Key", "5ecr/öt", "", "5ecr%2F%F6t 5ecr/\xf6t", "[hidden] [hidden]"},
		"a parameter's plus":         {"", "", "?key=5e%2Bcret", "5e%2Bcret 5e+cret", "[hidden] [hidden]"},
		"a parameter in PHP's JSON":  {"", "", "?key=a/b", `{"url":"http:\/\/x\/check?key=a\/b&token=1"}`, `{"url":"http:\/\/x\/check?key=[hidden]&token=1"}`},
		"a parameter in HTML":        {"", "", "?key=a%26b", "<a href='/check?key=a&amp;b&amp;token=1'>", "<a href='/check?key=[hidden]&amp;token=1'>"},
		"a user alone":               {"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("key5ecret7:")), "", "unknown key5ecret7", "unknown [hidden]"},
		"a token of any scheme":      {"X-Auth", "ApiKey 5ecret7890", "", "wrong key 5ecret7890", "wrong key [hidden]"},
		"a named token":              {"Authorization", `Token token="5ecret7890", site=a1`, "", "wrong 5ecret7890 at a1", "wrong [hidden] at a1"},
		"what is no secret":          {"Authorization", "Bearer t0ken-a", "?key=a1", "Bearer realm=tv, a1, token=1", "Bearer realm=tv, a1, token=1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, nil)
			s.SetDialect(func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
				w.Header().Set("X-Seen", tt.answer)
				_, _ = io.WriteString(w, tt.answer)
			})
			c := newClient(t, s.URL()+"/check"+tt.query, func(cfg *httpbackend.Config) {
				if tt.name != "" {
					cfg.Headers = map[string]setting.Secret{tt.name: setting.Secret(tt.value)}
				}
			})
			ctx, all := httpbackend.WithTrace(t.Context())
			if _, err := c.Do(ctx, httpbackend.Call{Query: "token=1", NeedsBody: true}); err != nil {
				t.Fatalf("ask: %v", err)
			}
			x := all.Entries()[0]
			if got := x.ResponseHeader.Get("X-Seen"); got != tt.want || x.ResponseBody != tt.want {
				t.Errorf("got  %s\nbody %s\nwant %s", got, x.ResponseBody, tt.want)
			}
		})
	}
}

// An answer may repeat the viewer's Authorization, and a decision what the answer says.
func TestTrace_Redact(t *testing.T) {
	t.Parallel()
	basic := base64.StdEncoding.EncodeToString([]byte("alice:pa55/word"))
	s := startServer(t, nil)
	s.SetDialect(func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
		_, _ = io.WriteString(w, "alice, pa55/word, "+basic)
	})
	c := newClient(t, s.URL()+"/check?key=5ecret7", nil)
	ctx, all := httpbackend.WithTrace(t.Context())
	for _, viewer := range []string{"Basic " + basic, "Bearer t0ken-b"} {
		call := httpbackend.Call{NeedsBody: true, Credentials: []backends.Header{{Name: "authorization", Value: viewer}}}
		if _, err := c.Do(ctx, call); err != nil {
			t.Fatalf("ask: %v", err)
		}
	}
	if got, want := all.Entries()[0].ResponseBody, "alice, [hidden], [hidden]"; got != want {
		t.Errorf("got body  %s\nwant body %s", got, want)
	}
	const text, want = "alice of pa55%2Fword and t0ken-b goes to %2Fcheck%3Fkey%3D5ecret7", "alice of [hidden] and [hidden] goes to %2Fcheck%3Fkey%3D[hidden]"
	if got := all.Redact(text); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// The trace holds the beginning of a body, whether the adapter needs it or not.
func TestTrace_KeepsTheBeginningOfABody(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		size    int
		maxBody int64
		wanted  bool
		shown   int
		fails   bool
	}{
		"nothing":                              {0, 64 << 10, false, 0, false},
		"one that the adapter does not need":   {100, 64 << 10, false, 100, false},
		"exactly a KiB":                        {1024, 64 << 10, false, 1024, false},
		"more than a KiB":                      {1025, 64 << 10, false, 1024, false},
		"much more, and the adapter's":         {20_000, 64 << 10, true, 1024, false},
		"more than max_body_size":              {20_000, 100, true, 101, true},
		"more than max_body_size, unwanted":    {20_000, 100, false, 1024, false},
		"much more than max_body_size, beyond": {200_000, 64 << 10, true, 1024, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, nil)
			body := strings.Repeat("0123456789", tt.size/10+1)[:tt.size]
			s.SetDialect(func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
				_, _ = io.WriteString(w, body)
			})
			c := newClient(t, s.URL(), func(cfg *httpbackend.Config) { cfg.MaxBodySize = setting.ByteSize(tt.maxBody) })
			ctx, all := httpbackend.WithTrace(t.Context())
			a, err := c.Do(ctx, httpbackend.Call{NeedsBody: tt.wanted})
			if (err != nil) != tt.fails {
				t.Errorf("got error %v, want one: %t", err, tt.fails)
			}
			if tt.wanted && !tt.fails && string(a.Body) != body {
				t.Errorf("the adapter got %d bytes, want all %d", len(a.Body), tt.size)
			}
			x := all.Entries()[0]
			if x.ResponseBody != body[:tt.shown] || x.Status != http.StatusOK {
				t.Errorf("got status %d and %d bytes, want 200 and the first %d", x.Status, len(x.ResponseBody), tt.shown)
			}
		})
	}
}

func TestTrace_BodyNeverComes_AnswerKept(t *testing.T) {
	t.Parallel()
	s := startServer(t, map[string]backendtest.User{"good": {}})
	if err := s.SetMode(backendtest.SlowBody()); err != nil {
		t.Fatalf("set the middleware: %v", err)
	}
	ctx, all := httpbackend.WithTrace(t.Context())
	d, err := newClient(t, s.URL(), nil).Decide(ctx, httpbackend.Call{Query: "token=good"})
	if err != nil || d.Verdict != backends.Allowed {
		t.Errorf("got %s and error %v, want the yes of the headers", d.Verdict, err)
	}
	if x := all.Entries()[0]; x.Status != http.StatusOK || x.ResponseBody != "" {
		t.Errorf("got %+v, want 200 without a body", x)
	}
}

func TestTrace_Entries_EmptyWithoutCalls(t *testing.T) {
	t.Parallel()
	_, all := httpbackend.WithTrace(t.Context())
	if list := all.Entries(); len(list) != 0 {
		t.Errorf("got %+v, want none", list)
	}
}
