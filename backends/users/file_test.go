package users

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// reloadTest is a backend with a file that the test changes.
type reloadTest struct {
	*Backend
	name string
	logs bytes.Buffer
}

const (
	onlyAlice   = "users: { alice: { tokens: [of-alice] } }"
	onlyBobby   = "users: { bobby: { tokens: [of-bobby] } }" // of the same length
	invalidFile = "users: { alice: { tokens: of-alice } }"
)

func newReloadTest(t *testing.T) *reloadTest {
	t.Helper()
	w := &reloadTest{name: filepath.Join(t.TempDir(), "users.yaml")}
	writeFile(t, w.name, onlyAlice)
	cfg := DefaultConfig()
	cfg.File = w.name
	log := slog.New(slog.NewJSONHandler(&w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if w.Backend, err = New("subscribers", cfg, log); err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	t.Cleanup(w.Close)
	return w
}

// setAge sets the file's modification time to that many hours ago.
func (w *reloadTest) setAge(t *testing.T, ago int) {
	t.Helper()
	at := time.Now().Add(-time.Duration(ago) * time.Hour)
	if err := os.Chtimes(w.name, at, at); err != nil {
		t.Fatalf("set the file's time: %v", err)
	}
}

// wantReload reloads, and requires these tokens to be valid and one log line of that level; empty: none.
func (w *reloadTest) wantReload(t *testing.T, level string, tokens ...string) {
	t.Helper()
	w.logs.Reset()
	w.reload()
	var levels []string
	for decoder := json.NewDecoder(bytes.NewReader(w.logs.Bytes())); decoder.More(); {
		var line struct{ Level, Backend, File string }
		if err := decoder.Decode(&line); err != nil || line.Backend != "subscribers" || line.File != w.name {
			t.Fatalf("log line %+v, error %v", line, err)
		}
		levels = append(levels, line.Level)
	}
	var want []string
	if level != "" {
		want = []string{level}
	}
	if diff := cmp.Diff(want, levels); diff != "" {
		t.Errorf("log (-want +got):\n%s\n%s", diff, w.logs.String())
	}
	w.wantTokens(t, tokens...)
}

func (w *reloadTest) wantTokens(t *testing.T, tokens ...string) {
	t.Helper()
	known := map[string]bool{}
	for _, token := range []string{"of-alice", "of-bobby"} {
		if d := check(t, w.Backend, requestWith("token="+token)); d.Verdict == backends.Allowed {
			known[token] = true
		}
	}
	want := map[string]bool{}
	for _, token := range tokens {
		want[token] = true
	}
	if diff := cmp.Diff(want, known); diff != "" {
		t.Errorf("known tokens (-want +got):\n%s", diff)
	}
}

func TestReload_ChangedFile(t *testing.T) {
	t.Parallel()
	w := newReloadTest(t)
	w.wantReload(t, "", "of-alice")
	writeFile(t, w.name, onlyBobby)
	w.setAge(t, 1)
	w.wantReload(t, "INFO", "of-bobby")
	w.wantReload(t, "", "of-bobby")
	w.setAge(t, 2) // touched only
	w.wantReload(t, "", "of-bobby")
}

func TestReload_WithoutLog(t *testing.T) {
	t.Parallel()
	b := withFile(t, onlyAlice)
	for _, text := range []string{invalidFile, onlyBobby} {
		writeFile(t, b.file.path, text)
		b.reload()
	}
	if d := check(t, b, requestWith("token=of-bobby")); d.Verdict != backends.Allowed {
		t.Errorf("got %s, want allowed", d.Verdict)
	}
}

func TestReload_FileReplacedByRename(t *testing.T) {
	t.Parallel()
	w := newReloadTest(t)
	w.setAge(t, 1)
	w.wantReload(t, "", "of-alice")
	before, err := os.Stat(w.name)
	if err != nil {
		t.Fatal(err)
	}
	other := w.name + ".new"
	writeFile(t, other, onlyBobby)
	if err := os.Chtimes(other, before.ModTime(), before.ModTime()); err != nil { // same time and size
		t.Fatal(err)
	}
	if err := os.Rename(other, w.name); err != nil {
		t.Fatal(err)
	}
	w.wantReload(t, "INFO", "of-bobby")
}

func TestReload_UnchangedFile_NotRead(t *testing.T) {
	t.Parallel()
	w := newReloadTest(t)
	w.setAge(t, 1)
	w.wantReload(t, "", "of-alice")
	w.file.sum = [sha256.Size]byte{} // a read would find another content
	w.wantReload(t, "", "of-alice")
	w.setAge(t, 2)
	w.wantReload(t, "INFO", "of-alice")
}

// Kubernetes changes a mounted file by retargeting a symlink.
func TestReload_SymlinkRetargeted(t *testing.T) {
	t.Parallel()
	w := newReloadTest(t)
	target := filepath.Join(t.TempDir(), "secret")
	writeFile(t, target, onlyBobby)
	if err := os.Symlink(target, w.name+".link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(w.name+".link", w.name); err != nil {
		t.Fatal(err)
	}
	w.wantReload(t, "INFO", "of-bobby")
}

// Modification times have a limited resolution, so two changes in a row may leave time and size unchanged.
func TestReload_ChangeWithinMtimeResolution(t *testing.T) {
	t.Parallel()
	w := newReloadTest(t)
	at := time.Now()
	w.now = func() time.Time { return at.Add(2 * time.Second) } // as coarse as some file systems store it
	if err := os.Chtimes(w.name, at, at); err != nil {
		t.Fatal(err)
	}
	w.wantReload(t, "", "of-alice")
	writeFile(t, w.name, onlyBobby)
	if err := os.Chtimes(w.name, at, at); err != nil {
		t.Fatal(err)
	}
	w.wantReload(t, "INFO", "of-bobby")
}

func TestReload_InvalidFileKeepsAccounts(t *testing.T) {
	t.Parallel()
	w := newReloadTest(t)
	writeFile(t, w.name, invalidFile)
	w.setAge(t, 1)
	w.wantReload(t, "ERROR", "of-alice")
	if want := w.name + ":1:27: users.alice.tokens: want a list"; !bytes.Contains(w.logs.Bytes(), []byte(want)) {
		t.Errorf("got %s, want %s", w.logs.String(), want)
	}
	w.wantReload(t, "", "of-alice")
	writeFile(t, w.name, invalidFile+" # another")
	w.setAge(t, 2)
	w.wantReload(t, "ERROR", "of-alice")
	w.wantReload(t, "", "of-alice")
	writeFile(t, w.name, onlyBobby)
	w.setAge(t, 3)
	w.wantReload(t, "INFO", "of-bobby")
	writeFile(t, w.name, "")
	w.setAge(t, 4)
	w.wantReload(t, "ERROR", "of-bobby")
}

func TestReload_MissingFileKeepsAccounts(t *testing.T) {
	t.Parallel()
	w := newReloadTest(t)
	if err := os.Rename(w.name, w.name+".moved"); err != nil {
		t.Fatal(err)
	}
	w.wantReload(t, "ERROR", "of-alice")
	w.wantReload(t, "", "of-alice")
	if err := os.Rename(w.name+".moved", w.name); err != nil { // unchanged
		t.Fatal(err)
	}
	w.wantReload(t, "INFO", "of-alice")
	w.wantReload(t, "", "of-alice")
	if err := os.Remove(w.name); err != nil {
		t.Fatal(err)
	}
	w.wantReload(t, "ERROR", "of-alice")
	writeFile(t, w.name, invalidFile)
	w.wantReload(t, "ERROR", "of-alice")
	if err := os.Remove(w.name); err != nil {
		t.Fatal(err)
	}
	w.wantReload(t, "ERROR", "of-alice")
	writeFile(t, w.name, invalidFile) // the same content, still invalid
	w.wantReload(t, "ERROR", "of-alice")
}

func TestReload_NewHashForgetsOldPassword(t *testing.T) {
	t.Parallel()
	w := newReloadTest(t)
	for i, step := range []struct{ hash, right, wrong string }{
		{"$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U", "rasmuslerdorf"},
		{"$2y$05$abcdefghijklmnopqrstuuceoIQuaP.5etEpp9yRDVWWtgzuH1TCS", "rasmuslerdorf", "U*U"},
	} {
		w.verifier.timeout = time.Minute
		writeFile(t, w.name, "users: { alice: { password: "+step.hash+" } }")
		w.setAge(t, i+1)
		w.reload()
		for range 2 {
			if d := check(t, w.Backend, requestWith("auth=alice:"+step.right)); d.Verdict != backends.Allowed {
				t.Errorf("%s: %s, want allowed", step.right, d.Verdict)
			}
			if d := check(t, w.Backend, requestWith("auth=alice:"+step.wrong)); d.Verdict != backends.Denied {
				t.Errorf("%s: %s, want denied", step.wrong, d.Verdict)
			}
		}
	}
}

func TestRun_ReloadsPeriodically(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newReloadTest(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		writeFile(t, w.name, onlyBobby)
		time.Sleep(w.cfg.ReloadInterval - time.Millisecond)
		synctest.Wait()
		w.wantTokens(t, "of-alice")
		time.Sleep(time.Millisecond)
		synctest.Wait()
		w.wantTokens(t, "of-bobby")
		writeFile(t, w.name, onlyAlice+" ")
		time.Sleep(w.cfg.ReloadInterval)
		synctest.Wait()
		w.wantTokens(t, "of-alice")
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func TestRun_ReloadDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newReloadTest(t)
		w.cfg.ReloadInterval = 0
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		writeFile(t, w.name, onlyBobby)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		w.wantTokens(t, "of-alice")
		select {
		case err := <-done:
			t.Fatalf("ended with %v before its context", err)
		default:
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

// Checks run during reloads.
func TestReload_ConcurrentChecks(t *testing.T) {
	t.Parallel()
	w := newReloadTest(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 50 {
			writeFile(t, w.name+".new", []string{onlyAlice, onlyBobby}[i%2])
			if err := os.Rename(w.name+".new", w.name); err != nil {
				t.Errorf("replace the file: %v", err)
			}
			w.reload()
		}
	}()
	for range 1000 {
		alice := check(t, w.Backend, requestWith("token=of-alice")).Verdict
		if alice != backends.Allowed && alice != backends.Denied {
			t.Fatalf("got %s", alice)
		}
	}
	<-done
	w.wantTokens(t, "of-bobby")
}

func TestReadAtMost(t *testing.T) {
	t.Parallel()
	if data, err := readAtMost(strings.NewReader("12345678"), 8); err != nil || string(data) != "12345678" {
		t.Errorf("at the limit: got %q and error %v, want all", data, err)
	}
	if data, err := readAtMost(strings.NewReader("123456789"), 8); !errors.Is(err, errTooLarge) || data != nil {
		t.Errorf("beyond the limit: got %q and error %v, want %v", data, err, errTooLarge)
	}
}

func TestReload_OversizedFile(t *testing.T) {
	t.Parallel()
	w := newReloadTest(t)
	if err := os.Truncate(w.name, maxFileBytes+1); err != nil { // sparse
		t.Fatal(err)
	}
	w.wantReload(t, "ERROR", "of-alice")
	if !bytes.Contains(w.logs.Bytes(), []byte("is larger than 64 MiB")) {
		t.Errorf("got %s", w.logs.String())
	}
	w.wantReload(t, "", "of-alice")
}
