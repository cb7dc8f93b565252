package e2e

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"usher/backends/backendtest"
)

// tracedCluster is two nodes that send their spans to one Jaeger, the first by gRPC and the second by HTTP.
type tracedCluster struct {
	*jaeger
	nodes      []*clusterNode
	middleware *backendtest.Server
	originLog  *transcript
	receiver   *recordReceiver // of both nodes' records
	folder     string          // of their files
	secrets    []string        // the credentials and tickets of all viewers
}

// secret returns a viewer's token, which no store may hold.
func (c *tracedCluster) secret(verdict, viewer string) string {
	token := verdict + "-4a7d1ed4" + viewer
	c.secrets = append(c.secrets, token)
	return token
}

// startTracedCluster runs the nodes. The middleware allows tokens that begin with "good", all of the user anna with the id 17.
func startTracedCluster(t *testing.T) *tracedCluster {
	t.Helper()
	c := &tracedCluster{jaeger: startJaeger(t), originLog: new(transcript), receiver: newRecordReceiver(t), folder: t.TempDir()}
	c.receiver.start(t)
	c.middleware = backendtest.New(backendtest.Config{Address: freePort(t), Lookup: func(token string) (backendtest.User, bool) {
		return backendtest.User{ID: "17", Name: "anna"}, strings.HasPrefix(token, "good")
	}})
	if err := c.middleware.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.middleware.Close)
	s := clusterSetup{
		origin: startStage(t, c.logRequests), middleware: c.middleware.URL(), redis: startRedis(t).standalone(),
		backend:  "validity: 3s, on_failure: allow",
		sessions: "recheck: { min: 2s }", idle: waitTimeout,
		route: `origin_path: "/play/{channel}/*" }
  - { path: "/live/{token}/{channel}/*", origin: origin, backend: portal, origin_path: "/play/{channel}/*"`,
	}
	for i, protocol := range []string{"grpc", "http"} {
		if err := os.Mkdir(filepath.Join(c.folder, protocol), 0o700); err != nil {
			t.Fatal(err)
		}
		endpoint := []string{c.grpc, c.http}[i]
		s.more = fmt.Sprintf("tracing: { endpoint: %q, protocol: %s }\n", endpoint, protocol) + c.receiver.yaml(filepath.Join(c.folder, protocol))
		c.nodes = append(c.nodes, startClusterNode(t, s, fmt.Sprintf("n%d", i+1)))
	}
	return c
}

// logRequests writes all that the origin gets to its log.
func (c *tracedCluster) logRequests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, _ := httputil.DumpRequest(r, true) // a GET without a body
		_, _ = c.originLog.Write(request)
		next.ServeHTTP(w, r)
	})
}

// play opens the playlist of that path on the first node, fetches a segment there, and returns the segment's path.
func (c *tracedCluster) play(t *testing.T, path string) string {
	t.Helper()
	segment := segmentAt(t, homeAddress, c.nodes[0].public+path)
	wantStatusAt(t, homeAddress, segment, http.StatusOK)
	path = strings.TrimPrefix(segment, c.nodes[0].public)
	ticket, _ := splitTicket(path)
	if ticket == "" {
		t.Fatalf("%s has no ticket", path)
	}
	c.secrets = append(c.secrets, ticket)
	return path
}

// TestJaeger_FindsWhatViewersGot has viewers who play, move, are denied, and are admitted while the middleware fails. An
// operator finds each in Jaeger, and nothing there or elsewhere shows a credential.
func TestJaeger_FindsWhatViewersGot(t *testing.T) {
	t.Parallel()
	c := startTracedCluster(t)
	segment := c.play(t, "/play/a001/low.m3u8?token="+c.secret("good", "anna"))
	opening, trace := c.await(t, "session.open", "n1", map[string]string{"user.name": "anna", "usher.channel": "a001"})
	wantOpening(t, opening, trace)

	id := map[string]string{"session.id": opening.Tags.get("session.id")}
	wantStatusAt(t, homeAddress, c.nodes[1].public+segment, http.StatusOK)
	if moved, _ := c.await(t, "session.open", "n2", id); !moved.refersTo("FOLLOWS_FROM", opening) || moved.TraceID == opening.TraceID {
		t.Errorf("the session moved to the second node, but is not linked to its opening, %s:\n%s", opening, moved)
	}
	c.wantRecheck(t, opening, segment)

	wantStatusAt(t, homeAddress, c.nodes[0].public+"/play/a002/low.m3u8?token="+c.secret("bad", "ben"), http.StatusForbidden)
	denial, trace := c.await(t, "session.open", "n1", map[string]string{"usher.channel": "a002", "usher.verdict": "denied"})
	if source := denial.Tags.get("usher.source"); source != "backend" || len(named(trace, "backend.check", "n1")) != 1 {
		t.Errorf("the denial is by %q, want backend after one check:\n%v", source, trace)
	}

	c.play(t, "/live/"+c.secret("good", "path")+"/a004/low.m3u8")
	c.await(t, "session.open", "n1", map[string]string{"user.id": "17", "usher.channel": "a004"})

	setMode(t, c.middleware, backendtest.Refuse())
	c.play(t, "/play/a003/low.m3u8?token="+c.secret("good", "carl"))
	_, trace = c.await(t, "session.open", "n1", map[string]string{"usher.channel": "a003", "usher.source": "fail-open"})
	failed := named(trace, "backend.check", "n1")
	if len(failed) == 0 || failed[0].Tags.get("error.type") == "" || failed[0].Tags.get("otel.status_code") != "ERROR" {
		t.Errorf("the fail-open does not show the backend's failure:\n%v", trace)
	}
	c.wantNoSecret(t)
}

// wantOpening requires the spans of an opening in their order: the node looks in the cluster, then asks the backend.
func wantOpening(t *testing.T, opening jaegerSpan, trace []jaegerSpan) {
	t.Helper()
	var names []string
	for _, s := range trace {
		names = append(names, s.OperationName)
	}
	if want := []string{"session.open", "cluster.acquire_lease", "backend.check"}; !slices.Equal(names, want) {
		t.Fatalf("the opening has the spans %v, want %v", names, want)
	}
	lease, check := trace[1], trace[2]
	if !lease.refersTo("CHILD_OF", opening) || !check.refersTo("CHILD_OF", opening) {
		t.Errorf("not both are children of the opening:\n%v", trace)
	}
	const rounding = 2 // µs, of an end
	end := opening.StartTime + opening.Duration + rounding
	if check.StartTime < lease.StartTime+lease.Duration || end < check.StartTime+check.Duration {
		t.Errorf("the spans are not one after the other within the opening:\n%v", trace)
	}
	wantTags(t, lease, map[string]string{"db.system.name": "redis", "db.operation.name": "EVALSHA", "db.stored_procedure.name": "acquire_lease"})
	wantTags(t, check, map[string]string{
		"http.request.method": "GET", "http.response.status_code": "200", "url.scheme": "http", "server.address": "127.0.0.1",
	})
	wantTags(t, opening, map[string]string{
		"usher.verdict": "allowed", "usher.source": "backend", "usher.backend": "portal", "usher.route": "/play/{channel}/*", "user.id": "17",
	})
}

// wantTags requires attributes of a span.
func wantTags(t *testing.T, s jaegerSpan, tags map[string]string) {
	t.Helper()
	for key, want := range tags {
		if got := s.Tags.get(key); got != want {
			t.Errorf("%s has %s=%q, want %q", s.OperationName, key, got, want)
		}
	}
}

// wantRecheck plays on the second node until a re-check is in Jaeger, and requires it to be linked to the opening.
func (c *tracedCluster) wantRecheck(t *testing.T, opening jaegerSpan, segment string) {
	t.Helper()
	client := newClientAt(t, at(homeAddress))
	eventually(t, waitTimeout, "a re-check is in Jaeger", func() error {
		if status, _, err := fetch(client, c.nodes[1].public+segment); err != nil || status >= http.StatusInternalServerError {
			t.Fatalf("%s: %d, %v", segment, status, err)
		}
		all, err := c.spans(map[string]string{"session.id": opening.Tags.get("session.id"), "usher.check": "2"})
		if err != nil {
			return err
		}
		for _, s := range all {
			if s.OperationName != "session.recheck" {
				continue
			}
			if !s.refersTo("FOLLOWS_FROM", opening) {
				t.Fatalf("the re-check is not linked to the opening, %s:\n%s", opening, s)
			}
			return nil
		}
		return fmt.Errorf("it has %v", all)
	})
}

// wantNoSecret requires that no credential and no ticket is in what nodes and origin show and log, or in Jaeger after the nodes
// have ended.
func (c *tracedCluster) wantNoSecret(t *testing.T) {
	t.Helper()
	shown := map[string]string{"the origin's log": c.originLog.String()}
	for _, m := range c.nodes {
		_, body, err := fetch(m.client, m.admin+"/metrics")
		if err != nil {
			t.Fatal(err)
		}
		shown["the metrics of "+m.name] = string(body)
		for _, path := range []string{
			"overview", "sessions", "bans", "nodes", "backends", "routes", "origins", "free-rides", "free-rides?format=csv", "config",
		} {
			shown[path+" of the API of "+m.name] = m.text(t, path)
		}
		for _, s := range m.sessions(t, "") {
			shown["session "+s.ID+" of "+m.name] = m.text(t, "sessions/"+s.ID)
			shown["timeline of "+s.ID+" of "+m.name] = m.text(t, "sessions/"+s.ID+"/timeline")
		}
	}
	eventually(t, waitTimeout, "records have arrived", func() error {
		if got := c.receiver.opened(); got < len(c.nodes) {
			return fmt.Errorf("%d have", got)
		}
		return nil
	})
	for _, m := range c.nodes {
		m.signal(syscall.SIGTERM) // it sends its last spans
		if code := m.wait(t); code != 0 {
			t.Errorf("%s ended with %d, want 0", m.name, code)
		}
		shown["the log of "+m.name] = m.log() + m.out.String()
	}
	c.receiver.stop()
	shown["the webhook's bodies"] = c.receiver.received()
	for _, protocol := range []string{"grpc", "http"} {
		path := filepath.Join(c.folder, protocol, "records.jsonl")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		shown[path] = string(text)
	}
	shown["Jaeger"] = c.store(t)
	if all := shown["Jaeger"]; strings.Count(all, `"operationName":"session.open"`) < 5 || !strings.Contains(all, "anna") {
		t.Errorf("Jaeger has not the spans of all viewers: %.2000s", all)
	}
	for where, text := range shown {
		if text == "" {
			t.Errorf("%s is empty", where)
		}
		for _, secret := range c.secrets {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s shows %s: %s", where, secret, text[max(0, i-200):min(len(text), i+200)])
			}
		}
	}
}
