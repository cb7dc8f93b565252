package reports

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"usher/backends/setting"
	"usher/cluster/redisclient"
	"usher/cluster/redistest"
)

const (
	partsKey = "usher:{all}:reports:portal"
	timesKey = "usher:{all}:reported:portal"
	day      = 24 * time.Hour
)

// newStores returns two stores that share a Redis, and one that cannot decrypt what they write.
func newStores(t *testing.T) (server *redistest.Server, a, b, stranger *Store) {
	t.Helper()
	server = redistest.Start(t)
	open := func(secret setting.Secret) *Store {
		config := redisclient.Config{Addresses: []string{server.Socket}, KeyPrefix: "usher", PoolSize: 4}
		client, err := redisclient.New(config, 5*time.Second, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		cipher, err := redisclient.NewCipher([]setting.Key{{ID: "a", Secret: secret}})
		if err != nil {
			t.Fatal(err)
		}
		return New(client, cipher)
	}
	return server, open("0123456789abcdef"), open("0123456789abcdef"), open("fedcba9876543210")
}

func save(t *testing.T, s *Store, id, part string, limit int) {
	t.Helper()
	if err := s.Save(t.Context(), "portal", id, []byte(part), limit, day); err != nil {
		t.Fatal(err)
	}
}

// wantParts compares the parts that a store lists, as "id=part".
func wantParts(t *testing.T, s *Store, want ...string) {
	t.Helper()
	got, err := s.List(t.Context(), "portal", day)
	if err != nil {
		t.Fatal(err)
	}
	wanted := map[string]string{}
	for _, w := range want {
		id, part, _ := strings.Cut(w, "=")
		wanted[id] = part
	}
	listed := map[string]string{}
	for id, part := range got {
		listed[id] = string(part)
	}
	if diff := cmp.Diff(wanted, listed); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
}

// TestStore_Contract holds in Redis and in memory.
func TestStore_Contract(t *testing.T) {
	t.Parallel()
	_, a, b, _ := newStores(t)
	memory := New(nil, nil)
	for name, stores := range map[string][2]*Store{"redis": {a, b}, "memory": {memory, memory}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, other := stores[0], stores[1]
			wantParts(t, one)
			// Those stored within one millisecond are in the order of their ids.
			save(t, one, "2", "7:old", 3)
			save(t, other, "1", "", 3)
			save(t, one, "2", "8:new\r\n\x00", 3)
			wantParts(t, other, "2=8:new\r\n\x00", "1=")
			if got, err := one.List(t.Context(), "billing", day); err != nil || len(got) > 0 {
				t.Errorf("parts of another subject: %v, %v", got, err)
			}
			save(t, other, "3", "3", 3)
			save(t, one, "4", "4", 3)
			wantParts(t, one, "2=8:new\r\n\x00", "3=3", "4=4")
		})
	}
}

func TestStore_InMemory_Retention(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(nil, nil)
		save(t, s, "a.1", "1", 10)
		time.Sleep(day / 2)
		save(t, s, "a.2", "2", 10)
		time.Sleep(day/2 - time.Second)
		wantParts(t, s, "a.1=1", "a.2=2")
		time.Sleep(time.Second)
		wantParts(t, s, "a.2=2")
		save(t, s, "a.3", "3", 10)
		if n := len(s.memory["portal"]); n != 2 {
			t.Errorf("%d parts in memory, want 2", n)
		}
	})
}

// TestStore_Redis_Retention deletes what is older, whether something is stored or read, and lets the keys expire.
func TestStore_Redis_Retention(t *testing.T) {
	t.Parallel()
	server, a, _, _ := newStores(t)
	for name, touch := range map[string]func(){
		"by a write": func() { save(t, a, "a.3", "3", 10) },
		"by a read":  func() { wantParts(t, a, "a.2=2", "a.3=3") },
	} {
		save(t, a, "a.1", "1", 10)
		save(t, a, "a.2", "2", 10)
		save(t, a, "a.3", "3", 10)
		yesterday := float64(time.Now().Add(-day - time.Minute).UnixMilli())
		if err := server.Client.ZAdd(t.Context(), timesKey, redis.Z{Score: yesterday, Member: "a.1"}).Err(); err != nil {
			t.Fatal(err)
		}
		touch()
		if server.Client.HExists(t.Context(), partsKey, "a.1").Val() || server.Client.ZScore(t.Context(), timesKey, "a.1").Err() == nil {
			t.Errorf("%s: the old part is still there", name)
		}
		for _, key := range []string{partsKey, timesKey} {
			if ttl := server.Client.PTTL(t.Context(), key).Val(); ttl < day-time.Minute || ttl > day {
				t.Errorf("%s: %s expires after %v, want %v", name, key, ttl, day)
			}
		}
	}
}

// TestStore_Redis_LateWrite keeps the newer version of a part.
func TestStore_Redis_LateWrite(t *testing.T) {
	t.Parallel()
	_, a, _, _ := newStores(t)
	for _, version := range []int64{5, 4, 5, 6, 1} {
		part := a.cipher.Encrypt(fmt.Append(nil, version), purpose("portal", "a.1"))
		if _, err := a.run(t.Context(), "portal", "a.1", version, part, 10, day); err != nil {
			t.Fatal(err)
		}
	}
	wantParts(t, a, "a.1=6")
}

// TestStore_Redis_Encrypted shows nothing of a part to those without the key, nor under another id.
func TestStore_Redis_Encrypted(t *testing.T) {
	t.Parallel()
	server, a, _, stranger := newStores(t)
	save(t, a, "a.1", "Ann", 10)
	raw := server.Client.HGet(t.Context(), partsKey, "a.1").Val()
	if strings.Contains(raw, "Ann") {
		t.Error("the part is in Redis as it is")
	}
	wantParts(t, stranger)
	if err := server.Client.HSet(t.Context(), partsKey, "a.2", raw).Err(); err != nil {
		t.Fatal(err)
	}
	wantParts(t, a, "a.1=Ann")
}

// TestStore_Redis_Rejected returns what Redis says, and so does a store whose Redis is unavailable.
func TestStore_Redis_Rejected(t *testing.T) {
	t.Parallel()
	server, a, _, _ := newStores(t)
	if err := server.Client.Set(t.Context(), partsKey, "x", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	if err := a.Save(t.Context(), "portal", "a.1", nil, 10, day); err == nil {
		t.Error("a write that Redis rejects is no error")
	}
	if _, err := a.List(t.Context(), "portal", day); err == nil {
		t.Error("a read that Redis rejects is no error")
	}
}
