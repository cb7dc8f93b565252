package users

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// busy takes every slot, and gives them back at the end.
func busy(t *testing.T, b *Backend) {
	t.Helper()
	for range cap(b.hashing.slots) {
		b.hashing.slots <- struct{}{}
	}
	t.Cleanup(func() {
		for range cap(b.hashing.slots) {
			<-b.hashing.slots
		}
	})
}

func wantOverload(t *testing.T, err error, want *backends.Overload) {
	t.Helper()
	got, ok := errors.AsType[*backends.Overload](err)
	if !ok || *got != *want {
		t.Errorf("got %v, want %v", err, want)
	}
}

// A login that nobody has waits where a known one does, and neither is a failure, which could let its viewer in.
func TestWhileAllSlotsAreTaken(t *testing.T) {
	for _, query := range []string{
		"auth=alice:rasmuslerdorf", "auth=alice:wrong", "auth=mallory:wrong", "auth=dave:wrong",
	} {
		t.Run(query, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := withFile(t, `users: { alice: { password: $2y$05$abcdefghijklmnopqrstuuceoIQuaP.5etEpp9yRDVWWtgzuH1TCS },
  dave: { tokens: [0123456789] } }`)
				b.hashing.slots, b.hashing.patience = make(chan struct{}, 3), defaultPatience
				busy(t, b)
				start := time.Now()
				_, err := b.Check(t.Context(), question(query))
				wantOverload(t, err, backends.NewOverload("backends.subscribers.max_concurrent_hashes", 3))
				if waited := time.Since(start); waited != defaultPatience {
					t.Errorf("waited %s, want %s", waited, defaultPatience)
				}
				if d := check(t, b, question("token=0123456789")); d.Verdict != backends.Allowed {
					t.Errorf("a token: %s, want allowed", d.Verdict)
				}
			})
		})
	}
}

func TestAViewerWhoLeavesIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t, nil)
		busy(t, b)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		_, err := b.Check(ctx, question("auth=alice:rasmuslerdorf"))
		if !errors.Is(err, context.Canceled) || backends.AsFailure(err) != nil || backends.IsOverload(err) {
			t.Errorf("got %v, want that of a viewer who left", err)
		}
		if _, err := b.Check(ctx, question("auth=alice:rasmuslerdorf")); !errors.Is(err, context.Canceled) {
			t.Errorf("gone before: got %v", err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err = b.Check(ctx, question("auth=alice:rasmuslerdorf"))
		wantOverload(t, err, backends.NewOverload("backends.subscribers.max_concurrent_hashes", cap(b.hashing.slots)))
	})
}

func TestOnlySoManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t, func(c *Config) { c.MaxConcurrentHashes, c.MaxWaiting = 1, 1 })
		busy(t, b)
		first := make(chan error)
		go func() {
			_, err := b.Check(t.Context(), question("auth=alice:rasmuslerdorf"))
			first <- err
		}()
		synctest.Wait()
		_, err := b.Check(t.Context(), question("auth=alice:rasmuslerdorf"))
		wantOverload(t, err, backends.NewOverload("backends.subscribers.max_waiting", 1))
		wantOverload(t, <-first, backends.NewOverload("backends.subscribers.max_concurrent_hashes", 1))
		if n := b.hashing.waiting.Load(); n != 0 {
			t.Errorf("%d still wait, want none", n)
		}
	})
}

func TestOnlySoManyHashesAreComputedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t, func(c *Config) { c.MaxConcurrentHashes = 2 })
		var running, most, all atomic.Int64
		b.hashing.compare = func(password, string) bool {
			most.Store(max(most.Load(), running.Add(1)))
			all.Add(1)
			time.Sleep(10 * time.Millisecond)
			running.Add(-1)
			return false
		}
		done := make(chan struct{})
		for i := range 20 {
			go func() {
				_ = check(t, b, question(fmt.Sprintf("auth=alice:guess-%d", i)))
				done <- struct{}{}
			}()
		}
		for range 20 {
			<-done
		}
		if most.Load() != 2 || all.Load() != 20 {
			t.Errorf("%d of %d hashes at once, want 2 of 20", most.Load(), all.Load())
		}
	})
}

// counting counts the hashes that are computed.
func counting(b *Backend) *atomic.Int64 {
	n := new(atomic.Int64)
	b.hashing.compare = func(p password, text string) bool {
		n.Add(1)
		return p.equal(text)
	}
	return n
}

func TestOnlyARightPasswordIsRemembered(t *testing.T) {
	t.Parallel()
	b := newBackend(t, nil)
	n := counting(b)
	for _, step := range []struct {
		query  string
		want   backends.Verdict
		hashes int64
	}{
		{"auth=alice:rasmuslerdorf", backends.Allowed, 1},
		{"user=alice&password=rasmuslerdorf", backends.Allowed, 1},
		{"auth=alice:wrong", backends.Denied, 2},
		{"auth=alice:wrong", backends.Denied, 3},
		{"auth=carol:U*U", backends.Denied, 4},
		{"auth=carol:U*U", backends.Denied, 4}, // right, but disabled
		{"auth=alice:rasmuslerdorf", backends.Allowed, 4},
	} {
		if d := check(t, b, question(step.query)); d.Verdict != step.want || n.Load() != step.hashes {
			t.Errorf("%s: %s after %d hashes, want %s after %d", step.query, d.Verdict, n.Load(), step.want, step.hashes)
		}
	}
}

func TestOfManyWhoComeAtOnceOneIsCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t, func(c *Config) { c.MaxConcurrentHashes = 1 })
		n := counting(b)
		verdicts := make(chan backends.Verdict)
		for range 10 {
			go func() { verdicts <- check(t, b, question("auth=alice:rasmuslerdorf")).Verdict }()
		}
		for range 10 {
			if v := <-verdicts; v != backends.Allowed {
				t.Errorf("got %s, want allowed", v)
			}
		}
		if n.Load() != 1 {
			t.Errorf("%d hashes, want 1", n.Load())
		}
	})
}

// A decoy's own password opens nothing, and is not remembered for the login that it stood in for.
func TestADecoyIsNeverRight(t *testing.T) {
	t.Parallel()
	b := withFile(t, "users: { alice: { password: $2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW } }")
	n := counting(b)
	for i := range 2 {
		if d := check(t, b, question("auth=mallory:U*U")); d.Verdict != backends.Denied || n.Load() != int64(i+1) {
			t.Errorf("%s after %d hashes, want denied after %d", d.Verdict, n.Load(), i+1)
		}
	}
}

func TestAHashThatTakesTooLongIsRememberedForTheNextTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t, func(c *Config) { c.MaxConcurrentHashes = 1 })
		b.hashing.patience = defaultPatience
		b.hashing.compare = func(password, string) bool {
			time.Sleep(time.Second)
			return true
		}
		_, err := b.Check(t.Context(), question("auth=alice:rasmuslerdorf"))
		wantOverload(t, err, backends.NewOverload("backends.subscribers.max_concurrent_hashes", 1))
		b.Close() // waits for it
		b.hashing.compare = func(password, string) bool { panic("it is known") }
		if d := check(t, b, question("auth=alice:rasmuslerdorf")); d.Verdict != backends.Allowed {
			t.Errorf("got %s, want allowed", d.Verdict)
		}
	})
}

func TestUnknownLoginsTakeAsLongAsKnownOnes(t *testing.T) {
	t.Parallel()
	cheap, dear := password{bcrypt: "cheap"}, password{bcrypt: "dear"}
	known := &table{
		accounts:  map[string]*account{"alice": {login: "alice", password: dear}, "dave": {login: "dave"}},
		passwords: []password{cheap, dear, dear, dear},
	}
	secret := []byte("of the process")
	opaque := cmp.AllowUnexported(password{})
	if p, decoy := known.passwordOf("alice", secret); decoy || !cmp.Equal(p, dear, opaque) {
		t.Errorf("alice: %v, decoy %t, want her own", p, decoy)
	}
	dears := 0
	for i := range 4000 {
		login := fmt.Sprintf("mallory-%d", i)
		p, decoy := known.passwordOf(login, secret)
		again, _ := known.passwordOf(login, secret)
		if !decoy || !p.isSet() || !cmp.Equal(p, again, opaque) {
			t.Fatalf("%s: %v, then %v, decoy %t, want the same decoy twice", login, p, again, decoy)
		}
		if cmp.Equal(p, dear, opaque) {
			dears++
		}
	}
	if dears < 2800 || dears > 3200 {
		t.Errorf("%d of 4000 decoys are like three of four passwords, want about 3000", dears)
	}
	if p, decoy := known.passwordOf("dave", secret); !decoy || !p.isSet() {
		t.Errorf("dave, who has no password: %v, decoy %t, want a decoy", p, decoy)
	}
	if p, decoy := (&table{}).passwordOf("dave", secret); !decoy || p.isSet() {
		t.Errorf("nobody has a password: %v, decoy %t, want nothing to compare with", p, decoy)
	}
}

func TestTheMemoryIsBounded(t *testing.T) {
	t.Parallel()
	m := newMemory([]byte("secret"), 100)
	used := m.keyOf("alice", "hash", "password")
	m.add(used)
	for i := range 1000 {
		m.add(m.keyOf("bob", "hash", fmt.Sprint(i)))
		if n := len(m.new) + len(m.old); n > 200 {
			t.Fatalf("%d are remembered, want 200 at most", n)
		}
		if !m.holds(used) {
			t.Fatalf("one that is used was forgotten after %d", i)
		}
	}
	if m.holds(m.keyOf("bob", "hash", "0")) || !m.holds(m.keyOf("bob", "hash", "999")) {
		t.Error("want the newest remembered and the oldest forgotten")
	}
}

func TestKeysTellTheirPartsApart(t *testing.T) {
	t.Parallel()
	m := newMemory([]byte("secret"), 1)
	seen := map[fingerprint][3]string{}
	for _, parts := range [][3]string{
		{"ab", "c", "d"}, {"a", "bc", "d"}, {"a", "b", "cd"}, {"abc", "", "d"}, {"ab", "c", "e"}, {"ab", "x", "d"},
	} {
		key := m.keyOf(parts[0], parts[1], parts[2])
		if other, same := seen[key]; same {
			t.Errorf("%q and %q have one key", parts, other)
		}
		seen[key] = parts
	}
	if newMemory([]byte("other"), 1).keyOf("ab", "c", "d") == m.keyOf("ab", "c", "d") {
		t.Error("two processes have one key")
	}
}
