package httpbackend

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"usher/backends"
	"usher/backends/setting"
)

func TestNextHop(t *testing.T) {
	t.Parallel()
	from, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://portal.example.com/api/check?t=1", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for location, want := range map[string]string{
		"":                           "",
		"/other?x=1#y":               "http://portal.example.com/other?x=1#y",
		"/other?x=a b":               "http://portal.example.com/other?x=a%20b",
		"https://other.example.com/": "https://other.example.com/",
		"ftp://other.example.com/":   "",
		"javascript:alert(1)":        "",
		"http:///check":              "",
		"http://[broken":             "",
	} {
		got := ""
		if next := nextHop(from, &http.Response{Header: http.Header{"Location": {location}}}); next != nil {
			got = next.String()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", location, got, want)
		}
	}
}

// TestClient_Decide_FollowedToNoAddress_Failure: such a redirect says nothing on the viewer, at the first hop or a later one, as where
// redirects are failures.
func TestClient_Decide_FollowedToNoAddress_Failure(t *testing.T) {
	t.Parallel()
	for _, location := range []string{"http://[broken?token=good", "ftp://other.example.com/", "/a%zz", "http:///check"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", location)
			if r.URL.Query().Has("hop") {
				w.Header().Set("Location", "/next")
			}
			w.WriteHeader(http.StatusFound)
		}))
		t.Cleanup(server.Close)
		for preset := PresetAstra; preset <= PresetAuthProxy; preset++ {
			for _, query := range []string{"", "hop"} {
				c := mustClient(t, func(cfg *Config) {
					cfg.Address, cfg.Preset, cfg.Redirects = server.URL+"/check", preset, RedirectsFollow
				})
				d, err := c.Decide(t.Context(), Call{Query: query})
				f := backends.AsFailure(err)
				if f == nil || f.Kind != backends.FailureMalformed || strings.Contains(err.Error(), "good") {
					t.Errorf("%s, %s, query %q: got %+v and error %v, want a malformed failure without what the backend sent", preset, location, query, d, err)
				}
				if n := c.ContractAlarms().Count(backends.AlarmBadHeader); n != 1 {
					t.Errorf("%s, %s, query %q: got %d alarms, want 1", preset, location, query, n)
				}
			}
		}
	}
}

// TestClient_RedirectedRequest_SecretsStayWithTheAddress follows redirects to the address's own authority and to others.
func TestClient_RedirectedRequest_SecretsStayWithTheAddress(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Address = "https://portal.example.com/check"
	cfg.Headers = map[string]setting.Secret{"X-Api-Key": "5ecret"}
	c, err := NewClient("portal", cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	from, err := http.NewRequestWithContext(t.Context(), http.MethodGet, cfg.Address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	from.Header = http.Header{"X-Api-Key": {"5ecret"}, "Authorization": {"Basic 5ecret"}, "X-Token": {"5ecret"}, "X-Real-Ip": {"192.0.2.7"}}
	for target, want := range map[string]bool{
		"https://portal.example.com/other":      true,
		"https://PORTAL.example.com/other":      true,
		"https://portal.example.com:443/other":  true,
		"https://portal.example.com.:443/other": true,
		"https://portal.example.com:80/other":   false,
		"http://portal.example.com/other":       false,
		"https://portal.example.com:8443/other": false,
		"https://other.example.com/check":       false,
	} {
		next, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		got := c.redirectedRequest(t.Context(), from, next, []backends.Header{{Name: "X-Token", Value: "5ecret"}})
		for _, name := range []string{"X-Api-Key", "Authorization", "X-Token"} {
			if has := got.Header.Get(name) != ""; has != want {
				t.Errorf("%s gets %s: %t, want %t", target, name, has, want)
			}
		}
		if got.Header.Get("X-Real-IP") != "192.0.2.7" || got.Host != next.Host {
			t.Errorf("%s: got host %s and %v, want the viewer's facts", target, got.Host, got.Header)
		}
	}
}

func TestNewRedirectTarget_LongestLocation(t *testing.T) {
	t.Parallel()
	address := &url.URL{Scheme: "http", Host: "portal.example.com", Path: "/check"}
	longest := "http://promo.example.net/" + strings.Repeat("x", maxRedirectLength-len("http://promo.example.net/"))
	for location, want := range map[string]string{longest: longest, longest + "x": ""} {
		if got := newRedirectTarget(address, location); got.kind != targetViewer || got.url != want {
			t.Errorf("%d bytes: got kind %d and %q, want that of a viewer's target and %q", len(location), got.kind, got.url, want)
		}
	}
}
