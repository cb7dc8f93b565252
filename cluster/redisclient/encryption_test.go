package redisclient

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"testing"

	"usher/backends/setting"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCipher_Decrypt(t *testing.T) {
	t.Parallel()
	old, err := NewCipher([]setting.Key{{ID: "a", Secret: "a secret of the cluster"}})
	must(t, err)
	both, err := NewCipher([]setting.Key{{ID: "b", Secret: "another secret of it"}, {ID: "a", Secret: "a secret of the cluster"}})
	must(t, err)
	encrypted := old.Encrypt([]byte("Ann"), "record 1")
	if plain, err := both.Decrypt(encrypted, "record 1"); err != nil || string(plain) != "Ann" {
		t.Errorf("with both keys: %q, %v", plain, err)
	}
	if _, err := old.Decrypt(both.Encrypt([]byte("Ann"), "x"), "x"); !errors.Is(err, errDecrypt) {
		t.Errorf("with the old key alone: %v", err)
	}
	if _, err := old.Decrypt(encrypted, "record 2"); !errors.Is(err, errDecrypt) {
		t.Errorf("for another purpose: %v", err)
	}
	for i := range encrypted {
		broken := append([]byte(nil), encrypted...)
		broken[i] ^= 1
		if _, err := old.Decrypt(broken, "record 1"); !errors.Is(err, errDecrypt) {
			t.Errorf("with byte %d changed: %v", i, err)
		}
		if _, err := old.Decrypt(encrypted[:i], "record 1"); !errors.Is(err, errDecrypt) {
			t.Errorf("truncated to %d: %v", i, err)
		}
	}
	if hashes := both.Hashes("user", "Ann"); hashes[1] != old.Hash("user", "Ann") || hashes[0] == hashes[1] || hashes[0] != both.UserHash("Ann") {
		t.Errorf("hashes %q", hashes)
	}
	if _, err := NewCipher(nil); err == nil {
		t.Error("a cipher without keys was made")
	}
}

// TestCipher_EncryptWith encrypts with a key of the list, and tells with which.
func TestCipher_EncryptWith(t *testing.T) {
	t.Parallel()
	both, err := NewCipher([]setting.Key{{ID: "b", Secret: "another secret of it"}, {ID: "old", Secret: "a secret of the cluster"}})
	must(t, err)
	old, err := NewCipher([]setting.Key{{ID: "old", Secret: "a secret of the cluster"}})
	must(t, err)
	for id, want := range map[string]string{"b": "", "old": "old", "": "", "unknown": ""} {
		encrypted := both.EncryptWith(id, []byte("Ann"), "record 1")
		if plain, err := both.Decrypt(encrypted, "record 1"); err != nil || string(plain) != "Ann" {
			t.Errorf("with key %q: %q, %v", id, plain, err)
		}
		if _, err := old.Decrypt(encrypted, "record 1"); (err == nil) != (want == "old") {
			t.Errorf("with key %q: the old key alone: %v", id, err)
		}
		if got := both.OldKey(encrypted); got != want {
			t.Errorf("with key %q: the old key %q, want %q", id, got, want)
		}
	}
}

// TestCipher_Number compares numbers that are asked for at once with the hashes of the same values.
func TestCipher_Number(t *testing.T) {
	c, err := NewCipher([]setting.Key{{ID: "a", Secret: "a secret of the cluster"}})
	if err != nil {
		t.Fatal(err)
	}
	var asking sync.WaitGroup
	for i := range 8 {
		asking.Go(func() {
			for k := range 100 {
				value := strings.Repeat("v", i*k)
				hash, err := base64.RawURLEncoding.DecodeString(c.Hash("viewer", value))
				if err != nil {
					t.Error(err)
					return
				}
				if got, want := c.Number("viewer", []byte(value)), binary.LittleEndian.Uint64(hash); got != want {
					t.Errorf("%q: %x, want the first bytes of the hash, %x", value, got, want)
				}
			}
		})
	}
	asking.Wait()
}

func FuzzDecrypt(f *testing.F) {
	cipher, err := NewCipher([]setting.Key{{ID: "a", Secret: "a secret of the cluster"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(cipher.Encrypt([]byte("Ann"), "record 1"))
	f.Add([]byte{1, 'a'})
	f.Fuzz(func(t *testing.T, encrypted []byte) {
		if plain, err := cipher.Decrypt(encrypted, "record 2"); err == nil {
			t.Errorf("a forged value was decrypted: %q", plain)
		}
	})
}
