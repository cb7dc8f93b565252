package e2e

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/backends/backendtest"
	"usher/gateway/admin/freerides"
)

// rider is a viewer who comes while the middleware is down.
type rider struct {
	openedSession
	bytes int64
	// first and last are when the first and the last response was there, and refused is when the viewer was refused; zero: they
	// were not.
	first, last, refused time.Time
}

// ride opens a session by a token through a node.
func ride(t *testing.T, m *clusterNode, token string) *rider {
	t.Helper()
	r := new(rider)
	address := m.public + "/play/a001/low.m3u8?token=" + token
	status, body, err := fetch(m.client, address)
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s was not admitted: %d %s, %v", token, status, body, err)
	}
	p, err := readPlaylist(address, body)
	if err != nil || len(p.list) == 0 {
		t.Fatalf("%s: %d segments, %v", token, len(p.list), err)
	}
	r.token, r.segment = token, strings.TrimPrefix(p.list[len(p.list)-1], m.public)
	r.first, r.bytes = time.Now(), int64(len(body))
	return r
}

// watch fetches a segment from a node, and reports whether the viewer got it.
func (r *rider) watch(t *testing.T, m *clusterNode) bool {
	t.Helper()
	status, body, err := fetch(m.client, m.public+r.segment)
	switch {
	case err == nil && status == http.StatusOK:
		r.last, r.bytes = time.Now(), r.bytes+int64(len(body))
		return true
	case err == nil && status == http.StatusForbidden:
		r.refused = time.Now()
		return false
	default:
		t.Fatalf("%s: %d, %v", r.token, status, err)
		return false
	}
}

// outageReport returns the only report, as a node tells it.
func (m *clusterNode) outageReport() (freerides.Report, error) {
	var list freerides.List
	if err := m.call(http.MethodGet, "free-rides?backend=portal", nil, &list); err != nil {
		return freerides.Report{}, err
	}
	if len(list.Reports) != 1 || len(list.UnreachableNodes) > 0 || list.IsIncomplete {
		return freerides.Report{}, fmt.Errorf("the list is %+v", list)
	}
	return list.Reports[0], nil
}

// awaitReport waits until a node tells these numbers of the outage.
func (m *clusterNode) awaitReport(t *testing.T, what string, isRunning bool, want freerides.Figures) (got freerides.Report) {
	t.Helper()
	eventually(t, waitTimeout, what, func() (err error) {
		if got, err = m.outageReport(); err != nil {
			return err
		}
		uncounted := cmpopts.IgnoreFields(freerides.Figures{}, "UnverifiedSeconds", "FreeRideSeconds", "Bytes")
		if diff := cmp.Diff(want, got.Figures, uncounted); diff != "" || got.IsRunning != isRunning {
			return fmt.Errorf("running: %t (-want +got):\n%s", got.IsRunning, diff)
		}
		return nil
	})
	return got
}

// TestCluster_FreeRides_Report lets viewers in on two nodes while the middleware is down, of which one is killed and started
// again. The report has what the viewers saw.
func TestCluster_FreeRides_Report(t *testing.T) {
	t.Parallel()
	s := clusterSetup{
		redis: startRedis(t).standalone(), origin: startWideStage(t, ""), binary: plainBinary(t), idle: 5 * time.Minute,
		backend: "timeout: 3s, validity: 3s, recheck_rate: 50, breaker: { open_duration: 1s, interval: 20s }", sessions: "recheck: { min: 2s }, denial_ttl: 5m",
	}
	m := startMiddleware(t)
	s.middleware = m.URL()
	a, b := startClusterNode(t, s, "n1"), startClusterNode(t, s, "n2")
	early := ride(t, a, "good-early") // keeps the answer of before the outage
	setMode(t, m, backendtest.Refuse())
	goodA, badA, both := ride(t, a, "good-a"), ride(t, a, "bad-a"), ride(t, a, "bad-both")
	goodB, badB, lost := ride(t, b, "good-b"), ride(t, b, "bad-b"), ride(t, b, "bad-lost")
	riders := []*rider{goodA, badA, both, goodB, badB, lost}
	for i, r := range riders {
		if at := []*clusterNode{a, b}[i/3]; !r.watch(t, at) {
			t.Errorf("%s is refused while the middleware is down", r.token)
		}
	}
	if !both.watch(t, b) {
		t.Error("a viewer is refused on the other node")
	}
	a.awaitBytes(t, append(riders, early))
	running := a.awaitReport(t, "the report of all", true, freerides.Figures{Sessions: 7, FailOpen: 6, Cached: 1, Unverified: 7})
	wantNodes(t, running, map[string]int64{"n1": 4, "n2": 4})
	b.signal(syscall.SIGKILL)
	b.wait(t)
	b.start(t)
	for _, r := range []*rider{goodB, badB} {
		if !r.watch(t, b) {
			t.Errorf("%s is refused by the node that was killed", r.token)
		}
	}
	b.awaitReport(t, "the report of the node that was killed", true, freerides.Figures{
		Sessions: 7, FailOpen: 6, Cached: 1, Unverified: 6, Unknown: 1,
	})
	setMode(t, m, backendtest.Healthy())
	want := freerides.Figures{Sessions: 7, FailOpen: 6, Cached: 1, Verified: 3, FreeRides: 3, Unknown: 1}
	got := a.awaitReport(t, "the report of the whole outage", false, want)
	for r, at := range map[*rider]*clusterNode{badA: a, badB: b, both: b} {
		if r.watch(t, at) {
			t.Errorf("%s still watches", r.token)
		}
	}
	if again := b.awaitReport(t, "the same report of the other node", false, want); !cmp.Equal(got, again) {
		t.Errorf("the nodes differ:\n%s", cmp.Diff(got, again))
	}
	if got.ID != running.ID || got.Recovered == nil || got.Ended == nil {
		t.Errorf("the report is %+v, it was %s", got, running.ID)
	}
	wantNodes(t, got, map[string]int64{"n1": 4, "n2": 4})
	wantRiders(t, got, badA, badB, both)
	a.wantReportPrinted(t, got)
}

// awaitBytes waits until the nodes have counted what the viewers got, since a response is counted once it was sent.
func (m *clusterNode) awaitBytes(t *testing.T, riders []*rider) {
	t.Helper()
	var want int64
	for _, r := range riders {
		want += r.bytes
	}
	eventually(t, waitTimeout, "all bytes are counted", func() error {
		var list struct{ Sessions []struct{ Bytes int64 } }
		err := m.call(http.MethodGet, "sessions", nil, &list)
		var counted int64
		for _, s := range list.Sessions {
			counted += s.Bytes
		}
		if err == nil && counted != want {
			err = fmt.Errorf("%d bytes are counted, want %d", counted, want)
		}
		return err
	})
}

func wantNodes(t *testing.T, r freerides.Report, want map[string]int64) {
	t.Helper()
	got := map[string]int64{}
	for _, n := range r.Nodes {
		got[n.Node] = n.Sessions
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sessions by node (-want +got):\n%s", diff)
	}
}

// wantRiders compares a report with what those saw who rode free: they watched at least from the first to the last response,
// and at most until they were refused, and no longer than since the report began.
func wantRiders(t *testing.T, r freerides.Report, riders ...*rider) {
	t.Helper()
	var least, most time.Duration
	var bytes int64
	for _, v := range riders {
		least, most, bytes = least+v.last.Sub(v.first), most+v.refused.Sub(r.Started), bytes+v.bytes
	}
	if s := time.Duration(r.FreeRideSeconds * float64(time.Second)); s < least || s > most {
		t.Errorf("free rides of %v, the viewers saw %v to %v", s, least, most)
	}
	if r.Bytes != bytes {
		t.Errorf("%d bytes to those who rode free, who got %d", r.Bytes, bytes)
	}
	var sum float64
	for _, u := range r.Users {
		sum += u.Seconds
	}
	if len(r.Users) != len(riders) || int64(sum*1000+0.5) != int64(r.FreeRideSeconds*1000+0.5) {
		t.Errorf("users %+v of %v seconds", r.Users, r.FreeRideSeconds)
	}
}

// wantReportPrinted compares what the command prints with the report.
func (m *clusterNode) wantReportPrinted(t *testing.T, r freerides.Report) {
	t.Helper()
	text, err := m.command("free-rides", "--csv")
	if err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(records) != 2 {
		t.Fatalf("%d records, %v:\n%s", len(records), err, text)
	}
	got := map[string]string{}
	for i, name := range records[0] {
		got[name] = records[1][i]
	}
	for name, want := range map[string]string{
		"id": r.ID, "sessions": "7", "verified": "3", "free_rides": "3", "unknown": "1", "bytes": strconv.FormatInt(r.Bytes, 10),
		"free_ride_seconds": strconv.FormatFloat(r.FreeRideSeconds, 'f', 3, 64), "nodes": "n1; n2",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	table, err := m.command("free-rides")
	if err != nil || !strings.Contains(table, "FREE RIDES") || strings.Count(table, "session ") != 3 {
		t.Errorf("printed %v:\n%s", err, table)
	}
}
