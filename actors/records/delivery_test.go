package records

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
)

const testSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="

// receiver takes records on one address over restarts, and refuses every second request.
type receiver struct {
	address string

	mu       sync.Mutex
	requests int
	ids      map[string]int // how often each record was taken
	problems []string
	server   *httptest.Server
}

// newReceiver returns one that is down.
func newReceiver(t *testing.T) *receiver {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	r := &receiver{address: listener.Addr().String(), ids: map[string]int{}}
	t.Cleanup(r.stop)
	return r
}

func (r *receiver) start(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	r.server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: r}}
	r.server.Start()
}

func (r *receiver) stop() {
	if r.server != nil {
		r.server.Close()
		r.server = nil
	}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return // the node stopped
	}
	mac := hmac.New(sha256.New, []byte("0123456789abcdef"))
	mac.Write([]byte(q.Header.Get("webhook-id") + "." + q.Header.Get("webhook-timestamp") + "." + string(body)))
	var b struct{ Records []Record }
	err = json.Unmarshal(body, &b)
	r.mu.Lock()
	defer r.mu.Unlock()
	if got, want := q.Header.Get("webhook-signature"), "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)); got != want || err != nil {
		r.problems = append(r.problems, fmt.Sprintf("signature %s, want %s; %v", got, want, err))
	}
	r.requests++
	if r.requests%2 == 1 {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	for _, one := range b.Records {
		r.ids[one.ID]++
	}
}

// taken returns how many records were taken, repetitions not counted.
func (r *receiver) taken() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ids)
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(30 * time.Second); !holds(); <-ticker.C {
		if time.Now().After(end) {
			t.Fatalf("not within 30s: %s", what)
		}
	}
}

func testConfig(t *testing.T, address string) Config {
	t.Helper()
	c := DefaultConfig()
	c.File.Path = filepath.Join(t.TempDir(), "records.jsonl")
	c.Webhook.URL, c.Webhook.Secret = "http://"+address+"/hook?key=credential", testSecret
	c.Spool.Path = filepath.Join(t.TempDir(), "records.db")
	return c
}

const testRetention = 30 * 24 * time.Hour

// closed closes sessions.
func closed(t *testing.T, d *Delivery, all []session.ClosingRecord) {
	t.Helper()
	if err := d.Closed(all); err != nil {
		t.Fatal(err)
	}
}

// open opens a delivery that tries again soon. The function stops it.
func open(t *testing.T, c Config, log io.Writer) (d *Delivery, stop func()) {
	t.Helper()
	d, err := Open(Options{
		Config: c, Retention: testRetention, Node: "node1", Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	d.pause = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { d.Run(ctx) })
	return d, sync.OnceFunc(func() {
		cancel()
		running.Wait()
		d.Close()
	})
}

// closing returns the closing records of sessions with these numbers.
func closing(from, to int) (all []session.ClosingRecord) {
	began := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for i := from; i < to; i++ {
		c := session.ClosingRecord{Since: began, LastSeen: began.Add(90 * time.Second), Period: 7}
		c.Record.ID = backends.SessionID{byte(i >> 8), byte(i)}
		c.Record.Opened = began
		c.Record.Request = &backends.Request{
			Route: "/play", Channel: "a001", Backend: "portal", UserAgent: "VLC", Address: netip.MustParseAddr("192.0.2.7"),
			Query: "token=credential", Path: "/play/credential/a001", Referer: "http://x/?credential", Host: "credential",
			Headers: []backends.Header{{Name: "Authorization", Value: "credential"}},
		}
		c.Record.Decision = backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, User: "anna", UserID: "17"}
		c.Counters = session.Counters{Requests: 7, Bytes: 1000, Unverified: 5 * time.Second, History: "allowed/backend"}
		all = append(all, c)
	}
	return all
}

// TestRecord_DeniedByHistory_Verdict has the store keep the yes of sessions that a ban or a limit denied last.
func TestRecord_DeniedByHistory_Verdict(t *testing.T) {
	t.Parallel()
	for history, want := range map[string][3]string{
		"allowed/backend":                  {"allowed", "backend", "idle"},
		"allowed/backend,denied/ban":       {"denied", "ban", "denied"},
		"allowed/backend,denied/operator":  {"denied", "operator", "denied"},
		"denied/ban,allowed/backend":       {"allowed", "backend", "idle"},
		"allowed/backend,denied/limit":     {"denied", "limit", "denied"},
		"denied/backend,denied/fail-open":  {"denied", "fail-open", "denied"},
		"allowed/cached,allowed/fail-open": {"allowed", "backend", "idle"},
	} {
		c := closing(0, 1)[0]
		c.Counters.History, c.Record.IsEvicted = history, strings.Contains(history, "limit")
		r := newClosed("n1", &c)
		if got := [3]string{r.Verdict, r.Source, r.Reason}; got != want {
			t.Errorf("%s: verdict, source and reason %v, want %v", history, got, want)
		}
	}
}

func TestDelivery_ReceiverAndNodeRestarted_EveryRecordArrives(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	c := testConfig(t, r.address)
	var log bytes.Buffer
	d, stop := open(t, c, &log)
	const batch, batches = 500, 20
	for i := range batches {
		switch i {
		case 5:
			r.start(t) // it was down
			eventually(t, "records arrive", func() bool { return r.taken() > 0 })
		case 10:
			stop()
			d, stop = open(t, c, &log)
		case 15:
			r.stop()
		}
		closed(t, d, closing(i*batch, (i+1)*batch))
	}
	stop()
	r.start(t)
	d, stop = open(t, c, &log)
	defer stop()
	eventually(t, "all records arrive", func() bool { return r.taken() == batch*batches && d.Stats().Waiting == 0 })
	if len(r.problems) > 0 {
		t.Error(r.problems)
	}
	if s := d.Stats(); s.Dropped != 0 || s.Failed == 0 || s.Delivered == 0 {
		t.Errorf("%+v, want failures and no loss", s)
	}
	stop()
	if strings.Contains(log.String(), "credential") {
		t.Errorf("the log has a credential:\n%s", &log)
	}
}

func TestDelivery_TooManyWait_OldestDroppedAndLoggedOnce(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	c := testConfig(t, r.address)
	c.Spool.MaxSize = 100 * setting.ByteSize(len(recordOf(t, closing(0, 1)[0]))) // below what Validate allows
	var log bytes.Buffer
	d, err := Open(Options{Config: c, Retention: testRetention, Node: "node1", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	defer d.Close()
	d.pause = time.Millisecond
	closed(t, d, closing(0, 250)) // more than there is room for at once
	closed(t, d, closing(250, 260))
	closed(t, d, closing(260, 270))
	if s := d.Stats(); s.Waiting < 90 || s.Waiting > 101 || s.Dropped != uint64(270-s.Waiting) || s.WaitingBytes > int64(c.Spool.MaxSize) {
		t.Errorf("%+v, want about 100 waiting and the others dropped", s)
	}
	kept := d.Stats().Waiting
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { d.Run(ctx) })
	eventually(t, "a request fails", func() bool { return d.Stats().Failed > 0 })
	r.start(t)
	eventually(t, "the newest arrive", func() bool { return d.Stats().Waiting == 0 })
	if s := d.Stats(); s.WaitingBytes != 0 {
		t.Errorf("%d bytes wait, want none", s.WaitingBytes)
	}
	stop()
	running.Wait()
	want := map[string]int{}
	for _, one := range closing(270-int(kept), 270) {
		want[newClosed("", &one).ID] = 1
	}
	if diff := cmp.Diff(want, r.ids); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	for _, says := range []string{"oldest records lost", "webhook failed, records wait"} {
		if n := strings.Count(log.String(), says); n != 1 {
			t.Errorf("%q was logged %d times, want once:\n%s", says, n, &log)
		}
	}
}

func recordOf(t *testing.T, c session.ClosingRecord) []byte {
	t.Helper()
	r := newClosed("node1", &c)
	return r.encode()
}

// TestDelivery_SpoolEmptied_OtherRequestID checks that a receiver that drops requests by their id loses no record when the spool was
// empty in between.
func TestDelivery_SpoolEmptied_OtherRequestID(t *testing.T) {
	t.Parallel()
	ids := make(chan string, 2)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { ids <- q.Header.Get("webhook-id") }))
	defer server.Close()
	d, stop := open(t, testConfig(t, server.Listener.Addr().String()), io.Discard)
	defer stop()
	closed(t, d, closing(0, 1))
	first := <-ids
	eventually(t, "it is removed", func() bool { return d.Stats().Waiting == 0 })
	closed(t, d, closing(1, 2))
	if second := <-ids; first == second || first == "" {
		t.Errorf("requests have the ids %q and %q, want two", first, second)
	}
}

func TestDelivery_File_LinesRotatedNoCredential(t *testing.T) {
	t.Parallel()
	c := testConfig(t, "")
	c.Webhook.URL, c.File.MaxSize = "", setting.MiB
	const count = 6000
	for i := range 2 { // a restart appends
		d, stop := open(t, c, io.Discard)
		closed(t, d, closing(i*count/2, (i+1)*count/2))
		stop()
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(c.File.Path), "*"))
	if err != nil || len(files) < 3 {
		t.Fatalf("files are %v, %v, want some rotated ones", files, err)
	}
	ids, last := map[string]bool{}, Record{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil || len(text) > 1<<20 || bytes.Contains(text, []byte("credential")) {
			t.Errorf("%s: %v, %d bytes, want at most 1 MiB without a credential", name, err, len(text))
		}
		for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
			if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
				t.Fatal(err)
			}
			ids[last.ID] = true
		}
	}
	if len(ids) != count {
		t.Errorf("%d records are in the files, want %d", len(ids), count)
	}
	if last.ID != last.Session+".7" || time.Since(last.Time).Abs() > time.Hour {
		t.Errorf("id %q and time %v of session %q", last.ID, last.Time, last.Session)
	}
	last.ID, last.Session, last.Time = "", "", time.Time{}
	want := Record{
		Version: 1, Event: "closed", Node: "node1", Route: "/play", Channel: "a001", Backend: "portal", User: "anna", UserID: "17", Address: "192.0.2.7",
		UserAgent: "VLC", Verdict: "allowed", Source: "backend", Began: closing(0, 1)[0].Since, Ending: &Ending{
			Reason: "idle", LastSeen: closing(0, 1)[0].LastSeen, Seconds: 90, UnverifiedSeconds: 5, Requests: 7, Bytes: 1000,
			History: "allowed/backend",
		},
	}
	if diff := cmp.Diff(want, last); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

// TestDelivery_FileBroken_LoggedOnce checks that a file that cannot be written costs one line of log, and works again.
func TestDelivery_FileBroken_LoggedOnce(t *testing.T) {
	t.Parallel()
	c := testConfig(t, "")
	c.Webhook.URL = ""
	folder := filepath.Dir(c.File.Path)
	var log bytes.Buffer
	d, stop := open(t, c, &log)
	defer stop()
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(folder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	closed(t, d, closing(0, 2))
	closed(t, d, closing(2, 4))
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	closed(t, d, closing(4, 5))
	if n := strings.Count(log.String(), "records not written"); n != 1 || !strings.Contains(log.String(), "records are written again") {
		t.Errorf("logged %d times, want once, and the end:\n%s", n, &log)
	}
}

func TestOpen_UnusableFiles_Refused(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none")
	if err := os.WriteFile(none, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newTestSpool(t)
	whole, err := os.ReadFile(s.db.Path())
	must(t, err)
	part := filepath.Join(t.TempDir(), "part.db")
	must(t, os.WriteFile(part, whole[:8192], 0o600))
	used := testConfig(t, "127.0.0.1:9")
	_, stop := open(t, used, io.Discard)
	defer stop()
	for name, test := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"a spool that is none":  {func(c *Config) { c.Spool.Path = none }, "records.spool.path: open " + none},
		"a part of a new spool": {func(c *Config) { c.Spool.Path = part }, "records.spool.path: open " + part + ": has 8192 bytes, fewer than any spool; delete it"},
		"a spool in no folder":  {func(c *Config) { c.Spool.Path = "/nowhere/x.db" }, "records.spool.path: /nowhere is not writable"},
		"a file in no folder":   {func(c *Config) { c.File.Path = "/nowhere/x" }, "records.file.path: /nowhere is not writable"},
		"a file in a folder that takes no other file": {
			func(c *Config) { c.File.Path = "/proc/self/comm" },
			"records.file.path: /proc/self is not writable",
		},
		"a file that is a folder":       {func(c *Config) { c.File.Path = os.TempDir() }, "records.file.path: open " + os.TempDir()},
		"a spool that another one uses": {func(c *Config) { c.Spool.Path = used.Spool.Path }, "another process uses it"},
	} {
		c := testConfig(t, "127.0.0.1:9")
		test.change(&c)
		if _, err := Open(Options{Config: c}); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want %s", name, err, test.says)
		}
	}
	if err := used.Check(); err != nil {
		t.Errorf("the files of a node that runs are refused: %v", err)
	}
}

// TestOpen_NodeWasKilled_OpenSessionsRecorded shows what the next start records: of each session the sum of its stays, unless it
// has closed.
func TestOpen_NodeWasKilled_OpenSessionsRecorded(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	c := testConfig(t, r.address)
	d, stop := open(t, c, io.Discard)
	first := closing(0, 2500)
	for i := range first {
		first[i].Sequence = uint64(i + 1)
	}
	d.KeepOpen(first)
	later := closing(0, 1) // came back, and stays on
	later[0].Sequence, later[0].Since, later[0].LastSeen = 9000, later[0].Since.Add(2*time.Minute), later[0].LastSeen.Add(time.Hour)
	later[0].Record.Decision.Source, later[0].Counters.History = backends.FromCached, "allowed/cached"
	d.KeepOpen(closing(0, 1))
	d.KeepOpen(later)
	closed(t, d, closing(1, 2))
	if s := d.Stats(); s.Open != 2501 || s.Waiting != 1 { // the first one has three entries, and number 1 none
		t.Errorf("%+v, want 2501 open and 1 waiting", s)
	}
	stop() // as far as the disk tells, it was killed
	var log bytes.Buffer
	d, stop = open(t, c, &log)
	if s := d.Stats(); s.Open != 0 || s.Waiting != 2500 {
		t.Errorf("%+v after the start, want none open and 2500 waiting", s)
	}
	stop()
	d, stop = open(t, c, io.Discard)
	defer stop()
	if s := d.Stats(); s.Waiting != 2500 {
		t.Errorf("%+v after another start, want the same", s)
	}
	got := map[string]Record{}
	waiting, err := d.spool.oldest(3000)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range waiting.records {
		var one Record
		if err := json.Unmarshal(line, &one); err != nil {
			t.Fatal(err)
		}
		got[one.Session] = one
	}
	moved, usual, ended := got[first[0].Record.ID.String()], got[first[7].Record.ID.String()], got[first[1].Record.ID.String()]
	want := Ending{
		Reason: "node-stopped", LastSeen: later[0].LastSeen, Seconds: 3690, UnverifiedSeconds: 15, Requests: 21, Bytes: 3000,
		History: "allowed/backend,allowed/cached", IsEstimated: true,
	}
	if diff := cmp.Diff(&want, moved.Ending); diff != "" || moved.Source != "cached" || !moved.Began.Equal(first[0].Since) {
		t.Errorf("the session that came back began %v, source %s (-want +got):\n%s", moved.Began, moved.Source, diff)
	}
	if usual.Requests != 7 || !usual.IsEstimated || usual.Reason != "node-stopped" || usual.ID == usual.Session+".7" {
		t.Errorf("a session that was open is recorded as %+v %+v", usual, usual.Ending)
	}
	if ended.IsEstimated || ended.Reason != "idle" {
		t.Errorf("a session that had closed is recorded as %+v", ended.Ending)
	}
	if n := strings.Count(log.String(), `msg="session closed"`); n != 2499 || !strings.Contains(log.String(), "estimated=true") {
		t.Errorf("%d are logged, want 2499, as estimated", n)
	}
}

// TestOpen_DamagedSession_OthersRecorded starts with sessions of which some stays cannot be read, and more than are taken at
// once.
func TestOpen_DamagedSession_OthersRecorded(t *testing.T) {
	t.Parallel()
	c := testConfig(t, "127.0.0.1:9")
	d, stop := open(t, c, io.Discard)
	all := closing(0, recoverBatch+3)
	d.KeepOpen(all)
	var damaged []openSession
	for i := range all {
		if i > 1 {
			damaged = append(damaged, openSession{all[i].Record.ID, 0, []byte(`{"event":`)})
		}
	}
	if _, err := d.spool.keepOpen(append(damaged, openSession{all[1].Record.ID, 9, []byte("{}")})); err != nil {
		t.Fatal(err)
	}
	stop()
	var log bytes.Buffer
	d, stop = open(t, c, &log)
	defer stop()
	if s := d.Stats(); s.Open != 0 || s.Waiting != 2 || s.Dropped != uint64(len(all)-1) {
		t.Errorf("%+v, want none open, 2 waiting and %d dropped", s, len(all)-1)
	}
	stop() // nothing is logged any more
	if text := log.String(); strings.Count(text, "they cannot be read; look for damage at records.spool.path") != 1 {
		t.Errorf("want one warning in the log:\n%s", text)
	}
}

// TestDelivery_SpoolFull_OpenSessionsNotKept bounds the sessions that are noted. Known ones go on.
func TestDelivery_SpoolFull_OpenSessionsNotKept(t *testing.T) {
	t.Parallel()
	c := testConfig(t, "127.0.0.1:9")
	c.Spool.MaxSize = 20 * setting.ByteSize(len(recordOf(t, closing(0, 1)[0])))
	var log bytes.Buffer
	d, stop := open(t, c, &log)
	defer stop()
	for range 3 {
		d.KeepOpen(closing(0, 100))
	}
	if s := d.Stats(); s.Open < 15 || s.Open > 25 {
		t.Errorf("%d are noted, want about 20", s.Open)
	}
	if n := strings.Count(log.String(), "open sessions not kept"); n != 1 {
		t.Errorf("warned %d times, want once:\n%s", n, &log)
	}
}

// TestDelivery_RecordsTooOld_Dropped shows that what holds names and addresses does not wait for longer than the retention time.
func TestDelivery_RecordsTooOld_Dropped(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	d, stop := open(t, testConfig(t, "127.0.0.1:9"), &log)
	closed(t, d, closing(0, 10))
	d.dropExpired(time.Now().Add(testRetention - time.Hour))
	before := d.Stats()
	d.dropExpired(time.Now().Add(testRetention + time.Hour))
	after := d.Stats()
	stop()
	if before.Waiting != 10 || after.Waiting != 0 || after.Dropped != 10 || !strings.Contains(log.String(), "longer than retention") {
		t.Errorf("%d wait before and %d after their time, %d dropped:\n%s", before.Waiting, after.Waiting, after.Dropped, &log)
	}
}

// TestDelivery_NoWebhook_ExpiredDropped starts with records of a webhook that is no longer set. They wait no longer than any.
func TestDelivery_NoWebhook_ExpiredDropped(t *testing.T) {
	t.Parallel()
	c := testConfig(t, "")
	c.Webhook.URL = ""
	synctest.Test(t, func(t *testing.T) {
		s, err := openSpool(c.Spool.Path, int64(c.Spool.MaxSize))
		must(t, err)
		old, young := Record{Time: time.Now().Add(-testRetention - time.Hour)}, Record{Time: time.Now()}
		_, err = s.add([][]byte{old.encode(), young.encode()}, nil)
		must(t, errors.Join(err, s.close()))
		var log bytes.Buffer
		d, stop := open(t, c, &log)
		synctest.Wait()
		atStart := d.Stats()
		time.Sleep(testRetention + 2*time.Hour)
		later := d.Stats()
		stop()
		if atStart.Waiting != 1 || later.Waiting != 0 || later.Dropped != 2 {
			t.Errorf("%d of 2 wait after the start, %d later, %d dropped; want 1, then none", atStart.Waiting, later.Waiting, later.Dropped)
		}
		if n := strings.Count(log.String(), "records.webhook.url is empty"); n != 1 || !strings.Contains(log.String(), "waiting=2") {
			t.Errorf("want one warning of 2 that wait:\n%s", &log)
		}
	})
}

func TestDelivery_Opened(t *testing.T) {
	t.Parallel()
	for _, isWanted := range []bool{true, false} {
		c := testConfig(t, "127.0.0.1:9")
		c.OpenEvents = isWanted
		var log bytes.Buffer
		d, stop := open(t, c, &log)
		one := closing(3, 4)[0]
		one.Record.Request.Session = one.Record.ID
		for range maxOpened + maxBatch { // more than wait at once, unless they are written meanwhile
			d.Opened(one.Record.Request, &one.Record.Decision)
		}
		stop()
		s := d.Stats()
		text, err := os.ReadFile(c.File.Path)
		if !isWanted {
			if err == nil || s.Dropped != 0 {
				t.Errorf("%s is written and %d dropped, want nothing without open_events", text, s.Dropped)
			}
			continue
		}
		written := bytes.Count(text, []byte(`"event":"opened"`))
		if err != nil || uint64(written)+s.Dropped != maxOpened+maxBatch || written < maxOpened {
			t.Errorf("%d written and %d dropped, %v; want at least %d and all in all", written, s.Dropped, err, maxOpened)
		}
		if bytes.Contains(text, []byte("credential")) || bytes.Contains(text, []byte("last_seen")) ||
			strings.Count(log.String(), `msg="session opened" session=`+one.Record.ID.String()) != written {
			t.Errorf("the event is %.400s", text)
		}
	}
}

// TestFile_Expire deletes records before they are older than the retention time, and no file of another.
func TestFile_Expire(t *testing.T) {
	t.Parallel()
	const retention = 4 * 24 * time.Hour // a file is rotated when its first record is four hours old
	now := time.Now().UTC()
	for name, test := range map[string]struct {
		age   time.Duration // of the file's first record, or since the file was rotated
		named func(at time.Time) string
		kept  bool // under that name
	}{
		"a new file":                   {3 * time.Hour, func(time.Time) string { return "records.jsonl" }, true},
		"an old file":                  {5 * time.Hour, func(time.Time) string { return "records.jsonl" }, false},
		"a file that was just rotated": {time.Hour, rotatedName, true},
		"one whose first record must stay, rotated long ago": {retention - 7*time.Hour, rotatedName, true},
		"one whose first record is almost too old":           {retention - 5*time.Hour, rotatedName, false},
		"one that is too old":                                {2 * retention, rotatedName, false},
		"a file of another":                                  {2 * retention, func(time.Time) string { return "records-of-another.jsonl" }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			f := openFile(FileConfig{Path: filepath.Join(folder, "records.jsonl"), MaxSize: setting.MiB, MaxFiles: 100}, retention,
				slog.New(slog.DiscardHandler))
			defer f.close()
			path := filepath.Join(folder, test.named(now.Add(-test.age)))
			r := Record{Time: now.Add(-test.age), UserAgent: strings.Repeat("x", 5000)}
			if err := os.WriteFile(path, append(r.encode(), '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := f.expire(now); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(path)
			if isKept := err == nil && len(text) > 0; isKept != test.kept {
				t.Errorf("kept: %t (%v), want %t", isKept, err, test.kept)
			}
		})
	}
}

// TestFile_Write_DiskFull has the disk take half a record. The next one stands on a line of its own.
func TestFile_Write_DiskFull(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "records.jsonl")
	var log bytes.Buffer
	f := openFile(FileConfig{Path: path, MaxSize: setting.MiB, MaxFiles: 1}, testRetention, slog.New(slog.NewTextHandler(&log, nil)))
	defer f.close()
	lines := recordsOf(t, closing(0, 4))
	f.write(lines[:1])
	write := f.writeOut
	f.writeOut = func(line []byte) (int, error) {
		n, _ := write(line[:len(line)/2])
		return n, syscall.ENOSPC
	}
	f.write(lines[1:3])
	f.writeOut = write
	f.write(lines[3:])
	want := string(lines[0]) + "\n" + string(lines[3]) + "\n"
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("the file holds\n%s\n%v; want\n%s", got, err, want)
	}
	if n := strings.Count(log.String(), "records not written"); n != 1 || !strings.Contains(log.String(), "records=2") {
		t.Errorf("want one line of log about 2 records:\n%s", &log)
	}
}

// TestFile_Write_NotRotated has a full file whose rotated name would be too long. Records are written to it, and one line of log
// names the folder.
func TestFile_Write_NotRotated(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := filepath.Join(folder, strings.Repeat("r", 250))
	full := string(bytes.Repeat([]byte("x"), 1<<20-1)) + "\n"
	must(t, os.WriteFile(path, []byte(full), 0o600))
	var log bytes.Buffer
	f := openFile(FileConfig{Path: path, MaxSize: setting.MiB, MaxFiles: 1}, testRetention, slog.New(slog.NewTextHandler(&log, nil)))
	defer f.close()
	lines := recordsOf(t, closing(0, 3))
	f.write(lines[:2])
	f.write(lines[2:])
	want := full + string(lines[0]) + "\n" + string(lines[1]) + "\n" + string(lines[2]) + "\n"
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("the file holds %d bytes, %v; want %d", len(got), err, len(want))
	}
	said := `msg="records file not rotated, it grows; let the node write to its folder" setting=records.file.path file=` + path + " folder=" + folder
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, said) {
		t.Errorf("the log has %s, want one line %s", got, said)
	}
}

func rotatedName(at time.Time) string { return "records-" + at.Format(rotatedAt) + ".jsonl" }

// TestDelivery_SpoolFails_Logged fails after records had no room, and after it was written again.
func TestDelivery_SpoolFails_Logged(t *testing.T) {
	t.Parallel()
	c := testConfig(t, "127.0.0.1:9")
	c.Spool.MaxSize = 100 // below what Validate allows
	var log bytes.Buffer
	d, err := Open(Options{Config: c, Retention: testRetention, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	defer d.Close()
	fails := func(says string, isLogged bool, err error) {
		t.Helper()
		before := strings.Count(log.String(), says)
		if err != nil {
			working := d.spool
			d.spool = closedSpool(t)
			defer func() { d.spool = working }()
		}
		if got := d.Closed(closing(0, 3)); (got != nil) != (err != nil) {
			t.Fatalf("closed: %v, want %v", got, err)
		}
		d.KeepOpen(closing(0, 3))
		if n := strings.Count(log.String(), says) - before; (n == 2) != isLogged || !isLogged && n != 0 {
			t.Errorf("%q was logged %d times, want it for the records and the open sessions: %t\n%s", says, n, isLogged, &log)
		}
	}
	broken := errors.New("closed")
	const noRoom, notWritten = "records.spool.max_size", "check records.spool.path"
	fails(noRoom, true, nil)
	fails(noRoom, false, nil)
	fails(notWritten, true, broken)
	fails(notWritten, false, broken)
	fails(noRoom, false, nil)
	fails(notWritten, true, broken)
}

// closedSpool returns one that cannot be written.
func closedSpool(t *testing.T) *spool {
	t.Helper()
	s := newTestSpool(t)
	must(t, s.close())
	return s
}

// TestOpen_EmptySpool starts with the empty file of a first start on a full disk.
func TestOpen_EmptySpool(t *testing.T) {
	t.Parallel()
	c := testConfig(t, "127.0.0.1:9")
	must(t, os.WriteFile(c.Spool.Path, nil, 0o600))
	must(t, c.Check())
	d, stop := open(t, c, io.Discard)
	defer stop()
	closed(t, d, closing(0, 3))
	if n := d.Stats().Waiting; n != 3 {
		t.Errorf("%d wait, want 3", n)
	}
}

// TestDelivery_SpoolFails_CountedUnlessShared shows what is lost when the spool cannot be written: on a shared store nothing is.
func TestDelivery_SpoolFails_CountedUnlessShared(t *testing.T) {
	t.Parallel()
	for _, isShared := range []bool{true, false} {
		c := testConfig(t, "127.0.0.1:9")
		c.OpenEvents = true
		var log bytes.Buffer
		d, stop := open(t, c, &log)
		d.IsShared = isShared
		stop() // the file is closed
		for range 2 {
			if err := d.Closed(closing(0, 3)); err == nil {
				t.Error("no error of a spool that is closed")
			}
		}
		want := uint64(6)
		if isShared {
			want = 0
		}
		if got := d.Stats().Dropped; got != want {
			t.Errorf("shared %t: %d dropped, want %d", isShared, got, want)
		}
		if text, _ := os.ReadFile(c.File.Path); len(text) > 0 || strings.Count(log.String(), "records not kept") != 1 {
			t.Errorf("the file has %s, want nothing that comes again, and one line of log:\n%s", text, &log)
		}
	}
}

// TestDelivery_SpoolCannotRemove_CountedOnce has a bucket among the records, which cannot be removed as one: what the receiver took is
// sent again, and counts once it is removed. The log names the spool.
func TestDelivery_SpoolCannotRemove_CountedOnce(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var requests atomic.Int32
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if requests.Add(1) == 3 {
			stop()
		}
	}))
	defer receiver.Close()
	c := testConfig(t, receiver.Listener.Addr().String())
	var log bytes.Buffer
	d, err := Open(Options{Config: c, Retention: testRetention, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	defer d.Close()
	d.pause = time.Millisecond
	closed(t, d, closing(0, 3))
	first := make([]byte, 8)
	tx, err := d.spool.db.Begin(true)
	must(t, err)
	_, err = tx.Bucket([]byte(waitingBucket)).CreateBucket(first)
	must(t, errors.Join(err, tx.Commit()))
	d.runWebhook(ctx)
	if s := d.Stats(); s.Delivered != 0 || s.Failed != 0 || s.Waiting != 3 {
		t.Errorf("%d delivered, %d failed and %d waiting while nothing can be removed, want 3 waiting", s.Delivered, s.Failed, s.Waiting)
	}
	if got := log.String(); strings.Count(got, "check records.spool.path") != 1 || strings.Contains(got, "records.webhook.url") {
		t.Errorf("want one line of log about the spool:\n%s", got)
	}
	tx, err = d.spool.db.Begin(true)
	must(t, err)
	must(t, errors.Join(tx.Bucket([]byte(waitingBucket)).DeleteBucket(first), tx.Commit()))
	if sent, err := d.deliver(t.Context()); sent != 3 || err != nil || d.Stats().Delivered != 3 {
		t.Errorf("%d sent, %v, and %d delivered; want 3", sent, err, d.Stats().Delivered)
	}
}

// TestDelivery_SlowReceiver_CountedOnce has the spool overflow while each of some requests is on its way. A record counts as delivered or
// as dropped, and one warning tells of all that were.
func TestDelivery_SlowReceiver_CountedOnce(t *testing.T) {
	t.Parallel()
	const rounds, each = 5, 1000 // four requests of records
	var (
		d        atomic.Pointer[Delivery]
		requests atomic.Int32
		log      bytes.Buffer
	)
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if n := int(requests.Add(1)); n <= rounds {
			if err := d.Load().Closed(closing(n*each, (n+1)*each)); err != nil {
				t.Error(err)
			}
		}
	}))
	defer receiver.Close()
	c := testConfig(t, receiver.Listener.Addr().String())
	c.Log, c.Spool.MaxSize = false, each*setting.ByteSize(len(recordOf(t, closing(0, 1)[0])))
	opened, err := Open(Options{Config: c, Retention: testRetention, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	defer func() { must(t, opened.spool.close()) }() // what waits is left
	d.Store(opened)
	closed(t, opened, closing(0, each))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { opened.runWebhook(ctx) })
	eventually(t, "all is delivered, and there is room", func() bool { return opened.Stats().Waiting == 0 && !opened.isDropping.Load() })
	stop()
	running.Wait()
	s := opened.Stats()
	if got, want := s.Delivered+s.Dropped, uint64((1+rounds)*each); got != want || s.Dropped == 0 {
		t.Errorf("%d delivered and %d dropped, want %d in all", s.Delivered, s.Dropped, want)
	}
	warnings := func() int { return strings.Count(log.String(), "oldest records lost") }
	if n := warnings(); n != 1 {
		t.Errorf("warned %d times, want once:\n%s", n, &log)
	}
	closed(t, opened, closing(0, 2*each))
	if n := warnings(); n != 2 {
		t.Errorf("warned %d times once there was room, want another time:\n%s", n, &log)
	}
}

// TestDelivery_PauseAfter_AtMostLongest waits as long as after any number of failures.
func TestDelivery_PauseAfter_AtMostLongest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &Delivery{pause: firstPause}
		for range 100 {
			began := time.Now()
			<-d.pauseAfter(1000)
			if took := time.Since(began); took < longestPause/2 || took > longestPause {
				t.Fatalf("the pause took %v, want at most %v and at least half of it", took, longestPause)
			}
		}
	})
}

// TestNewWebhook_HTTP1 requires the protocol of which a request that times out ends its connection.
func TestNewWebhook_HTTP1(t *testing.T) {
	t.Parallel()
	w, err := newWebhook(WebhookConfig{URL: "https://receiver.example.com/", Secret: testSecret})
	if err != nil {
		t.Fatal(err)
	}
	transport, _ := w.client.Transport.(*http.Transport)
	if p := transport.Protocols; p == nil || p.HTTP2() || !p.HTTP1() {
		t.Errorf("got protocols %v, want HTTP1", p)
	}
}
