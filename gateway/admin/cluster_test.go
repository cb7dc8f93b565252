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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// fakeCluster notes what is wanted of it, in words, and answers as it is told.
type fakeCluster struct {
	found SessionList
	err   error
	bans  []Ban
	asked []string
}

func (c *fakeCluster) note(format string, args ...any) {
	c.asked = append(c.asked, fmt.Sprintf(format, args...))
}

func (c *fakeCluster) FindSessions(_ context.Context, f Filter, limit int) (SessionList, error) {
	text, err := json.Marshal(f)
	if err != nil {
		return SessionList{}, err
	}
	c.note("find %s %d", text, limit)
	found := c.found
	found.Sessions = slices.DeleteFunc(slices.Clone(found.Sessions), func(s Session) bool { return s.ID <= f.After })
	found.Sessions = found.Sessions[:min(limit, len(found.Sessions), 1)] // an answer has room for one
	return found, nil
}

func (c *fakeCluster) Kick(_ context.Context, id backends.SessionID, d time.Duration, reason string) error {
	c.note("kick %s %v %q", id, d, reason)
	return c.err
}

func (c *fakeCluster) Ban(_ context.Context, b Ban) (Ban, error) {
	left := time.Until(b.Until).Round(time.Minute)
	b.Until = time.Time{}
	c.note("ban %+v for %v", b, left)
	if c.err != nil && !errors.Is(c.err, ErrPending) {
		return Ban{}, c.err
	}
	b.ID = "b1"
	return b, c.err
}

func (c *fakeCluster) Unban(_ context.Context, id string) error {
	c.note("unban %s", id)
	return c.err
}

func (c *fakeCluster) Bans() []Ban { return c.bans }

func (c *fakeCluster) Nodes(context.Context) ([]NodeStatus, error) {
	return []NodeStatus{{ID: "x", Name: "n1", Alive: true, Self: true, Sessions: 3}}, c.err
}

func (c *fakeCluster) Live() int       { return 2 }
func (c *fakeCluster) RedisDown() bool { return true }

func (c *fakeCluster) RoundTrips() uint64 { return 7 }

// tell sends the cluster's listener something, and returns also what it logged.
func (c *fakeCluster) tell(t *testing.T, method, path, body string) (got reply, log string) {
	t.Helper()
	var logged bytes.Buffer
	handler := Handler(Config{Token: token}, Options{
		Node: someNode(), Cluster: c, Logger: slog.New(slog.NewTextHandler(&logged, nil)),
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

// anID and another are sessions', as the API spells them.
const (
	anID    = "AAECAwQFBgcICQoLDA0ODw"
	another = "BAECAwQFBgcICQoLDA0ODw"
)

func TestTheAPIChangesSessionsOfAllNodes(t *testing.T) {
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
			status: 200, answer: `{"matched":1,"kicked":1}`, asked: []string{`kick ` + anID + ` 10m0s "shared"`},
			audited: []string{"action=kick", "target=" + anID, "result=done", "duration=10m", "reason=shared", "actor=192.0.2.1:1234"},
		},
		"a kick without a body": {
			method: "DELETE", path: "sessions/" + anID,
			status: 200, answer: `{"matched":1,"kicked":1}`, asked: []string{`kick ` + anID + ` 0s ""`},
		},
		"a kick that only this node obeys yet": {
			method: "POST", path: "sessions/" + anID + "/kick", err: ErrPending,
			status: 202, answer: `{"matched":1,"kicked":1}`, asked: []string{`kick ` + anID + ` 0s ""`},
		},
		"a kick of nobody": {
			method: "POST", path: "sessions/" + anID + "/kick", err: fmt.Errorf("session x: %w", ErrNotFound),
			status: 404, answer: "session x: unknown", asked: []string{`kick ` + anID + ` 0s ""`},
			audited: []string{"action=kick", `result="session x: unknown"`},
		},
		"all sessions of a user": {
			method: "POST", path: "kick", body: `{"user":"Ann","reason":"unpaid"}`,
			found:  SessionList{Matched: 2, Sessions: []Session{{ID: anID}, {ID: another}}, Silent: []string{"n3"}},
			status: 200, answer: `{"matched":2,"kicked":2,"unreachable_nodes":["n3"]}`,
			asked: []string{
				`find {"user":"Ann"} 1000`, `kick ` + anID + ` 0s "unpaid"`,
				`find {"user":"Ann","after":"` + anID + `"} 1000`, `kick ` + another + ` 0s "unpaid"`,
				`find {"user":"Ann","after":"` + another + `"} 1000`,
			},
			audited: []string{"target=" + anID, "target=" + another},
		},
		"a ban of a user": {
			method: "POST", path: "bans", body: `{"user":"Ann","duration":"24h","reason":"unpaid"}`,
			status: 200, answer: `{"id":"b1","user":"Ann","until":"0001-01-01T00:00:00Z","reason":"unpaid"}`,
			asked:   []string{`ban {ID: User:Ann Session: Address: Credentials: CredentialsOf: Until:0001-01-01 00:00:00 +0000 UTC Reason:unpaid Cause:} for 24h0m0s`},
			audited: []string{"action=ban", `target="user Ann"`, "ban=b1", "until="},
		},
		"a ban of an address": {
			method: "POST", path: "bans", body: `{"address":"::ffff:192.0.2.9","duration":"1h"}`,
			status: 200, answer: `{"id":"b1","address":"192.0.2.9/32","until":"0001-01-01T00:00:00Z"}`,
			asked: []string{`ban {ID: User: Session: Address:192.0.2.9/32 Credentials: CredentialsOf: Until:0001-01-01 00:00:00 +0000 UTC Reason: Cause:} for 1h0m0s`},
		},
		"a ban that only this node obeys yet": {
			method: "POST", path: "bans", body: `{"address":"2001:db8::1/32","duration":"1h"}`, err: ErrPending,
			status: 202, answer: `{"id":"b1","address":"2001:db8::/32","until":"0001-01-01T00:00:00Z"}`,
			asked: []string{`ban {ID: User: Session: Address:2001:db8::/32 Credentials: CredentialsOf: Until:0001-01-01 00:00:00 +0000 UTC Reason: Cause:} for 1h0m0s`},
		},
		"a ban that is taken back": {
			method: "DELETE", path: "bans/b7", status: 200, answer: `{"unbanned":"b7"}`, asked: []string{"unban b7"},
			audited: []string{"action=unban", "target=b7"},
		},
		"a ban that is none": {
			method: "DELETE", path: "bans/b7", err: fmt.Errorf("ban b7: %w", ErrNotFound),
			status: 404, answer: "ban b7: unknown", asked: []string{"unban b7"},
		},
		"a store that is away": {
			method: "GET", path: "nodes", err: errors.New("the store is away"), status: 503, answer: "the store is away",
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
			got, log := c.tell(t, test.method, "/api/v1/"+test.path, test.body)
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

func TestWhatIsNotUnderstoodChangesNothing(t *testing.T) {
	t.Parallel()
	kick, long := "sessions/"+anID+"/kick", strings.Repeat("x", maxReason+1)
	tests := map[string]struct{ method, path, body, want string }{
		"no id":                     {"POST", "sessions/x/kick", "", `id is not understood: session id "x": want 22 characters of URL-safe base64`},
		"no JSON":                   {"POST", kick, "{", "the body is not understood: unexpected EOF"},
		"an unknown field":          {"POST", kick, `{"four":"1m"}`, `the body is not understood: json: unknown field "four"`},
		"two values":                {"POST", kick, `{}{}`, "the body is not understood: it goes on behind its value"},
		"an endless body":           {"POST", kick, `{"reason":"` + strings.Repeat("x", maxBody) + `"}`, "the body is not understood: http: request body too large"},
		"no duration":               {"POST", kick, `{"duration":"5"}`, `duration: "5" is not understood; want a duration such as "90s" or "12h", 1s to 24h0m0s`},
		"a kick for too long":       {"POST", kick, `{"duration":"25h"}`, `duration: "25h" is not understood; want a duration such as "90s" or "12h", 1s to 24h0m0s`},
		"a long reason":             {"POST", kick, `{"reason":"` + long + `"}`, "reason: it has 201 bytes and is not understood; want at most 200"},
		"everybody":                 {"POST", "kick", `{"reason":"x"}`, `everybody is not understood; want one of ["id" "channel" "route" "backend" "user" "verdict" "source" "node" "q" "after"] or address`},
		"a ban of nobody":           {"POST", "bans", `{"duration":"1h"}`, "the ban is not understood: it names 0 of user, session, address and credentials_of; want exactly one"},
		"a ban of two":              {"POST", "bans", `{"user":"a","address":"::1","duration":"1h"}`, "the ban is not understood: it names 2 of user, session, address and credentials_of; want exactly one"},
		"a ban without an end":      {"POST", "bans", `{"user":"a"}`, `duration: it is missing, so the ban is not understood; want a duration such as "24h"`},
		"a ban of no address":       {"POST", "bans", `{"address":"1.2.3","duration":"1h"}`, `address: "1.2.3" is not understood; want an address or a prefix, such as 192.0.2.7 or 2001:db8::/48`},
		"a parameter that is none":  {"GET", "sessions?chanel=a001", "", "chanel: not understood; want id, channel, route, backend, user, verdict, source, node, q, after, address or limit"},
		"an address that is none":   {"GET", "sessions?address=here", "", `address: "here" is not understood; want an address or a prefix, such as 192.0.2.7 or 2001:db8::/48`},
		"a ban for eleven years":    {"POST", "bans", `{"user":"a","duration":"96360h"}`, `duration: "96360h" is not understood; want a duration such as "90s" or "12h", 1s to 87600h0m0s`},
		"a ban that began long ago": {"POST", "bans", `{"user":"a","duration":"-1h"}`, `duration: "-1h" is not understood; want a duration such as "90s" or "12h", 1s to 87600h0m0s`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &fakeCluster{}
			got, log := c.tell(t, test.method, "/api/v1/"+test.path, test.body)
			if diff := cmp.Diff(test.want+"\n", got.body); diff != "" || got.status != http.StatusBadRequest {
				t.Errorf("status %d, want 400; answer (-want +got):\n%s", got.status, diff)
			}
			if len(c.asked) > 0 || log != "" {
				t.Errorf("it did %q and logged %q", c.asked, log)
			}
		})
	}
}

func TestANodeAloneListsItsSessionsAndChangesNone(t *testing.T) {
	t.Parallel()
	for method, path := range map[string]string{
		"POST": "/api/v1/sessions/" + anID + "/kick", "DELETE": "/api/v1/bans/b1", "GET": "/api/v1/nodes",
	} {
		got := ask(t, someNode(), method, path, "Bearer "+token)
		if got.status != http.StatusNotImplemented || got.body != errAlone.Error()+"\n" {
			t.Errorf("%s %s: got %d %q", method, path, got.status, got.body)
		}
	}
	if got := get(t, someNode(), "/api/v1/sessions?node=other"); !strings.Contains(got.body, `"matched":0`) {
		t.Errorf("of another node: %s", got.body)
	}
}

func TestTheMetricsTellOfTheCluster(t *testing.T) {
	t.Parallel()
	c := &fakeCluster{bans: make([]Ban, 3)}
	got, _ := c.tell(t, "GET", "/metrics", "")
	for _, line := range []string{"usher_cluster_nodes 2\n", "usher_redis_up 0\n", "usher_active_bans 3\n", "usher_redis_round_trips_total 7\n"} {
		if !strings.Contains(got.body, line) {
			t.Errorf("no %q in:\n%s", line, ownSeries(got.body))
		}
	}
}
