//go:build !race

package reference

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"usher/backends/setting"
)

// A million tries take a second, and a quarter of a minute under the race detector, which has nothing to find in them.

func TestSealer_Open_MillionForgeries_Refused(t *testing.T) {
	t.Parallel()
	const tries = 1_000_000
	s, foreign := newTestSealer("a", "b"), NewSealer([]setting.Key{{ID: "a", Secret: "another secret here"}})
	var forged atomic.Int64
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for worker := range workers {
		wg.Go(func() {
			f := newForger(s, foreign, uint64(worker))
			var buf Buffer
			for range (tries + workers - 1) / workers {
				text, scope := f.forge()
				forged.Add(1)
				if got, ok := s.Open(&buf, "a", text, &scope); ok {
					t.Errorf("open(%q) for %+v: got %+v", text, scope, got)
				}
			}
		})
	}
	wg.Wait()
	if n := forged.Load(); n < tries {
		t.Errorf("%d tries, want %d", n, tries)
	}
}

// forger makes texts that nobody sealed for their scope.
type forger struct {
	random  *rand.Rand
	texts   []string // sealed for scope
	foreign []string // sealed for scope with a foreign key
	scope   Scope
}

func newForger(s, other *Sealer, seed uint64) *forger {
	f := &forger{random: rand.New(rand.NewPCG(1, seed)), scope: someScope()}
	for i := range uint64(16) {
		target := someTarget()
		target.Path = target.Path[i*6:] // several lengths
		target.Path, target.Version = "/"+target.Path, i
		f.texts = append(f.texts, seal(s, []string{"a", "b"}[i%2], target, f.scope))
		f.foreign = append(f.foreign, seal(other, "", target, f.scope))
	}
	return f
}

func (f *forger) forge() (string, Scope) {
	text, scope := []byte(f.texts[f.random.IntN(len(f.texts))]), f.scope
	switch f.random.IntN(6) {
	case 0: // random
		text = text[:MinChars+f.random.IntN(len(text)-MinChars)]
		for i := range text {
			text[i] = alphabet[f.random.IntN(len(alphabet))]
		}
	case 1: // mutated
		for at := f.random.IntN(len(text)); f.random.IntN(3) > 0 || slices.Contains(f.texts, string(text)); {
			text[at] = alphabet[f.random.IntN(len(alphabet))]
			at = f.random.IntN(len(text))
		}
	case 2: // the tag of one, and the ciphertext of another
		at := 4 * f.random.IntN(len(text)/4)
		other := f.texts[f.random.IntN(len(f.texts))]
		text = append(text[:at], other[min(at, len(other)):]...)
		if slices.Contains(f.texts, string(text)) {
			text = append(text, "AAAA"...)
		}
	case 3: // truncated
		text = text[:f.random.IntN(len(text))]
	case 4: // a foreign key's
		text = []byte(f.foreign[f.random.IntN(len(f.foreign))])
	case 5: // a foreign channel's
		scope.Channel = string(alphabet[f.random.IntN(len(alphabet))])
	}
	return string(text), scope
}
