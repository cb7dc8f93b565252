package e2e

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"usher/backends/backendtest"
)

// hookSecret signs the requests of a test's webhook.
const hookSecret = "a secret of the webhook"

// record is what a webhook gets of a session.
type record struct {
	Event, ID, Session, Node, User, Address, Channel, Reason string
	Requests                                                 int64
	Estimated                                                bool
}

// recordReceiver takes records on one address over restarts, and refuses every second request: half of those only after it has
// taken their records.
type recordReceiver struct {
	address string

	mu       sync.Mutex
	requests int
	records  map[string]record // by id
	repeated int
	bodies   bytes.Buffer
	problems []string
	server   *httptest.Server
}

func newRecordReceiver(t *testing.T) *recordReceiver {
	t.Helper()
	r := &recordReceiver{address: freePort(t), records: map[string]record{}}
	t.Cleanup(r.stop)
	return r
}

func (r *recordReceiver) start(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	r.server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: r, ReadHeaderTimeout: requestTimeout}}
	r.server.Start()
}

func (r *recordReceiver) stop() {
	if r.server != nil {
		r.server.CloseClientConnections()
		r.server.Close()
		r.server = nil
	}
}

// ServeHTTP verifies a request as the documentation says.
func (r *recordReceiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return // the node ended
	}
	mac := hmac.New(sha256.New, []byte(hookSecret))
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", q.Header.Get("webhook-id"), q.Header.Get("webhook-timestamp"), body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	sent, _ := strconv.ParseInt(q.Header.Get("webhook-timestamp"), 10, 64)
	var batch struct{ Records []record }
	err = json.Unmarshal(body, &batch)
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := q.Header.Get("webhook-signature"); got != want || err != nil || time.Since(time.Unix(sent, 0)).Abs() > waitTimeout {
		r.problems = append(r.problems, fmt.Sprintf("signature %q, want %q; sent at %d; %v", got, want, sent, err))
	}
	r.bodies.Write(body)
	if r.requests++; r.requests%2 == 1 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if r.requests%4 == 1 {
		return
	}
	for _, one := range batch.Records {
		if _, isKnown := r.records[one.ID]; isKnown {
			r.repeated++
		}
		r.records[one.ID] = one
	}
}

// closed returns the records of closed sessions, by the user.
func (r *recordReceiver) closed() map[string][]record {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[string][]record{}
	for _, one := range r.records {
		if one.Event == "closed" {
			all[one.User] = append(all[one.User], one)
		}
	}
	return all
}

// received returns the bodies of all requests.
func (r *recordReceiver) received() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bodies.String()
}

// opened returns how many sessions opened.
func (r *recordReceiver) opened() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.records {
		if one.Event == "opened" {
			n++
		}
	}
	return n
}

func (r *recordReceiver) await(t *testing.T, users int) {
	t.Helper()
	eventually(t, 2*waitTimeout, fmt.Sprintf("%d users have a record", users), func() error {
		if got := len(r.closed()); got < users {
			return fmt.Errorf("%d have", got)
		}
		return nil
	})
}

// recordsYAML is the section that sends to the receiver, with files in the folder.
func (r *recordReceiver) yaml(folder string) string {
	return fmt.Sprintf("records: { open_events: true, file: { path: %q, max_size: 1MiB }, spool: { path: %q }, webhook: { url: %q, secret: %q } }",
		filepath.Join(folder, "records.jsonl"), filepath.Join(folder, "records.db"), "http://"+r.address+"/hook?key=s3cret", hookSecret)
}

// startSecretMiddleware runs a middleware whose users' names tell nothing of their tokens.
func startSecretMiddleware(t *testing.T) *backendtest.Server {
	t.Helper()
	m := backendtest.New(backendtest.Config{Address: freePort(t), Lookup: func(token string) (backendtest.User, bool) {
		number, isGood := strings.CutPrefix(token, "s3cret-")
		return backendtest.User{ID: number, Name: "user-" + number}, isGood
	}})
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// openRecorded opens the sessions of viewers with these numbers, each at an address of its own, and returns their tickets.
func openRecorded(t *testing.T, public string, from, to int) (tickets []string) {
	t.Helper()
	ticket := regexp.MustCompile(`~([A-Za-z0-9_.-]{20,})`)
	var mu sync.Mutex
	var all sync.WaitGroup
	slots := make(chan struct{}, 32)
	client := newClient(t, "")
	for i := from; i < to; i++ {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			q, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
				fmt.Sprintf("%s/play/a%03d/index.m3u8?token=s3cret-%d", public, i%20, i), nil)
			if err != nil {
				t.Error(err)
				return
			}
			q.Header.Set("X-Forwarded-For", fmt.Sprintf("10.9.%d.%d", i/250, i%250+1))
			resp, err := client.Do(q)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("viewer %d: %d %.100q, %v", i, resp.StatusCode, body, err)
			}
			if found := ticket.FindSubmatch(body); found != nil {
				mu.Lock()
				defer mu.Unlock()
				tickets = append(tickets, string(found[1]))
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return tickets
}

// setIdleTimeout changes sessions.idle_timeout for the next start.
func (m *clusterNode) setIdleTimeout(t *testing.T, d time.Duration) {
	t.Helper()
	text, err := os.ReadFile(m.file)
	if err == nil {
		text = regexp.MustCompile(`idle_timeout: [^,]+,`).ReplaceAll(text, fmt.Appendf(nil, "idle_timeout: %s,", d))
		err = os.WriteFile(m.file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// awaitNoted waits until so many sessions are noted as open.
func awaitNoted(t *testing.T, n *node, want int) {
	t.Helper()
	line := fmt.Sprintf("\nusher_records_open_sessions %d\n", want)
	eventually(t, waitTimeout, fmt.Sprintf("%d sessions are noted", want), func() error {
		_, body, err := fetch(n.client, n.admin+"/metrics")
		if err == nil && !bytes.Contains(body, []byte(line)) {
			err = fmt.Errorf("they are not: %s", regexp.MustCompile(`usher_records_open_sessions \d+`).Find(body))
		}
		return err
	})
}

// wantNoCredential requires that no text has a token or a ticket.
func wantNoCredential(t *testing.T, tickets []string, texts map[string]string) {
	t.Helper()
	if len(tickets) == 0 {
		t.Error("no ticket was seen")
	}
	for name, text := range texts {
		if strings.Contains(text, "s3cret") {
			t.Errorf("%s: there is a token", name)
		}
		for _, ticket := range tickets {
			if strings.Contains(text, ticket) {
				t.Errorf("%s: there is the ticket %s", name, ticket)
				break
			}
		}
	}
}

// TestNode_RestartedWithReceiver_EveryRecordArrives has 10,000 viewers on one node, which is stopped, killed and started
// again, and a receiver that fails half the time and is restarted.
func TestNode_RestartedWithReceiver_EveryRecordArrives(t *testing.T) {
	t.Parallel()
	const stopEnd, killEnd, idleEnd = 3000, 6000, 10_000 // the numbers of viewers whose sessions end so
	r, folder := newRecordReceiver(t), t.TempDir()
	s := clusterSetup{
		origin: startStage(t, nil), middleware: startSecretMiddleware(t).URL(),
		// On a busy machine the test's middleware must not look like one that is down: nobody would be known by name.
		backend: "recheck_rate: 100000, timeout: 10s, answer_deadline: 20s, breaker: { interval: 1m }",
		idle:    time.Hour, more: "cluster: { heartbeat_interval: 1s }\n" + r.yaml(folder), binary: plainBinary(t),
	}
	n := startClusterNode(t, s, "n1")
	tickets := openRecorded(t, n.public, 0, stopEnd)
	n.signal(syscall.SIGTERM)
	if code := n.wait(t); code != 0 {
		t.Fatalf("the node ended with %d, want 0", code)
	}
	r.start(t)
	n.start(t)
	r.await(t, stopEnd/4)
	r.stop()
	openRecorded(t, n.public, stopEnd, killEnd)
	awaitNoted(t, n.node, killEnd-stopEnd)
	pause(t, 2*time.Second) // a session may be noted before its first request is counted, and is noted again each second
	n.signal(syscall.SIGKILL)
	n.wait(t)
	n.setIdleTimeout(t, 2*time.Second)
	r.start(t)
	n.start(t)
	r.await(t, killEnd)
	openRecorded(t, n.public, killEnd, idleEnd)
	r.stop()
	r.start(t)
	r.await(t, idleEnd)
	eventually(t, waitTimeout, "all openings are told", func() error {
		if got := r.opened(); got != idleEnd {
			return fmt.Errorf("%d of %d are", got, idleEnd)
		}
		return nil
	})
	wantOneRecordEach(t, r, func(i int, got record) bool {
		wasKilled, reason := i >= stopEnd && i < killEnd, "node-stopped"
		if i >= killEnd {
			reason = "idle"
		}
		return got.Estimated == wasKilled && got.Reason == reason && got.Requests == 1 &&
			got.Channel == fmt.Sprintf("a%03d", i%20) && got.Address == fmt.Sprintf("10.9.%d.%d", i/250, i%250+1)
	})
	texts := map[string]string{"the log": n.log(), "the webhook": r.received()}
	files, err := filepath.Glob(filepath.Join(folder, "records*.jsonl"))
	if err != nil || len(files) < 3 {
		t.Errorf("the files are %v, %v; want some rotated ones", files, err)
	}
	written := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(text)
		written += strings.Count(string(text), `"event":"closed"`)
	}
	if logged := strings.Count(n.log(), `"msg":"session closed"`); written != idleEnd || logged != idleEnd {
		t.Errorf("%d records in files and %d in the log, want %d each", written, logged, idleEnd)
	}
	wantNoCredential(t, tickets, texts)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.repeated == 0 {
		t.Error("no record came again, which is what ids are for")
	}
	t.Logf("%d requests, of which half failed; %d records came again", r.requests, r.repeated)
}

// wantOneRecordEach requires one record for each user, with the facts that the test wants.
func wantOneRecordEach(t *testing.T, r *recordReceiver, isRight func(number int, got record) bool) {
	t.Helper()
	r.mu.Lock()
	for _, problem := range r.problems {
		t.Error(problem)
	}
	r.mu.Unlock()
	wrong := 0
	for user, all := range r.closed() {
		number, err := strconv.Atoi(strings.TrimPrefix(user, "user-"))
		if err != nil || len(all) != 1 || !isRight(number, all[0]) {
			if wrong++; wrong <= 5 {
				t.Errorf("user %s has the records %+v", user, all)
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d users have wrong records", wrong)
	}
}

// TestCluster_NodeKilled_OtherClosesAsEstimated has viewers on a node that is killed. Those who moved before are recorded once,
// with what both nodes counted.
func TestCluster_NodeKilled_OtherClosesAsEstimated(t *testing.T) {
	t.Parallel()
	const dead, moved, all = 100, 200, 300 // numbers: on the dead node alone; moved before it was killed; on the living node alone
	r, redis := newRecordReceiver(t), startRedis(t)
	r.start(t)
	s := clusterSetup{
		origin: startStage(t, nil), middleware: startSecretMiddleware(t).URL(), redis: redis.standalone(),
		more: r.yaml(t.TempDir()), idle: 20 * time.Second,
	}
	first := startClusterNode(t, s, "n1")
	s.more = r.yaml(t.TempDir())
	second := startClusterNode(t, s, "n2")
	tickets := openRecorded(t, first.public, 0, moved)
	eventually(t, waitTimeout, "redis has the first heartbeats", func() error {
		const count = "local n = 0; for i = 0, 63 do n = n + redis.call('ZCARD', 'usher:last-seen:{' .. i .. '}') end; return n"
		if got := redis.do(t, "EVAL", count, "0"); got != strconv.Itoa(moved) {
			return fmt.Errorf("it has %s", got)
		}
		return nil
	})
	openRecorded(t, second.public, dead, all)
	first.signal(syscall.SIGKILL)
	first.wait(t)
	r.await(t, all)
	wantOneRecordEach(t, r, func(i int, got record) bool {
		want := record{Requests: 1, Estimated: i < moved}
		if i < dead {
			want.Requests = 0 // nobody knows
		}
		return got.Requests == want.Requests && got.Estimated == want.Estimated && got.Node == "n2"
	})
	wantNoCredential(t, tickets, map[string]string{"the log": second.log(), "the webhook": r.received()})
}

// TestCluster_ViewerMoved_OneRecordOfAllNodes has viewers on both nodes, one of which is stopped.
func TestCluster_ViewerMoved_OneRecordOfAllNodes(t *testing.T) {
	t.Parallel()
	const all = 100
	r, redis := newRecordReceiver(t), startRedis(t)
	r.start(t)
	s := clusterSetup{
		origin: startStage(t, nil), middleware: startSecretMiddleware(t).URL(), redis: redis.standalone(),
		more: r.yaml(t.TempDir()), idle: 20 * time.Second,
	}
	first := startClusterNode(t, s, "n1")
	s.more = r.yaml(t.TempDir())
	second := startClusterNode(t, s, "n2")
	for range 2 {
		openRecorded(t, first.public, 0, all)
		openRecorded(t, second.public, 0, all)
	}
	first.signal(syscall.SIGTERM)
	openRecorded(t, second.public, 0, all)
	if code := first.wait(t); code != 0 {
		t.Errorf("the node ended with %d, want 0", code)
	}
	r.await(t, all)
	wantOneRecordEach(t, r, func(_ int, got record) bool { return got.Requests == 5 && !got.Estimated && got.Reason == "idle" })
}
