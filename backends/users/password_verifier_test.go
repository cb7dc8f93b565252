package users

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// takeAllSlots takes every slot, and returns them at the end.
func takeAllSlots(t *testing.T, b *Backend) {
	t.Helper()
	for range cap(b.verifier.slots) {
		b.verifier.slots <- struct{}{}
	}
	t.Cleanup(func() {
		for range cap(b.verifier.slots) {
			<-b.verifier.slots
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

// An unknown login waits as a known one does, and neither fails, which could allow the viewer.
func TestPasswordVerifier_SlotsTaken_Overload(t *testing.T) {
	for _, query := range []string{
		"auth=alice:rasmuslerdorf", "auth=alice:wrong", "auth=mallory:wrong", "auth=dave:wrong",
	} {
		t.Run(query, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := withFile(t, `users: { alice: { password: $2y$05$abcdefghijklmnopqrstuuceoIQuaP.5etEpp9yRDVWWtgzuH1TCS },
  dave: { tokens: [0123456789] } }`)
				b.verifier.slots, b.verifier.timeout = make(chan struct{}, 3), defaultVerifyTimeout
				takeAllSlots(t, b)
				start := time.Now()
				_, err := b.Check(t.Context(), requestWith(query))
				wantOverload(t, err, backends.NewOverload("backends.subscribers.max_concurrent_hashes", 3))
				if waited := time.Since(start); waited != defaultVerifyTimeout {
					t.Errorf("waited %s, want %s", waited, defaultVerifyTimeout)
				}
				if d := check(t, b, requestWith("token=0123456789")); d.Verdict != backends.Allowed {
					t.Errorf("a token: %s, want allowed", d.Verdict)
				}
			})
		})
	}
}

func TestPasswordVerifier_ViewerLeaves_NoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t, nil)
		takeAllSlots(t, b)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		_, err := b.Check(ctx, requestWith("auth=alice:rasmuslerdorf"))
		if !errors.Is(err, context.Canceled) || backends.AsFailure(err) != nil || backends.IsOverload(err) {
			t.Errorf("got %v, want a cancellation", err)
		}
		if _, err := b.Check(ctx, requestWith("auth=alice:rasmuslerdorf")); !errors.Is(err, context.Canceled) {
			t.Errorf("left before: got %v", err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err = b.Check(ctx, requestWith("auth=alice:rasmuslerdorf"))
		wantOverload(t, err, backends.NewOverload("backends.subscribers.max_concurrent_hashes", cap(b.verifier.slots)))
	})
}

func TestPasswordVerifier_MaxWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t, func(c *Config) { c.MaxConcurrentHashes, c.MaxWaiting = 1, 1 })
		takeAllSlots(t, b)
		first := make(chan error)
		go func() {
			_, err := b.Check(t.Context(), requestWith("auth=alice:rasmuslerdorf"))
			first <- err
		}()
		synctest.Wait()
		_, err := b.Check(t.Context(), requestWith("auth=alice:rasmuslerdorf"))
		wantOverload(t, err, backends.NewOverload("backends.subscribers.max_waiting", 1))
		wantOverload(t, <-first, backends.NewOverload("backends.subscribers.max_concurrent_hashes", 1))
		if n := b.verifier.waiting.Load(); n != 0 {
			t.Errorf("%d still wait, want none", n)
		}
	})
}

func TestPasswordVerifier_MaxHashing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t, func(c *Config) { c.MaxConcurrentHashes = 2 })
		var running, most, all atomic.Int64
		b.verifier.compare = func(password, string) bool {
			most.Store(max(most.Load(), running.Add(1)))
			all.Add(1)
			time.Sleep(10 * time.Millisecond)
			running.Add(-1)
			return false
		}
		done := make(chan struct{})
		for i := range 20 {
			go func() {
				_ = check(t, b, requestWith(fmt.Sprintf("auth=alice:guess-%d", i)))
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

// countHashes counts the computed hashes.
func countHashes(b *Backend) *atomic.Int64 {
	n := new(atomic.Int64)
	b.verifier.compare = func(p password, text string) bool {
		n.Add(1)
		return p.equal(text)
	}
	return n
}

func TestPasswordVerifier_CachesOnlyCorrectPasswords(t *testing.T) {
	t.Parallel()
	b := newBackend(t, nil)
	n := countHashes(b)
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
		{"auth=carol:U*U", backends.Denied, 4}, // correct, but disabled
		{"auth=alice:rasmuslerdorf", backends.Allowed, 4},
	} {
		if d := check(t, b, requestWith(step.query)); d.Verdict != step.want || n.Load() != step.hashes {
			t.Errorf("%s: %s after %d hashes, want %s after %d", step.query, d.Verdict, n.Load(), step.want, step.hashes)
		}
	}
}

func TestPasswordVerifier_ConcurrentChecksHashOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t, func(c *Config) { c.MaxConcurrentHashes = 1 })
		n := countHashes(b)
		compare := b.verifier.compare
		b.verifier.compare = func(p password, text string) bool {
			time.Sleep(time.Millisecond) // until the others wait
			return compare(p, text)
		}
		verdicts := make(chan backends.Verdict)
		for range 10 {
			go func() { verdicts <- check(t, b, requestWith("auth=alice:rasmuslerdorf")).Verdict }()
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

// A decoy's own password is not allowed, and is not cached for the unknown login.
func TestPasswordVerifier_DecoyNeverMatches(t *testing.T) {
	t.Parallel()
	b := withFile(t, "users: { alice: { password: $2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW } }")
	n := countHashes(b)
	for i := range 2 {
		if d := check(t, b, requestWith("auth=mallory:U*U")); d.Verdict != backends.Denied || n.Load() != int64(i+1) {
			t.Errorf("%s after %d hashes, want denied after %d", d.Verdict, n.Load(), i+1)
		}
	}
}

func TestPasswordVerifier_SlowHashIsCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t, func(c *Config) { c.MaxConcurrentHashes = 1 })
		b.verifier.timeout = defaultVerifyTimeout
		b.verifier.compare = func(password, string) bool {
			time.Sleep(time.Second)
			return true
		}
		_, err := b.Check(t.Context(), requestWith("auth=alice:rasmuslerdorf"))
		wantOverload(t, err, backends.NewOverload("backends.subscribers.max_concurrent_hashes", 1))
		start := time.Now()
		b.Close()
		if waited := time.Since(start); waited != time.Second-defaultVerifyTimeout {
			t.Errorf("closed after %s, want it to wait for the rest of the second", waited)
		}
		b.verifier.compare = func(password, string) bool { panic("it is cached") }
		if d := check(t, b, requestWith("auth=alice:rasmuslerdorf")); d.Verdict != backends.Allowed {
			t.Errorf("got %s, want allowed", d.Verdict)
		}
	})
}

func TestAccountTable_PasswordForUnknownLogins(t *testing.T) {
	t.Parallel()
	cheap, costly := password{bcrypt: "cheap"}, password{bcrypt: "costly"}
	known := &accountTable{
		accounts:  map[string]*account{"alice": {login: "alice", password: costly}, "dave": {login: "dave"}},
		passwords: []password{cheap, costly, costly, costly},
	}
	secret := []byte("of the process")
	opaque := cmp.AllowUnexported(password{})
	if p, decoy := known.passwordFor("alice", secret); decoy || !cmp.Equal(p, costly, opaque) {
		t.Errorf("alice: %v, decoy %t, want her own", p, decoy)
	}
	costlyCount := 0
	for i := range 4000 {
		login := fmt.Sprintf("mallory-%d", i)
		p, decoy := known.passwordFor(login, secret)
		again, _ := known.passwordFor(login, secret)
		if !decoy || !p.isSet() || !cmp.Equal(p, again, opaque) {
			t.Fatalf("%s: %v, then %v, decoy %t, want the same decoy twice", login, p, again, decoy)
		}
		if cmp.Equal(p, costly, opaque) {
			costlyCount++
		}
	}
	if costlyCount < 2800 || costlyCount > 3200 {
		t.Errorf("%d of 4000 decoys are like three of four passwords, want about 3000", costlyCount)
	}
	if p, decoy := known.passwordFor("dave", secret); !decoy || !p.isSet() {
		t.Errorf("dave, who has no password: %v, decoy %t, want a decoy", p, decoy)
	}
	if p, decoy := (&accountTable{}).passwordFor("dave", secret); !decoy || p.isSet() {
		t.Errorf("no account has a password: %v, decoy %t, want nothing to compare with", p, decoy)
	}
}

func TestNewPasswordVerifier_Slots(t *testing.T) { // not parallel: it changes the number of processors
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, tt := range []struct{ processors, setting, want int }{{1, 0, 1}, {2, 0, 1}, {3, 0, 2}, {8, 0, 4}, {8, 3, 3}} {
		runtime.GOMAXPROCS(tt.processors)
		cfg := DefaultConfig()
		cfg.MaxConcurrentHashes = tt.setting
		if n := cap(newPasswordVerifier("subscribers", cfg, nil).slots); n != tt.want {
			t.Errorf("%d CPUs, max_concurrent_hashes %d: %d at once, want %d", tt.processors, tt.setting, n, tt.want)
		}
	}
}

func TestPasswordCache_KeepsOneGeneration(t *testing.T) {
	t.Parallel()
	m := newPasswordCache([]byte("secret"), 8)
	for i := range 40 {
		m.add(fingerprint{byte(i)})
		for kept := max(0, i-7); kept <= i; kept++ {
			_, isYoung := m.young[fingerprint{byte(kept)}]
			if _, isOld := m.old[fingerprint{byte(kept)}]; !isYoung && !isOld {
				t.Fatalf("entry %d of the last 8 was dropped after %d", kept, i)
			}
		}
	}
}

// So many viewers' passwords are hashed once.
func TestNewPasswordVerifier_CacheHoldsThousands(t *testing.T) {
	t.Parallel()
	cache := newPasswordVerifier("subscribers", DefaultConfig(), []byte("secret")).cache
	for i := range 30_000 {
		cache.add(fingerprint{byte(i), byte(i >> 8)})
	}
	for i := range 30_000 {
		if !cache.contains(fingerprint{byte(i), byte(i >> 8)}) {
			t.Fatalf("password %d of 30,000 was dropped", i)
		}
	}
}

func TestPasswordCache_Bounded(t *testing.T) {
	t.Parallel()
	m := newPasswordCache([]byte("secret"), 100)
	used := m.keyOf("alice", "hash", "password")
	m.add(used)
	for i := range 1000 {
		m.add(m.keyOf("bob", "hash", fmt.Sprint(i)))
		if n := len(m.young) + len(m.old); n > 200 {
			t.Fatalf("%d are cached, want 200 at most", n)
		}
		if !m.contains(used) {
			t.Fatalf("a used entry was dropped after %d", i)
		}
	}
	if m.contains(m.keyOf("bob", "hash", "0")) || !m.contains(m.keyOf("bob", "hash", "999")) {
		t.Error("want the newest cached and the oldest dropped")
	}
}

func TestPasswordCache_KeysAreInjective(t *testing.T) {
	t.Parallel()
	m := newPasswordCache([]byte("secret"), 1)
	length := string(make([]byte, 8)) // as long as that of a part
	seen := map[fingerprint][3]string{}
	for _, parts := range [][3]string{
		{"ab" + length, "", "d"},
		{"ab", "", length + "d"},
		{"ab", length, "d"},
		{"ab", "c", "d"},
		{"a", "bc", "d"},
		{"a", "b", "cd"},
		{"abc", "", "d"},
		{"ab", "c", "e"},
		{"ab", "x", "d"},
	} {
		key := m.keyOf(parts[0], parts[1], parts[2])
		if other, same := seen[key]; same {
			t.Errorf("%q and %q have one key", parts, other)
		}
		seen[key] = parts
	}
	if newPasswordCache([]byte("other"), 1).keyOf("ab", "c", "d") == m.keyOf("ab", "c", "d") {
		t.Error("two processes have one key")
	}
}
