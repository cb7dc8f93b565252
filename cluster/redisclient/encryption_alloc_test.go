//go:build !race

package redisclient

import (
	"testing"

	"usher/backends/setting"
)

// TestCipher_Number_Allocations runs without the race detector, under which pools drop items on purpose.
func TestCipher_Number_Allocations(t *testing.T) {
	c, err := NewCipher([]setting.Key{{ID: "a", Secret: "a secret of the cluster"}})
	if err != nil {
		t.Fatal(err)
	}
	shown := []byte("portal, token=1")
	if n := testing.AllocsPerRun(100, func() { c.Number("viewer", shown) }); n != 0 {
		t.Errorf("%v allocations a number, want none", n)
	}
}
