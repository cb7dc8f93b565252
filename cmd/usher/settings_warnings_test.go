package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// riskySettings are settings that open a door. text is put at the end of a valid file, or in the place of old.
func riskySettings() map[string]struct{ old, text, position, says string } {
	return map[string]struct{ old, text, position, says string }{
		"everybody is a trusted proxy": {
			"", "trusted_proxies: [ 0.0.0.0/0 ]", ":9:20: trusted_proxies[0]: ", "0.0.0.0/0 believes anybody's X-Forwarded-For",
		},
		"everybody with IPv6 is a trusted proxy": {"", "trusted_proxies: [ '::/0' ]", ":9:20: trusted_proxies[0]: ", "::/0 believes anybody's"},
		"everybody is a trusted proxy, in halves": {
			"", "trusted_proxies: [ 10.0.0.0/8, 0.0.0.0/1, 128.0.0.0/1 ]", ":9:43: trusted_proxies[2]: ", "128.0.0.0/1 believes anybody's",
		},
		"everybody is a trusted proxy, as mapped IPv4": {
			"", "trusted_proxies: [ '::ffff:0.0.0.0/96' ]", ":9:20: trusted_proxies[0]: ", "0.0.0.0/0 believes anybody's",
		},
		"a proxy's own address with the length of its network": {
			"", "trusted_proxies: [ 10.0.0.7/8 ]", ":9:20: trusted_proxies[0]: ",
			"10.0.0.7/8 has bits beyond its prefix length and means 10.0.0.0/8; write that, or 10.0.0.7/32",
		},
		"a redirect host may be anywhere": {
			`{ url: "http://127.0.0.1:9" }`, `{ url: "http://127.0.0.1:9", allowed_networks: [ 0.0.0.0/0 ] }`,
			":4:68: origins.stage.allowed_networks[0]: ", "0.0.0.0/0 lets redirect_hosts lead to any address",
		},
		"a fallback that is not there": {
			`{ url: "http://127.0.0.1:9" }`, `{ url: "http://127.0.0.1:9", fallback_on_404: true }`,
			":4:48: origins.stage.fallback_on_404: ", "true has no effect without fallback",
		},
		"everybody is an edge": {
			`  - { path: "/play`, `  - { path: /auth, backend: portal, edge: { dialect: nginx, networks: [ 0.0.0.0/1 ], viewer_path: "/{channel}/*" } }` +
				"\n" + `  - { path: "/play`, ":8:73: routes[0].edge.networks[0]: ", "0.0.0.0/1 lets everybody ask as an edge",
		},
		"an edge whose segments are open": {
			`  - { path: "/play`, `  - { path: /auth, backend: portal, edge: { dialect: nginx, networks: [ 10.0.0.7 ], match_by: playlists-only, viewer_path: "/{channel}/*" } }` +
				"\n" + `  - { path: "/play`, ":8:85: routes[0].edge.match_by: ", "playlists-only allows segments and keys to everybody",
		},
		"401 allows": {"timeout: 300ms", "statuses: { 401: allow }", ":6:75: backends.portal.statuses.401: ", "allow: a refusal or a wrong address lets every viewer in"},
		"403 allows": {"timeout: 300ms", "statuses: { '403': allow }", ":6:75: backends.portal.statuses.403: ", "allow: a refusal"},
		"4xx allows": {"timeout: 300ms", "statuses: { 4xx: allow }", ":6:75: backends.portal.statuses.4xx: ", "allow: a refusal"},
		"5xx allows": {"timeout: 300ms", "statuses: { 5xx: allow }", ":6:75: backends.portal.statuses.5xx: ", "allow: a broken backend lets every viewer in"},
		"302 allows": {"timeout: 300ms", "statuses: { 302: allow }", ":6:75: backends.portal.statuses.302: ", "allow: a redirect to a login page"},
		"any certificate of a middleware": {
			"timeout: 300ms", "redirects: follow, tls: { insecure_skip_verify: true }", ":6:89: backends.portal.tls.insecure_skip_verify: ", "true lets anyone on the way",
		},
		"a decision that holds for days": {"timeout: 300ms", "validity: 10d", ":6:63: backends.portal.validity: ", "240h0m0s: a viewer whose account has ended"},
		"a secret of one character": {
			"7f3a9c1e5b8d2046", strings.Repeat("x", 32), ":2:13: identity.secret: ", "the secret has 1 different characters: anyone can guess it",
		},
		"a secret of the manual": {
			`a, secret: "7f3a9c1e5b8d2046"`, `a, secret: "changeme-changeme"`, ":3:29: tickets.keys[0].secret: ", "the secret consists of words that samples have",
		},
		"a webhook's secret of one character": {
			"", "records: { webhook: { secret: aaaaaaaaaaaaaaaaaaaaaaaa } }",
			":9:23: records.webhook.secret: ", `the secret has 1 different characters: anyone can guess it, and do what it protects; create one with echo "whsec_$(openssl rand -base64 32)"`,
		},
		"an admin token of the alphabet": {
			"", "admin: { listen: '127.0.0.1:0', token: abcdefghijklmnop }", ":9:33: admin.token: ", "the secret counts through the alphabet",
		},
		"an admin listener on every network": {
			"", "admin: { listen: ':0', token: 7f3a9c1e5b8d2046 }", ":9:10: admin.listen: ", `":0" listens on every network of this machine without TLS`,
		},
		"a ticket with the name of a credential": {
			"tickets: { ", "tickets: { parameter: access_token, ", ":3:12: tickets.parameter: ", `"access_token" is the name of a credential`,
		},
		"tickets that are revived for days": {"tickets: { ", "tickets: { revive_for: 7d, ", ":3:12: tickets.revive_for: ", "168h0m0s: a ticket of a session"},
		"segments without a ticket": {
			"required: [token]", "ticket_in: none", ":8:66: routes[0].ticket_in: ", "none serves segments and keys to everybody who knows",
		},
		"a decision that addresses share": {
			"required: [token]", "on_new_address: share", ":8:66: routes[0].on_new_address: ", "share lets further addresses use a decision",
		},
		"a route that refuses nobody": {
			"required: [token]", "enforce: false", ":8:66: routes[0].enforce: ", "false serves every viewer, banned and kicked ones too",
		},
		"an origin with a query": {"http://127.0.0.1:9\" } }", "http://127.0.0.1:9/live?key=1\" } }", ":4:21: origins.stage.url: ", "has a query, which every request"},
		"a Redis on the internet": {
			"", "cluster: { redis: { addresses: [ '8.8.8.8:6379' ] }, encryption_keys: [ { id: a, secret: 7f3a9c1e5b8d2046 } ] }",
			":9:34: cluster.redis.addresses[0]: ", `"8.8.8.8:6379" is a public address, and tls.enabled is false`,
		},
		"a Redis on the internet without a password": {
			"", "cluster: { redis: { addresses: [ '8.8.8.8:6379' ], tls: { enabled: true } }, encryption_keys: [ { id: a, secret: 7f3a9c1e5b8d2046 } ] }",
			":9:34: cluster.redis.addresses[0]: ", `"8.8.8.8:6379" is a public address, and password is empty`,
		},
		"a Redis with any certificate": {
			"", "cluster: { redis: { addresses: [ '10.0.0.9:6379' ], tls: { enabled: true, insecure_skip_verify: true } }, encryption_keys: [ { id: a, secret: 7f3a9c1e5b8d2046 } ] }",
			":9:75: cluster.redis.tls.insecure_skip_verify: ", "true lets anyone on the way",
		},
		"tokens that never end": {
			`portal: { kind: httprequest, address: "http://127.0.0.1:9", timeout: 300ms, headers: { X-Api-Key: "the operator's own" } }`,
			"portal: { kind: jwt, algorithms: [HS256], secret: 7f3a9c1e5b8d20467f3a9c1e5b8d2047, require_expiry: false }",
			":6:87: backends.portal.require_expiry: ", "false accepts tokens without exp",
		},
		"keys over plain http": {
			`portal: { kind: httprequest, address: "http://127.0.0.1:9", timeout: 300ms, headers: { X-Api-Key: "the operator's own" } }`,
			"portal: { kind: jwt, algorithms: [ES256], jwks_url: 'http://127.0.0.1:9/keys' }",
			":6:45: backends.portal.jwks_url: ", "is fetched over plain http",
		},
	}
}

// TestValidate_RiskySetting_Warned checks that every setting that opens a door is allowed, and named with its price.
func TestValidate_RiskySetting_Warned(t *testing.T) {
	base := settingsFor("http://127.0.0.1:9")
	if code, _, errs := usher("validate", "--config", writeFile(t, base)); code != exitOK || errs != "" {
		t.Fatalf("exit code %d: %s; want no warning of usual settings", code, errs)
	}
	for name, test := range riskySettings() {
		t.Run(name, func(t *testing.T) {
			text := base + test.text + "\n"
			if test.old != "" {
				text = strings.Replace(base, test.old, test.text, 1)
			}
			path := writeFile(t, text)
			code, out, errs := usher("validate", "--config", path)
			if code != exitOK || out != path+": ok\n" || !strings.Contains(errs, "warning: "+path+test.position+test.says) {
				t.Errorf("exit code %d, %q and\n%swant 0 and a warning at %s%s", code, out, errs, test.position, test.says)
			}
		})
	}
}

// TestServe_RiskySetting_Logged checks that a node says at its start what validate warns of.
func TestServe_RiskySetting_Logged(t *testing.T) {
	path := writeFile(t, settingsFor("http://127.0.0.1:9")+"listen: 127.0.0.1:0\ntrusted_proxies: [ 0.0.0.0/0 ]\n")
	ctx, stop := context.WithCancel(t.Context())
	stop() // the node drains at once
	var log bytes.Buffer
	if err := (serveCommand{fileFlag{path}}).Run(runtime{ctx, console{out: &log, err: &log, now: time.Now}}); err != nil {
		t.Fatal(err)
	}
	var got struct{ Level, Msg, Setting, At, Risk string }
	if err := json.Unmarshal([]byte(strings.SplitN(log.String(), "\n", 2)[0]), &got); err != nil {
		t.Fatalf("%v in %s", err, log.String())
	}
	if got.Level != "WARN" || got.Setting != "trusted_proxies[0]" || got.At != path+":10:20" || !strings.HasPrefix(got.Risk, "0.0.0.0/0 believes") {
		t.Errorf("the first record is %+v, want a warning of trusted_proxies[0]", got)
	}
}

// TestValidate_ShippedSettings_NotRisky checks that the files of deploy open no door.
func TestValidate_ShippedSettings_NotRisky(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(pagesFolder, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, sampleFile) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			folder := t.TempDir()
			for i, m := range regexp.MustCompile(`file:([a-z.]+)`).FindAllSubmatch(text, -1) {
				key := fmt.Sprintf("%d-9f86d081884c7d659a2feaa0c55ad015", i)
				if err := os.WriteFile(filepath.Join(folder, string(m[1])), []byte(key), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(folder, "usher.yaml")
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, _, errs := usher("validate", "--config", path); strings.Contains(errs, "warning") {
				t.Errorf("validate warns of what is shipped:\n%s", errs)
			}
		})
	}
}
