package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/bench/stage"
)

// TestNode_RulesInOutage opens sessions under rules whose backend is down, or hangs. A rule that needs no answer decides as ever, in both
// directions, and the outage policy on the others.
func TestNode_RulesInOutage(t *testing.T) {
	t.Parallel()
	origin := httptest.NewServer(stage.NewOrigin(stage.Config{}))
	t.Cleanup(origin.Close)
	for name, test := range map[string]struct {
		gate string
		want map[string]int // by channel
	}{
		"on_failure: deny": {
			`{ kind: rules, on_failure: deny, rules: [ { channels: [free], action: allow }, { backend: portal } ] }`,
			map[string]int{"free": http.StatusOK, "paid": http.StatusForbidden},
		},
		"on_failure: allow": {
			`{ kind: rules, rules: [ { channels: [adult], action: deny }, { channels: [paid], backend: portal, on_failure: deny }, { channels: [news], backend: portal } ] }`,
			map[string]int{"adult": http.StatusForbidden, "paid": http.StatusForbidden, "news": http.StatusOK},
		},
		"on_failure: deny, and a default": {
			`{ kind: rules, on_failure: deny, rules: [ { channels: [paid], backend: portal } ], default: allow }`,
			map[string]int{"paid": http.StatusForbidden, "news": http.StatusOK},
		},
		"on_failure: deny, and a backend that may fail": {
			`{ kind: rules, on_failure: deny, rules: [ { channels: [paid], action: deny }, { backend: portal, on_failure: pass } ], default: allow }`,
			map[string]int{"paid": http.StatusForbidden, "news": http.StatusOK},
		},
	} {
		for mode, fail := range map[string]func(*testing.T, *node, *backendtest.Server){
			"down": func(t *testing.T, n *node, _ *backendtest.Server) {
				t.Helper()
				order := backends.ForcedBreaker{IsForced: true, State: backends.BreakerOpen, Until: time.Now().Add(time.Hour), Version: 1}
				if err := n.current.Load().chains["portal"].Force(order); err != nil {
					t.Fatal(err)
				}
			},
			"hanging": func(t *testing.T, _ *node, portal *backendtest.Server) {
				t.Helper()
				if err := portal.SetMode(backendtest.Hang()); err != nil {
					t.Fatal(err)
				}
			},
		} {
			t.Run(name+", "+mode, func(t *testing.T) {
				t.Parallel()
				portal := middleware(t)
				text := strings.NewReplacer("http://127.0.0.1:9", origin.URL, "backend: portal, required: [token]", "backend: gate", "timeout: 300ms, ", "",
					"backends:\n", "backends:\n  gate: "+test.gate+"\n").Replace(settingsFor(portal.URL() + "/check"))
				n, address, _ := launchNode(t, text, sdktrace.NewTracerProvider())
				fail(t, n, portal)
				for channel, want := range test.want {
					if got, _ := get(t, address+"/play/"+channel+"/index.m3u8?token=1"); got != want {
						t.Errorf("%s: %d, want %d", channel, got, want)
					}
				}
			})
		}
	}
}
