package users

import (
	"fmt"
	"strings"
	"testing"
)

// manyAccounts returns a file of n accounts, each with a token, and every tenth with a password.
func manyAccounts(n int) string {
	var text strings.Builder
	text.WriteString("users:\n")
	for i := range n {
		fmt.Fprintf(&text, "  user-%d:\n    tokens: [0123456789abcdef0123456789-%d]\n", i, i)
		text.WriteString("    expires: 2026-12-31T00:00:00Z\n")
		if i%10 == 0 {
			text.WriteString("    password: $2y$05$abcdefghijklmnopqrstuuceoIQuaP.5etEpp9yRDVWWtgzuH1TCS\n")
		}
	}
	return text.String()
}

func TestCheck_Token_NoAllocation(t *testing.T) {
	b := withFile(t, manyAccounts(1000))
	known, unknown := requestWith("token=0123456789abcdef0123456789-777"), requestWith("token=0123456789abcdef0123456789-x")
	for _, r := range []struct {
		name string
		run  func()
	}{
		{"a known token", func() { _, _ = b.Check(t.Context(), known) }},
		{"an unknown token", func() { _, _ = b.Check(t.Context(), unknown) }},
	} {
		if n := testing.AllocsPerRun(100, r.run); n != 0 {
			t.Errorf("%s: %v allocations, want none", r.name, n)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	backend := withFile(b, manyAccounts(100_000))
	for name, query := range map[string]string{
		"a known token":     "token=0123456789abcdef0123456789-77777",
		"an unknown token":  "token=0123456789abcdef0123456789-x",
		"a cached password": "auth=user-70000:rasmuslerdorf",
		"a wrong password":  "auth=user-70000:wrong",
		"an unknown login":  "auth=mallory:wrong",
		"no credentials":    "st=abc&e=123",
	} {
		b.Run(name, func(b *testing.B) {
			r := requestWith(query)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := backend.Check(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The time must grow linearly with the file: a node reads it beside running sessions.
func BenchmarkParse(b *testing.B) {
	for _, accounts := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("%d accounts", accounts), func(b *testing.B) {
			text := []byte(manyAccounts(accounts))
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parse("f", text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
