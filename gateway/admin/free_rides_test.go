package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"usher/backends"
	"usher/gateway/admin/freerides"
)

// noReports is a store without reports of others.
type noReports struct{}

func (noReports) SaveReport(context.Context, string, string, []byte, int, time.Duration) error {
	return nil
}

func (noReports) Reports(context.Context, string, time.Duration) (map[string][]byte, error) {
	return nil, nil
}

// TestHandler_FreeRides_Described serves the reports as the document describes them, to those with a token.
func TestHandler_FreeRides_Described(t *testing.T) {
	t.Parallel()
	tracker := freerides.New(freerides.Options{
		Node: "n1", Backends: func() []string { return []string{"portal"} }, Store: noReports{},
		Ask:    func(context.Context, []byte) (map[string][]byte, []string) { return nil, []string{"n2"} },
		IsDown: func(string) bool { return false }, Retention: time.Hour,
		Session:   func(backends.SessionID) (int64, time.Time) { return 0, time.Time{} },
		TokenLife: func(string) time.Duration { return 0 },
	})
	for i, answer := range []*backends.Decision{
		{Verdict: backends.Denied, Source: backends.FromBackend, User: "Ann"}, {Verdict: backends.Denied, Source: backends.FromBackend}, nil,
	} {
		r := &backends.Request{Session: backends.SessionID{byte(i), 1}, Backend: "portal"}
		admitted := &backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen}
		tracker.Decided(r, nil, admitted)
		tracker.Decided(r, admitted, answer)
	}
	o := newFakeNode().options()
	o.FreeRides = tracker
	h := newHandler(t, Config{Token: token}, o)
	for path, want := range map[string]int{
		"": http.StatusOK, "?format=csv": http.StatusOK, "?backend=portal&from=2026-01-01T00:00:00Z": http.StatusOK, "?format=xml": http.StatusBadRequest,
	} {
		w := ask(t, h, "/api/v1/free-rides"+path, "Bearer "+token)
		if w.Code != want {
			t.Errorf("%s: %d %s, want %d", path, w.Code, w.Body, want)
		}
		if path != "" {
			continue
		}
		var list freerides.List
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list.Reports) != 1 || list.Reports[0].FreeRides != 2 {
			t.Errorf("%v: %s", err, w.Body)
		}
	}
	if w := ask(t, h, "/api/v1/free-rides", ""); w.Code != http.StatusUnauthorized || strings.Contains(w.Body.String(), "Ann") {
		t.Errorf("without a token: %d %s", w.Code, w.Body)
	}
	w := ask(t, newHandler(t, Config{Token: token}, newFakeNode().options()), "/api/v1/free-rides", "Bearer "+token)
	if got := w.Body.String(); got != `{"reports":[]}`+"\n" {
		t.Errorf("a node without reports: %d %s", w.Code, got)
	}
}

// ask requests a path.
func ask(t *testing.T, h http.Handler, path, authorization string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}
