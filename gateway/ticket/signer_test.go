package ticket

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
)

func newTestSigner(keys ...string) *Signer {
	var all []setting.Key
	for _, id := range keys {
		all = append(all, setting.Key{ID: id, Secret: setting.Secret("the secret of key " + id)})
	}
	return NewSigner(all)
}

func someClaims() (Claims, Scope) {
	c := Claims{
		ID:     backends.SessionID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255},
		Ticket: session.Ticket{Opened: time.Unix(1_790_000_000, 0), KeyID: "a"},
		Tag:    Tag{0xfe, 0xdc, 0xba, 0x98},
	}
	return c, Scope{Route: "/play/{channel}/*", Channel: "a001", Folder: "hd", Depth: 1}
}

func TestSigner_Sign_Verifies(t *testing.T) {
	t.Parallel()
	ring := newTestSigner("a")
	c, s := someClaims()
	for name, opened := range map[string]time.Time{
		"in our days":                   c.Opened,
		"at the beginning of Unix time": time.Unix(0, 0),
		"in its last second":            time.Unix(1<<32-1, 0),
		"within a second":               c.Opened.Add(999 * time.Millisecond),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := c
			c.Opened = opened
			got, ok := ring.Verify(ring.Sign(c, s), s)
			c.Opened = opened.Truncate(time.Second)
			if !ok || got.ID != c.ID || got.KeyID != c.KeyID || got.Tag != c.Tag || !got.Opened.Equal(c.Opened) {
				t.Errorf("verify: got %v %v, want %v", got, ok, c)
			}
		})
	}
}

func TestSigner_Sign_SameOnEveryNode(t *testing.T) {
	t.Parallel()
	c, s := someClaims()
	first := newTestSigner("a").Sign(c, s)
	for name, ring := range map[string]*Signer{
		"on another node":               newTestSigner("a"),
		"after signing moved to b":      newTestSigner("b", "a"),
		"where its key stands last":     newTestSigner("d", "c", "b", "a"),
		"on a node that signed another": func() *Signer { r := newTestSigner("a"); r.Sign(Claims{}, Scope{}); return r }(),
	} {
		if got := ring.Sign(c, s); got != first {
			t.Errorf("%s: got %s, want %s", name, got, first)
		}
	}
	later := c
	later.Opened = c.Opened.Add(time.Second)
	if newTestSigner("a").Sign(later, s) == first {
		t.Error("a session opened later has the same ticket")
	}
}

// TestSigner_Golden pins the ticket, on which two versions of Usher on two nodes must agree.
func TestSigner_Golden(t *testing.T) {
	t.Parallel()
	c, s := someClaims()
	if got, want := newTestSigner("a").Sign(c, s), "a.AQIDBAUGBwgJCgsMDQ4P_2qxO4D-3LqYnolzPpUV-h39vfloB"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestSigner_Verify_NewlineAtTheEnd verifies a ticket without its last character, after the whole one was in the buffer.
func TestSigner_Verify_NewlineAtTheEnd(t *testing.T) {
	t.Parallel()
	c, s := someClaims()
	s.Folder, s.Depth = "", 0
	ring := newTestSigner("a")
	good := ring.Sign(c, s)
	for _, text := range []string{good[:len(good)-1] + "\n", good[:len(good)-1] + "\r", good[:len(good)-1] + "!"} {
		if _, ok := ring.Verify(text, s); ok {
			t.Errorf("verify(%q): taken for ours", text)
		}
	}
}

func TestClaims_AdmitsNobody(t *testing.T) {
	t.Parallel()
	c, s := someClaims()
	ring := newTestSigner("a")
	verify := func(c Claims) Claims {
		got, ok := ring.Verify(ring.Sign(c, s), s)
		if !ok {
			t.Fatalf("%v: its ticket is not valid", c)
		}
		return got
	}
	nobody := Nobody(c.ID)
	nobody.KeyID = "a"
	for name, tc := range map[string]struct {
		claims Claims
		want   bool
	}{
		"no ticket":          {Claims{}, false},
		"a viewer's":         {verify(c), false},
		"nobody's":           {verify(nobody), true},
		"nobody's, unsigned": {Nobody(c.ID), true},
	} {
		if got := tc.claims.AdmitsNobody(); got != tc.want {
			t.Errorf("%s: admits nobody %v, want %v", name, got, tc.want)
		}
	}
}

func TestNewTag_TellsTheFamily(t *testing.T) {
	t.Parallel()
	for _, mac := range [][]byte{{0, 1, 2, 3, 4}, {0xff, 1, 2, 3, 4}} {
		four, six := NewTag(mac, false), NewTag(mac, true)
		if four.IsIPv6() || !six.IsIPv6() {
			t.Errorf("%x: IPv4 is told as IPv6 %v, IPv6 as IPv6 %v", mac, four.IsIPv6(), six.IsIPv6())
		}
		if four[0]|0x80 != six[0] || six[0]&0x7f != mac[0]&0x7f || four[1] != 1 || six[3] != 3 {
			t.Errorf("%x: tags %x and %x, want the first four bytes but for one bit", mac, four, six)
		}
	}
}

func TestSigner_Verify_Invalid(t *testing.T) {
	t.Parallel()
	c, s := someClaims()
	ring := newTestSigner("a", "b")
	good := ring.Sign(c, s)
	_, body, _ := strings.Cut(good, ".")
	cases := map[string]struct {
		ring  *Signer
		text  string
		scope Scope
		want  bool
	}{
		"as it was signed":                      {ring, good, s, true},
		"with a retired key":                    {newTestSigner("b", "a"), good, s, true},
		"with a removed key":                    {newTestSigner("b"), good, s, false},
		"with another secret of that id":        {NewSigner([]setting.Key{{ID: "a", Secret: "another secret here"}}), good, s, false},
		"with another key's id":                 {ring, "b." + body, s, false},
		"with an unknown key's id":              {ring, "z." + body, s, false},
		"without a key's id":                    {ring, "." + body, s, false},
		"without its key and the dot":           {ring, body, s, false},
		"for another route":                     {ring, good, Scope{"/live/{channel}/*", s.Channel, s.Folder, 1}, false},
		"for another channel":                   {ring, good, Scope{s.Route, "a002", s.Folder, 1}, false},
		"for another folder":                    {ring, good, Scope{s.Route, s.Channel, "sd", 1}, false},
		"for all folders":                       {ring, good, Scope{s.Route, s.Channel, "", 0}, false},
		"with channel and folder divided anew":  {ring, good, Scope{s.Route, s.Channel + "h", "d", 1}, false},
		"with route and channel divided anew":   {ring, good, Scope{s.Route + "a", s.Channel[1:], s.Folder, 1}, false},
		"for a deeper one":                      {ring, good, Scope{s.Route, s.Channel, s.Folder, 2}, false},
		"without its depth":                     {ring, good[:len(good)-1], s, false},
		"with another depth":                    {ring, good[:len(good)-1] + "C", s, false},
		"empty":                                 {ring, "", s, false},
		"a dot alone":                           {ring, ".", s, false},
		"one character short":                   {ring, good[:len(good)-1], s, false},
		"one character long":                    {ring, good + "A", s, false},
		"with padding":                          {ring, good + "=", s, false},
		"with padding in place of its end":      {ring, good[:len(good)-1] + "=", s, false},
		"with a newline behind":                 {ring, good + "\n", s, false},
		"with a newline in place of a letter":   {ring, good[:20] + "\n" + good[21:], s, false},
		"with newlines that a decoder skips":    {ring, good[:20] + "\r\n" + good[20:], s, false},
		"with a space before":                   {ring, " " + good, s, false},
		"in the other base64":                   {ring, strings.NewReplacer("-", "+", "_", "/").Replace("a." + strings.Repeat("-_", 24)), s, false},
		"percent-encoded":                       {ring, strings.Replace(good, ".", "%2E", 1), s, false},
		"twice":                                 {ring, good + good, s, false},
		"of zeros":                              {ring, "a." + strings.Repeat("A", Chars), s, false},
		"with a key's id of a thousand letters": {ring, strings.Repeat("a", 1000) + "." + body, s, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := tc.ring.Verify(tc.text, tc.scope)
			if ok != tc.want {
				t.Errorf("verify(%q): got %v, want %v", tc.text, ok, tc.want)
			}
			if !ok && got != (Claims{}) {
				t.Errorf("verify(%q): a refused ticket says %v", tc.text, got)
			}
		})
	}
}

func TestSigner_Verify_FlippedBits(t *testing.T) {
	t.Parallel()
	c, s := someClaims()
	ring := newTestSigner("a", "b")
	good := ring.Sign(c, s)
	for i := range len(good) {
		for bit := range 8 {
			flipped := []byte(good)
			flipped[i] ^= 1 << bit
			if _, ok := ring.Verify(string(flipped), s); ok {
				t.Errorf("byte %d, bit %d: %q is taken for ours", i, bit, flipped)
			}
		}
	}
}

func TestSigner_Sign_SafeCharacters(t *testing.T) {
	t.Parallel()
	c, s := someClaims()
	ring := NewSigner([]setting.Key{{ID: "Key16letters9999", Secret: "a secret of some length"}})
	c.KeyID = "Key16letters9999"
	for n := range 256 {
		c.ID[3] = byte(n)
		const safe = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
		if got := ring.Sign(c, s); strings.Trim(got, safe) != "" {
			t.Fatalf("ticket %q: has a character that a client may escape", got)
		}
	}
}

func TestSigner_Sign_MACHasAtLeast96Bits(t *testing.T) {
	t.Parallel()
	c, s := someClaims()
	_, body, _ := strings.Cut(newTestSigner("a").Sign(c, s), ".")
	raw, err := base64.RawURLEncoding.DecodeString(body[:Chars])
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	if bits := 8 * (len(raw) - len(c.ID) - 4 - len(c.Tag)); bits < 96 {
		t.Errorf("MAC: got %d bits, want 96 or more", bits)
	}
}

// TestSigner_HasUnknownKey tells a ticket that another node signed, or this one once, from what is no ticket.
func TestSigner_HasUnknownKey(t *testing.T) {
	t.Parallel()
	keys := func(id string) []setting.Key {
		return []setting.Key{{ID: id, Secret: "0123456789abcdef0123456789abcdef"}}
	}
	here, there := NewSigner(keys("a")), NewSigner(keys("b"))
	folder := Scope{Route: "r", Channel: "c", Folder: "f", Depth: 1}
	for text, want := range map[string]bool{
		there.Sign(Claims{}, Scope{Route: "r", Channel: "c"}): true, there.Sign(Claims{}, folder): true,
		here.Sign(Claims{}, Scope{Route: "r", Channel: "c"}): false, here.Sign(Claims{}, folder): false,
		"": false, "b.": false, "b.forged": false, "b": false,
	} {
		if got := here.HasUnknownKey(text); got != want {
			t.Errorf("%q: got %t, want %t", text, got, want)
		}
	}
}

func TestDepth(t *testing.T) {
	t.Parallel()
	ring := newTestSigner("a")
	c, s := someClaims()
	seen := map[string]bool{}
	for depth := range MaxDepth + 1 {
		s.Depth = depth
		text := ring.Sign(c, s)
		if got := Depth(text); got != depth || seen[text] {
			t.Errorf("depth %d: %s says %d", depth, text, got)
		}
		if _, ok := ring.Verify(text, s); !ok {
			t.Errorf("depth %d: not valid", depth)
		}
		seen[text] = true
	}
	for _, text := range []string{"", "a", "a.", "a." + strings.Repeat("A", Chars), "a." + strings.Repeat("A", Chars) + "!"} {
		if depth := Depth(text); depth != 0 {
			t.Errorf("Depth(%q): got %d, want none", text, depth)
		}
	}
}

func TestSigner_Sign_RemovedKey(t *testing.T) {
	t.Parallel()
	c, s := someClaims()
	ring := newTestSigner("b")
	got, ok := ring.Verify(ring.Sign(c, s), s)
	if !ok || got.KeyID != "b" || got.ID != c.ID {
		t.Errorf("got %v %v, want the session signed by b", got, ok)
	}
}

// FuzzVerify verifies texts below the folder that each of them names, as for a request: a ticket says how deep its folder is.
func FuzzVerify(f *testing.F) {
	c, s := someClaims()
	ring := newTestSigner("a", "b")
	good := ring.Sign(c, s)
	bare := good[:len(good)-1]
	for _, seed := range []string{good, "", ".", "a.", good[1:], good + "=", "b" + good[1:], strings.ToLower(good), bare, bare + "C"} {
		f.Add(seed, s.Route, s.Channel, s.Folder)
		f.Add(seed, s.Route, s.Channel, s.Folder+"/low")
	}
	f.Fuzz(func(t *testing.T, text, route, channel, path string) {
		names := strings.Split(path, "/")
		depth := Depth(text)
		if depth > len(names) {
			return // such a path has no folder that deep
		}
		scope := Scope{route, channel, strings.Join(names[:depth], "/"), depth}
		got, ok := ring.Verify(text, scope)
		if ok && ring.Sign(got, scope) != text {
			t.Errorf("verify(%q): accepted, but %v is signed as another text", text, got)
		}
		if ok && (text != good || scope != s) {
			t.Errorf("verify(%q, %+v): forged", text, scope)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	c, s := someClaims()
	ring := newTestSigner("a")
	good := ring.Sign(c, s)
	for name, text := range map[string]string{"good": good, "forged": good[:len(good)-1] + "A", "foreign": "z" + good[1:]} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ring.Verify(text, s)
			}
		})
	}
}

func BenchmarkSign(b *testing.B) {
	c, s := someClaims()
	ring := newTestSigner("a")
	b.ReportAllocs()
	for b.Loop() {
		ring.Sign(c, s)
	}
}
