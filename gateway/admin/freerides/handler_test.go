package freerides

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// get requests the reports of a node.
func (n *testNode) get(t *testing.T, query string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	n.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/free-rides?"+query, nil))
	return w
}

func TestServeHTTP_JSON(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		a, stop := c.node(t, "a")
		defer stop()
		if got := a.get(t, "").Body.String(); got != `{"reports":[]}`+"\n" {
			t.Errorf("without outages: %s", got)
		}
		a.decide(1, allowedBy(backends.FromFailOpen))
		wait(1500 * time.Millisecond)
		a.decide(1, deniedBy(backends.FromBackend, "Ann"))
		c.silent = []string{"b"}
		w := a.get(t, "backend=portal&format=json")
		want := `{"reports":[{"id":"portal-20000101T000000Z","backend":"portal","started":"2000-01-01T00:00:00Z",` +
			`"recovered":"2000-01-01T00:00:00Z","ended":"2000-01-01T00:00:01.5Z","running":false,"sessions":1,"fail_open":1,` +
			`"cached":0,"ticket":0,"unverified_seconds":1.5,"verified":0,"free_rides":1,"free_ride_seconds":1.5,"bytes":0,` +
			`"refused":0,"unknown":0,"unverified":0,"nodes":[{"node":"a","sessions":1,"fail_open":1,"cached":0,"ticket":0,` +
			`"unverified_seconds":1.5,"verified":0,"free_rides":1,"free_ride_seconds":1.5,"bytes":0,"refused":0,"unknown":0,` +
			`"unverified":0}],"users":[{"user":"Ann","sessions":1,"seconds":1.5,"bytes":0}]}],"unreachable_nodes":["b"]}` + "\n"
		if diff := cmp.Diff(want, w.Body.String()); diff != "" || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("response (-want +got):\n%s", diff)
		}
	})
}

func TestServeHTTP_CSV(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		a, stop := c.node(t, "a")
		defer stop()
		user := `=HYPERLINK("http://evil";"Ann"),` + "\n"
		a.decide(1, allowedBy(backends.FromFailOpen))
		wait(1500 * time.Millisecond)
		a.decide(1, deniedBy(backends.FromBackend, user))
		a.decide(2, allowedBy(backends.FromFailOpen))
		c.silent = []string{"b", "c"}
		w := a.get(t, "format=csv")
		if got := w.Header(); got.Get("Content-Type") != "text/csv; charset=utf-8; header=present" ||
			got.Get("Content-Disposition") != `attachment; filename="free-rides.csv"` || got.Get("X-Usher-Unreachable-Nodes") != "b, c" {
			t.Errorf("header %v", got)
		}
		records, err := csv.NewReader(strings.NewReader(w.Body.String())).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		want := [][]string{
			{
				"id", "backend", "started", "recovered", "ended", "running", "sessions", "fail_open", "cached", "ticket",
				"unverified_seconds", "verified", "free_rides", "free_ride_seconds", "bytes", "refused", "unknown", "unverified",
				"approximate", "nodes", "users",
			},
			{
				"portal-20000101T000000Z", "portal", "2000-01-01T00:00:00.000Z", "2000-01-01T00:00:01.500Z", "", "true", "2", "2", "0", "0",
				"1.500", "0", "1", "1.500", "0", "0", "0", "1", "false", "a", "'" + user + " 1.500s",
			},
		}
		if diff := cmp.Diff(want, records); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		if !strings.HasSuffix(w.Body.String(), "\r\n") {
			t.Error("a record does not end as RFC 4180 has it")
		}
	})
}

func TestWriteCSV_NoFormula(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"=1+1", "+1", "-1", "@A1", "\t=1", "\r=1", "Ann", "", "é"} {
		var text strings.Builder
		if err := WriteCSV(&text, []Report{{Backend: name}}); err != nil {
			t.Fatal(err)
		}
		records, err := csv.NewReader(strings.NewReader(text.String())).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		got := records[1][1]
		isFormula := got != "" && strings.Contains("=+-@\t\r", got[:1])
		if isFormula || strings.TrimLeft(got, "'\r\n") != strings.TrimLeft(name, "\r") {
			t.Errorf("%q became %q", name, got)
		}
	}
}

func TestServeHTTP_Invalid_BadRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, stop := newCluster().node(t, "a")
		defer stop()
		for query, want := range map[string]string{
			"from=yesterday": `from: "yesterday"; want a time such as 2026-01-31T20:15:00Z`,
			"to=1":           `to: "1"; want a time such as 2026-01-31T20:15:00Z`,
			"format=xml":     `format: "xml"; want csv or json`,
			"since=1":        `since: unknown parameter; want backend, from, to or format`,
		} {
			if w := a.get(t, query); w.Code != http.StatusBadRequest || strings.TrimSpace(w.Body.String()) != want {
				t.Errorf("%s: %d %s", query, w.Code, w.Body)
			}
		}
		times := url.Values{"from": {"2000-01-01T00:00:00Z"}, "to": {"2000-01-01T00:00:00+02:00"}}
		if w := a.get(t, times.Encode()); w.Code != http.StatusOK {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// TestAnswer_OtherQuery_NotMine leaves queries of other kinds to others.
func TestAnswer_OtherQuery_NotMine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, stop := newCluster().node(t, "a")
		defer stop()
		for request, want := range map[string]bool{
			`{"ask":"free-rides"}`: true, `{"ask":"sessions","filter":{},"limit":1}`: false, "": false, "{}": false, "[]": false,
		} {
			answer, isMine := a.Answer(t.Context(), []byte(request))
			if isMine != want || isMine != json.Valid(answer) {
				t.Errorf("%s: %s %v", request, answer, isMine)
			}
		}
	})
}

// TestReports_OldNode_Unreachable counts a node that does not know the query as one that did not answer.
func TestReports_OldNode_Unreachable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, stop := newCluster().node(t, "a")
		defer stop()
		a.o.Ask = func(context.Context, []byte) (map[string][]byte, []string) {
			return map[string][]byte{"old": nil, "odd": []byte("{}")}, []string{"old"}
		}
		if got := a.Reports(t.Context(), Filter{}); !cmp.Equal(got.UnreachableNodes, []string{"odd", "old"}) {
			t.Errorf("unreachable nodes %q", got.UnreachableNodes)
		}
	})
}

func FuzzDecodePart(f *testing.F) {
	f.Add((&part{Backend: "portal", Node: "a", Sample: []entry{{ID: idOf(1), Figure: failOpenFigure, Outcome: outcomeFreeRide}}}).encode())
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := decodePart(body)
		if err != nil {
			return
		}
		again, err := decodePart(p.encode())
		if diff := cmp.Diff(p, again); diff != "" || err != nil {
			t.Errorf("error %v; encoded again (-want +got):\n%s", err, diff)
		}
		p.close()
		mergeReports("portal", []*part{p, again}, time.Time{})
	})
}
