package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"usher/gateway/admin"
)

// TestNode_OriginSettings plays a playlist that the origin redirects to an edge, with the settings as a file has them, and
// shows the failures that a viewer felt.
func TestNode_OriginSettings(t *testing.T) {
	t.Parallel()
	edge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "#EXTM3U\n# %s %s\n", r.UserAgent(), r.Header.Get("X-Key"))
	}))
	t.Cleanup(edge.Close)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "elsewhere.m3u8"):
			http.Redirect(w, r, "http://edge.example.com:8080/x", http.StatusFound)
		case strings.HasSuffix(r.URL.Path, "none.m3u8"):
			http.NotFound(w, r)
		case r.UserAgent() != "Lavf/60":
			w.WriteHeader(http.StatusForbidden)
		default:
			http.Redirect(w, r, edge.URL+r.URL.Path, http.StatusFound)
		}
	}))
	t.Cleanup(origin.Close)
	portal := middleware(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(edge.URL, "http://"), ":")
	settings := func(host string) string {
		return strings.Replace(settingsFor(portal.URL()+"/check"), `{ url: "http://127.0.0.1:9" }`, `{ url: "`+origin.URL+`",
  headers: { User-Agent: Lavf/60, X-Key: "5ecret" }, keep_cookies: true, allowed_networks: [ 127.0.0.0/8 ],
  redirect_hosts: [ edge.example.net, `+host+` ] }`, 1) + "admin: { token: 7f3a9c1e5b8d2046 }\n"
	}
	for host, want := range map[string]string{
		`"127.0.0.1:` + port + `"`:                    "# usher ",
		`{ host: "127.0.0.1:*", send_headers: true }`: "# Lavf/60 5ecret",
	} {
		n, address, _ := launchNode(t, settings(host), sdktrace.NewTracerProvider())
		if status, body := get(t, address+"/play/a001/index.m3u8?token=good"); status != http.StatusOK || !strings.Contains(body, want+"\n") {
			t.Errorf("%s: got %d %q, want %q from the edge", host, status, body, want)
		}
		for path, want := range map[string]int{"elsewhere": http.StatusBadGateway, "none": http.StatusNotFound} {
			if status, _ := get(t, address+"/play/a001/"+path+".m3u8?token=good"); status != want {
				t.Errorf("%s: got %d, want %d", path, status, want)
			}
		}
		requireOriginFailures(t, n, origin.URL)
	}
}

// requireOriginFailures checks what the admin listener says about the two failures of the test.
func requireOriginFailures(t *testing.T, n *node, url string) {
	t.Helper()
	text := adminGet(t, n, "/api/v1/origins")
	var api struct{ Origins []admin.Origin }
	if err := json.Unmarshal([]byte(text), &api); err != nil {
		t.Fatal(err)
	}
	if len(api.Origins) != 1 || len(api.Origins[0].Addresses) != 1 || api.Origins[0].Addresses[0].URL != url+"/" || len(api.Origins[0].Failures) != 2 {
		t.Fatalf("the API shows %s, want one origin with its address and two failures", text)
	}
	for _, f := range api.Origins[0].Failures {
		if f.Channel != "a001" || f.Count != 1 || f.Time.IsZero() || !strings.HasPrefix(f.URL, url+"/play/a001/") || strings.Contains(f.URL, "token") {
			t.Errorf("failure %+v, want channel, count, time and URL", f)
		}
		if f.Reason == "unlisted_host" && !strings.Contains(f.Advice, `add "edge.example.com:8080" to origins.stage.redirect_hosts`) {
			t.Errorf("advice %q, want the setting", f.Advice)
		}
	}
	metrics := adminGet(t, n, "/metrics")
	for _, reason := range []string{"unlisted_host", "playlist_not_found"} {
		if line := `usher_origin_failures_total{origin="stage",reason="` + reason + `"} 1` + "\n"; !strings.Contains(metrics, line) {
			t.Errorf("/metrics has no %s", line)
		}
	}
}

func TestValidate_OriginSettings_NamedByPosition(t *testing.T) {
	t.Parallel()
	text := strings.Replace(settingsFor("http://127.0.0.1:9/check"), `{ url: "http://127.0.0.1:9" }`, `
  url: "http://127.0.0.1:9"
  redirect_hosts: [ "*.com", { host: "http://a", send_headers: true } ]
  public_names: [ "a b" ]
  allowed_networks: [ 10.0.0.0/33 ]
  headers: { Host: x, User-Agent: "5ecret\n" }
  keep_cookies: perhaps
`, 1)
	text = strings.Replace(text, "origins: { stage: ", "origins:\n stage:", 1)
	text = strings.Replace(text, "\n }\nbackends", "\nbackends", 1)
	code, _, errs := usher("validate", "--config", writeFile(t, text))
	for _, want := range []string{
		":7:21: origins.stage.redirect_hosts[0]: \"*.com\": a * stands", ":7:30: origins.stage.redirect_hosts[1]: \"http://a\": want a host",
		":8:19: origins.stage.public_names[0]: ", ":9:23: origins.stage.allowed_networks[0]: ", ":10:14: origins.stage.headers.Host: ",
		":10:23: origins.stage.headers.User-Agent: ", ":11:17: origins.stage.keep_cookies: ",
	} {
		if !strings.Contains(errs, want) {
			t.Errorf("no %q in:\n%s", want, errs)
		}
	}
	if code != 2 || strings.Contains(errs, "5ecret") {
		t.Errorf("exit %d, want 2, and no secret in:\n%s", code, errs)
	}
}
