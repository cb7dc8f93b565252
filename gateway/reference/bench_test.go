package reference

import "testing"

func BenchmarkSealer_Open(b *testing.B) {
	s := newTestSealer("a", "b")
	target, scope := someTarget(), someScope()
	var buf Buffer
	for _, of := range []struct{ name, keyID string }{{"FirstKey", "a"}, {"SecondKey", "b"}} {
		text := seal(s, of.keyID, target, scope)
		b.Run(of.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := s.Open(&buf, "a", text, &scope); !ok {
					b.Fatal("not opened")
				}
			}
		})
	}
}

func BenchmarkSealer_AppendSealed(b *testing.B) {
	s := newTestSealer("a")
	target, scope := someTarget(), someScope()
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = s.AppendSealed(dst[:0], "a", &target, &scope)
	}
}
