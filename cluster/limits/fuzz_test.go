package limits

import (
	"slices"
	"testing"
)

// FuzzDecode decodes what a store returns. What can be decoded can be encoded, and means the same again.
func FuzzDecode(f *testing.F) {
	whole := storedSet{streams: streamSet{{}, {}}, epoch: 5, writes: 7, restored: 6}
	f.Add(whole.encode())
	f.Add((&storedSet{}).encode())
	f.Add(whole.encode()[:40])
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := decode(text)
		if err != nil {
			return
		}
		again, err := decode(s.encode())
		if err != nil || again.epoch != s.epoch || again.writes != s.writes || again.restored != s.restored || !slices.Equal(again.streams, s.streams) {
			t.Errorf("%+v became %+v: %v", s, again, err)
		}
	})
}
