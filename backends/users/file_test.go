package users

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// watched is a backend whose file a test changes.
type watched struct {
	*Backend
	name string
	logs bytes.Buffer
}

const (
	onlyAlice = "users: { alice: { tokens: [of-alice] } }"
	onlyBobby = "users: { bobby: { tokens: [of-bobby] } }" // as long
	broken    = "users: { alice: { tokens: of-alice } }"
)

func watch(t *testing.T) *watched {
	t.Helper()
	w := &watched{name: filepath.Join(t.TempDir(), "users.yaml")}
	write(t, w.name, onlyAlice)
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

// hours sets the file's time to that long ago.
func (w *watched) hours(t *testing.T, ago int) {
	t.Helper()
	at := time.Now().Add(-time.Duration(ago) * time.Hour)
	if err := os.Chtimes(w.name, at, at); err != nil {
		t.Fatalf("set the file's time: %v", err)
	}
}

// expect looks at the file, and wants these tokens known, and one log line of that level; empty: none.
func (w *watched) expect(t *testing.T, level string, tokens ...string) {
	t.Helper()
	w.logs.Reset()
	w.look()
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
	w.knows(t, tokens...)
}

func (w *watched) knows(t *testing.T, tokens ...string) {
	t.Helper()
	known := map[string]bool{}
	for _, token := range []string{"of-alice", "of-bobby"} {
		if d := check(t, w.Backend, question("token="+token)); d.Verdict == backends.Allowed {
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

func TestAChangedFileIsRead(t *testing.T) {
	t.Parallel()
	w := watch(t)
	w.expect(t, "", "of-alice")
	write(t, w.name, onlyBobby)
	w.hours(t, 1)
	w.expect(t, "INFO", "of-bobby")
	w.expect(t, "", "of-bobby")
	w.hours(t, 2) // it was touched
	w.expect(t, "", "of-bobby")
}

func TestAFileThatIsReplacedByRenameIsRead(t *testing.T) {
	t.Parallel()
	w := watch(t)
	w.hours(t, 1)
	w.expect(t, "", "of-alice")
	before, err := os.Stat(w.name)
	if err != nil {
		t.Fatal(err)
	}
	other := w.name + ".new"
	write(t, other, onlyBobby)
	if err := os.Chtimes(other, before.ModTime(), before.ModTime()); err != nil { // of the same time and size
		t.Fatal(err)
	}
	if err := os.Rename(other, w.name); err != nil {
		t.Fatal(err)
	}
	w.expect(t, "INFO", "of-bobby")
}

// A link that is turned to another folder is how Kubernetes changes what it mounts.
func TestALinkThatIsTurnedIsFollowed(t *testing.T) {
	t.Parallel()
	w := watch(t)
	target := filepath.Join(t.TempDir(), "secret")
	write(t, target, onlyBobby)
	if err := os.Symlink(target, w.name+".link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(w.name+".link", w.name); err != nil {
		t.Fatal(err)
	}
	w.expect(t, "INFO", "of-bobby")
}

// A file's time has steps, so a change right after another may leave time and size as they were.
func TestAChangeWithinTheSameMomentIsRead(t *testing.T) {
	t.Parallel()
	w := watch(t)
	at := time.Now()
	w.now = func() time.Time { return at.Add(time.Second) }
	if err := os.Chtimes(w.name, at, at); err != nil {
		t.Fatal(err)
	}
	w.expect(t, "", "of-alice")
	write(t, w.name, onlyBobby)
	if err := os.Chtimes(w.name, at, at); err != nil {
		t.Fatal(err)
	}
	w.expect(t, "INFO", "of-bobby")
}

func TestAWrongFileKeepsTheAccountsAndIsToldOfOnce(t *testing.T) {
	t.Parallel()
	w := watch(t)
	write(t, w.name, broken)
	w.hours(t, 1)
	w.expect(t, "ERROR", "of-alice")
	if want := w.name + ":1:27: users.alice.tokens: want a list"; !bytes.Contains(w.logs.Bytes(), []byte(want)) {
		t.Errorf("got %s, want %s", w.logs.String(), want)
	}
	w.expect(t, "", "of-alice")
	write(t, w.name, broken+" # another")
	w.hours(t, 2)
	w.expect(t, "ERROR", "of-alice")
	w.expect(t, "", "of-alice")
	write(t, w.name, onlyBobby)
	w.hours(t, 3)
	w.expect(t, "INFO", "of-bobby")
	write(t, w.name, "")
	w.hours(t, 4)
	w.expect(t, "ERROR", "of-bobby")
}

func TestAFileThatIsAwayKeepsTheAccountsAndIsToldOfOnce(t *testing.T) {
	t.Parallel()
	w := watch(t)
	if err := os.Rename(w.name, w.name+".away"); err != nil {
		t.Fatal(err)
	}
	w.expect(t, "ERROR", "of-alice")
	w.expect(t, "", "of-alice")
	if err := os.Rename(w.name+".away", w.name); err != nil { // as it was
		t.Fatal(err)
	}
	w.expect(t, "INFO", "of-alice")
	w.expect(t, "", "of-alice")
	if err := os.Remove(w.name); err != nil {
		t.Fatal(err)
	}
	w.expect(t, "ERROR", "of-alice")
	write(t, w.name, broken)
	w.expect(t, "ERROR", "of-alice")
	if err := os.Remove(w.name); err != nil {
		t.Fatal(err)
	}
	w.expect(t, "ERROR", "of-alice")
	write(t, w.name, broken) // the same, so it is as wrong as before
	w.expect(t, "ERROR", "of-alice")
}

func TestANewHashForgetsTheOldPassword(t *testing.T) {
	t.Parallel()
	w := watch(t)
	for i, step := range []struct{ hash, right, wrong string }{
		{"$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U", "rasmuslerdorf"},
		{"$2y$05$abcdefghijklmnopqrstuuceoIQuaP.5etEpp9yRDVWWtgzuH1TCS", "rasmuslerdorf", "U*U"},
	} {
		w.hashing.patience = time.Minute
		write(t, w.name, "users: { alice: { password: "+step.hash+" } }")
		w.hours(t, i+1)
		w.look()
		for range 2 {
			if d := check(t, w.Backend, question("auth=alice:"+step.right)); d.Verdict != backends.Allowed {
				t.Errorf("%s: %s, want allowed", step.right, d.Verdict)
			}
			if d := check(t, w.Backend, question("auth=alice:"+step.wrong)); d.Verdict != backends.Denied {
				t.Errorf("%s: %s, want denied", step.wrong, d.Verdict)
			}
		}
	}
}

func TestRunLooksAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		write(t, w.name, onlyBobby)
		time.Sleep(w.cfg.ReloadInterval - time.Millisecond)
		synctest.Wait()
		w.knows(t, "of-alice")
		time.Sleep(time.Millisecond)
		synctest.Wait()
		w.knows(t, "of-bobby")
		write(t, w.name, onlyAlice+" ")
		time.Sleep(w.cfg.ReloadInterval)
		synctest.Wait()
		w.knows(t, "of-alice")
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func TestRunMayBeToldNeverToLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		w.cfg.ReloadInterval = 0
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		write(t, w.name, onlyBobby)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		w.knows(t, "of-alice")
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

// Viewers come while the file is read.
func TestChecksAndLooksAtOnce(t *testing.T) {
	t.Parallel()
	w := watch(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 50 {
			write(t, w.name+".new", []string{onlyAlice, onlyBobby}[i%2])
			if err := os.Rename(w.name+".new", w.name); err != nil {
				t.Errorf("replace the file: %v", err)
			}
			w.look()
		}
	}()
	for range 1000 {
		alice := check(t, w.Backend, question("token=of-alice")).Verdict
		if alice != backends.Allowed && alice != backends.Denied {
			t.Fatalf("got %s", alice)
		}
	}
	<-done
	w.knows(t, "of-bobby")
}

func TestAFileWithoutEndIsRefused(t *testing.T) {
	t.Parallel()
	w := watch(t)
	if err := os.Truncate(w.name, maxFile+1); err != nil { // sparse
		t.Fatal(err)
	}
	w.expect(t, "ERROR", "of-alice")
	if !bytes.Contains(w.logs.Bytes(), []byte("is larger than 64 MiB")) {
		t.Errorf("got %s", w.logs.String())
	}
	w.expect(t, "", "of-alice")
}
