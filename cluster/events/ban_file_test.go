package events

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
	"usher/cluster/redisclient"
	"usher/cluster/redistest"
)

func openFile(t *testing.T, path string, log *slog.Logger) *BanFile {
	t.Helper()
	f, err := OpenBanFile(path, log)
	must(t, err)
	return f
}

// TestBanFile_KeepsWhatHolds writes bans, tombstones and unbanned ids, and finds those that hold in the next process.
func TestBanFile_KeepsWhatHolds(t *testing.T) {
	t.Parallel()
	path, cipher, now := filepath.Join(t.TempDir(), "bans.db"), goldenCipher(t), time.Now().Truncate(time.Millisecond)
	reopened := func(at time.Time) (*BanFile, *Bans) {
		f, bans := openFile(t, path, discard()), NewBans()
		must(t, f.Load(cipher, bans, at))
		return f, bans
	}
	f, bans := reopened(now)
	ban := session.Ban{ID: "b", User: "ann", Reason: "sharing", Until: now.Add(time.Hour)}
	short := session.Ban{ID: "short", User: "bob", Until: now.Add(time.Minute)}
	tombstone := Tombstone(ban, someSession, now.Add(2*time.Hour))
	bans.Add(now, ban, short, tombstone)
	bans.Remove("gone", now.Add(time.Hour))
	bans.Remove("gone-soon", now.Add(time.Minute))
	must(t, f.write(cipher, bans))
	must(t, f.db.Close())

	f, bans = reopened(now.Add(time.Minute))
	if got := bans.List(now); len(got) != 1 || !reflect.DeepEqual(got[0], ban) {
		t.Errorf("the file has the bans %+v, want %+v", got, ban)
	}
	if got := bans.Tombstones("b"); len(got) != 1 || !reflect.DeepEqual(got[0], tombstone) {
		t.Errorf("the file has the tombstones %+v, want %+v", got, tombstone)
	}
	if got := bans.Add(now, session.Ban{ID: "gone", User: "eve", Until: now.Add(time.Hour)}); len(got) != 0 {
		t.Error("a ban is back that was removed")
	}
	if got := bans.Add(now, session.Ban{ID: "gone-soon", User: "eve", Until: now.Add(time.Hour)}); len(got) != 1 {
		t.Error("an unbanned id is remembered for too long")
	}
	bans.Remove("gone-soon", now.Add(time.Hour))
	bans.Remove("b", now.Add(time.Hour))
	must(t, f.write(cipher, bans))
	must(t, f.db.Close())

	f, bans = reopened(now.Add(time.Minute))
	if got := bans.List(now); len(got) != 0 || !bans.IsEmpty() {
		t.Errorf("the file has the bans %+v, want none", got)
	}
	err := f.db.View(func(tx *bbolt.Tx) error {
		for bucket, want := range map[string]int{fileBans: 0, fileUnbanned: 3} {
			if got := tx.Bucket([]byte(bucket)).Stats().KeyN; got != want {
				t.Errorf("%d keys in %s, want %d", got, bucket, want)
			}
		}
		return nil
	})
	must(t, err)
	must(t, f.db.Close())
}

// TestBanFile_Write_OnlyChanges does not write again what the file has: a ban does not change.
func TestBanFile_Write_OnlyChanges(t *testing.T) {
	t.Parallel()
	f, bans, now := openFile(t, filepath.Join(t.TempDir(), "bans.db"), discard()), NewBans(), time.Now()
	defer func() { _ = f.db.Close() }()
	bans.Add(now, session.Ban{ID: "b", User: "ann", Until: now.Add(time.Hour)})
	must(t, f.write(goldenCipher(t), bans))
	stored := func() (value string) {
		must(t, f.db.View(func(tx *bbolt.Tx) error { value = string(tx.Bucket([]byte(fileBans)).Get([]byte("b"))); return nil }))
		return value
	}
	before := stored()
	bans.Add(now, session.Ban{ID: "c", User: "bob", Until: now.Add(time.Hour)})
	must(t, f.write(goldenCipher(t), bans))
	if after := stored(); after != before || before == "" {
		t.Error("the ban was encrypted and written again")
	}
}

// TestBanFile_Write_ManyAtOnce removes what has ended, and nothing else.
func TestBanFile_Write_ManyAtOnce(t *testing.T) {
	t.Parallel()
	path, now := filepath.Join(t.TempDir(), "bans.db"), time.Now()
	f, bans := openFile(t, path, discard()), NewBans()
	for i := range 100 {
		bans.Add(now, session.Ban{ID: strconv.Itoa(i), User: "ann", Until: now.Add(time.Duration(1+i%2) * time.Hour)})
	}
	must(t, f.write(goldenCipher(t), bans))
	bans.expire(now.Add(time.Hour))
	must(t, f.write(goldenCipher(t), bans))
	must(t, f.db.Close())
	f = openFile(t, path, discard())
	must(t, f.Load(goldenCipher(t), NewBans(), now))
	if got := len(f.written[fileBans]); got != 50 {
		t.Errorf("the file has %d bans, want the 50 that hold", got)
	}
	must(t, f.db.Close())
}

// TestBanFile_Run_WritesChanges writes what changes, also the last change before the node ends.
func TestBanFile_Run_WritesChanges(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	path, bans, now := filepath.Join(t.TempDir(), "bans.db"), NewBans(), time.Now()
	f := openFile(t, path, slog.New(slog.NewTextHandler(&text, nil)))
	ctx, end := context.WithCancel(t.Context())
	end()
	bans.Add(now, session.Ban{ID: "b", User: "ann", Until: now.Add(time.Hour)})
	f.Run(ctx, goldenCipher(t), bans)
	if text.Len() != 0 {
		t.Errorf("logged %s", &text)
	}
	f.Run(ctx, goldenCipher(t), bans) // it is closed already
	if !strings.Contains(text.String(), "bans not written to cluster.state_dir") {
		t.Errorf("logged %q, want what to do about a file that cannot be written", &text)
	}
	f, bans = openFile(t, path, discard()), NewBans()
	must(t, f.Load(goldenCipher(t), bans, now))
	if got := bans.List(now); len(got) != 1 {
		t.Errorf("the file has %+v, want the ban", got)
	}
	ctx, end = context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx, goldenCipher(t), bans)
	}()
	bans.Add(now, session.Ban{ID: "c", User: "bob", Until: now.Add(time.Hour)})
	redistest.Eventually(t, "the change is written", func() bool {
		var value []byte
		err := f.db.View(func(tx *bbolt.Tx) error { value = tx.Bucket([]byte(fileBans)).Get([]byte("c")); return nil })
		return err == nil && value != nil
	})
	end()
	<-done
}

// cipherOf returns the cipher of a node that has these keys.
func cipherOf(t *testing.T, ids ...string) *redisclient.Cipher {
	t.Helper()
	var keys []setting.Key
	for _, id := range ids {
		keys = append(keys, setting.Key{ID: id, Secret: setting.Secret("the secret of key " + id)})
	}
	cipher, err := redisclient.NewCipher(keys)
	must(t, err)
	return cipher
}

// TestBanFile_Run_WrongKey keeps the bans that a node with a wrong key could not read, until they end or are removed.
func TestBanFile_Run_WrongKey(t *testing.T) {
	t.Parallel()
	path, now := filepath.Join(t.TempDir(), "bans.db"), time.Now()
	run := func(cipher *redisclient.Cipher, at time.Time, edit func(*Bans)) *Bans {
		f, bans := openFile(t, path, discard()), NewBans()
		must(t, f.Load(cipher, bans, at))
		edit(bans)
		ctx, end := context.WithCancel(t.Context())
		end()
		f.Run(ctx, cipher, bans)
		return bans
	}
	right, wrong, later := cipherOf(t, "a"), cipherOf(t, "b"), now.Add(time.Hour)
	nothing := func(*Bans) {}
	run(right, now, func(bans *Bans) {
		cause := session.Ban{ID: "gone", User: "eve", Until: later}
		bans.Add(now, session.Ban{ID: "b", User: "ann", Until: later}, cause, Tombstone(cause, someSession, later),
			session.Ban{ID: "short", User: "bob", Until: now.Add(time.Minute)}, session.Ban{ID: "known", User: "cid", Until: later})
	})
	run(wrong, now.Add(time.Minute), func(bans *Bans) { // redis has one of them
		bans.Remove("gone", later)
		bans.Add(now, session.Ban{ID: "known", User: "cid", Until: later})
	})
	bans := run(wrong, now.Add(time.Minute), nothing)
	if got := bans.List(now); len(got) != 1 || got[0].ID != "known" {
		t.Errorf("with the wrong key: %+v, want the one that was written with it", got)
	}
	bans = run(right, now, nothing)
	if got := bans.List(now); len(got) != 1 || got[0].ID != "b" {
		t.Errorf("with the right key again: %+v, want the ban that neither ended nor was removed", got)
	}
	if got := bans.Tombstones("gone"); len(got) > 0 {
		t.Errorf("with the right key again: the tombstones %+v of a ban that was removed", got)
	}
}

// TestBanFile_KeepForced_WrongKey keeps the orders that a node with a wrong key could not read, until they end or are replaced.
func TestBanFile_KeepForced_WrongKey(t *testing.T) {
	t.Parallel()
	path, now := filepath.Join(t.TempDir(), "bans.db"), time.Now()
	var log strings.Builder
	run := func(cipher *redisclient.Cipher, at time.Time, orders ...backends.ForcedBreaker) []backends.ForcedBreaker {
		f, bans, forced := openFile(t, path, slog.New(slog.NewTextHandler(&log, nil))), NewBans(), NewForced()
		must(t, f.KeepForced(cipher, forced, at))
		kept := forced.All(at)
		for _, o := range orders {
			forced.Add(at, o)
		}
		ctx, end := context.WithCancel(t.Context())
		end()
		f.Run(ctx, cipher, bans)
		return kept
	}
	order := func(backend, reason string) backends.ForcedBreaker {
		return backends.ForcedBreaker{Backend: backend, IsForced: true, Reason: reason, Until: now.Add(time.Hour), Version: now.UnixMilli()}
	}
	right, wrong := cipherOf(t, "a"), cipherOf(t, "b")
	run(right, now, order("portal", "upgrade"), order("radius", "upgrade"))
	if kept := run(wrong, now, order("radius", "newer")); len(kept) != 0 {
		t.Fatalf("with the wrong key: %+v, want none", kept)
	}
	if want := "backends=\"[portal radius]\""; strings.Count(log.String(), "cluster.encryption_keys") != 1 || !strings.Contains(log.String(), want) {
		t.Errorf("the log does not say once what to do, with %s:\n%s", want, log.String())
	}
	kept := run(right, now)
	if len(kept) != 1 || kept[0].Backend != "portal" || kept[0].Reason != "upgrade" {
		t.Errorf("with the right key again: %+v, want the order that was not replaced", kept)
	}
}

func TestBanFile_Load_Damaged(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	path, now := filepath.Join(t.TempDir(), "bans.db"), time.Now()
	f := openFile(t, path, slog.New(slog.NewTextHandler(&text, nil)))
	good := append(millisOf(now.Add(time.Hour)), encodeBan(goldenCipher(t), session.Ban{ID: "b", User: "ann"})...)
	must(t, f.db.Update(func(tx *bbolt.Tx) error {
		for id, value := range map[string][]byte{
			"a": nil, "b": good, "c": good, "short": {1, 2, 3}, "empty": millisOf(now.Add(time.Hour)),
			"endless": append(millisOf(now.AddDate(11, 0, 0)), good[8:]...),
		} {
			must(t, tx.Bucket([]byte(fileBans)).Put([]byte(id), value))
		}
		for id, value := range map[string][]byte{"x": nil, "y": millisOf(now.Add(time.Hour)), "z": {1, 2, 3, 4, 5, 6, 7}} {
			must(t, tx.Bucket([]byte(fileUnbanned)).Put([]byte(id), value))
		}
		return nil
	}))
	bans := NewBans()
	must(t, f.Load(goldenCipher(t), bans, now))
	if got := bans.List(now); len(got) != 1 || got[0].ID != "b" {
		t.Errorf("took %+v, want the one that can be read", got)
	}
	if len(bans.unbanned) != 1 {
		t.Errorf("remembers the unbanned ids %v, want one", bans.unbanned)
	}
	if log := text.String(); strings.Count(log, "bans in cluster.state_dir unreadable") != 1 || !strings.Contains(log, "bans=5") {
		t.Errorf("want a warning of 5 bans:\n%s", log)
	}
	text.Reset()
	bans = NewBans()
	must(t, f.write(goldenCipher(t), bans)) // removes what no key can read
	must(t, f.db.Close())
	f = openFile(t, path, slog.New(slog.NewTextHandler(&text, nil)))
	must(t, f.Load(goldenCipher(t), bans, now))
	if log := text.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "bans=1") {
		t.Errorf("want a warning of the one that another key may have written:\n%s", log)
	}
	must(t, f.db.Close())
}

func TestCheckBanFile(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := func(name string) string { return filepath.Join(folder, name) }
	used := openFile(t, path("used.db"), discard())
	defer func() { must(t, used.db.Close()) }()
	must(t, openFile(t, path("unused.db"), discard()).db.Close())
	must(t, os.WriteFile(path("none.db"), bytes.Repeat([]byte("none"), leastFileBytes/4), 0o600))
	whole, err := os.ReadFile(path("unused.db"))
	must(t, err)
	must(t, os.WriteFile(path("part.db"), whole[:8192], 0o600))
	must(t, os.WriteFile(path("empty.db"), nil, 0o600))
	for name, test := range map[string]struct{ file, want string }{
		"a node uses it":       {"used.db", ""},
		"no node uses it":      {"unused.db", ""},
		"it is not there yet":  {"new.db", ""},
		"it holds no bans":     {"none.db", "open " + path("none.db") + ": invalid database"},
		"a full disk took all": {"empty.db", ""},
		"a full disk took a part": {
			"part.db", "open " + path("part.db") + ": has 8192 bytes, fewer than any file of bans; delete it, if a full disk left it of the first start",
		},
		"its folder is missing": {"no/new.db", path("no") + " is not writable: no such file or directory"},
		"it is a folder":        {".", "open " + path(".") + ": open " + path(".") + ": is a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := CheckBanFile(path(test.file)); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if made, err := os.ReadDir(folder); err != nil || len(made) != 5 {
		t.Errorf("the folder has %v, %v; want the five files of before", made, err)
	}
	if empty, err := os.ReadFile(path("empty.db")); err != nil || len(empty) > 0 {
		t.Errorf("the empty file has %d bytes, %v", len(empty), err)
	}
}

func TestBanFile_Secret_Stays(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bans.db")
	var secrets []setting.Secret
	for range 2 {
		f := openFile(t, path, discard())
		for range 2 {
			secret, err := f.Secret()
			must(t, err)
			secrets = append(secrets, secret)
		}
		must(t, f.db.Close())
	}
	for _, secret := range secrets {
		if secret != secrets[0] || len(secret.Reveal()) < 26 {
			t.Error("the file's secret changes, or can be guessed")
		}
	}
	if _, err := redisclient.NewCipher([]setting.Key{{ID: "alone", Secret: secrets[0]}}); err != nil {
		t.Error(err)
	}
}

func TestOpenBanFile_Errors(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bans.db")
	f := openFile(t, path, discard())
	defer func() { _ = f.db.Close() }()
	for path, want := range map[string]string{path: "another process uses it", filepath.Join(path, "no", "folder"): "open "} {
		if _, err := OpenBanFile(path, discard()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", path, err, want)
		}
	}
}
