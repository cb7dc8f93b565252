package redisclient

import (
	"encoding/hex"
	"testing"

	"usher/backends"
	"usher/backends/setting"
)

// The values of these tests are the same in all versions: nodes of two versions share Redis.

func TestKeyspace_Golden(t *testing.T) {
	t.Parallel()
	k, other := Keyspace{Prefix: "usher"}, Keyspace{Prefix: "usher", Database: 3}
	for want, got := range map[string]string{
		"usher:session:{AQAAAAAAAAAAAAAAAAAAAg}": k.Session(backends.SessionID{0: 1, 15: 2}),
		"usher:last-seen:{63}":                   k.LastSeen(63),
		"usher:user:{hash}":                      k.User("hash"),
		"usher:match:{hash}":                     k.Match("hash"),
		"usher:{all}:bans":                       k.Shared("bans"),
		"usher:decisions":                        k.DecisionChannel(),
		"usher:limits":                           k.LimitChannel(),
		"usher:revocations":                      k.RevocationChannel(),
		"usher:node:n1":                          k.NodeChannel("n1"),
		// Keys belong to their database, channels do not.
		"usher:user:{other}":    other.User("other"),
		"usher:db3:decisions":   other.DecisionChannel(),
		"usher:db3:limits":      other.LimitChannel(),
		"usher:db3:revocations": other.RevocationChannel(),
		"usher:db3:node:n1":     other.NodeChannel("n1"),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestCipher_Golden(t *testing.T) {
	t.Parallel()
	c, err := NewCipher([]setting.Key{{ID: "a", Secret: "a secret of the cluster"}, {ID: "b", Secret: "an older secret"}})
	must(t, err)
	for want, got := range map[string]string{
		"H3eINjGUAAdR6mF2WMDvoA": c.UserHash("Ann"),
		"w1iGFUNRMEHPD8X3KjiVqw": c.Hash("credentials", "Ann"),
		"vFg6twSc9D34hDQIVBVGxg": c.Hashes("user", "Ann")[1],
	} {
		if got != want {
			t.Errorf("got the hash %q, want %q", got, want)
		}
	}
	encrypted, err := hex.DecodeString("016185bea2c32b6ec672287263d6d3cfe15971063c2acd076d81781e9cccbb12fc31d0")
	must(t, err)
	if plain, err := c.Decrypt(encrypted, "session 1"); err != nil || string(plain) != "plain" {
		t.Errorf("decrypted %q, %v\n%x", plain, err, c.Encrypt([]byte("plain"), "session 1"))
	}
}
