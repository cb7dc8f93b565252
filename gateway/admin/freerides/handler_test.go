package freerides

import (
	"context"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

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
			`"refused":0,"unknown":0,"unverified":0,"expired_tokens":0,"nodes":[{"node":"a","sessions":1,"fail_open":1,"cached":0,"ticket":0,` +
			`"unverified_seconds":1.5,"verified":0,"free_rides":1,"free_ride_seconds":1.5,"bytes":0,"refused":0,"unknown":0,` +
			`"unverified":0,"expired_tokens":0}],"users":[{"user":"Ann","sessions":1,"seconds":1.5,"bytes":0}]}],"unreachable_nodes":["b"]}` + "\n"
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
			got.Get("Content-Disposition") != `attachment; filename="free-rides.csv"` || got.Get("X-Usher-Unreachable-Nodes") != "b, c" ||
			got.Get("X-Usher-Incomplete") != "" {
			t.Errorf("header %v", got)
		}
		c.isDown.Store(true)
		if got := a.get(t, "format=csv").Header(); got.Get("X-Usher-Incomplete") != "true" {
			t.Errorf("without redis: header %v", got)
		}
		records, err := csv.NewReader(strings.NewReader(w.Body.String())).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		want := [][]string{
			{
				"id", "backend", "started", "recovered", "ended", "running", "sessions", "fail_open", "cached", "ticket",
				"unverified_seconds", "verified", "free_rides", "free_ride_seconds", "bytes", "refused", "unknown", "unverified",
				"expired_tokens", "approximate", "nodes", "users",
			},
			{
				"portal-20000101T000000Z", "portal", "2000-01-01T00:00:00.000Z", "2000-01-01T00:00:01.500Z", "", "true", "2", "2", "0", "0",
				"1.500", "0", "1", "1.500", "0", "0", "0", "1", "0", "false", "a", "'" + strings.TrimSuffix(user, "\n") + "  1.500s",
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
	for name, want := range map[string]string{
		"=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@A1": "'@A1", "\t=1": "' =1", "\r=1": "' =1", "Ann": "Ann", "": "", "é": "é",
		"A\u202en\u009bn\nn": "A\ufffdn\ufffdn n", "\u202e=1": "\ufffd=1",
	} {
		var text strings.Builder
		if err := WriteCSV(&text, []Report{{Backend: name}}); err != nil {
			t.Fatal(err)
		}
		records, err := csv.NewReader(strings.NewReader(text.String())).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if got := records[1][1]; got != want {
			t.Errorf("%q became %q, want %q", name, got, want)
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
		if w := a.get(t, "backend=&from=&to=&format="); w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("empty values, which are none: %d %s", w.Code, w.Body)
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

// goldenPart is how every version has to read a part: nodes of two versions share them.
const goldenPart = "" +
	"ffa67f030101047061727401ff8000010d01074261636b656e64010c0001044e6f6465010c00010750726f63657373010c000107537461727465" +
	"640104000105556e74696c01040001064973446f776e0102000105456e64656401040001075772697474656e010400010649734c656674010200" +
	"01074669677572657301ff8200010653616d706c6501ff88000109497353616d706c65640102000105557365727301ff8c00000013ff81050101" +
	"076669677572657301ff8200000020ff87020101115b5d6672656572696465732e656e74727901ff880001ff84000075ff8303010105656e7472" +
	"7901ff840001090102494401ff86000105466972737401040001044c617374010400010a556e7665726966696564010400010542797465730104" +
	"00010646696775726501040001074f7574636f6d650106000109497345787069726564010200010455736572010c00000019ff85010101095365" +
	"7373696f6e494401ff86000106012000001fff8b020101105b5d6672656572696465732e636f737401ff8c0001ff8a000047ff8903010104636f" +
	"737401ff8a000105010455736572010c00010753657373696f6e010c00010853657373696f6e73010400010454696d6501040001054279746573" +
	"0104000000ff9cff800106706f7274616c01026e310102703101fa03179fcad00001fa03179fcad7d0010101fa03179fcadfa001fa03179fcae7" +
	"700101011004020200880e0202c00c8c010000000201010110ff9e3779ffb100000000000000000000000101fa03179fcad00001fa03179fcad6" +
	"4001fe064001ff8c0104010401010103416e6e00010101020103416e6e020201fe064001ff8c000202533102020000"

func TestDecodePart_Golden(t *testing.T) {
	t.Parallel()
	want := &part{
		Backend: "portal", Node: "n1", Process: "p1", Started: 1700000000000, Until: 1700000001000, IsDown: true, Ended: 1700000002000,
		Written: 1700000003000, IsLeft: true, Figures: figures{2, 1, 1, 0, 900, 1, 1, 800, 70, 0, 0, 0, 1},
		Sample: []entry{{
			ID: idOf(1), First: 1700000000000, Last: 1700000000800, Unverified: 800, Bytes: 70, Figure: cachedFigure,
			Outcome: outcomeFreeRide, IsExpired: true, User: "Ann",
		}},
		IsSampled: true, Users: []cost{{User: "Ann", Sessions: 1, Time: 800, Bytes: 70}, {Session: "S1", Time: 1}},
	}
	body, err := hex.DecodeString(goldenPart)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodePart(body)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("error %v, decoded (-want +got):\n%s\nencoded it is %x", err, diff, want.encode())
	}
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
		if diff := cmp.Diff(p, again, cmpopts.EquateEmpty()); diff != "" || err != nil {
			t.Errorf("error %v; encoded again (-want +got):\n%s", err, diff)
		}
		p.close()
		mergeReports("portal", []*part{p, again}, time.Time{})
	})
}
