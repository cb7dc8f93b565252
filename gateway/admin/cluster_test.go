package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
)

// fakeCluster records the calls as text and returns preset results.
type fakeCluster struct {
	found SessionList
	err   error
	bans  []session.Ban
	asked []string
}

func (c *fakeCluster) record(format string, args ...any) {
	c.asked = append(c.asked, fmt.Sprintf(format, args...))
}

func (c *fakeCluster) Ask(_ context.Context, request []byte) (map[string][]byte, []string) {
	var q sessionQuery
	if err := json.Unmarshal(request, &q); err != nil {
		c.record("find: %v", err)
	}
	filter, err := json.Marshal(q.Filter)
	if err != nil {
		c.record("find: %v", err)
	}
	c.record("find %s %d", filter, q.Limit)
	reply := nodeSessions{Total: encodedSketch{Count: c.found.Total}, Matched: encodedSketch{Count: c.found.Matched}}
	for _, s := range c.found.Sessions {
		if s.ID > q.Filter.After && len(reply.Sessions) == 0 { // a page has room for one
			text, err := json.Marshal(s)
			if err != nil {
				c.record("find: %v", err)
			}
			reply.Sessions = append(reply.Sessions, text)
		}
	}
	body, err := json.Marshal(reply)
	if err != nil {
		c.record("find: %v", err)
	}
	return map[string][]byte{"": body}, c.found.UnreachableNodes
}

// AcquireLease knows every session, and the credentials of each.
func (c *fakeCluster) AcquireLease(_ context.Context, r session.LeaseRequest) (session.LeaseResult, error) {
	if c.err != nil && !errors.Is(c.err, backends.ErrStoreUnavailable) {
		return session.LeaseResult{}, c.err
	}
	return session.LeaseResult{Found: true, Record: session.Record{Request: &backends.Request{Session: r.ID}}}, nil
}

func (c *fakeCluster) Credentials(r *backends.Request) string { return "hash of " + r.Session.String() }

func (c *fakeCluster) Kick(_ context.Context, id backends.SessionID, opened time.Time, d time.Duration, decision backends.Decision) error {
	if !opened.IsZero() || decision.Verdict != backends.Denied {
		c.record("kick of what was opened until %v with %v", opened, decision)
	}
	c.record("kick %s %v %q", id, d, decision.Reason)
	return c.err
}

func (c *fakeCluster) Ban(_ context.Context, b session.Ban) (session.Ban, error) {
	left := time.Until(b.Until).Round(time.Minute)
	b.Until = time.Time{}
	c.record("ban %+v for %v", b, left)
	if c.err != nil && !errors.Is(c.err, backends.ErrStoreUnavailable) {
		return session.Ban{}, c.err
	}
	b.ID = "b1"
	return b, c.err
}

func (c *fakeCluster) Unban(_ context.Context, id string) (bool, error) {
	c.record("unban %s", id)
	if errors.Is(c.err, errNotFound) {
		return false, nil
	}
	return true, c.err
}

func (c *fakeCluster) Bans() []session.Ban { return c.bans }

func (c *fakeCluster) Nodes(context.Context) ([]session.NodeInfo, error) {
	return []session.NodeInfo{{ID: "x", Name: "n1", IsAlive: true, IsSelf: true, Sessions: 3}}, c.err
}

func (c *fakeCluster) Live() int       { return 2 }
func (c *fakeCluster) RedisDown() bool { return true }

func (c *fakeCluster) RoundTrips() uint64 { return 7 }

// request sends a request to the cluster's listener and returns the response and the log.
func (c *fakeCluster) request(t *testing.T, method, path, body string) (got reply, log string) {
	t.Helper()
	var logged bytes.Buffer
	handler := Handler(Config{Token: token}, Options{
		Sessions: newFakeNode(), Cluster: c, Ready: newFakeNode().Ready, Backends: newFakeNode().Backends,
		KickDuration: 5 * time.Minute, Logger: slog.New(slog.NewTextHandler(&logged, nil)),
	})
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	answer, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{w.Code, w.Header(), string(answer)}, logged.String()
}

// anID and another are session ids in the form of the API.
const (
	anID    = "AAECAwQFBgcICQoLDA0ODw"
	another = "BAECAwQFBgcICQoLDA0ODw"
)

func TestHandler_ChangesSessionsOfAllNodes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		method, path, body string
		found              SessionList
		err                error
		status             int
		answer             string
		asked              []string
		audited            []string
	}{
		"a kick": {
			method: "POST", path: "sessions/" + anID + "/kick", body: `{"duration":"10m","reason":"shared"}`,
			status: 200, answer: `{"matched":1,"kicked":1}`, asked: []string{`kick ` + anID + ` 10m0s "ended by an operator: shared"`},
			audited: []string{"action=kick", "target=" + anID, "result=done", "duration=10m", "reason=shared", "actor=192.0.2.1:1234"},
		},
		"a kick without a body": {
			method: "DELETE", path: "sessions/" + anID,
			status: 200, answer: `{"matched":1,"kicked":1}`, asked: []string{`kick ` + anID + ` 5m0s "ended by an operator"`},
		},
		"a kick that is published later": {
			method: "POST", path: "sessions/" + anID + "/kick", err: backends.ErrStoreUnavailable,
			status: 202, answer: `{"matched":1,"kicked":1}`, asked: []string{`kick ` + anID + ` 5m0s "ended by an operator"`},
		},
		"a kick of an unknown session": {
			method: "POST", path: "sessions/" + anID + "/kick", err: errNotFound,
			status: 404, answer: "session " + anID + ": not found", asked: []string{`find {"id":"` + anID + `"} 1`},
			audited: []string{"action=kick", `result="session ` + anID + `: not found"`},
		},
		"all sessions of a user": {
			method: "POST", path: "kick", body: `{"user":"Ann","reason":"unpaid"}`,
			found:  SessionList{Matched: 2, Sessions: []Session{{ID: anID}, {ID: another}}, UnreachableNodes: []string{"n3"}},
			status: 200, answer: `{"matched":2,"kicked":2,"unreachable_nodes":["n3"]}`,
			asked: []string{
				`find {"user":"Ann"} 1000`, `kick ` + anID + ` 5m0s "ended by an operator: unpaid"`,
				`find {"user":"Ann","after":"` + anID + `"} 1000`, `kick ` + another + ` 5m0s "ended by an operator: unpaid"`,
				`find {"user":"Ann","after":"` + another + `"} 1000`,
			},
			audited: []string{"target=" + anID, "target=" + another},
		},
		"a ban of a user": {
			method: "POST", path: "bans", body: `{"user":"Ann","duration":"24h","reason":"unpaid"}`,
			status: 200, answer: `{"id":"b1","user":"Ann","until":"0001-01-01T00:00:00Z","reason":"unpaid"}`,
			asked:   []string{`ban {ID: User:Ann Credentials: Prefix:invalid Prefix Session:AAAAAAAAAAAAAAAAAAAAAA Until:0001-01-01 00:00:00 +0000 UTC Reason:unpaid Cause:} for 24h0m0s`},
			audited: []string{"action=ban", `target="user Ann"`, "ban=b1", "until="},
		},
		"a ban of an address": {
			method: "POST", path: "bans", body: `{"address":"::ffff:192.0.2.9","duration":"1h"}`,
			status: 200, answer: `{"id":"b1","address":"192.0.2.9/32","until":"0001-01-01T00:00:00Z"}`,
			asked: []string{`ban {ID: User: Credentials: Prefix:192.0.2.9/32 Session:AAAAAAAAAAAAAAAAAAAAAA Until:0001-01-01 00:00:00 +0000 UTC Reason: Cause:} for 1h0m0s`},
		},
		"a ban that is published later": {
			method: "POST", path: "bans", body: `{"address":"2001:db8::1/32","duration":"1h"}`, err: backends.ErrStoreUnavailable,
			status: 202, answer: `{"id":"b1","address":"2001:db8::/32","until":"0001-01-01T00:00:00Z"}`,
			asked: []string{`ban {ID: User: Credentials: Prefix:2001:db8::/32 Session:AAAAAAAAAAAAAAAAAAAAAA Until:0001-01-01 00:00:00 +0000 UTC Reason: Cause:} for 1h0m0s`},
		},
		"a ban of a session": {
			method: "POST", path: "bans", body: `{"session":"` + anID + `","duration":"1h"}`,
			status: 200, answer: `{"id":"b1","session":"` + anID + `","until":"0001-01-01T00:00:00Z"}`,
			asked:   []string{`ban {ID: User: Credentials: Prefix:invalid Prefix Session:` + anID + ` Until:0001-01-01 00:00:00 +0000 UTC Reason: Cause:} for 1h0m0s`},
			audited: []string{`target="session ` + anID + `"`},
		},
		"a ban of no session": {
			method: "POST", path: "bans", body: `{"session":"x","duration":"1h"}`,
			status: 400, answer: `invalid: session: session id "x": want 22 characters of URL-safe base64`,
			audited: []string{`target="session x"`, "result="},
		},
		"a ban of credentials": {
			method: "POST", path: "bans", body: `{"credentials_of":"` + anID + `","duration":"1h"}`,
			status: 200, answer: `{"id":"b1","credentials":"hash of ` + anID + `","credentials_of":"` + anID + `","until":"0001-01-01T00:00:00Z"}`,
			asked:   []string{`ban {ID: User: Credentials:hash of ` + anID + ` Prefix:invalid Prefix Session:AAAAAAAAAAAAAAAAAAAAAA Until:0001-01-01 00:00:00 +0000 UTC Reason: Cause:} for 1h0m0s`},
			audited: []string{`target="the credentials of session ` + anID + `"`},
		},
		"a ban of the credentials of no session": {
			method: "POST", path: "bans", body: `{"credentials_of":"x","duration":"1h"}`,
			status: 400, answer: `invalid: credentials_of: session id "x": want 22 characters of URL-safe base64`,
		},
		"a ban that the cluster refuses": {
			method: "POST", path: "bans", body: `{"user":"Ann","duration":"1h"}`, err: errors.New("ban: too many"),
			status: 400, answer: "invalid: ban: too many",
			asked: []string{`ban {ID: User:Ann Credentials: Prefix:invalid Prefix Session:AAAAAAAAAAAAAAAAAAAAAA Until:0001-01-01 00:00:00 +0000 UTC Reason: Cause:} for 1h0m0s`},
		},
		"the end of a ban": {
			method: "DELETE", path: "bans/b7", status: 200, answer: `{"unbanned":"b7"}`, asked: []string{"unban b7"},
			audited: []string{"action=unban", "target=b7"},
		},
		"a ban that is none": {
			method: "DELETE", path: "bans/b7", err: errNotFound,
			status: 404, answer: "ban b7: not found", asked: []string{"unban b7"},
		},
		"redis unavailable": {
			method: "GET", path: "nodes", err: errors.New("redis unavailable"), status: 503, answer: "redis unavailable",
		},
		"the nodes": {
			method: "GET", path: "nodes", status: 200,
			answer: `{"nodes":[{"id":"x","name":"n1","started":"0001-01-01T00:00:00Z","last_seen":"0001-01-01T00:00:00Z",` +
				`"sessions":3,"draining":false,"alive":true,"self":true}]}`,
		},
		"no bans": {method: "GET", path: "bans", status: 200, answer: `{"bans":[]}`},
		"sessions by all that they are listed by": {
			method: "GET",
			path:   "sessions?id=i&channel=c&route=r&backend=b&user=u&verdict=v&source=s&node=n&q=x&address=192.0.2.7&limit=7",
			found:  SessionList{Sessions: []Session{}}, status: 200, answer: `{"total":0,"matched":0,"sessions":[]}`,
			asked: []string{`find {"id":"i","channel":"c","route":"r","backend":"b","user":"u","verdict":"v","source":"s",` +
				`"address":"192.0.2.7/32","q":"x","node":"n"} 7`},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &fakeCluster{found: test.found, err: test.err}
			got, log := c.request(t, test.method, "/api/v1/"+test.path, test.body)
			if diff := cmp.Diff(test.answer+"\n", got.body); diff != "" || got.status != test.status {
				t.Errorf("status %d, want %d; answer (-want +got):\n%s", got.status, test.status, diff)
			}
			if diff := cmp.Diff(test.asked, c.asked); diff != "" {
				t.Errorf("wanted of the cluster (-want +got):\n%s", diff)
			}
			for _, part := range test.audited {
				if !strings.Contains(log, "msg=audit") || !strings.Contains(log, part) {
					t.Errorf("the audit lacks %s: %s", part, log)
				}
			}
			if strings.Contains(log, token) {
				t.Errorf("the audit holds the token: %s", log)
			}
			if pending := got.header.Get("X-Usher-Pending"); (pending != "") != (got.status == http.StatusAccepted) {
				t.Errorf("pending is %q", pending)
			}
		})
	}
}

func TestHandler_InvalidInput_ChangesNothing(t *testing.T) {
	t.Parallel()
	kick, long := "sessions/"+anID+"/kick", strings.Repeat("x", maxReasonBytes+1)
	tests := map[string]struct{ method, path, body, want string }{
		"no id":                     {"POST", "sessions/x/kick", "", `id: invalid input: session id "x": want 22 characters of URL-safe base64`},
		"no JSON":                   {"POST", kick, "{", "body: invalid input: unexpected EOF"},
		"an unknown field":          {"POST", kick, `{"four":"1m"}`, `body: invalid input: json: unknown field "four"`},
		"two values":                {"POST", kick, `{}{}`, "body: invalid input: more than one JSON value"},
		"an endless body":           {"POST", kick, `{"reason":"` + strings.Repeat("x", maxBodyBytes) + `"}`, "body: invalid input: http: request body too large"},
		"no duration":               {"POST", kick, `{"duration":"5"}`, `duration: invalid input: "5"; want a duration such as "90s" or "12h", 1s to 24h0m0s`},
		"a kick for too long":       {"POST", kick, `{"duration":"25h"}`, `duration: invalid input: "25h"; want a duration such as "90s" or "12h", 1s to 24h0m0s`},
		"a long reason":             {"POST", kick, `{"reason":"` + long + `"}`, "reason: invalid input: 201 bytes; want at most 200"},
		"everybody":                 {"POST", "kick", `{"reason":"x"}`, `invalid input: the filter matches every session; want one of ["id" "channel" "route" "backend" "user" "verdict" "source" "node" "q" "after"] or address`},
		"a ban without a subject":   {"POST", "bans", `{"duration":"1h"}`, "ban: invalid input: it has 0 of user, session, address and credentials_of; want exactly one"},
		"a ban of two":              {"POST", "bans", `{"user":"a","address":"::1","duration":"1h"}`, "ban: invalid input: it has 2 of user, session, address and credentials_of; want exactly one"},
		"a ban without an end":      {"POST", "bans", `{"user":"a"}`, `duration: invalid input: missing; want a duration such as "24h"`},
		"a ban of no address":       {"POST", "bans", `{"address":"1.2.3","duration":"1h"}`, `address: invalid input: "1.2.3"; want an address or a prefix such as 192.0.2.7 or 2001:db8::/48`},
		"a parameter that is none":  {"GET", "sessions?chanel=a001", "", "chanel: invalid input; want id, channel, route, backend, user, verdict, source, node, q, after, address or limit"},
		"an address that is none":   {"GET", "sessions?address=here", "", `address: invalid input: "here"; want an address or a prefix such as 192.0.2.7 or 2001:db8::/48`},
		"a ban for eleven years":    {"POST", "bans", `{"user":"a","duration":"96360h"}`, `duration: invalid input: "96360h"; want a duration such as "90s" or "12h", 1s to 87600h0m0s`},
		"a ban that began long ago": {"POST", "bans", `{"user":"a","duration":"-1h"}`, `duration: invalid input: "-1h"; want a duration such as "90s" or "12h", 1s to 87600h0m0s`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &fakeCluster{}
			got, log := c.request(t, test.method, "/api/v1/"+test.path, test.body)
			if diff := cmp.Diff(test.want+"\n", got.body); diff != "" || got.status != http.StatusBadRequest {
				t.Errorf("status %d, want 400; answer (-want +got):\n%s", got.status, diff)
			}
			if len(c.asked) > 0 || log != "" {
				t.Errorf("it did %q and logged %q", c.asked, log)
			}
		})
	}
}

func TestMetrics_Cluster(t *testing.T) {
	t.Parallel()
	c := &fakeCluster{bans: make([]session.Ban, 3)}
	got, _ := c.request(t, "GET", "/metrics", "")
	for _, line := range []string{"usher_cluster_nodes 2\n", "usher_redis_up 0\n", "usher_active_bans 3\n", "usher_redis_round_trips_total 7\n"} {
		if !strings.Contains(got.body, line) {
			t.Errorf("no %q in:\n%s", line, ownSeries(got.body))
		}
	}
}
