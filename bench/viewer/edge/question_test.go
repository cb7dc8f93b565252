package edge_test

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"usher/bench/viewer/edge"
)

func TestDialect_Validate(t *testing.T) {
	t.Parallel()
	for _, d := range []edge.Dialect{edge.Nginx, edge.Traefik, edge.Caddy, edge.Astra, edge.Alta, edge.Flussonic, edge.Envoy} {
		if err := d.Validate(); err != nil {
			t.Error(err)
		}
		if d.IsHTTP() != (d != edge.Envoy) {
			t.Errorf("%s asks over HTTP: %v", d, d.IsHTTP())
		}
	}
	if err := edge.Dialect("wowza").Validate(); err == nil || !strings.Contains(err.Error(), "flussonic") {
		t.Errorf("another dialect: %v, want an error that lists them", err)
	}
}

// TestDialect_Flussonic numbers the questions of a session, and keeps the viewer's query whole.
func TestDialect_Flussonic(t *testing.T) {
	t.Parallel()
	q := edge.Question{
		Path: "/auth", URI: "/live/index.m3u8?token=a%2Fb&name=other", Host: "tv", Channel: "live", Address: netip.MustParseAddr("2001:db8::1"),
		UserAgent: "a player", Session: 0x1122334455667788,
	}
	for number, want := range map[int64]string{0: "new_session", 3: "update_session"} {
		q.Number = number
		path, query, _ := strings.Cut(string(edge.Flussonic.AppendTarget(nil, &q)), "?")
		values, err := url.ParseQuery(query)
		if err != nil || path != "/auth" {
			t.Fatalf("%s?%s: %v", path, query, err)
		}
		for name, want := range map[string]string{
			"name": "live", "token": "a/b", "qs": "token=a%2Fb&name=other", "ip": "2001:db8::1", "request_type": want,
			"session_id": "11223344-5566-8000-8000-334455667788",
		} {
			if got := values.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
}
