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
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/admin/breakers"
)

// fakeCluster records the calls as text and returns preset results.
type fakeCluster struct {
	found     SessionList
	addresses int
	record    session.Record
	err       error
	bans      []session.Ban
	asked     []string
	page      int // how many sessions a page has room for; zero: one
	// kicks are the replies to a kick by the nodes' names; empty: the node does not understand it. lost are nodes without a
	// heartbeat.
	kicks map[string]string
	lost  []session.NodeInfo
}

func (c *fakeCluster) note(format string, args ...any) {
	c.asked = append(c.asked, fmt.Sprintf(format, args...))
}

func (c *fakeCluster) Ask(ctx context.Context, request []byte) (map[string][]byte, []string) {
	if reply := breakers.Answer(ctx, fakeBreakers{}, request); reply != nil {
		return map[string][]byte{"n1": reply}, nil
	}
	var q sessionQuery
	if err := json.Unmarshal(request, &q); err != nil {
		c.note("find: %v", err)
	}
	filter, err := json.Marshal(q.Filter)
	if err != nil {
		c.note("find: %v", err)
	}
	if q.Kind == kickQueryKind {
		c.note("order %s for %v, reason %q", filter, (time.Duration(q.Kick.Duration) * time.Millisecond).Round(time.Second), q.Kick.Reason)
		replies := map[string][]byte{}
		for node, reply := range c.kicks {
			replies[node] = []byte(reply)
		}
		return replies, c.found.UnreachableNodes
	}
	reply := nodeSessions{Total: encodedSketch{Count: c.found.Total}, Matched: encodedSketch{Count: c.found.Matched}}
	if q.Kind == countQueryKind {
		c.note("count %s", filter)
		reply.Addresses.Count = c.addresses
	} else {
		c.note("find %s %d", filter, q.Limit)
	}
	for _, s := range c.found.Sessions {
		if s.ID > q.Filter.After && len(reply.Sessions) < max(1, c.page) {
			text, err := json.Marshal(s)
			if err != nil {
				c.note("find: %v", err)
			}
			reply.Sessions = append(reply.Sessions, text)
		}
	}
	body, err := json.Marshal(reply)
	if err != nil {
		c.note("find: %v", err)
	}
	replies := map[string][]byte{c.Name(): body}
	if c.found.Approximate {
		replies["n2"] = body
	}
	return replies, c.found.UnreachableNodes
}

// AcquireLease knows every session, and the credentials of each.
func (c *fakeCluster) AcquireLease(_ context.Context, r session.LeaseRequest) (session.LeaseResult, error) {
	if c.err != nil && !errors.Is(c.err, backends.ErrStoreUnavailable) {
		return session.LeaseResult{}, c.err
	}
	return session.LeaseResult{Found: true, Record: c.record}, nil
}

func (c *fakeCluster) Credentials(r *backends.Request) string { return "hash of " + r.Query }

func (c *fakeCluster) Kick(
	_ context.Context, id backends.SessionID, opened time.Time, b session.Ban, presented *backends.Request,
) (session.Ban, error) {
	query := ""
	if presented != nil {
		query = " who presented " + presented.Query
	}
	c.note("kick %s of %s:", id, opened.Format(time.DateOnly)+query)
	return c.ban(b)
}

func (c *fakeCluster) Ban(_ context.Context, b session.Ban) (session.Ban, error) { return c.ban(b) }

func (c *fakeCluster) ban(b session.Ban) (session.Ban, error) {
	left := time.Until(b.Until).Round(time.Second)
	b.Until = time.Time{}
	text := "ban"
	if b.IsKick {
		text = "kick"
	}
	c.note("%s %q of %q on %s:%s for %v, reason %q", text, b.ID, banOf(b).Subject()+b.Credentials, b.Backend, b.Channel, left, b.Reason)
	if c.err != nil && !errors.Is(c.err, backends.ErrStoreUnavailable) {
		return session.Ban{}, c.err
	}
	b.ID = "b1"
	return b, c.err
}

func (c *fakeCluster) Unban(_ context.Context, id string) (bool, error) {
	c.note("unban %s", id)
	if errors.Is(c.err, errNotFound) {
		return false, nil
	}
	return true, c.err
}

func (c *fakeCluster) Bans() []session.Ban { return c.bans }

func (c *fakeCluster) Nodes(context.Context) ([]session.NodeInfo, error) {
	return append([]session.NodeInfo{{ID: "x", Name: "n1", IsAlive: true, IsSelf: true, Sessions: 3}}, c.lost...), c.err
}

func (c *fakeCluster) Name() string { return "n1" }

// KickAll notes the kick of all.
func (c *fakeCluster) KickAll(_ context.Context, kick session.Ban, sessions []session.Handle) error {
	c.note("kick %s of %d sessions for %v, reason %q", kick.ID, len(sessions), time.Until(kick.Until).Round(time.Second), kick.Reason)
	return c.err
}

func (c *fakeCluster) Live() int       { return 2 }
func (c *fakeCluster) RedisDown() bool { return true }

func (c *fakeCluster) RoundTrips() uint64 { return 7 }

// request sends a request to the cluster's listener and returns the response and the log.
func (c *fakeCluster) request(t *testing.T, method, path, body string) (got reply, log string) {
	t.Helper()
	var logged bytes.Buffer
	handler := newHandler(t, Config{Token: token}, Options{
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

// annsRecord is a session in the store.
var annsRecord = session.Record{
	Opened:   time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	Decision: backends.Decision{Verdict: backends.Allowed, UserID: "17", User: "Ann"},
	Request:  &backends.Request{Channel: "a001", Backend: "portal", Query: "token=x"},
}

func with(r session.Record, d backends.Decision) session.Record {
	r.Decision = d
	return r
}

// sinceHeartbeat is for how long a node has been silent.
var sinceHeartbeat = regexp.MustCompile(`heartbeat for 30h\d+m\d+s`)

// kickID is the id of a kick, which nobody knows before, as the only one of the bans.
var kickID = regexp.MustCompile(`\["[a-z2-7]{12}"\]`)

func TestHandler_ChangesSessionsOfAllNodes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		method, path, body string
		found              SessionList
		page               int
		addresses          int
		record             session.Record
		kicks              map[string]string
		lost               []session.NodeInfo
		err                error
		status             int
		answer             string
		asked              []string
		audited            []string
	}{
		"a kick of a user's session": {
			method: "POST", path: "sessions/" + anID + "/kick", body: `{"duration":"10m","reason":"shared"}`, record: annsRecord,
			found: SessionList{Matched: 3}, addresses: 2,
			status: 200, answer: `{"matched":3,"addresses":2,"kicked":3,"bans":["b1"]}`,
			asked: []string{
				`count {"channel":"a001","backend":"portal","user":"17"}`, "kick " + anID + " of 2026-03-01 who presented token=x:",
				`kick "" of "user 17 on channel a001" on portal:a001 for 10m0s, reason "shared"`,
			},
			audited: []string{"action=kick", "target=" + anID, "result=done", `subject="user 17 on channel a001"`, "reason=shared", "actor=admin", "client_address=192.0.2.1", "sessions=3", "addresses=2", "ban=b1"},
		},
		"a kick of a session whose user has a name alone": {
			method: "POST", path: "sessions/" + anID + "/kick", record: with(annsRecord, backends.Decision{User: "Ann"}),
			status: 200, answer: `{"matched":1,"addresses":1,"kicked":1,"bans":["b1"]}`,
			asked: []string{
				`count {"channel":"a001","backend":"portal","user":"Ann"}`, "kick " + anID + " of 2026-03-01 who presented token=x:",
				`kick "" of "user Ann on channel a001" on portal:a001 for 5m0s, reason ""`,
			},
		},
		"a kick of a session of an unknown user": {
			method: "POST", path: "sessions/" + anID + "/kick", record: with(annsRecord, backends.Decision{}),
			status: 200, answer: `{"matched":1,"addresses":1,"kicked":1,"bans":["b1"]}`,
			asked: []string{
				`count {"channel":"a001","backend":"portal","credentials_of":"` + anID + `"}`, "kick " + anID + " of 2026-03-01 who presented token=x:",
				`kick "" of "credentials on channel a001hash of token=x" on portal:a001 for 5m0s, reason ""`,
			},
		},
		"a kick of which nothing is known": {
			method: "DELETE", path: "sessions/" + anID,
			status: 200, answer: `{"matched":1,"addresses":1,"kicked":1,"bans":["b1"]}`,
			asked: []string{
				`find {"id":"` + anID + `"} 1`, `count {"id":"` + anID + `"}`, "kick " + anID + " of 0001-01-01:",
				`kick "" of "session ` + anID + `" on : for 5m0s, reason ""`,
			},
		},
		"a kick that is published later": {
			method: "POST", path: "sessions/" + anID + "/kick", err: backends.ErrStoreUnavailable, record: annsRecord,
			status: 202, answer: `{"matched":1,"addresses":1,"kicked":1,"bans":["b1"]}`,
			asked: []string{
				`count {"channel":"a001","backend":"portal","user":"17"}`, "kick " + anID + " of 2026-03-01 who presented token=x:",
				`kick "" of "user 17 on channel a001" on portal:a001 for 5m0s, reason ""`,
			},
		},
		"a kick that hits more than the default": {
			method: "POST", path: "sessions/" + anID + "/kick", record: annsRecord, found: SessionList{Matched: 21, UnreachableNodes: []string{"n3"}}, addresses: 20,
			status: 409, answer: `{"error":"it would hit 21 sessions from 20 addresses; nodes that did not respond: n3, and 20 are expected at most: nothing is done; if it is meant, set expect",` +
				`"sessions":21,"addresses":20,"unreachable_nodes":["n3"]}`,
			asked:   []string{`count {"channel":"a001","backend":"portal","user":"17"}`},
			audited: []string{"action=kick", "sessions=21", "addresses=20", "unreachable_nodes=[n3]", "nothing is done"},
		},
		"a kick of a session that hits about so many": {
			method: "POST", path: "sessions/" + anID + "/kick", record: annsRecord, found: SessionList{Matched: 5, Approximate: true}, addresses: 2,
			status: 200, answer: `{"matched":10,"addresses":4,"kicked":10,"approximate":true,"bans":["b1"]}`,
			asked: []string{
				`count {"channel":"a001","backend":"portal","user":"17"}`, "kick " + anID + " of 2026-03-01 who presented token=x:",
				`kick "" of "user 17 on channel a001" on portal:a001 for 5m0s, reason ""`,
			},
		},
		"a kick that hits as many as expected": {
			method: "POST", path: "kick", body: `{"user":"17","expect":21}`, found: SessionList{Matched: 21}, addresses: 20,
			status: 200, answer: `{"matched":21,"addresses":20,"kicked":21,"bans":["b1"]}`,
			asked: []string{`count {"user":"17"}`, `kick "" of "user 17" on : for 5m0s, reason ""`},
		},
		"a kick that hits more than expected": {
			method: "POST", path: "kick", body: `{"user":"17","expect":3}`, found: SessionList{Matched: 4}, addresses: 1,
			status: 409, answer: `{"error":"it would hit 4 sessions from 1 address, and 3 are expected at most: nothing is done; if it is meant, set expect","sessions":4,"addresses":1}`,
			asked: []string{`count {"user":"17"}`},
		},
		"a kick that is expected to hit nobody": {
			method: "POST", path: "kick", body: `{"user":"17","expect":0}`, found: SessionList{Matched: 1}, addresses: 1,
			status: 409, answer: `{"error":"it would hit 1 session from 1 address, and 0 are expected at most: nothing is done; if it is meant, set expect","sessions":1,"addresses":1}`,
			asked: []string{`count {"user":"17"}`},
		},
		"a dry run of a kick": {
			method: "POST", path: "sessions/" + anID + "/kick", body: `{"dry_run":true}`, record: annsRecord, found: SessionList{Matched: 4000}, addresses: 3000,
			status: 200, answer: `{"sessions":4000,"addresses":3000}`, asked: []string{`count {"channel":"a001","backend":"portal","user":"17"}`},
		},
		"a dry run of a ban": {
			method: "POST", path: "bans", body: `{"address":"192.0.2.0/24","duration":"1h","dry_run":true}`, found: SessionList{Matched: 40, UnreachableNodes: []string{"n3"}}, addresses: 30,
			status: 200, answer: `{"sessions":40,"addresses":30,"unreachable_nodes":["n3"]}`, asked: []string{`count {"address":"192.0.2.0/24"}`},
		},
		"a ban that hits too many": {
			method: "POST", path: "bans", body: `{"user":"Ann","duration":"1h"}`, found: SessionList{Matched: 40}, addresses: 30,
			status: 409, answer: `{"error":"it would hit 40 sessions from 30 addresses, and 20 are expected at most: nothing is done; if it is meant, set expect","sessions":40,"addresses":30}`,
			asked:   []string{`count {"user":"Ann"}`},
			audited: []string{"action=ban", "sessions=40", "addresses=30"},
		},
		"a kick of an unknown session": {
			method: "POST", path: "sessions/" + anID + "/kick", err: errNotFound,
			status: 404, answer: "session " + anID + ": not found", asked: []string{`find {"id":"` + anID + `"} 1`},
			audited: []string{"action=kick", `result="session ` + anID + `: not found"`},
		},
		"a user": {
			method: "POST", path: "kick", body: `{"user":"Ann","reason":"unpaid"}`,
			found: SessionList{Matched: 2, UnreachableNodes: []string{"n3"}}, addresses: 2,
			status: 200, answer: `{"matched":2,"addresses":2,"kicked":2,"bans":["b1"],"unreachable_nodes":["n3"]}`,
			asked:   []string{`count {"user":"Ann"}`, `kick "" of "user Ann" on : for 5m0s, reason "unpaid"`},
			audited: []string{`target="user Ann"`, "sessions=2", "ban=b1"},
		},
		"a user on a channel": {
			method: "POST", path: "kick", body: `{"user":"Ann","channel":"a001"}`,
			status: 200, answer: `{"matched":0,"addresses":0,"kicked":0,"bans":["b1"]}`,
			asked: []string{`count {"channel":"a001","user":"Ann"}`, `kick "" of "user Ann on channel a001" on :a001 for 5m0s, reason ""`},
		},
		"a user while redis is unavailable": {
			method: "POST", path: "kick", body: `{"user":"Ann"}`, err: backends.ErrStoreUnavailable,
			status: 202, answer: `{"matched":0,"addresses":0,"kicked":0,"bans":["b1"]}`,
			asked: []string{`count {"user":"Ann"}`, `kick "" of "user Ann" on : for 5m0s, reason ""`},
		},
		"a user where there are too many bans": {
			method: "POST", path: "kick", body: `{"user":"Ann"}`, err: errors.New("ban: too many"), status: 400, answer: "invalid: ban: too many",
			asked: []string{`count {"user":"Ann"}`, `kick "" of "user Ann" on : for 5m0s, reason ""`},
		},
		"all sessions on a channel": {
			method: "POST", path: "kick", body: `{"channel":"a001","reason":"goal"}`, found: SessionList{Matched: 2}, addresses: 2,
			kicks: map[string]string{
				"n1": `{"matched":{"count":2,"hashes":"AAAAAAAAAAEAAAAAAAAAAg=="}}`,
				"n2": `{"matched":{"count":2,"hashes":"AAAAAAAAAAIAAAAAAAAAAw=="}}`,
			},
			status: 200, answer: `{"matched":3,"addresses":2,"kicked":3,"bans":["ID"]}`,
			asked:   []string{`count {"channel":"a001"}`, `order {"channel":"a001"} for 5m0s, reason "goal"`},
			audited: []string{`target="all that match"`, `filter="{\"channel\":\"a001\"}"`, "sessions=3", "kicked=3", "reason=goal", "result=done"},
		},
		"all sessions on a channel, and nodes are away": {
			method: "POST", path: "kick", body: `{"channel":"a001","source":"backend"}`,
			found: SessionList{Matched: 2, UnreachableNodes: []string{"n5"}},
			kicks: map[string]string{
				"n1": `{"matched":{"count":2,"hashes":"AAAAAAAAAAEAAAAAAAAAAg=="}}`,
				"n2": `{"matched":{"count":2,"hashes":"AAAAAAAAAAIAAAAAAAAAAw=="},"error":"too many viewers"}`, "n3": "",
			},
			lost: []session.NodeInfo{
				{Name: "n4", LastSeen: time.Now().Add(-30 * time.Hour)}, {Name: "n2", LastSeen: time.Now().Add(-time.Minute)},
			},
			status: 200, answer: `{"matched":3,"addresses":0,"kicked":2,"bans":["ID"],"unreachable_nodes":["n2","n3","n4","n5"],` +
				`"not_kicked":{"n2":"too many viewers","n3":"its answer is unreadable: it has another version, or could not read the store",` +
				`"n4":"no heartbeat for a while","n5":"redis unavailable"}}`,
			asked:   []string{`count {"channel":"a001","source":"backend"}`, `order {"channel":"a001","source":"backend"} for 5m0s, reason ""`},
			audited: []string{"kicked=2", "too many viewers", "no heartbeat for 30h"},
		},
		"all sessions while redis is unavailable": {
			method: "POST", path: "kick", body: `{"channel":"a001"}`, err: backends.ErrStoreUnavailable,
			kicks:  map[string]string{"n1": `{"matched":{"count":1,"hashes":"AAAAAAAAAAE="},"pending":true}`},
			status: 202, answer: `{"matched":1,"addresses":0,"kicked":1,"bans":["ID"]}`,
			asked: []string{`count {"channel":"a001"}`, `order {"channel":"a001"} for 5m0s, reason ""`},
		},
		"all sessions while redis is unavailable, and another node is known": {
			method: "POST", path: "kick", body: `{"channel":"a001"}`, err: backends.ErrStoreUnavailable,
			found: SessionList{UnreachableNodes: []string{"n2"}}, lost: []session.NodeInfo{{Name: "n2", LastSeen: time.Now().Add(-30 * time.Hour)}},
			kicks:  map[string]string{"n1": `{"matched":{"count":1,"hashes":"AAAAAAAAAAE="},"pending":true}`},
			status: 202, answer: `{"matched":1,"addresses":0,"kicked":1,"bans":["ID"],"unreachable_nodes":["n2"],"not_kicked":{"n2":"redis unavailable"}}`,
			asked: []string{`count {"channel":"a001"}`, `order {"channel":"a001"} for 5m0s, reason ""`},
		},
		"all sessions of one node": {
			method: "POST", path: "kick", body: `{"node":"n2"}`, found: SessionList{UnreachableNodes: []string{"n3"}},
			kicks: map[string]string{
				"n1": `{"matched":{"count":1,"hashes":"AAAAAAAAAAE="}}`, "n2": `{"matched":{"count":1,"hashes":"AAAAAAAAAAI="}}`,
			},
			status: 200, answer: `{"matched":1,"addresses":0,"kicked":1,"bans":["ID"]}`,
			asked: []string{`count {"node":"n2"}`, `order {"node":"n2"} for 5m0s, reason ""`},
		},
		"all sessions of a name that two nodes have": {
			method: "POST", path: "kick", body: `{"node":"n1"}`, lost: []session.NodeInfo{{Name: "n1", IsAlive: true}},
			status: 400, answer: `node: invalid input: 2 nodes have the name "n1"; give each its own cluster.node_name`,
		},
		"all sessions of a node that has just started again": {
			method: "POST", path: "kick", body: `{"node":"n1"}`, lost: []session.NodeInfo{{Name: "n1", LastSeen: time.Now().Add(-30 * time.Hour)}},
			kicks:  map[string]string{"n1": `{"matched":{"count":1,"hashes":"AAAAAAAAAAE="}}`},
			status: 200, answer: `{"matched":1,"addresses":0,"kicked":1,"bans":["ID"]}`,
			asked: []string{`count {"node":"n1"}`, `order {"node":"n1"} for 5m0s, reason ""`},
		},
		"the shortest kick, and the longest reason": {
			method: "POST", path: "kick", body: `{"user":"17","duration":"1s","reason":"` + strings.Repeat("я", 200) + `"}`,
			status: 200, answer: `{"matched":0,"addresses":0,"kicked":0,"bans":["b1"]}`,
			asked: []string{`count {"user":"17"}`, `kick "" of "user 17" on : for 1s, reason "` + strings.Repeat("я", 200) + `"`},
		},
		"the longest kick": {
			method: "POST", path: "kick", body: `{"user":"17","duration":"24h"}`,
			status: 200, answer: `{"matched":0,"addresses":0,"kicked":0,"bans":["b1"]}`,
			asked: []string{`count {"user":"17"}`, `kick "" of "user 17" on : for 24h0m0s, reason ""`},
		},
		"a ban of a user": {
			method: "POST", path: "bans", body: `{"user":"Ann","duration":"24h","reason":"unpaid"}`,
			status: 200, answer: `{"id":"b1","user":"Ann","until":"0001-01-01T00:00:00Z","reason":"unpaid","sessions":0,"addresses":0}`,
			asked:   []string{`count {"user":"Ann"}`, `ban "" of "user Ann" on : for 24h0m0s, reason "unpaid"`},
			audited: []string{"action=ban", `target="user Ann"`, "ban=b1", "until="},
		},
		"a ban of an address": {
			method: "POST", path: "bans", body: `{"address":"::ffff:192.0.2.9","duration":"1h"}`,
			status: 200, answer: `{"id":"b1","address":"192.0.2.9/32","until":"0001-01-01T00:00:00Z","sessions":0,"addresses":0}`,
			asked: []string{`count {"address":"192.0.2.9/32"}`, `ban "" of "address 192.0.2.9/32" on : for 1h0m0s, reason ""`},
		},
		"a ban of an IPv4 prefix in IPv6": {
			method: "POST", path: "bans", body: `{"address":"::ffff:192.0.2.9/120","duration":"1h"}`,
			status: 200, answer: `{"id":"b1","address":"192.0.2.0/24","until":"0001-01-01T00:00:00Z","sessions":0,"addresses":0}`,
			asked: []string{`count {"address":"192.0.2.0/24"}`, `ban "" of "address 192.0.2.0/24" on : for 1h0m0s, reason ""`},
		},
		"all sessions of an address": {
			method: "POST", path: "kick", body: `{"address":"192.0.2.7"}`,
			kicks:  map[string]string{"n1": `{"matched":{"count":1,"hashes":"AAAAAAAAAAE="}}`},
			status: 200, answer: `{"matched":1,"addresses":0,"kicked":1,"bans":["ID"]}`,
			asked: []string{`count {"address":"192.0.2.7/32"}`, `order {"address":"192.0.2.7/32"} for 5m0s, reason ""`},
		},
		"sessions by empty values": {
			method: "GET", path: "sessions?address=&verdict=&source=&channel=", found: SessionList{Sessions: []Session{}},
			status: 200, answer: `{"total":0,"matched":0,"sessions":[]}`, asked: []string{"find {} 100"},
		},
		"a ban that is published later": {
			method: "POST", path: "bans", body: `{"address":"2001:db8::1/32","duration":"1h"}`, err: backends.ErrStoreUnavailable,
			status: 202, answer: `{"id":"b1","address":"2001:db8::/32","until":"0001-01-01T00:00:00Z","sessions":0,"addresses":0}`,
			asked: []string{`count {"address":"2001:db8::/32"}`, `ban "" of "address 2001:db8::/32" on : for 1h0m0s, reason ""`},
		},
		"a ban of a session": {
			method: "POST", path: "bans", body: `{"session":"` + anID + `","duration":"1h"}`,
			status: 200, answer: `{"id":"b1","session":"` + anID + `","until":"0001-01-01T00:00:00Z","sessions":0,"addresses":0}`,
			asked:   []string{`count {"id":"` + anID + `"}`, `ban "" of "session ` + anID + `" on : for 1h0m0s, reason ""`},
			audited: []string{`target="session ` + anID + `"`},
		},
		"a ban of no session": {
			method: "POST", path: "bans", body: `{"session":"x","duration":"1h"}`,
			status: 400, answer: `invalid: session: session id "x": want 22 characters of URL-safe base64`,
			audited: []string{`target="session x"`, "result="},
		},
		"a ban of credentials": {
			method: "POST", path: "bans", body: `{"credentials_of":"` + anID + `","duration":"1h"}`, record: annsRecord,
			status: 200, answer: `{"id":"b1","credentials":"hash of token=x","credentials_of":"` + anID + `","until":"0001-01-01T00:00:00Z","sessions":0,"addresses":0}`,
			asked:   []string{`count {"credentials_of":"` + anID + `"}`, `ban "" of "credentialshash of token=x" on : for 1h0m0s, reason ""`},
			audited: []string{`target="the credentials of session ` + anID + `"`},
		},
		"a ban of credentials that are unknown": {
			method: "POST", path: "bans", body: `{"credentials_of":"` + anID + `","duration":"1h"}`,
			status: 404, answer: "credentials_of: session " + anID + ": not found, or its viewer presented only a ticket",
		},
		"a ban of the credentials of no session": {
			method: "POST", path: "bans", body: `{"credentials_of":"x","duration":"1h"}`,
			status: 400, answer: `invalid: credentials_of: session id "x": want 22 characters of URL-safe base64`,
		},
		"a ban that the cluster refuses": {
			method: "POST", path: "bans", body: `{"user":"Ann","duration":"1h"}`, err: errors.New("ban: too many"),
			status: 400, answer: "invalid: ban: too many",
			asked: []string{`count {"user":"Ann"}`, `ban "" of "user Ann" on : for 1h0m0s, reason ""`},
		},
		"the end of a ban": {
			method: "DELETE", path: "bans/b7", status: 200, answer: `{"unbanned":"b7"}`, asked: []string{"unban b7"},
			audited: []string{"action=unban", "target=b7"},
		},
		"a ban that is none": {
			method: "DELETE", path: "bans/b7", err: errNotFound,
			status: 404, answer: "ban b7: not found", asked: []string{"unban b7"},
		},
		"the nodes while redis is unavailable": {
			method: "GET", path: "nodes", err: backends.ErrStoreUnavailable, status: 200,
			answer: `{"nodes":[{"id":"x","name":"n1","started":"0001-01-01T00:00:00Z","last_seen":"0001-01-01T00:00:00Z",` +
				`"sessions":3,"draining":false,"alive":true,"self":true}],"incomplete":true}`,
		},
		"the nodes": {
			method: "GET", path: "nodes", status: 200,
			answer: `{"nodes":[{"id":"x","name":"n1","started":"0001-01-01T00:00:00Z","last_seen":"0001-01-01T00:00:00Z",` +
				`"sessions":3,"draining":false,"alive":true,"self":true}]}`,
		},
		"no bans": {method: "GET", path: "bans", status: 200, answer: `{"bans":[]}`},
		"sessions by all that they are listed by": {
			method: "GET",
			path:   "sessions?id=" + anID + "&channel=c&route=r&backend=b&user=u&verdict=allowed&source=ban&node=n&q=x&address=192.0.2.7&limit=7",
			found:  SessionList{Sessions: []Session{}}, status: 200, answer: `{"total":0,"matched":0,"sessions":[]}`,
			asked: []string{`find {"id":"` + anID + `","channel":"c","route":"r","backend":"b","user":"u","verdict":"allowed","source":"ban",` +
				`"address":"192.0.2.7/32","q":"x","node":"n"} 7`},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &fakeCluster{found: test.found, page: test.page, addresses: test.addresses, record: test.record, err: test.err, kicks: test.kicks, lost: test.lost}
			got, log := c.request(t, test.method, "/api/v1/"+test.path, test.body)
			body := got.body
			if len(test.kicks) > 0 {
				body = sinceHeartbeat.ReplaceAllString(kickID.ReplaceAllString(body, `["ID"]`), "heartbeat for a while")
			}
			if diff := cmp.Diff(test.answer+"\n", body); diff != "" || got.status != test.status {
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
			if len(test.found.UnreachableNodes) == 0 && strings.Contains(log, "unreachable_nodes") {
				t.Errorf("the audit names nodes that did not respond, and all did: %s", log)
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
	kick, long := "sessions/"+anID+"/kick", strings.Repeat("я", 201)
	tests := map[string]struct{ method, path, body, want string }{
		"no id":                     {"POST", "sessions/x/kick", "", `id: invalid input: session id "x": want 22 characters of URL-safe base64`},
		"no JSON":                   {"POST", kick, "{", "body: invalid input: unexpected EOF"},
		"an unknown field":          {"POST", kick, `{"four":"1m"}`, `body: invalid input: json: unknown field "four"`},
		"two values":                {"POST", kick, `{}{}`, "body: invalid input: more than one JSON value"},
		"half a value behind":       {"POST", kick, `{"duration":"1m"}}`, "body: invalid input: more than one JSON value"},
		"a field in capitals":       {"POST", "bans", `{"USER":"a","duration":"1h"}`, `body: invalid input: json: unknown field "USER"`},
		"a field in other letters":  {"POST", "bans", `{"u\u017fer":"a","duration":"1h"}`, `body: invalid input: json: unknown field "uſer"`},
		"a field twice":             {"POST", "bans", `{"user":"a","duration":"1h","user":"b"}`, "user: invalid input: the body has it twice; want it once"},
		"a field of a kick twice":   {"POST", "kick", `{"channel":"a","\u0063hannel":"b"}`, "channel: invalid input: the body has it twice; want it once"},
		"a field of one kick twice": {"POST", kick, `{"dry_run":true,"dry_run":false}`, "dry_run: invalid input: the body has it twice; want it once"},
		"an endless body":           {"POST", kick, `{"reason":"` + strings.Repeat("x", maxBodyBytes) + `"}`, "body: invalid input: http: request body too large"},
		"credentials of nothing":    {"GET", "sessions?credentials_of=x", "", `credentials_of: invalid input: session id "x": want 22 characters of URL-safe base64`},
		"a kick by those":           {"POST", "kick", `{"credentials_of":"x"}`, `credentials_of: invalid input: session id "x": want 22 characters of URL-safe base64`},
		"a negative bound":          {"POST", kick, `{"expect":-1}`, "expect: invalid input: -1; want a number of sessions"},
		"a bound of a ban":          {"POST", "bans", `{"user":"a","duration":"1h","expect":-1}`, "expect: invalid input: -1; want a number of sessions"},
		"no duration":               {"POST", kick, `{"duration":"5"}`, `duration: invalid input: "5"; want a duration such as "90s" or "12h", 1s to 24h0m0s`},
		"a kick for too long":       {"POST", kick, `{"duration":"25h"}`, `duration: invalid input: "25h"; want a duration such as "90s" or "12h", 1s to 24h0m0s`},
		"a long reason":             {"POST", kick, `{"reason":"` + long + `"}`, "reason: invalid input: 201 characters; want at most 200"},
		"everybody":                 {"POST", "kick", `{"reason":"x"}`, `invalid input: the filter matches every session; want one of ["id" "channel" "route" "backend" "user" "verdict" "source" "node" "q" "credentials_of"] or address`},
		"a page of a kick":          {"POST", "kick", `{"channel":"a","after":"` + anID + `"}`, "after: invalid input: a kick has no pages"},
		"a ban without a subject":   {"POST", "bans", `{"duration":"1h"}`, "ban: invalid input: it has 0 of user, session, address and credentials_of; want exactly one"},
		"a ban of two":              {"POST", "bans", `{"user":"a","address":"::1","duration":"1h"}`, "ban: invalid input: it has 2 of user, session, address and credentials_of; want exactly one"},
		"a ban without an end":      {"POST", "bans", `{"user":"a"}`, `duration: invalid input: missing; want a duration such as "24h"`},
		"a ban of no address":       {"POST", "bans", `{"address":"1.2.3","duration":"1h"}`, `address: invalid input: "1.2.3"; want an address or a prefix such as 192.0.2.7 or 2001:db8::/48`},
		"a parameter that is none":  {"GET", "sessions?chanel=a001", "", "chanel: invalid input; want id, channel, route, backend, user, verdict, source, node, q, after, credentials_of, address or limit"},
		"an address that is none":   {"GET", "sessions?address=here", "", `address: invalid input: "here"; want an address or a prefix such as 192.0.2.7 or 2001:db8::/48`},
		"no query":                  {"GET", "sessions?user=Ann%", "", `query: invalid input: invalid URL escape "%"`},
		"half a query":              {"GET", "sessions?user=Ann;x", "", "query: invalid input: invalid semicolon separator in query"},
		"half a query of outages":   {"GET", "free-rides?backend=portal%", "", `query: invalid input: invalid URL escape "%"`},
		"a parameter twice":         {"GET", "sessions?channel=a&channel=b", "", "channel: invalid input: the query has it 2 times; want it once"},
		"two backends of outages":   {"GET", "free-rides?backend=a&backend=b", "", "backend: invalid input: the query has it 2 times; want it once"},
		"a list without parameters": {"GET", "bans?user=Ann", "", "user: invalid input; this operation has no parameters"},
		"a dry run by the query":    {"DELETE", "bans/b1?dry_run=true", "", "dry_run: invalid input; this operation has no parameters"},
		"a dry run by the body":     {"DELETE", "bans/b1", `{"dry_run":true}`, `body: invalid input: json: unknown field "dry_run"`},
		"a reload of another file":  {"POST", "reload", `{"file":"x"}`, `body: invalid input: json: unknown field "file"`},
		"a verdict in capitals":     {"GET", "sessions?verdict=Allowed", "", `verdict: invalid input: "Allowed"; want pending, allowed, denied`},
		"a kick by that":            {"POST", "kick", `{"verdict":"Allowed"}`, `verdict: invalid input: "Allowed"; want pending, allowed, denied`},
		"a source without its dash": {"GET", "sessions?source=failopen", "", `source: invalid input: "failopen"; want none, backend, local, fail-open, cached, ticket, limit, ban, operator`},
		"a page after no session":   {"GET", "sessions?after=x", "", `after: invalid input: session id "x": want 22 characters of URL-safe base64`},
		"no session's id":           {"GET", "sessions?id=x", "", `id: invalid input: session id "x": want 22 characters of URL-safe base64`},
		"a kick of no address":      {"POST", "kick", `{"address":"1.2.3"}`, `address: invalid input: "1.2.3"; want an address or a prefix such as 192.0.2.7 or 2001:db8::/48`},
		"a prefix around IPv4":      {"POST", "bans", `{"address":"::ffff:0.0.0.0/90","duration":"1h"}`, `address: invalid input: "::ffff:0.0.0.0/90"; want an address or a prefix such as 192.0.2.7 or 2001:db8::/48`},
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
			isAudited := strings.Contains(log, "msg=audit actor=admin") && strings.Contains(log, "result="+strconv.Quote(test.want))
			if len(c.asked) > 0 || isAudited != (test.method != "GET") || len(log) > 3<<10 {
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

// ForceBreaker notes the order.
func (c *fakeCluster) ForceBreaker(_ context.Context, o backends.ForcedBreaker) (backends.ForcedBreaker, error) {
	c.note("force %s %s", o.Backend, o.State)
	return o, c.err
}

// TestAsPending takes the errors by which a Cluster says that a change is in force on this node alone.
func TestAsPending(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err       error
		isPending bool
	}{
		{nil, false},
		{errors.New("ban: too many"), false},
		{fmt.Errorf("store a ban: %w", backends.ErrStoreUnavailable), true},
		{fmt.Errorf("store a ban: %w", context.DeadlineExceeded), true},
		{fmt.Errorf("store a ban: %w", context.Canceled), true},
	} {
		if got := asPending(test.err); errors.Is(got, errPending) != test.isPending || !errors.Is(got, test.err) {
			t.Errorf("%v: got %v, want it pending %t", test.err, got, test.isPending)
		}
	}
}
