package admin

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestHandler_Reload answers with what the reload did, and records it.
func TestHandler_Reload(t *testing.T) {
	t.Parallel()
	problem := ReloadProblem{Setting: "listen", At: "usher.yaml:2:1", Message: "changed from :80 to :81, which needs a restart"}
	for name, test := range map[string]struct {
		reload  func() ReloadResult
		status  int
		want    ReloadResult
		audited string
	}{
		"applied": {
			func() ReloadResult { return ReloadResult{Outcome: ReloadApplied, Changed: []string{"routes"}} }, http.StatusOK,
			ReloadResult{Outcome: ReloadApplied, Changed: []string{"routes"}},
			`"result":"done"`,
		},
		"unchanged": {
			func() ReloadResult { return ReloadResult{Outcome: ReloadUnchanged} }, http.StatusOK,
			ReloadResult{Outcome: ReloadUnchanged},
			`"result":"done"`,
		},
		"refused": {
			func() ReloadResult {
				return ReloadResult{Outcome: ReloadRefused, Problems: []ReloadProblem{problem}}
			}, http.StatusUnprocessableEntity,
			ReloadResult{Outcome: ReloadRefused, Problems: []ReloadProblem{problem}},
			`"result":"refused, problems: 1"`,
		},
		"no file": {
			nil, http.StatusUnprocessableEntity,
			ReloadResult{Outcome: ReloadRefused, Problems: []ReloadProblem{{Message: "this node has no settings file"}}},
			`"result":"refused, problems: 1"`,
		},
	} {
		g := newRoleRig()
		g.Reload = test.reload
		w := g.do(t, token, http.MethodPost, "/api/v1/reload", "")
		var got ReloadResult
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != test.status || !cmp.Equal(got, test.want) {
			t.Errorf("%s: got %d %s, %v", name, w.Code, w.Body, err)
		}
		if record := g.stream.String(); !strings.Contains(record, test.audited) || !strings.Contains(record, `"action":"reload"`) {
			t.Errorf("%s: the audit has %q, want %s", name, record, test.audited)
		}
	}
}

// TestRecorder_Reloaded: a refused reload is seen until the next one that is not, and never moves the time of the settings.
func TestRecorder_Reloaded(t *testing.T) {
	t.Parallel()
	o := newFakeNode().options()
	o.Recorder = NewRecorder()
	want := func(isSuccess, at string, refused string) {
		t.Helper()
		text := scrape(t, newHandler(t, Config{Token: token}, o)).Body.String()
		for _, line := range []string{
			"usher_settings_last_reload_successful " + isSuccess,
			"usher_settings_last_reload_success_timestamp_seconds " + at,
			`usher_settings_reloads_total{outcome="refused"} ` + refused,
		} {
			if !strings.Contains(text, line+"\n") {
				t.Errorf("the metrics lack %s", line)
			}
		}
	}
	o.Recorder.Reloaded(ReloadApplied, time.Unix(1_700_000_000, 0))
	want("1", "1.7e+09", "0")
	o.Recorder.Reloaded(ReloadRefused, time.Unix(1_800_000_000, 0))
	want("0", "1.7e+09", "1")
	o.Recorder.Reloaded(ReloadUnchanged, time.Unix(1_900_000_000, 0))
	want("1", "1.9e+09", "1")
}
