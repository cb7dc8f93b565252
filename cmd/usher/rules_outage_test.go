package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"usher/backends"
	"usher/bench/stage"
)

// TestNode_RulesInOutage opens sessions under rules whose backend is down. A rule that needs no backend decides as ever, in both
// directions, and the outage policy on the others.
func TestNode_RulesInOutage(t *testing.T) {
	t.Parallel()
	origin := httptest.NewServer(stage.NewOrigin(stage.Config{}))
	t.Cleanup(origin.Close)
	portal := middleware(t)
	for name, test := range map[string]struct {
		gate string
		want map[string]int // by channel
	}{
		"on_failure: deny": {
			`{ kind: rules, on_failure: deny, rules: [ { channels: [free], action: allow }, { backend: portal } ] }`,
			map[string]int{"free": http.StatusOK, "paid": http.StatusForbidden},
		},
		"on_failure: allow": {
			`{ kind: rules, rules: [ { channels: [adult], action: deny }, { channels: [paid], backend: portal, on_failure: deny }, { backend: portal } ] }`,
			map[string]int{"adult": http.StatusForbidden, "paid": http.StatusForbidden, "news": http.StatusOK},
		},
		"on_failure: deny, and a default": {
			`{ kind: rules, on_failure: deny, rules: [ { channels: [paid], backend: portal } ], default: allow }`,
			map[string]int{"paid": http.StatusForbidden, "news": http.StatusOK},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.NewReplacer("http://127.0.0.1:9", origin.URL, "backend: portal, required: [token]", "backend: gate",
				"backends:\n", "backends:\n  gate: "+test.gate+"\n").Replace(settingsFor(portal.URL() + "/check"))
			n, address, _ := launchNode(t, text, sdktrace.NewTracerProvider())
			chains := n.current.Load().chains
			order := backends.ForcedBreaker{IsForced: true, State: backends.BreakerOpen, Until: time.Now().Add(time.Hour), Version: 1}
			if err := chains["portal"].Force(order); err != nil {
				t.Fatal(err)
			}
			if chains["gate"].IsDown() {
				t.Error("the rules are down with their backend")
			}
			for channel, want := range test.want {
				if got, _ := get(t, address+"/play/"+channel+"/index.m3u8?token=1"); got != want {
					t.Errorf("%s: %d, want %d", channel, got, want)
				}
			}
		})
	}
}

// TestNode_TokenRequiredInOutage asks for a channel without a token while the backend is down that denies such a viewer without a call.
func TestNode_TokenRequiredInOutage(t *testing.T) {
	t.Parallel()
	origin := httptest.NewServer(stage.NewOrigin(stage.Config{}))
	t.Cleanup(origin.Close)
	text := strings.NewReplacer("http://127.0.0.1:9", origin.URL, ", required: [token]", "",
		"kind: httprequest", "kind: flussonic, auto_token: false, on_failure: allow").Replace(settingsFor("http://127.0.0.1:1"))
	n, address, _ := launchNode(t, text, sdktrace.NewTracerProvider())
	order := backends.ForcedBreaker{IsForced: true, State: backends.BreakerOpen, Until: time.Now().Add(time.Hour), Version: 1}
	if err := n.current.Load().chains["portal"].Force(order); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]int{"": http.StatusForbidden, "?token=1": http.StatusOK} {
		if got, _ := get(t, address+"/play/a001/index.m3u8"+query); got != want {
			t.Errorf("query %q: %d, want %d", query, got, want)
		}
	}
}
