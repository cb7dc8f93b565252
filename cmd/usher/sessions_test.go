package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// apiCall is a command's request to the API.
type apiCall struct{ Line, Body string }

// fakeAPI records every request, and gives each the same answer, except for dry runs.
func fakeAPI(t *testing.T, status int, answer, impact string, pending bool) (address string, calls func() []apiCall) {
	t.Helper()
	var got []apiCall
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.Header.Get("Authorization") != "Bearer "+apiToken {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		got = append(got, apiCall{r.Method + " " + r.URL.RequestURI(), string(body)})
		if impact != "" && strings.Contains(string(body), `"dry_run":true`) {
			_, _ = io.WriteString(w, impact+"\n")
			return
		}
		if pending {
			w.Header().Set("X-Usher-Pending", "other nodes follow later")
		}
		if status == http.StatusOK && r.URL.Query().Get("format") == "csv" && !strings.HasPrefix(answer, "<") {
			w.Header().Set("Content-Type", "text/csv; charset=utf-8")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer+"\n")
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []apiCall { return got }
}

const apiToken = "an operator's token"

// atNoon is the time at which the commands run.
var atNoon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// runAtNoon runs usher with the arguments, at noon.
func runAtNoon(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(args, console{out: &o, err: &e, now: func() time.Time { return atNoon }})
	return code, o.String(), e.String()
}

func TestRun_Sessions_Output(t *testing.T) {
	t.Parallel()
	since := atNoon.Add(-90 * time.Second).Format(time.RFC3339)
	session := `{"id":"S1","channel":"a001","user":"Ann","address":"192.0.2.7","verdict":"allowed","source":"backend","started":"` +
		since + `","last_seen":"2026-03-01T12:00:00Z","requests":12,"bytes":34,"nodes":["n1","n2"]}`
	tests := map[string]struct {
		args    []string
		status  int
		answer  string
		impact  string // of a dry run
		pending bool
		code    int
		out     string
		errs    string
		calls   []apiCall
	}{
		"a list": {
			args: []string{"list", "--user", "Ann", "--address", "192.0.2.0/24", "--q", "MAG", "--after", "S0"}, answer: `{"total":9,"matched":1,"sessions":[` + session + `],"unreachable_nodes":["n3"]}`,
			out: "SESSION  CHANNEL  USER  VERDICT  SOURCE   ADDRESS    AGE    NODES\n" +
				"S1       a001     Ann   allowed  backend  192.0.2.7  1m30s  n1,n2\n1 of 1 matching sessions, 9 in all\n",
			errs:  "warning: nodes that did not answer: n3\n",
			calls: []apiCall{{Line: "GET /api/v1/sessions?address=192.0.2.0%2F24&after=S0&limit=100&q=MAG&user=Ann"}},
		},
		"the first of two": {
			args: []string{"list", "--limit", "1"}, answer: `{"total":9,"matched":2,"sessions":[` + session + `],"more":true}`,
			out: "SESSION  CHANNEL  USER  VERDICT  SOURCE   ADDRESS    AGE    NODES\n" +
				"S1       a001     Ann   allowed  backend  192.0.2.7  1m30s  n1,n2\n1 of 2 matching sessions, 9 in all\nmore with --after=S1\n",
			calls: []apiCall{{Line: "GET /api/v1/sessions?limit=1"}},
		},
		"the second of two": {
			args: []string{"list", "--limit", "1", "--after", "S0"}, answer: `{"total":9,"matched":2,"sessions":[` + session + `]}`,
			out: "SESSION  CHANNEL  USER  VERDICT  SOURCE   ADDRESS    AGE    NODES\n" +
				"S1       a001     Ann   allowed  backend  192.0.2.7  1m30s  n1,n2\n1 of 2 matching sessions, 9 in all\n",
			calls: []apiCall{{Line: "GET /api/v1/sessions?after=S0&limit=1"}},
		},
		"an empty list of many matches": {
			args: []string{"list"}, answer: `{"total":90000,"matched":4000,"approximate":true,"sessions":[]}`,
			out:   "0 of about 4000 matching sessions, about 90000 in all\n",
			calls: []apiCall{{Line: "GET /api/v1/sessions?limit=100"}},
		},
		"backends": {
			args: []string{"backends"}, answer: `{"backends":[{"name":"portal","kind":"ministra","breaker":"open","on_failure":"allow","rates":{"checks_per_second":12.34,"failures_per_second":0.5,"denials_share":0.256},` +
				`"forced":{"state":"open","until":"2026-03-01T12:10:00Z","reason":"upgrade","by":"ops"},"contract_violations":{"denials_jumped":{"count":1,"active":true},"bad_header":{"count":1,"active":false}},` +
				`"last_failures":[{"time":"2026-03-01T11:59:00Z","outcome":"timeout","error":"check backend \"portal\": timeout"}]},{"name":"own","kind":"iprules","breaker":"closed","on_failure":"keep"}]}`,
			out: "BACKEND  KIND      BREAKER  CHECKS/S  FAILURES/S  DENIALS  ON FAILURE  FORCED                                   VIOLATIONS\n" +
				"own      iprules   closed   -         -           -        keep        -                                        -\n" +
				"portal   ministra  open     12.3      0.5         26%      allow       open until 2026-03-01T12:10:00Z upgrade  denials_jumped\n\n" +
				"BACKEND  LAST FAILURE          OUTCOME  ERROR\nportal   2026-03-01T11:59:00Z  timeout  check backend \"portal\": timeout\n",
			calls: []apiCall{{Line: "GET /api/v1/backends"}},
		},
		"a forced breaker": {
			args: []string{"force", "portal", "open", "--duration", "1h", "--reason", "upgrade"}, answer: `{"backend":"portal","forced":{"state":"open","until":"2026-03-01T13:00:00Z"},"nodes":["n1","n2"]}`,
			out:   "portal is forced open until 2026-03-01T13:00:00Z on n1, n2\n",
			calls: []apiCall{{"POST /api/v1/backends/portal/breaker", `{"duration":"1h0m0s","reason":"upgrade","state":"open"}`}},
		},
		"a breaker with its own state, not on all nodes": {
			args: []string{"force", "portal", "auto"}, answer: `{"backend":"portal","nodes":["n1"],"not_forced":{"n2":"no answer within 4s"}}`, code: exitFailed,
			out: "portal has its own state again on n1\nNODE  NOT IN FORCE\nn2    no answer within 4s\n", errs: "usher: not in force yet on n2\n",
			calls: []apiCall{{"POST /api/v1/backends/portal/breaker", `{"reason":"","state":"auto"}`}},
		},
		"a forced breaker as JSON": {
			args: []string{"force", "portal", "closed", "--json"}, answer: `{"backend":"portal","nodes":["n1"]}`, out: `{"backend":"portal","nodes":["n1"]}` + "\n",
			calls: []apiCall{{"POST /api/v1/backends/portal/breaker", `{"reason":"","state":"closed"}`}},
		},
		"an unknown backend": {
			args: []string{"force", "nobody", "open"}, status: 404, answer: `backend "nobody": not found`, code: exitNegative, errs: "usher: backend \"nobody\": not found\n",
			calls: []apiCall{{"POST /api/v1/backends/nobody/breaker", `{"reason":"","state":"open"}`}},
		},
		"a probe": {
			args: []string{"probe", "portal"}, answer: `{"probes":[{"node":"n1","outcome":"allowed","duration_ms":12.34},{"node":"n2","duration_ms":0,"error":"nobody to ask about"}],"unreachable_nodes":["n3"]}`,
			out:  "NODE  OUTCOME  TOOK    ERROR\nn1    allowed  12.3ms  -\nn2    -        -       nobody to ask about\n",
			errs: "warning: nodes that did not answer: n3\n", calls: []apiCall{{Line: "POST /api/v1/backends/portal/probe"}},
		},
		"a probe without an answer": {
			args: []string{"probe", "portal"}, answer: `{"probes":[{"node":"n1","outcome":"status","duration_ms":1,"error":"status 500"}]}`, code: exitNegative,
			out: "NODE  OUTCOME  TOOK   ERROR\nn1    status   1.0ms  status 500\n", calls: []apiCall{{Line: "POST /api/v1/backends/portal/probe"}},
		},
		"a probe of nobody": {
			args: []string{"probe", "portal"}, status: 409, answer: `backend "portal" was not asked: n1: nobody to ask about`, code: exitFailed,
			errs: "usher: --admin=ADDRESS answers 409: backend \"portal\" was not asked: n1: nobody to ask about\n", calls: []apiCall{{Line: "POST /api/v1/backends/portal/probe"}},
		},
		"a list as JSON": {
			args: []string{"list", "--json", "--limit", "7"}, answer: `{"total":0,"matched":0,"sessions":[]}`,
			out: `{"total":0,"matched":0,"sessions":[]}` + "\n", calls: []apiCall{{Line: "GET /api/v1/sessions?limit=7"}},
		},
		"one session": {
			args: []string{"show", "S1"}, answer: session,
			out: "session     S1\nchannel     a001\nroute       -\nbackend     -\nuser        Ann\nuser id     -\naddress     192.0.2.7\n" +
				"user agent  -\nverdict     allowed, by backend\nreason      -\nstarted     " + since +
				"\nlast seen   2026-03-01T12:00:00Z\nrequests    12\nbytes       34\nnodes       n1, n2\n",
			calls: []apiCall{{Line: "GET /api/v1/sessions/S1"}},
		},
		"names that would move the cursor, or turn the line around": {
			args:   []string{"list"},
			answer: "{\"total\":1,\"matched\":1,\"sessions\":[" + strings.NewReplacer("a001", "a\u202e1", "Ann", `A\t\u001b[2Jn`+"\u009b2Jn\u2066").Replace(session) + "]}",
			out: "SESSION  CHANNEL  USER          VERDICT  SOURCE   ADDRESS    AGE    NODES\n" +
				"S1       a\ufffd1      A \ufffd[2Jn\ufffd2Jn\ufffd  allowed  backend  192.0.2.7  1m30s  n1,n2\n1 of 1 matching sessions, 1 in all\n",
			calls: []apiCall{{Line: "GET /api/v1/sessions?limit=100"}},
		},
		"a trace's address that would move the cursor": {
			args: []string{"timeline", "S1"}, answer: "{\"session\":\"S1\",\"trace_url\":\"http://jaeger/\u009dS1\",\"checks\":[]}",
			out:   "TIME  NODE  WHY  BACKEND  TOOK  VERDICT  SOURCE  ERROR OR REASON\ntraces: http://jaeger/\ufffdS1\n",
			calls: []apiCall{{Line: "GET /api/v1/sessions/S1/timeline"}},
		},
		"a refusal that would move the cursor": {
			args: []string{"unban", "b1"}, status: 404, answer: "ban \u009b2J\nof nobody", code: exitNegative, errs: "usher: ban \ufffd2J of nobody\n",
			calls: []apiCall{{Line: "DELETE /api/v1/bans/b1"}},
		},
		"an unknown session": {
			args: []string{"show", "S1"}, status: 404, answer: "no live session of that id", code: exitNegative,
			errs: "usher: no live session of that id\n", calls: []apiCall{{Line: "GET /api/v1/sessions/S1"}},
		},
		"a timeline": {
			args: []string{"timeline", "S1"},
			answer: `{"session":"S1","trace_url":"http://jaeger/S1","checks":[` +
				`{"time":"2026-03-01T11:00:00.012Z","node":"n1","trigger":"opening","backend":"portal","duration_ms":12.3,"verdict":"allowed","source":"backend","reason":"paid"},` +
				`{"time":"2026-03-01T11:00:01Z","node":"n2","trigger":"lookup","duration_ms":0.4,"verdict":"allowed","source":"backend","reason":"paid"},` +
				`{"time":"2026-03-01T11:50:00Z","node":"n1","trigger":"recheck","backend":"portal","duration_ms":9,"verdict":"allowed","source":"backend","count":17,"since":"2026-03-01T11:03:00Z"},` +
				`{"time":"2026-03-01T11:53:00Z","node":"n1","trigger":"recheck","backend":"portal","duration_ms":2000,"verdict":"allowed","source":"cached","reason":"paid","error":"timeout","omitted":3},` +
				`{"time":"2026-03-01T11:54:00Z","trigger":"kick","duration_ms":0,"verdict":"denied","source":"operator"}],"unreachable_nodes":["n3"]}`,
			out: "TIME                      NODE  WHY                          BACKEND  TOOK      VERDICT  SOURCE    ERROR OR REASON\n" +
				"2026-03-01T11:00:00.012Z  n1    opening                      portal   12.3ms    allowed  backend   paid\n" +
				"2026-03-01T11:00:01.000Z  n2    lookup                       -        0.4ms     allowed  backend   paid\n" +
				"2026-03-01T11:50:00.000Z  n1    recheck ×17 since 11:03:00   portal   9.0ms     allowed  backend   -\n" +
				"2026-03-01T11:53:00.000Z  n1    recheck (3 left out before)  portal   2000.0ms  allowed  cached    timeout; paid\n" +
				"2026-03-01T11:54:00.000Z  -     kick                         -        0.0ms     denied   operator  -\n" +
				"traces: http://jaeger/S1\n",
			errs:  "warning: nodes that did not answer: n3\n",
			calls: []apiCall{{Line: "GET /api/v1/sessions/S1/timeline"}},
		},
		"a timeline as JSON": {
			args: []string{"timeline", "S1", "--json"}, answer: `{"session":"S1","checks":[],"unreachable_nodes":[]}`,
			out:   `{"session":"S1","checks":[],"unreachable_nodes":[]}` + "\n",
			calls: []apiCall{{Line: "GET /api/v1/sessions/S1/timeline"}},
		},
		"the timeline of a session that has closed": {
			args: []string{"timeline", "S1"}, status: 404, answer: "no live session has this id, and one that has closed has no timeline",
			code: exitNegative, errs: "usher: no live session has this id, and one that has closed has no timeline\n",
			calls: []apiCall{{Line: "GET /api/v1/sessions/S1/timeline"}},
		},
		"two kicks": {
			args: []string{"kick", "S1", "S2", "--duration", "10m", "--reason", "shared"}, impact: `{"sessions":3,"addresses":2}`,
			answer: `{"matched":3,"kicked":3,"addresses":2,"bans":["b1"]}`,
			out:    "hits 6 sessions from 4 addresses\nkicked S1, refused for a while (unban b1 ends it)\nkicked S2, refused for a while (unban b1 ends it)\n", calls: []apiCall{
				{"POST /api/v1/sessions/S1/kick", `{"dry_run":true,"duration":"10m0s","reason":"shared"}`},
				{"POST /api/v1/sessions/S2/kick", `{"dry_run":true,"duration":"10m0s","reason":"shared"}`},
				{"POST /api/v1/sessions/S1/kick", `{"duration":"10m0s","reason":"shared"}`},
				{"POST /api/v1/sessions/S2/kick", `{"duration":"10m0s","reason":"shared"}`},
			},
		},
		"a kick of an unknown session": {
			args: []string{"kick", "S1"}, status: 404, answer: "session S1: unknown", code: exitNegative, errs: "usher: session S1: unknown\n",
			calls: []apiCall{{"POST /api/v1/sessions/S1/kick", `{"dry_run":true,"reason":""}`}},
		},
		"a kick of all matching sessions": {
			args: []string{"kick", "--user", "Ann", "--address", "::1"}, status: 202, pending: true, impact: `{"sessions":3,"addresses":1,"unreachable_nodes":["n3"]}`,
			answer: `{"matched":3,"kicked":2,"addresses":1,"bans":["b1","b2"],"unreachable_nodes":["n3"]}`,
			out:    "hits 3 sessions from 1 address\nkicked 2 of 3 sessions, refused for a while (unban b1 b2 ends it)\n", errs: "warning: nodes that did not answer: n3\nwarning: other nodes follow later\n",
			calls: []apiCall{
				{"POST /api/v1/kick", `{"address":"::1","dry_run":true,"reason":"","user":"Ann"}`}, {"POST /api/v1/kick", `{"address":"::1","reason":"","user":"Ann"}`},
			},
		},
		"a kick of a channel that does not reach all nodes": {
			args: []string{"kick", "--channel", "a001", "--yes"}, impact: `{"sessions":90000,"addresses":80000,"approximate":true}`, code: exitFailed,
			answer: `{"matched":90000,"addresses":80000,"kicked":60000,"approximate":true,"bans":["k1"],"unreachable_nodes":["n2","n3"],` +
				`"not_kicked":{"n3":"no answer within 4s","n2":"no heartbeat for 9s"}}`,
			out: "hits about 90000 sessions from about 80000 addresses\nkicked about 60000 of about 90000 sessions, refused for a while (unban k1 ends it)\n" +
				"NODE  NOT KICKED\nn2    no heartbeat for 9s\nn3    no answer within 4s\n",
			errs: "usher: not kicked: sessions that only n2, n3 hold; kick again when they are back\n",
			calls: []apiCall{
				{"POST /api/v1/kick", `{"channel":"a001","dry_run":true,"reason":""}`}, {"POST /api/v1/kick", `{"channel":"a001","expect":99020,"reason":""}`},
			},
		},
		"a kick of a channel as JSON that does not reach all nodes": {
			args: []string{"kick", "--channel", "a001", "--json"}, impact: `{"sessions":1,"addresses":1}`, code: exitFailed,
			answer: `{"matched":1,"addresses":1,"kicked":1,"bans":["k1"],"unreachable_nodes":["n2"],"not_kicked":{"n2":"no answer within 4s"}}`,
			out:    `{"matched":1,"addresses":1,"kicked":1,"bans":["k1"],"unreachable_nodes":["n2"],"not_kicked":{"n2":"no answer within 4s"}}` + "\n",
			errs:   "usher: not kicked: sessions that only n2 hold; kick again when they are back\n",
			calls: []apiCall{
				{"POST /api/v1/kick", `{"channel":"a001","dry_run":true,"reason":""}`}, {"POST /api/v1/kick", `{"channel":"a001","reason":""}`},
			},
		},
		"a kick of a user who does not watch": {
			args: []string{"kick", "--user", "Ann"}, answer: `{"matched":0,"kicked":0,"bans":["b1"]}`, impact: `{"sessions":0,"addresses":0}`,
			out:   "hits 0 sessions from 0 addresses\nkicked 0 of 0 sessions, refused for a while (unban b1 ends it)\n",
			calls: []apiCall{{"POST /api/v1/kick", `{"dry_run":true,"reason":"","user":"Ann"}`}, {"POST /api/v1/kick", `{"reason":"","user":"Ann"}`}},
		},
		"a kick without a match": {
			args: []string{"kick", "--channel", "a9"}, answer: `{"matched":0,"kicked":0}`, impact: `{"sessions":0,"addresses":0}`, code: exitNegative,
			out:   "hits 0 sessions from 0 addresses\nkicked 0 of 0 sessions\n",
			calls: []apiCall{{"POST /api/v1/kick", `{"channel":"a9","dry_run":true,"reason":""}`}, {"POST /api/v1/kick", `{"channel":"a9","reason":""}`}},
		},
		"a kick of many without --yes": {
			args: []string{"kick", "--user", "guest"}, impact: `{"sessions":4000,"addresses":3000,"approximate":true}`, code: exitFailed,
			out:   "hits about 4000 sessions from about 3000 addresses\n",
			errs:  "usher: nothing is done, because it hits 4000 sessions; add --yes if that is meant\n",
			calls: []apiCall{{"POST /api/v1/kick", `{"dry_run":true,"reason":"","user":"guest"}`}},
		},
		"a kick of many": {
			args: []string{"kick", "--user", "guest", "--yes"}, impact: `{"sessions":4000,"addresses":3000}`, answer: `{"matched":4000,"kicked":4000}`,
			out: "hits 4000 sessions from 3000 addresses\nkicked 4000 of 4000 sessions\n",
			calls: []apiCall{
				{"POST /api/v1/kick", `{"dry_run":true,"reason":"","user":"guest"}`}, {"POST /api/v1/kick", `{"expect":4420,"reason":"","user":"guest"}`},
			},
		},
		"many kicks of one session each without --yes": {
			args: append([]string{"kick"}, strings.Split(strings.Repeat("S", 21), "")...), impact: `{"sessions":1,"addresses":1}`, code: exitFailed,
			out:   "hits 21 sessions from 21 addresses\n",
			errs:  "usher: nothing is done, because it hits 21 sessions; add --yes if that is meant\n",
			calls: slices.Repeat([]apiCall{{"POST /api/v1/sessions/S/kick", `{"dry_run":true,"reason":""}`}}, 21),
		},
		"a dry run of a kick": {
			args: []string{"kick", "S1", "--dry-run"}, impact: `{"sessions":40,"addresses":1}`,
			out:   "hits 40 sessions from 1 address\n",
			calls: []apiCall{{"POST /api/v1/sessions/S1/kick", `{"dry_run":true,"reason":""}`}},
		},
		"a dry run of a ban as JSON": {
			args: []string{"ban", "--address", "192.0.2.0/24", "--duration", "1h", "--dry-run", "--json"}, impact: `{"sessions":40,"addresses":1}`,
			out:   `{"sessions":40,"addresses":1}` + "\n",
			calls: []apiCall{{"POST /api/v1/bans", `{"address":"192.0.2.0/24","dry_run":true,"duration":"1h0m0s","reason":""}`}},
		},
		"a kick as JSON": {
			args: []string{"kick", "S1", "--json"}, impact: `{"sessions":1,"addresses":1}`, answer: `{"matched":1,"addresses":1,"kicked":1,"bans":["b1"]}`,
			out: `{"matched":1,"addresses":1,"kicked":1,"bans":["b1"]}` + "\n",
			calls: []apiCall{
				{"POST /api/v1/sessions/S1/kick", `{"dry_run":true,"reason":""}`}, {"POST /api/v1/sessions/S1/kick", `{"reason":""}`},
			},
		},
		"a kick that meanwhile hits more": {
			args: []string{"kick", "--user", "Ann"}, status: 409, impact: `{"sessions":20,"addresses":1}`, code: exitFailed,
			answer: `{"error":"it would hit 21 sessions from 1 address: nothing is done","sessions":21,"addresses":1}`,
			out:    "hits 20 sessions from 1 address\n", errs: "usher: it would hit 21 sessions from 1 address: nothing is done\n",
			calls: []apiCall{{"POST /api/v1/kick", `{"dry_run":true,"reason":"","user":"Ann"}`}, {"POST /api/v1/kick", `{"reason":"","user":"Ann"}`}},
		},
		"a ban": {
			args: []string{"ban", "--user", "Ann", "--duration", "24h"}, answer: `{"id":"b1","user":"Ann","until":"2026-03-02T12:00:00Z"}`, impact: `{"sessions":2,"addresses":1}`,
			out: "hits 2 sessions from 1 address\nbanned user Ann until 2026-03-02T12:00:00Z: b1\n",
			calls: []apiCall{
				{"POST /api/v1/bans", `{"dry_run":true,"duration":"24h0m0s","reason":"","user":"Ann"}`}, {"POST /api/v1/bans", `{"duration":"24h0m0s","reason":"","user":"Ann"}`},
			},
		},
		"a ban of many without --yes": {
			args: []string{"ban", "--user", "guest", "--duration", "24h"}, impact: `{"sessions":21,"addresses":21}`, code: exitFailed,
			out:   "hits 21 sessions from 21 addresses\n",
			errs:  "usher: nothing is done, because it hits 21 sessions; add --yes if that is meant\n",
			calls: []apiCall{{"POST /api/v1/bans", `{"dry_run":true,"duration":"24h0m0s","reason":"","user":"guest"}`}},
		},
		"a ban of credentials": {
			args:   []string{"ban", "--credentials-of", "S1", "--duration", "1h", "--reason", "resold"},
			answer: `{"id":"b1","credentials":"x","credentials_of":"S1","until":"2026-03-02T12:00:00Z"}`, impact: `{"sessions":1,"addresses":1}`,
			out: "hits 1 session from 1 address\nbanned the credentials of session S1 until 2026-03-02T12:00:00Z: b1\n",
			calls: []apiCall{
				{"POST /api/v1/bans", `{"credentials_of":"S1","dry_run":true,"duration":"1h0m0s","reason":"resold"}`}, {"POST /api/v1/bans", `{"credentials_of":"S1","duration":"1h0m0s","reason":"resold"}`},
			},
		},
		"the end of a ban": {
			args: []string{"unban", "b1"}, answer: `{"unbanned":"b1"}`, out: "unbanned b1\n",
			calls: []apiCall{{Line: "DELETE /api/v1/bans/b1"}},
		},
		"bans": {
			args: []string{"bans"}, answer: `{"bans":[{"id":"b1","session":"S1","until":"2026-03-02T12:00:00Z"},` +
				`{"id":"b1-x","credentials":"x","cause":"b1","reason":"resold","until":"2026-03-02T12:00:00Z"},` +
				`{"id":"b2","user":"Ann","channel":"a001","kick":true,"until":"2026-03-02T12:00:00Z"},` +
				`{"id":"k1","viewers":50000,"channel":"a001","kick":true,"reason":"rights","until":"2026-03-02T12:00:00Z"}]}`,
			out: "BAN   SUBJECT                                        UNTIL                 REASON\n" +
				"b1    session S1                                     2026-03-02T12:00:00Z  -\n" +
				"b1-x  credentials                                    2026-03-02T12:00:00Z  resold (follows from b1)\n" +
				"b2    user Ann on channel a001                       2026-03-02T12:00:00Z  kick\n" +
				"k1    the viewers of 50000 sessions on channel a001  2026-03-02T12:00:00Z  kick rights\n",
			calls: []apiCall{{Line: "GET /api/v1/bans"}},
		},
		"no bans": {
			args: []string{"bans"}, answer: `{"bans":[]}`, out: "no bans\n", calls: []apiCall{{Line: "GET /api/v1/bans"}},
		},
		"nodes": {
			args: []string{"nodes"}, answer: `{"nodes":[{"name":"n1","address":":8080","started":"` + since + `","sessions":3,"alive":true,"self":true},` +
				`{"name":"n2","started":"` + since + `","draining":true,"alive":true,"version":"v1"},` +
				`{"name":"n3","started":"` + since + `","last_seen":"` + since + `"}]}`,
			out: "NODE       ADDRESS  STATE                  SESSIONS  UP     VERSION\nn1 (self)  :8080    alive                  3         1m30s  -\n" +
				"n2         -        draining               0         1m30s  v1\nn3         -        unreachable for 1m30s  0         1m30s  -\n",
			calls: []apiCall{{Line: "GET /api/v1/nodes"}},
		},
		"nodes without redis": {
			args: []string{"nodes"}, answer: `{"nodes":[{"name":"n1","started":"` + since + `","sessions":3,"alive":true,"self":true}],"incomplete":true}`,
			out:   "NODE       ADDRESS  STATE  SESSIONS  UP     VERSION\nn1 (self)  -        alive  3         1m30s  -\n",
			errs:  "warning: redis unavailable, the nodes are listed as this one saw them last\n",
			calls: []apiCall{{Line: "GET /api/v1/nodes"}},
		},
		"free rides": {
			args: []string{"free-rides", "--backend", "portal", "--from", "2026-03-01T10:00:00Z", "--to", "2026-03-01T13:00:00Z"},
			answer: `{"reports":[{"id":"portal-1","backend":"portal","started":"2026-03-01T11:00:00Z","running":true,"sessions":1200,"fail_open":1200,` +
				`"unverified_seconds":3725.4,"unverified":1200,"expired_tokens":7,"approximate":true,"nodes":[],"users":[]},` +
				`{"id":"portal-0","backend":"portal","started":"2026-03-01T10:00:00Z","ended":"2026-03-01T10:02:03Z","sessions":9,"unverified_seconds":90,` +
				`"verified":4,"free_rides":2,"free_ride_seconds":31.7,"bytes":5000,"refused":1,"unknown":2,"expired_tokens":1,"nodes":[{"node":"n1"}],` +
				`"users":[{"user":"Ann","sessions":1,"seconds":30,"bytes":4000},{"session":"S1","sessions":1,"seconds":1.7,"bytes":1000}]}],` +
				`"incomplete":true,"unreachable_nodes":["n3"]}`,
			out: "BACKEND  STARTED               LASTED   SESSIONS  FOR      FREE RIDES  FOR  BYTES  VERIFIED  REFUSED  UNKNOWN  UNVERIFIED  EXPIRED\n" +
				"portal   2026-03-01T11:00:00Z  running  ~1200     ~1h2m5s  ~0          ~0s  ~0     ~0        ~0       ~0       ~1200       ~7\n" +
				"portal   2026-03-01T10:00:00Z  2m3s     9         1m30s    2           32s  5000   4         1        2        0           1\n\n" +
				"USER        BACKEND  STARTED               SESSIONS  FREE FOR  BYTES\n" +
				"Ann         portal   2026-03-01T10:00:00Z  1         30s       4000\n" +
				"session S1  portal   2026-03-01T10:00:00Z  1         2s        1000\n",
			errs:  "warning: redis unavailable, only what this node saw is listed\nwarning: nodes that did not answer: n3\n",
			calls: []apiCall{{Line: "GET /api/v1/free-rides?backend=portal&from=2026-03-01T10%3A00%3A00Z&to=2026-03-01T13%3A00%3A00Z"}},
		},
		"no free rides": {
			args: []string{"free-rides"}, answer: `{"reports":[]}`, out: "no outages\n", calls: []apiCall{{Line: "GET /api/v1/free-rides"}},
		},
		"free rides as JSON": {
			args: []string{"free-rides", "--json"}, answer: `{"reports":[]}`, out: `{"reports":[]}` + "\n",
			calls: []apiCall{{Line: "GET /api/v1/free-rides"}},
		},
		"free rides as CSV": {
			args: []string{"free-rides", "--csv", "--backend", "portal"}, answer: "id,backend\r", out: "id,backend\r\n",
			calls: []apiCall{{Line: "GET /api/v1/free-rides?backend=portal&format=csv"}},
		},
		"free rides as CSV at a time that is none": {
			args: []string{"free-rides", "--csv", "--from", "noon"}, status: 400, answer: "from: no time", code: exitFailed,
			errs:  "usher: --admin=ADDRESS answers 400: from: no time\n",
			calls: []apiCall{{Line: "GET /api/v1/free-rides?format=csv&from=noon"}},
		},
		"a request that the node rejects": {
			args: []string{"bans"}, status: 400, answer: "not so", code: exitFailed, errs: "usher: --admin=ADDRESS answers 400: not so\n",
			calls: []apiCall{{Line: "GET /api/v1/bans"}},
		},
		"a public listener": {
			args: []string{"list"}, status: 404, answer: "usher: no route serves this path and host", code: exitFailed,
			errs:  "usher: --admin=ADDRESS is not the admin listener of a node: it answers 404: usher: no route serves this path and host\n",
			calls: []apiCall{{Line: "GET /api/v1/sessions?limit=100"}},
		},
		"a kick at a public listener": {
			args: []string{"kick", "S1", "S2"}, status: 404, answer: "usher: no route serves this path and host", code: exitFailed,
			errs:  "usher: --admin=ADDRESS is not the admin listener of a node: it answers 404: usher: no route serves this path and host\n",
			calls: []apiCall{{"POST /api/v1/sessions/S1/kick", `{"dry_run":true,"reason":""}`}},
		},
		"free rides as CSV of a server that is not a node": {
			args: []string{"free-rides", "--csv"}, answer: "<html>", code: exitFailed,
			errs:  "usher: --admin=ADDRESS is not the admin listener of a node: its answer is text/html; charset=utf-8, not CSV\n",
			calls: []apiCall{{Line: "GET /api/v1/free-rides?format=csv"}},
		},
		"a server that is not a node": {
			args: []string{"bans"}, answer: "<html>", code: exitFailed,
			errs:  "usher: --admin=ADDRESS is not the admin listener of a node: invalid character '<' looking for beginning of value\n",
			calls: []apiCall{{Line: "GET /api/v1/bans"}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.status == 0 {
				test.status = http.StatusOK
			}
			address, calls := fakeAPI(t, test.status, test.answer, test.impact, test.pending)
			code, out, errs := runAtNoon(append(append([]string{"sessions"}, test.args...), "--admin", address, "--token", apiToken)...)
			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			type printed struct{ Out, Errs string }
			got := printed{out, strings.ReplaceAll(errs, address, "ADDRESS")}
			if diff := cmp.Diff(printed{test.out, test.errs}, got); diff != "" {
				t.Errorf("printed (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.calls, calls()); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRun_Sessions_Negative asks a node for what does not exist, and then its public listener, which is no answer.
func TestRun_Sessions_Negative(t *testing.T) {
	t.Parallel()
	k := startKickNodes(t, 1, "")
	id := strings.Repeat("A", 22)
	for _, args := range [][]string{
		{"show", id},
		{"timeline", id},
		{"kick", id},
		{"unban", "b1"},
		{"ban", "--credentials-of", id, "--duration", "1h"},
		{"force", "nobody", "open"},
		{"probe", "nobody"},
	} {
		for address, want := range map[string]int{k.apis[0]: exitNegative, k.addresses[0]: exitFailed} {
			code, out, errs := runAtNoon(append(append([]string{"sessions"}, args...), "--admin", address, "--token", apiToken)...)
			if code != want || out != "" || strings.Contains(errs, "is not the admin listener") != (want == exitFailed) {
				t.Errorf("%q at %s: exit code %d, printed %q and %q; want %d", args, address, code, out, errs, want)
			}
		}
	}
}

func TestRun_Sessions_Errors(t *testing.T) {
	t.Parallel()
	address, _ := fakeAPI(t, http.StatusOK, "{}", "", false)
	forbidding, _ := fakeAPI(t, http.StatusForbidden, `token "grafana" has the role read; unban needs the role write`, "", false)
	limiting, _ := fakeAPI(t, http.StatusTooManyRequests, "too many requests without a known token; wait a minute", "", false)
	tests := map[string]struct {
		args []string
		want string
	}{
		"a wrong token after many": {
			[]string{"list", "--admin", limiting, "--token", apiToken},
			"usher: --token (or USHER_TOKEN): not accepted; want admin.token of the node, or one of its admin.tokens; after many wrong ones, wait a minute before you try another\n",
		},
		"a token that only reads": {
			[]string{"unban", "b1", "--admin", forbidding, "--token", apiToken},
			"usher: --token (or USHER_TOKEN): token \"grafana\" has the role read; unban needs the role write\n",
		},
		"a wrong token":               {[]string{"list", "--admin", address, "--token", "guess"}, "usher: --token (or USHER_TOKEN): not accepted; want admin.token of the node, or one of its admin.tokens\n"},
		"a token of two lines":        {[]string{"list", "--admin", address, "--token", "a guess\nof two"}, "usher: --token (or USHER_TOKEN): has a line break or another control character, which no header field keeps\n"},
		"CSV and JSON":                {[]string{"free-rides", "--csv", "--json", "--admin", address}, "usher: --json and --csv can't be used together\nTry: usher --help\n"},
		"an address without a scheme": {[]string{"list", "--admin", "127.0.0.1:1"}, "usher: --admin=127.0.0.1:1: want an address such as http://127.0.0.1:8081\n"},
		"a refused connection":        {[]string{"list", "--admin", "http://127.0.0.1:1"}, "usher: --admin=http://127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused\n"},
		"a kick without a selection":  {[]string{"kick", "--admin", address}, "usher: no sessions selected; want ids, or flags such as --user\n"},
		"a kick by id and by user": {
			[]string{"kick", "x", "--user", "a", "--admin", address}, "usher: ids and flags that select sessions exclude each other\n",
		},
		"a kick by an empty flag": {
			[]string{"kick", "--channel", "a001", "--user", "", "--admin", address, "--token", apiToken}, "usher: --user: is empty; give it a value or leave it out\n",
		},
		"a list by one": {
			[]string{"list", "--user", "", "--admin", address, "--token", apiToken}, "usher: --user: is empty; give it a value or leave it out\n",
		},
		"a session of no id":   {[]string{"show", "", "--admin", address, "--token", apiToken}, "usher: an id or a name is empty; give it a value\n"},
		"a kick of no id":      {[]string{"kick", "S1", "", "--admin", address, "--token", apiToken}, "usher: an id or a name is empty; give it a value\n"},
		"a ban without an end": {[]string{"ban", "--user", "a", "--admin", address}, "usher: --duration: missing; want a duration such as 24h\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out, errs := runAtNoon(append([]string{"sessions"}, test.args...)...)
			if code != exitFailed || out != "" || errs != test.want {
				t.Errorf("exit code %d, printed %q and %q, want %q", code, out, errs, test.want)
			}
			if strings.Contains(errs, "guess") {
				t.Error("the token is shown")
			}
		})
	}
}

func TestRun_FreeRides_CSVWarnings(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/csv; charset=utf-8; header=present")
		w.Header().Set("X-Usher-Unreachable-Nodes", "n2, n3")
		w.Header().Set("X-Usher-Incomplete", "true")
		_, _ = io.WriteString(w, "id,backend\r\n")
	}))
	defer server.Close()
	code, out, errs := runAtNoon("sessions", "free-rides", "--csv", "--admin", server.URL, "--token", apiToken)
	const want = "warning: redis unavailable, only what this node saw is listed\nwarning: nodes that did not answer: n2, n3\n"
	if code != exitOK || out != "id,backend\r\n" || errs != want {
		t.Errorf("exit code %d, printed %q and %q, want the warnings %q", code, out, errs, want)
	}
}

// TestRun_Kick_NamesEveryUnreachableNode kicks sessions by their ids, for which different nodes do not answer.
func TestRun_Kick_NamesEveryUnreachableNode(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nodes := map[string]string{"S1": `,"unreachable_nodes":["n2","n4"]`, "S2": `,"unreachable_nodes":["n2","n3"]`}
		_, _ = io.WriteString(w, `{"sessions":1,"addresses":1`+nodes[strings.Split(r.URL.Path, "/")[4]]+"}")
	}))
	defer server.Close()
	code, out, errs := runAtNoon("sessions", "kick", "S1", "S2", "S3", "--dry-run", "--admin", server.URL, "--token", apiToken)
	if code != exitOK || out != "hits 3 sessions from 3 addresses\n" || errs != "warning: nodes that did not answer: n2, n3, n4\n" {
		t.Errorf("exit code %d, printed %q and %q, want all three nodes", code, out, errs)
	}
}

// TestRun_Sessions_IDBeginsWithHyphen gives ids that look like flags.
func TestRun_Sessions_IDBeginsWithHyphen(t *testing.T) {
	t.Parallel()
	const id, other = "-AAAAAAAAAAAAAAAAAAAAA", "--AAAAAAAAAAAAAAAAAAAA"
	for name, test := range map[string]struct {
		args  []string
		calls []string
	}{
		"a session":            {[]string{"show", id}, []string{"GET /api/v1/sessions/" + id}},
		"before flags":         {[]string{"timeline", id, "--json"}, []string{"GET /api/v1/sessions/" + id + "/timeline"}},
		"two hyphens":          {[]string{"show", other}, []string{"GET /api/v1/sessions/" + other}},
		"several":              {[]string{"kick", id, "S1", other, "--dry-run"}, []string{"POST /api/v1/sessions/" + id + "/kick", "POST /api/v1/sessions/S1/kick", "POST /api/v1/sessions/" + other + "/kick"}},
		"behind two hyphens":   {[]string{"show", "--json", "--", id}, []string{"GET /api/v1/sessions/" + id}},
		"a user of that name":  {[]string{"list", "--user", id}, []string{"GET /api/v1/sessions?limit=100&user=" + id}},
		"the next page":        {[]string{"list", "--after", id, "--limit", "7"}, []string{"GET /api/v1/sessions?after=" + id + "&limit=7"}},
		"a search":             {[]string{"list", "--q", id}, []string{"GET /api/v1/sessions?limit=100&q=" + id}},
		"a ban":                {[]string{"ban", "--session", id, "--duration", "1h", "--dry-run"}, []string{"POST /api/v1/bans"}},
		"a ban of credentials": {[]string{"ban", "--dry-run", "--duration", "1h", "--credentials-of", other}, []string{"POST /api/v1/bans"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, calls := fakeAPI(t, http.StatusOK, `{}`, "", false)
			_, _, errs := runAtNoon(append([]string{"sessions", test.args[0], "--admin=" + address, "--token=" + apiToken}, test.args[1:]...)...)
			var got []string
			for _, call := range calls() {
				got = append(got, call.Line)
			}
			if !slices.Equal(got, test.calls) {
				t.Errorf("called %q, want %q; printed %q", got, test.calls, errs)
			}
		})
	}
	if code, _, errs := runAtNoon("sessions", "show", "-AAAA"); code != exitFailed || !strings.Contains(errs, "unknown flag -A") {
		t.Errorf("exit code %d, printed %q; want an unknown flag", code, errs)
	}
}

// TestRun_Sessions_TokenOfFile presents a token with the line break with which files end.
func TestRun_Sessions_TokenOfFile(t *testing.T) {
	t.Parallel()
	address, _ := fakeAPI(t, http.StatusOK, `{"bans":[]}`, "", false)
	if code, out, errs := runAtNoon("sessions", "bans", "--admin", address, "--token", apiToken+"\r\n"); code != exitOK {
		t.Errorf("exit code %d, printed %q and %q", code, out, errs)
	}
}
