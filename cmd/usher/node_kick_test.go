package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"usher/bench/stage"
)

// kickRig is two nodes that share a Redis, each with its API, and a middleware that knows users by their token, wherever it
// stands in the query.
type kickRig struct {
	t         testing.TB
	nodes     []*node
	addresses []string
	apis      []string
}

// answerByToken names the user of a token. "id-…" tokens have an id and a name, "name-…" tokens a name alone, and all
// "guest-…" tokens one id; others have neither.
func answerByToken(w http.ResponseWriter, r *http.Request) {
	shown := append(r.URL.Query()["token"], r.URL.Query()[" token"]...)
	shown = append(shown, r.URL.Query().Get("password"), r.Header.Get("X-Key"))
	for _, token := range shown {
		kind, user, isKnown := strings.Cut(token, "-")
		if !isKnown {
			continue
		}
		switch w.Header().Set("X-AuthDuration", "3600"); kind {
		case "id":
			w.Header().Set("X-UserId", user)
			w.Header().Set("X-Session-Name", "Mr "+user)
		case "guest":
			w.Header().Set("X-UserId", "guest")
		case "name":
			w.Header().Set("X-Session-Name", user)
		}
		return
	}
	w.WriteHeader(http.StatusForbidden)
}

// startKickRig starts two nodes.
func startKickRig(t testing.TB) *kickRig {
	t.Helper()
	return startKickNodes(t, 2, fmt.Sprintf(
		`redis: { addresses: [ %q ] }, encryption_keys: [ { id: a, secret: "0123456789abcdef" } ], heartbeat_interval: 10m, session_ttl: 1h, redis_timeout: 10s`, startRedis(t)))
}

// startKickNodes starts nodes with these settings of the cluster. edits are pairs of texts to replace in the others.
func startKickNodes(t testing.TB, count int, cluster string, edits ...string) *kickRig {
	t.Helper()
	origin := httptest.NewServer(stage.NewOrigin(stage.Config{}))
	t.Cleanup(origin.Close)
	k := &kickRig{t: t}
	middleware := httptest.NewServer(http.HandlerFunc(answerByToken))
	t.Cleanup(middleware.Close)
	text := fmt.Sprintf(`
trusted_proxies: [ 127.0.0.1/32 ]
cors: { allowed_origins: [ "http://tv.example" ] }
identity: { secret: "0123456789abcdef" }
tickets: { keys: [ { id: a, secret: "0123456789abcdef" } ] }
origins: { stage: { url: %q } }
backends:
  portal: { kind: httprequest, address: "%s/check", timeout: 30s, answer_deadline: 20s, breaker: { interval: 3m } }
routes:
  - { path: "/play/{channel}/*", origin: stage, backend: portal }
  - { path: "/listed/{channel}/*", origin_path: "/play/{channel}/*", origin: stage, backend: portal, credentials: [ token ] }
  - { path: "/header/{channel}/*", origin_path: "/play/{channel}/*", origin: stage, backend: portal, credential_headers: [ X-Key ] }
  - { path: "/cookie/{channel}/*", origin_path: "/play/{channel}/*", origin: stage, backend: portal, ticket_in: cookie }
sessions: { idle_timeout: 30m, denial_ttl: 1s, recheck: { min: 1s, jitter_percent: 0 } }
cluster: { %s }
admin: { listen: "127.0.0.1:0", token: %q, trace_url: "http://jaeger.example/?session={session}" }
`, origin.URL, middleware.URL, cluster, apiToken)
	for i := range count {
		settings := strings.NewReplacer(append(edits, "NODE", fmt.Sprint("n", i+1))...).Replace(text)
		n, address, _ := launchNode(t, settings, sdktrace.NewTracerProvider())
		api := httptest.NewServer(n.adminHandler())
		t.Cleanup(api.Close)
		k.nodes, k.addresses, k.apis = append(k.nodes, n), append(k.addresses, address), append(k.apis, api.URL)
	}
	for _, n := range k.nodes {
		eventually(t, "all nodes are known", func() bool { return n.cluster.Live() == count })
	}
	return k
}

// viewing is one request of a viewer.
type viewing struct {
	node           int
	path           string
	address        string // of the viewer
	agent, key     string
	cookie         *http.Cookie
	status         int
	body           string
	receivedCookie *http.Cookie
}

// ask sends the request, and returns it with its response.
func (k *kickRig) ask(v viewing) viewing {
	k.t.Helper()
	request, err := http.NewRequestWithContext(k.t.Context(), http.MethodGet, k.addresses[v.node]+v.path, nil)
	if err != nil {
		k.t.Fatal(err)
	}
	request.Header.Set("X-Forwarded-For", v.address)
	request.Header.Set("User-Agent", v.agent)
	if v.key != "" {
		request.Header.Set("X-Key", v.key)
	}
	if v.cookie != nil {
		request.AddCookie(v.cookie)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(request)
	if err != nil {
		k.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		k.t.Fatal(err)
	}
	v.status, v.body = resp.StatusCode, string(body)
	for _, c := range resp.Cookies() {
		v.receivedCookie = c
	}
	return v
}

// want requires the status on both nodes.
func (k *kickRig) want(what string, v viewing, status int) {
	k.t.Helper()
	for v.node = range k.nodes {
		if got := k.ask(v); got.status != status {
			k.t.Errorf("%s: %s on node %d: %d %.80q, want %d", what, v.path, v.node, got.status, got.body, status)
		}
	}
}

// await waits until both nodes answer with the status.
func (k *kickRig) await(what string, v viewing, status int) {
	k.t.Helper()
	for v.node = range k.nodes {
		eventually(k.t, fmt.Sprintf("%s: %s on node %d is %d", what, v.path, v.node, status), func() bool {
			return k.ask(v).status == status
		})
	}
}

// api calls the API of a node, and decodes the response.
func (k *kickRig) api(node int, method, path string, body map[string]any, into any) (status int) {
	k.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		k.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(k.t.Context(), method, k.apis[node]+"/api/v1/"+path, bytes.NewReader(text))
	if err != nil {
		k.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+apiToken)
	resp, err := http.DefaultClient.Do(request)
	if err != nil {
		k.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		k.t.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			k.t.Fatalf("%s %s: %d %s: %v", method, path, resp.StatusCode, answer, err)
		}
	}
	return resp.StatusCode
}

// kicked is what the API says of a kick.
type kicked struct {
	Matched, Kicked, Addresses int
	Bans                       []string
}

// kick ends the session through the last node.
func (k *kickRig) kick(id, duration string) (done kicked) {
	k.t.Helper()
	if status := k.api(len(k.nodes)-1, "POST", "sessions/"+id+"/kick", map[string]any{"duration": duration}, &done); status != http.StatusOK {
		k.t.Fatalf("the kick: %d", status)
	}
	return done
}

// TestNode_Kick_EvasionsRefused has a viewer who was kicked on one node try whatever makes another session of them.
func TestNode_Kick_EvasionsRefused(t *testing.T) {
	t.Parallel()
	const mobile = "198.51.100.9"
	rigs := map[string]*kickRig{"two nodes": startKickRig(t), "a single node": startKickNodes(t, 1, "")}
	for name, kind := range combine([]string{"two nodes", "a single node"}, []string{"id", "name", "unknown"}) {
		t.Run(name+", "+kind, func(t *testing.T) {
			k := *rigs[name]
			k.t = t
			channel, token := kind+"1", kind+"-ann"
			play := "/play/" + channel + "/low.m3u8?"
			at := func(address, path string) viewing { return viewing{path: path, address: address, agent: "MAG"} }
			opened := k.ask(at(home, play+"token="+token))
			ticket := withTicket(t, opened.body)
			second := withTicket(t, k.ask(at(home, play+"x=0&token="+token)).body)
			neighbour := withTicket(t, k.ask(at(home, play+"token="+kind+"-bob")).body)
			k.want("before the kick", at(home, ticket), 200)
			id := k.sessionOf(channel, ticket)
			done := k.kick(id, "1h")
			k.await("its ticket", at(home, ticket), 403)
			k.await("another session of the viewer", at(home, second), 403)
			for _, query := range []string{
				"token=%s", "token=%s&x=1", "x=1&token=%s", "token=%s&token=z", "token=z&token=%s", "%%74oken=%s", "+token=%s", "token=+%s",
				"token=%s&token=%[1]s", "token=%s&", "a=1&b=2&c=3&token=%s&d=4",
			} {
				k.want("the credentials", at(home, play+fmt.Sprintf(query, token)), 403)
			}
			k.want("a token in other letters", at(home, play+"token="+url.QueryEscape(strings.ToUpper(token))), 403)
			k.want("another address", at(mobile, play+"token="+token), 403)
			k.want("another address, and a parameter", at(mobile, play+"y=2&token="+token), 403)
			k.want("another address, with the ticket", at(mobile, ticket), 403)
			k.want("another player", viewing{path: play + "token=" + token, address: home, agent: "VLC"}, 403)
			k.want("the ticket and a parameter", at(home, ticket+"?x=1"), 403)
			k.want("another route of the channel", at(home, "/listed/"+channel+"/low.m3u8?token="+token), 403)
			k.want("another channel", at(home, "/play/other/low.m3u8?token="+token), 200)
			k.want("a neighbour behind the same NAT", at(home, neighbour), 200)
			k.want("a neighbour who comes anew", at(home, play+"token="+kind+"-cid"), 200)
			k.lift(done.Bans)
			k.await("after the kick was lifted", at(home, play+"token="+token), 200)
		})
	}
}

// combine yields every pair.
func combine(as, bs []string) iter.Seq2[string, string] {
	return func(yield func(a, b string) bool) {
		for _, a := range as {
			for _, b := range bs {
				if !yield(a, b) {
					return
				}
			}
		}
	}
}

// listedSession is a session as the API lists it.
type listedSession struct {
	ID       string
	Requests int
}

func (k *kickRig) sessionsOn(channel string) []listedSession {
	k.t.Helper()
	var found struct{ Sessions []listedSession }
	k.api(0, "GET", "sessions?channel="+url.QueryEscape(channel), nil, &found)
	return found.Sessions
}

// sessionOf returns the id of the session that a ticket's request is counted in.
func (k *kickRig) sessionOf(channel, ticket string) string {
	k.t.Helper()
	before := map[string]int{}
	for _, s := range k.sessionsOn(channel) {
		before[s.ID] = s.Requests
	}
	k.ask(viewing{path: ticket, address: "203.0.113.7", agent: "MAG"})
	for _, s := range k.sessionsOn(channel) {
		if s.Requests > before[s.ID] {
			return s.ID
		}
	}
	k.t.Fatal("no session counted the request")
	return ""
}

// home is the address of most viewers of these tests.
const home = "203.0.113.7"

// atHome returns a request from there.
func atHome(path string) viewing { return viewing{path: path, address: home, agent: "MAG"} }

// open opens a session, and returns its ticket's path and its id.
func (k *kickRig) open(channel, path string) (ticket, id string) {
	k.t.Helper()
	got := k.ask(atHome(path))
	if got.status != http.StatusOK {
		k.t.Fatalf("%s: %d %.80q", path, got.status, got.body)
	}
	ticket = withTicket(k.t, got.body)
	return ticket, k.sessionOf(channel, ticket)
}

// TestNode_KickUser_HoldsOnEveryChannel kicks a user by id or name.
func TestNode_KickUser_HoldsOnEveryChannel(t *testing.T) {
	t.Parallel()
	k := startKickRig(t)
	for token, user := range map[string]string{"id-17": "17", "id-18": "Mr 18", "name-ann": "ann"} {
		ticket, _ := k.open("u1", "/play/u1/low.m3u8?token="+token)
		k.open("u2", "/play/u2/low.m3u8?token="+token)
		var done kicked
		if status := k.api(1, "POST", "kick", map[string]any{"user": user, "duration": "1h"}, &done); status != http.StatusOK || done.Kicked != 2 {
			t.Fatalf("%d, %+v", status, done)
		}
		k.await("its ticket", atHome(ticket), 403)
		for _, path := range []string{
			"/play/u1/low.m3u8?token=%s", "/play/u2/low.m3u8?token=%s&x=1", "/play/u3/low.m3u8?token=z&token=%s", "/listed/u4/low.m3u8?token=%s",
		} {
			k.want("the user", atHome(fmt.Sprintf(path, token)), 403)
			k.want("the user elsewhere", viewing{path: fmt.Sprintf(path, token), address: "198.51.100.9"}, 403)
		}
		k.want("another user", atHome("/play/u1/low.m3u8?token=id-99"), 200)
		k.lift(done.Bans)
		k.await("after the kick was lifted", atHome("/play/u1/low.m3u8?token="+token), 200)
	}
}

// TestNode_Kick_Carriers kicks viewers whose credentials or ticket are elsewhere than in the query and the path.
func TestNode_Kick_Carriers(t *testing.T) {
	t.Parallel()
	k := startKickRig(t)
	withKey := func(path, key string) viewing {
		v := atHome(path)
		v.key = key
		return v
	}
	opened := k.ask(withKey("/header/h1/low.m3u8", "unknown-key"))
	k.kick(k.sessionOf("h1", withTicket(t, opened.body)), "1h")
	k.await("the header", withKey("/header/h1/low.m3u8", "unknown-key"), 403)
	k.want("the header and a parameter", withKey("/header/h1/low.m3u8?x=1", "unknown-key"), 403)
	k.want("another header", withKey("/header/h1/low.m3u8", "unknown-other"), 200)

	cookie := k.ask(atHome("/cookie/c1/low.m3u8?token=unknown-ann"))
	sessions := k.sessionsOn("c1")
	if len(sessions) != 1 || cookie.receivedCookie == nil {
		t.Fatalf("%+v, %+v", sessions, cookie)
	}
	withCookie := atHome("/cookie/c1/low.m3u8")
	withCookie.cookie = cookie.receivedCookie
	k.want("the cookie before the kick", withCookie, 200)
	k.kick(sessions[0].ID, "1h")
	k.await("the cookie alone", withCookie, 403)
	withCookie.path += "?token=unknown-ann&x=1"
	k.want("the cookie and the credentials", withCookie, 403)
	k.want("the credentials without the cookie", atHome("/cookie/c1/low.m3u8?token=unknown-ann"), 403)
}

// TestNode_Kick_Ends waits until a kick is over.
func TestNode_Kick_Ends(t *testing.T) {
	t.Parallel()
	k := startKickRig(t)
	for _, token := range []string{"id-17", "unknown-ann"} {
		path := "/play/" + token + "/low.m3u8?token=" + token
		ticket, id := k.open(token, path)
		k.kick(id, "2s")
		k.await("the kick", atHome(ticket), 403)
		k.await("after the kick", atHome(path), 200)
	}
}

// TestNode_Ban_CredentialsOf bans what a session's viewer presents, on every channel.
func TestNode_Ban_CredentialsOf(t *testing.T) {
	t.Parallel()
	k := startKickRig(t)
	ticket, id := k.open("b1", "/play/b1/low.m3u8?token=unknown-ann")
	other, _ := k.open("b2", "/play/b2/low.m3u8?q=1&token=unknown-ann")
	k.open("b1", "/play/b1/low.m3u8?token=unknown-bob")
	var done struct {
		ID                  string
		Sessions, Addresses int
	}
	status := k.api(1, "POST", "bans", map[string]any{"credentials_of": id, "duration": "1h"}, &done)
	if status != http.StatusOK || done.Sessions != 2 || done.Addresses != 1 {
		t.Fatalf("%d, %+v", status, done)
	}
	k.await("its ticket", atHome(ticket), 403)
	k.await("the viewer's other session", atHome(other), 403)
	k.want("the credentials among others", atHome("/play/b3/low.m3u8?z=1&token=unknown-ann"), 403)
	k.want("other credentials", atHome("/play/b1/low.m3u8?token=unknown-bob"), 200)
	k.lift([]string{done.ID})
	k.await("after the ban", atHome("/play/b1/low.m3u8?token=unknown-ann"), 200)
}

// lift removes the bans through the first node.
func (k *kickRig) lift(bans []string) {
	k.t.Helper()
	for _, id := range bans {
		if status := k.api(0, "DELETE", "bans/"+id, nil, nil); status != http.StatusOK {
			k.t.Errorf("the kick was not lifted: %d", status)
		}
	}
}

// TestNode_ConstantUser_KickWantsConfirmation has a middleware that gives all viewers one user id.
func TestNode_ConstantUser_KickWantsConfirmation(t *testing.T) {
	t.Parallel()
	k := startKickRig(t)
	const viewers = 201
	for i := range viewers {
		v := viewing{path: fmt.Sprintf("/play/g1/low.m3u8?token=guest-%d", i), address: fmt.Sprintf("198.51.%d.%d", 100+i/200, i%200)}
		if got := k.ask(v); got.status != http.StatusOK {
			t.Fatalf("viewer %d: %d %.80q", i, got.status, got.body)
		}
	}
	metric := func() string {
		_, body := get(t, k.apis[0]+"/metrics")
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, `usher_backend_contract_violation{backend="portal",violation="constant_user"}`) {
				return strings.TrimSpace(line[strings.LastIndexByte(line, ' '):])
			}
		}
		return ""
	}
	eventually(t, "the alarm", func() bool { return metric() == "1" })
	id := k.sessionsOn("g1")[0].ID
	var conflict struct {
		Error               string
		Sessions, Addresses int
	}
	for path, body := range map[string]map[string]any{
		"sessions/" + id + "/kick": {},
		"kick":                     {"user": "guest"},
		"bans":                     {"user": "guest", "duration": "1h"},
	} {
		if status := k.api(1, "POST", path, body, &conflict); status != http.StatusConflict || conflict.Sessions != viewers || conflict.Addresses != viewers {
			t.Errorf("%s: %d, %+v; want 409 and %d", path, status, conflict, viewers)
		}
		body["dry_run"] = true
		if status := k.api(0, "POST", path, body, &conflict); status != http.StatusOK || conflict.Sessions != viewers {
			t.Errorf("a dry run of %s: %d, %+v; want 200 and %d", path, status, conflict, viewers)
		}
	}
	k.want("nobody was kicked", viewing{path: "/play/g1/low.m3u8?token=guest-7", address: "198.51.100.7"}, 200)
	var done kicked
	if status := k.api(1, "POST", "sessions/"+id+"/kick", map[string]any{"expect": viewers}, &done); status != http.StatusOK || done.Kicked != viewers {
		t.Errorf("%d, %+v", status, done)
	}
	k.await("one of all", viewing{path: "/play/g1/low.m3u8?token=guest-7", address: "198.51.100.7"}, 403)
	k.lift(done.Bans)
	k.await("after the kick was lifted", viewing{path: "/play/g1/low.m3u8?token=guest-7", address: "198.51.100.7"}, 200)
}
