package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// TestNode_Users_RemovedUser_Denied removes a user from the file while the node runs.
func TestNode_Users_RemovedUser_Denied(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "users.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write("users: { alice: { tokens: [ 0123456789 ] }, bob: { tokens: [ abcdefghij ] } }\n")
	address, _ := startNode(t, fmt.Sprintf(`
identity: { secret: "0123456789abcdef" }
tickets: { keys: [ { id: a, secret: "0123456789abcdef" } ] }
backends: { people: { kind: users, file: %q, reload_interval: 1s } }
routes: [ { path: "/*", backend: people, edge: { dialect: astra, networks: [ 127.0.0.1/32 ] } } ]
`, file), sdktrace.NewTracerProvider())
	if status, _ := get(t, address+"/?token=0123456789"); status != http.StatusOK {
		t.Fatalf("alice: %d, want 200", status)
	}
	write("users: { bob: { tokens: [ abcdefghij ] } }\n")
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		// Each request opens another session, because an existing one keeps its decision until its re-check.
		status, _ := get(t, fmt.Sprintf("%s/?token=0123456789&n=%d", address, i))
		if status == http.StatusForbidden {
			break
		}
		if i > 1000 {
			t.Fatal("alice was never denied")
		}
		<-tick.C
	}
	if status, _ := get(t, address+"/?token=abcdefghij"); status != http.StatusOK {
		t.Errorf("bob: %d, want 200", status)
	}
}
