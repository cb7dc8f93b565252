package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/admin"
)

// startKickThree starts three nodes that share a Redis. edits are those of startKickNodes.
func startKickThree(t testing.TB, edits ...string) *kickRig {
	t.Helper()
	return startKickNodes(t, 3, fmt.Sprintf(
		`node_name: NODE, redis: { addresses: [ %q ] }, encryption_keys: [ { id: a, secret: "0123456789abcdef" } ], heartbeat_interval: 10m, session_ttl: 1h, redis_timeout: 10s`, startRedis(t)), edits...)
}

// audience is the viewers of a channel, of whom the middleware knows some by id, some by name and some not.
type audience struct{ credentials, tickets []viewing }

// openAudience opens sessions on the nodes in turn.
func (k *kickRig) openAudience(channel string, count int) (a audience) {
	k.t.Helper()
	for i := range count {
		kind := [...]string{"id", "name", "unknown"}[i%3]
		v := viewing{
			path:    fmt.Sprintf("/play/%s/low.m3u8?format=hls&token=%s-%s%d", channel, kind, channel, i),
			address: fmt.Sprint("203.0.113.", i), agent: "MAG", node: i % len(k.nodes),
		}
		got := k.ask(v)
		if got.status != http.StatusOK {
			k.t.Fatalf("%s: %d %.80q", v.path, got.status, got.body)
		}
		a.credentials = append(a.credentials, v)
		v.path = withTicket(k.t, got.body)
		a.tickets = append(a.tickets, v)
	}
	return a
}

// wantAll requires the status on all nodes for what all viewers show.
func (k *kickRig) wantAll(what string, a audience, status int) {
	k.t.Helper()
	for i, v := range a.credentials {
		k.await(what+", the ticket", a.tickets[i], status)
		k.want(what+", the credentials", v, status)
		v.path += "&x=1"
		k.want(what+", and another parameter", v, status)
	}
}

// wantIn requires all viewers to be admitted with their credentials.
func (k *kickRig) wantIn(what string, a audience) {
	k.t.Helper()
	for _, v := range a.credentials {
		k.await(what, v, http.StatusOK)
	}
}

// kickAll kicks what matches through a node.
func (k *kickRig) kickAll(node int, body map[string]any) (done admin.KickResult) {
	k.t.Helper()
	if status := k.api(node, "POST", "kick", body, &done); status != http.StatusOK {
		k.t.Fatalf("the kick: %d", status)
	}
	return done
}

// TestNode_KickChannel_AllRefused kicks a channel whose viewers are on three nodes, and ends the kick by its id.
func TestNode_KickChannel_AllRefused(t *testing.T) {
	t.Parallel()
	k := startKickThree(t)
	const viewers = 120
	a, other := k.openAudience("goal", viewers), k.openAudience("news", 3)
	k.want("on all nodes", a.tickets[0], http.StatusOK)
	done := k.kickAll(1, map[string]any{"channel": "goal", "expect": viewers, "duration": "1h", "reason": "rights"})
	if done.Matched != viewers || done.Kicked != viewers || done.Approximate || len(done.Bans) != 1 || len(done.NotKicked) != 0 {
		t.Fatalf("kicked %+v, want all %d, and one id", done, viewers)
	}
	k.wantAll("kicked", a, http.StatusForbidden)
	k.want("from another address", viewing{path: a.credentials[0].path, address: "198.51.100.9", agent: "VLC"}, http.StatusForbidden)
	k.want("a viewer who comes anew", atHome("/play/goal/low.m3u8?format=hls&token=unknown-new"), http.StatusOK)
	k.wantAll("another channel", other, http.StatusOK)
	for node := range k.nodes {
		var list struct{ Bans []admin.Ban }
		if k.api(node, "GET", "bans", nil, &list); len(list.Bans) != 1 || list.Bans[0].ID != done.Bans[0] || list.Bans[0].Viewers != viewers {
			t.Errorf("node %d lists %+v, want one of %d viewers", node, list.Bans, viewers)
		}
	}
	k.lift(done.Bans)
	k.wantIn("after the kick was lifted", a)
}

// TestNode_KickAll_CallerGone has the caller give up 10 ms after the request was sent: the kick goes on.
func TestNode_KickAll_CallerGone(t *testing.T) {
	t.Parallel()
	k := startKickThree(t)
	a := k.openAudience("goal", 60)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) {
		time.AfterFunc(10*time.Millisecond, cancel)
	}})
	body, err := json.Marshal(map[string]any{"channel": "goal", "expect": 60})
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, k.apis[0]+"/api/v1/kick", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+apiToken)
	if resp, err := http.DefaultClient.Do(request); err == nil { // it may be fast enough
		_ = resp.Body.Close()
	} else if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	k.wantAll("kicked", a, http.StatusForbidden)
}

// TestNode_KickAll_Twice kicks a channel, and meanwhile all that the middleware admitted, through two nodes. Either ends by its own id.
func TestNode_KickAll_Twice(t *testing.T) {
	t.Parallel()
	k := startKickThree(t)
	a := k.openAudience("goal", 30)
	var channel, source admin.KickResult
	var kicks sync.WaitGroup
	kicks.Go(func() { channel = k.kickAll(0, map[string]any{"channel": "goal", "expect": 30}) })
	kicks.Go(func() { source = k.kickAll(1, map[string]any{"source": "backend", "expect": 30}) })
	kicks.Wait()
	k.wantAll("kicked", a, http.StatusForbidden)
	k.lift(source.Bans)
	k.wantAll("the other kick holds", a, http.StatusForbidden)
	k.lift(channel.Bans)
	k.wantIn("after both were lifted", a)
}

// TestNode_KickAll_Filters kicks what several parameters match together, and no other viewer.
func TestNode_KickAll_Filters(t *testing.T) {
	t.Parallel()
	for name, filter := range map[string]map[string]any{
		"a user on a channel":         {"channel": "goal", "user": "goal0"},
		"a user on a channel, by all": {"channel": "goal", "user": "goal0", "verdict": "allowed"},
		"a channel on a node":         {"channel": "goal", "node": ""}, // the first node's
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := startKickNodes(t, 1, "")
			if _, isNode := filter["node"]; isNode {
				filter["node"] = k.nodes[0].cluster.Name()
			}
			a, others := k.openAudience("goal", 1), k.openAudience("news", 3)
			if done := k.kickAll(0, filter); done.Matched != 1 || done.Kicked != 1 {
				t.Fatalf("kicked %+v, want one session", done)
			}
			k.wantAll("kicked", a, http.StatusForbidden)
			k.wantAll("others", others, http.StatusOK)
		})
	}
}

// BenchmarkNode_KickChannel kicks a channel of 50,000 sessions on three nodes, each with its own user and credentials, and
// waits until each node refuses every viewer by their ticket and by their credentials.
func BenchmarkNode_KickChannel(b *testing.B) {
	const viewers = 50_000
	var answers, total []time.Duration
	for b.Loop() {
		b.StopTimer()
		k := startKickThree(b)
		requests := k.openMany("goal", viewers)
		before := b.Elapsed()
		b.StartTimer()
		done := k.kickAll(0, map[string]any{"channel": "goal", "expect": 2 * viewers})
		answered := b.Elapsed()
		if done.Matched != viewers || done.Kicked != viewers {
			b.Fatalf("kicked %+v", done)
		}
		k.awaitRefused(requests)
		b.StopTimer()
		for i, r := range requests { // they show the same in other sessions
			r.Session = backends.SessionID{}
			for _, n := range k.nodes {
				if _, isBanned := n.cluster.Banned(r, nil); !isBanned {
					b.Fatalf("%s does not refuse the credentials of viewer %d", n.cluster.Name(), i)
				}
			}
		}
		b.StartTimer()
		total = append(total, b.Elapsed()-before)
		answers = append(answers, answered-before)
	}
	b.ReportMetric(float64(slices.Max(answers).Milliseconds()), "ms-until-answered")
	b.ReportMetric(float64(slices.Max(total).Milliseconds()), "ms-until-refused")
}

// openMany opens sessions on the nodes in turn, past HTTP, and returns their requests.
func (k *kickRig) openMany(channel string, count int) (requests []*backends.Request) {
	k.t.Helper()
	for i := range count {
		var id backends.SessionID
		copy(id[:], rand.Text())
		requests = append(requests, &backends.Request{
			Session: id, Channel: channel, Backend: "portal", Route: k.nodes[0].current.Load().gateway.Routes()[0],
			Address: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}),
			Path:    "/play/" + channel + "/low.m3u8", Query: fmt.Sprintf("format=hls&token=id-%d", i),
		})
	}
	var opening sync.WaitGroup
	for worker := range 64 {
		opening.Go(func() {
			for i := worker; i < count; i += 64 {
				r := requests[i]
				s, err := k.nodes[i%len(k.nodes)].registry.Open(k.t.Context(), session.OpenRequest{Request: r, HasCredentials: true})
				if err != nil || s.Decision().Verdict != backends.Allowed {
					k.t.Errorf("viewer %d: %v", i, err)
					return
				}
			}
		})
	}
	opening.Wait()
	if k.t.Failed() {
		k.t.FailNow()
	}
	return requests
}

// awaitRefused waits until the sessions are denied where they live, and all nodes refuse them elsewhere.
func (k *kickRig) awaitRefused(requests []*backends.Request) {
	k.t.Helper()
	for _, n := range k.nodes {
		at := 0
		eventually(k.t, "all are refused", func() bool {
			for at < len(requests) && isRefused(n, requests[at]) {
				at++
			}
			return at == len(requests)
		})
	}
}

// isRefused reports whether a node knows the ban of a session, and has denied it if it lives there.
func isRefused(n *node, r *backends.Request) bool {
	_, isBanned := n.cluster.Banned(r, nil)
	s := n.registry.Find(r.Session)
	return isBanned && (s == nil || s.Decision().Verdict == backends.Denied)
}
