package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthCommand_AsksTheNode(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status    int
		code      int
		out, errs string
	}{
		"alive":           {http.StatusOK, exitOK, "alive\n", ""},
		"another program": {http.StatusNotFound, exitFailed, "", "/healthz answers 404 Not Found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/healthz" {
					t.Errorf("the request is for %s", r.URL)
				}
				w.WriteHeader(test.status)
			}))
			defer server.Close()
			code, out, errs := usher("health", "--admin", server.URL)
			http.DefaultClient.CloseIdleConnections()
			if code != test.code || out != test.out || !strings.Contains(errs, test.errs) {
				t.Errorf("exit code %d, %q, %q; want %d, %q and %q", code, out, errs, test.code, test.out, test.errs)
			}
		})
	}
	code, _, errs := usher("health", "--admin", "http://127.0.0.1:1")
	if code != exitFailed || !strings.Contains(errs, "--admin=http://127.0.0.1:1") {
		t.Errorf("no node: exit code %d, %q", code, errs)
	}
}
