package mac

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"testing"
)

// TestMAC_Sum_AsHMAC has one MAC compute several sums: each is what crypto/hmac computes, whatever the last one covered.
func TestMAC_Sum_AsHMAC(t *testing.T) {
	t.Parallel()
	key := []byte("a key")
	p := NewPool[[4]byte](key)
	for _, parts := range [][][]byte{{}, {[]byte("a")}, {[]byte("a"), []byte("bc")}, {nil, bytes.Repeat([]byte("x"), 1000)}} {
		reference := hmac.New(sha256.New, key)
		for _, part := range parts {
			reference.Write(part)
		}
		m := p.Get()
		if got, want := m.Sum(parts...), reference.Sum(nil); !bytes.Equal(got, want) {
			t.Errorf("of %q: %x, want %x", parts, got, want)
		}
		p.Put(m)
	}
}
