package reference

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"usher/backends/setting"
	"usher/gateway/hls"
)

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func newTestSealer(keys ...string) *Sealer {
	var all []setting.Key
	for _, id := range keys {
		all = append(all, setting.Key{ID: id, Secret: setting.Secret("the secret of key " + id)})
	}
	return NewSealer(all)
}

// someTarget has a path of 100 bytes and a query of 57, as CDNs list them.
func someTarget() Target {
	return Target{
		Role: hls.Media, Origin: "cdn", Base: "https://edge-3.example.com:8443",
		Path:    "/live/news_720/2026/11/27/chunklist_b3128000/0f8e7d6c5b4a39281706f5e4d3c2b1a0/part%2F1/media_17.ts",
		Query:   "token=dGhlIG9yaWdpbidzIG93bg&expires=1790000000&sig=a%2Fb",
		Version: 4711,
	}
}

func someScope() Scope {
	return Scope{Route: "/play/{channel}/*", Channel: "a001", Folder: "hd", Name: "media_17.ts"}
}

func seal(s *Sealer, keyID string, t Target, scope Scope) string {
	return string(s.AppendSealed(nil, keyID, &t, &scope))
}

// open opens a reference in new memory.
func open(s *Sealer, keyID, text string, scope Scope) (Target, bool) {
	return s.Open(new(Buffer), keyID, text, &scope)
}

// drawText draws text of any bytes, also long ones.
func drawText(t *rapid.T, label string) string {
	text := rapid.OneOf(
		rapid.Just(""), rapid.String(), rapid.StringMatching(`[a-z0-9/%._-]{0,40}`),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
	).Draw(t, label)
	return strings.Repeat(text, rapid.SampledFrom([]int{1, 1, 1, 20}).Draw(t, label+"'s repetitions"))
}

func drawScope(t *rapid.T) Scope {
	return Scope{
		Route: drawText(t, "route"), Channel: drawText(t, "channel"), Folder: drawText(t, "folder"), Name: drawText(t, "name"),
	}
}

func drawTarget(t *rapid.T, name string) Target {
	path := "/" + drawText(t, "path")
	switch rapid.IntRange(0, 3).Draw(t, "the path's end") {
	case 0:
		path += "/" + name
	case 1:
		path = "/" + name
	case 2:
		path += name
	}
	return Target{
		Role:   hls.Role(rapid.IntRange(0, int(hls.Document)).Draw(t, "role")),
		Origin: drawText(t, "origin"), Base: drawText(t, "base"), Path: path,
		Query: drawText(t, "query"), Variables: drawText(t, "variables"),
		Version: rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64()).Draw(t, "version"),
	}
}

func TestSealer_Open_ReturnsWhatWasSealed(t *testing.T) {
	t.Parallel()
	s, other := newTestSealer("a", "b"), newTestSealer("a", "b")
	var buf Buffer
	rapid.Check(t, func(t *rapid.T) {
		scope := drawScope(t)
		want := drawTarget(t, scope.Name)
		keyID := rapid.SampledFrom([]string{"", "a", "b", "unknown"}).Draw(t, "key id")
		before := rapid.SampledFrom([]string{"", "/play/a001/~"}).Draw(t, "before")
		text := string(s.AppendSealed([]byte(before), keyID, &want, &scope))
		if again := string(other.AppendSealed([]byte(before), keyID, &want, &scope)); again != text {
			t.Fatalf("sealed by another node: got %s, want %s", again, text)
		}
		text, found := strings.CutPrefix(text, before)
		if !found {
			t.Fatalf("%q does not begin with %q", text, before)
		}
		got, ok := s.Open(&buf, rapid.SampledFrom([]string{"", "a", "b", "unknown"}).Draw(t, "key id of the viewer"), text, &scope)
		if len(text) > MaxChars {
			if ok {
				t.Fatalf("a text of %d characters was opened", len(text))
			}
			return
		}
		if !ok || got != want || !IsReference(text) {
			t.Fatalf("open: got %+v %v, want %+v; is reference %v", got, ok, want, IsReference(text))
		}
	})
}

// TestSealer_Golden pins references, on which two versions of Usher on two nodes must agree.
func TestSealer_Golden(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		keyID  string
		target Target
		scope  Scope
		want   string
	}{
		"everything": {
			"a", someTarget(), someScope(),
			"Z-7h0J6rxhIofKB2Qrn5ew9xK4t6xnCUVWRrBK13jhrd7_wn77GXL16QwuRrnb971OIfkBEulI-a1uAxbTFsvUTIlKQDvb0zJ-uR" +
				"y86IXuJuPxRkYL2df_Pe7AsblWE926lgAX-_r98brUEx4n0oIEELi2MMjjCn1tLlDp7UrH4PBTPhdPyJa-EdJXDrBaImV1l72wS_" +
				"x6qLMOf9UPkoCuC4e4Z9M3FZu-ekS7T0de0pB9DJmcVKekhH1KDI5V6BsI_ug6nWMA4",
		},
		"of the next key": {
			"b", someTarget(), someScope(),
			"PWdfpKgRXD8aUm-MmQMDERqu-v02RgCxxU_Q0ty5XT8OPianwe6R0NuWfvlfTd_2GlZMt47zy0gtPO4X0fWeINEem2mIpKqR8LMx" +
				"wTMRUf4Bm04rNtJJ3NGQ4ps0XVJ_hlmjiErzhKs4mk9paorshf-yDNQfXcxbCS41lYwSJ3XXk2rt8yGGbHfWedJ6Bvi2lfPztrl6" +
				"uK562Mbj2NsluXo53Hg5V6nm03lOknjkvW07ZcuL-78ukM5hNduwQ91jG_CTqlgX2h4",
		},
		"a playlist without a suffix": {
			"a",
			Target{Role: hls.Playlist, Path: "/a001/playlist/21", Query: "q=1", Variables: "auth=1"},
			Scope{Route: "/play/{channel}/*", Channel: "a001", Name: "21"},
			"OpFQxZYTVbqZ0tz92zJZvf4qAPNSLx9Zg9D-yweGgdrfpMnjJkADIWyPaA",
		},
		"a key under another name": {"a", Target{Role: hls.Key, Path: "/a%2Fb"}, Scope{Name: "a/b"}, "X8evkZIhH7cfzxGxzrOqS2MN5iXmY6c"},
		"the least":                {"a", Target{Role: hls.Document, Path: "/"}, Scope{}, "mQb6cnPkDkKiKOrVUNEpZN4i"},
	} {
		s := newTestSealer("a", "b")
		if got := seal(s, tc.keyID, tc.target, tc.scope); got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
		if got, ok := open(s, "", tc.want, tc.scope); !ok || got != tc.target {
			t.Errorf("%s: open: got %+v %v, want %+v", name, got, ok, tc.target)
		}
	}
}

func TestSealer_AppendSealed_HidesTheTarget(t *testing.T) {
	t.Parallel()
	target := someTarget()
	text := seal(newTestSealer("a"), "", target, someScope())
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"edge-3", "8443", "live", "chunklist", "token", "cdn"} {
		if bytes.Contains(sealed, []byte(part)) || strings.Contains(text, part) {
			t.Errorf("the reference shows %q", part)
		}
	}
	target.Version++
	next, err := base64.RawURLEncoding.DecodeString(seal(newTestSealer("a"), "", target, someScope()))
	if err != nil {
		t.Fatal(err)
	}
	same := 0
	for i := range sealed {
		if sealed[i] == next[i] {
			same++
		}
	}
	if same > len(sealed)/16 {
		t.Errorf("of the %d bytes of two versions %d are the same", len(sealed), same)
	}
}

func TestSealer_AppendSealed_UnknownRole_Panics(t *testing.T) {
	t.Parallel()
	defer func() {
		if got := recover(); got != "BUG: seal the unknown role 4" {
			t.Errorf("panic %v", got)
		}
	}()
	seal(newTestSealer("a"), "", Target{Role: hls.Document + 1, Path: "/"}, Scope{})
}

func TestSealer_Open_Scopes(t *testing.T) {
	t.Parallel()
	s, target, scope := newTestSealer("a"), someTarget(), someScope()
	text := seal(s, "", target, scope)
	for name, tc := range map[string]struct {
		change func(*Scope)
		want   bool
	}{
		"as it was sealed":                    {func(*Scope) {}, true},
		"another route":                       {func(s *Scope) { s.Route = "/live/{channel}/*" }, false},
		"no route":                            {func(s *Scope) { s.Route = "" }, false},
		"another channel":                     {func(s *Scope) { s.Channel = "a002" }, false},
		"another folder":                      {func(s *Scope) { s.Folder = "sd" }, false},
		"no folder":                           {func(s *Scope) { s.Folder = "" }, false},
		"another name":                        {func(s *Scope) { s.Name = "media_18.ts" }, false},
		"no name":                             {func(s *Scope) { s.Name = "" }, false},
		"a name in other letters":             {func(s *Scope) { s.Name = "MEDIA_17.ts" }, false},
		"channel and folder exchanged":        {func(s *Scope) { s.Channel, s.Folder = s.Folder, s.Channel }, false},
		"channel and folder divided anew":     {func(s *Scope) { s.Channel, s.Folder = s.Channel+"h", "d" }, false},
		"route and channel divided anew":      {func(s *Scope) { s.Route, s.Channel = s.Route+"a", "001" }, false},
		"folder and name divided anew":        {func(s *Scope) { s.Folder, s.Name = s.Folder+"m", s.Name[1:] }, false},
		"the folder moved up, with its bytes": {func(s *Scope) { s.Channel, s.Folder = s.Channel+"\x02hd", "" }, false},
	} {
		other := scope
		tc.change(&other)
		got, ok := open(s, "a", text, other)
		if ok != tc.want || !ok && got != (Target{}) {
			t.Errorf("%s: got %+v %v, want %v", name, got, ok, tc.want)
		}
	}
}

func TestSealer_Open_Keys(t *testing.T) {
	t.Parallel()
	target, scope := someTarget(), someScope()
	ofA, ofB := seal(newTestSealer("a", "b"), "", target, scope), seal(newTestSealer("a", "b"), "b", target, scope)
	if ofA == ofB {
		t.Error("two keys give one reference")
	}
	if got := seal(newTestSealer("b", "a"), "a", target, scope); got != ofA {
		t.Errorf("after sealing moved to b, for a viewer of a: got %s, want %s", got, ofA)
	}
	if got := seal(newTestSealer("b", "a"), "removed", target, scope); got != ofB {
		t.Errorf("for a viewer of a removed key: got %s, want %s", got, ofB)
	}
	renamed := NewSealer([]setting.Key{{ID: "b", Secret: "the secret of key a"}})
	for name, tc := range map[string]struct {
		sealer      *Sealer
		keyID, text string
		want        bool
	}{
		"the first key":               {newTestSealer("a", "b"), "a", ofA, true},
		"a key that only opens":       {newTestSealer("a", "b"), "b", ofB, true},
		"the viewer's key is another": {newTestSealer("a", "b"), "a", ofB, true},
		"the viewer has no key":       {newTestSealer("a", "b"), "", ofB, true},
		"the viewer's key is unknown": {newTestSealer("a", "b"), "z", ofB, true},
		"the last of many":            {newTestSealer("e", "d", "c", "b", "a"), "c", ofA, true},
		"a removed key":               {newTestSealer("b"), "a", ofA, false},
		"no key at all":               {newTestSealer(), "a", ofA, false},
		"a key under another id":      {renamed, "b", ofA, false},
		"another secret of that id":   {NewSealer([]setting.Key{{ID: "a", Secret: "another secret here"}}), "a", ofA, false},
	} {
		got, ok := open(tc.sealer, tc.keyID, tc.text, scope)
		if ok != tc.want || ok && got != target {
			t.Errorf("%s: got %+v %v, want %v", name, got, ok, tc.want)
		}
	}
}

// opensAfter reports whether a changed text opens in memory that held the whole one.
func opensAfter(s *Sealer, whole, changed string, scope Scope) bool {
	var buf Buffer
	if _, ok := s.Open(&buf, "a", whole, &scope); !ok {
		panic("the whole text was not opened")
	}
	_, ok := s.Open(&buf, "a", changed, &scope)
	return ok
}

func TestSealer_Open_EachBitCounts(t *testing.T) {
	t.Parallel()
	s, target, scope := newTestSealer("a", "b"), someTarget(), someScope()
	text := seal(s, "", target, scope)
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(sealed) * 8 {
		flipped := slices.Clone(sealed)
		flipped[i/8] ^= 1 << (i % 8)
		if opensAfter(s, text, base64.RawURLEncoding.EncodeToString(flipped), scope) {
			t.Errorf("with bit %d flipped: opened", i)
		}
	}
	for i := range text {
		for _, c := range []byte(alphabet + "=+/.~%\n\r \x00\xff") {
			if c == text[i] {
				continue
			}
			if opensAfter(s, text, text[:i]+string([]byte{c})+text[i+1:], scope) {
				t.Errorf("with %q at %d: opened", c, i)
			}
		}
	}
}

func TestSealer_Open_TheWholeTextCounts(t *testing.T) {
	t.Parallel()
	s, scope := newTestSealer("a"), Scope{}
	for n := range 4 { // every remainder of the length by 3
		text := seal(s, "", Target{Path: "/" + strings.Repeat("a", n)}, scope)
		last := (len(text)-1)%4 + 1
		before := text[:len(text)-last]
		for at := range before { // where the newline stands changes how many bytes the decoder writes at once
			if opensAfter(s, text, before[:at]+"\n"+before[at:]+"\n\n\n"[:last-1], scope) {
				t.Errorf("with newlines for the last %d of %d characters, one of them at %d: opened", last, len(text), at)
			}
		}
		for i := range text {
			if opensAfter(s, text, text[:i], scope) {
				t.Errorf("the first %d of %d characters: opened", i, len(text))
			}
			if opensAfter(s, text, text[i+1:], scope) {
				t.Errorf("without the first %d of %d characters: opened", i+1, len(text))
			}
			if opensAfter(s, text, text[:i]+text[i+1:], scope) {
				t.Errorf("without character %d of %d: opened", i, len(text))
			}
			for _, more := range []string{"A", "AA", "AAA", "AAAA", "=", "==", "\n", "\r\n", "\n\n\n\n", " ", "."} {
				if opensAfter(s, text, text[:i]+more+text[i:], scope) {
					t.Errorf("with %q at %d of %d: opened", more, i, len(text))
				}
			}
		}
		behind := []string{"AA", "AAA", "AAAA", "=", "==", "\n", "\r\n", "\n\n\n\n", "\x00", text}
		for _, more := range append(behind, strings.Split(alphabet, "")...) {
			if opensAfter(s, text, text+more, scope) {
				t.Errorf("with %q behind: opened", more)
			}
		}
	}
}

func TestSealer_Open_Bounds(t *testing.T) {
	t.Parallel()
	s, scope := newTestSealer("a"), Scope{Name: "a"}
	for name, tc := range map[string]struct {
		target Target
		chars  int
		want   bool
	}{
		"no path":              {Target{}, MinChars - 1, false},
		"a path without slash": {Target{Path: "b/c"}, MinChars + 3, false},
		"the name alone":       {Target{Path: "a"}, MinChars, false},
		"the shortest":         {Target{Path: "/"}, MinChars, true},
		"the name left out":    {Target{Path: "/a"}, MinChars, true},
		"the longest":          {Target{Path: strings.Repeat("/", MaxChars/4*3-tagSize-1)}, MaxChars, true},
		"one byte longer":      {Target{Path: strings.Repeat("/", MaxChars/4*3-tagSize)}, MaxChars + 2, false},
	} {
		text := seal(s, "", tc.target, scope)
		got, ok := open(s, "a", text, scope)
		if len(text) != tc.chars || ok != tc.want || ok && got != tc.target {
			t.Errorf("%s: %d characters, got %v; want %d, %v", name, len(text), ok, tc.chars, tc.want)
		}
	}
}

func TestSealer_Open_TargetIsValidUntilTheBufferIsUsed(t *testing.T) {
	t.Parallel()
	s, target, scope := newTestSealer("a"), someTarget(), someScope()
	other := target
	other.Path, other.Query = strings.Repeat("/other", 50), strings.Repeat("other=1&", 50)
	texts := []string{seal(s, "", target, scope), seal(s, "", other, scope)}
	var buf, second Buffer
	first, _ := s.Open(&buf, "a", texts[0], &scope)
	for range 10 { // sealing, and opening in other memory, leave it as it is
		seal(s, "", other, scope)
		s.Open(&second, "a", texts[1], &scope)
	}
	if first != target {
		t.Errorf("after other memory was used: got %+v, want %+v", first, target)
	}
	copied := first
	copied.Path, copied.Query = strings.Clone(first.Path), strings.Clone(first.Query)
	for i := range 10 {
		want := []Target{other, target}[i%2]
		if got, ok := s.Open(&buf, "a", texts[1-i%2], &scope); !ok || got != want {
			t.Errorf("use %d of one buffer: got %+v %v, want %+v", i, got, ok, want)
		}
	}
	if copied.Path != target.Path || copied.Query != target.Query {
		t.Errorf("a copy changed: got %+v", copied)
	}
}

func TestSealer_IsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	s, scope := newTestSealer("a", "b"), someScope()
	var wg sync.WaitGroup
	for worker := range uint64(8) {
		wg.Go(func() {
			var buf Buffer
			target := someTarget()
			for i := range uint64(200) {
				target.Version = worker<<32 | i
				text := seal(s, []string{"a", "b"}[i%2], target, scope)
				if got, ok := s.Open(&buf, "b", text, &scope); !ok || got != target {
					t.Errorf("got %+v %v, want %+v", got, ok, target)
				}
			}
		})
	}
	wg.Wait()
}

func TestAppendXOR_IsTheCounterModeOfTheStandardLibrary(t *testing.T) {
	t.Parallel()
	block, err := aes.NewCipher(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	for carries := range aes.BlockSize + 1 {
		iv := []byte("the first counter")[:aes.BlockSize]
		for i := range carries {
			iv[len(iv)-1-i] = 0xff
		}
		for size := range 5 * aes.BlockSize {
			text := bytes.Repeat([]byte("text"), size)[:size]
			want := make([]byte, size)
			cipher.NewCTR(block, iv).XORKeyStream(want, text)
			for _, before := range []string{"", "before"} {
				got, found := bytes.CutPrefix(appendXOR([]byte(before), block, iv, text), []byte(before))
				if !found || !bytes.Equal(got, want) {
					t.Fatalf("%d bytes by %x: got %x, want %x", size, iv, got, want)
				}
			}
		}
	}
}

func TestIsReference(t *testing.T) {
	t.Parallel()
	least := strings.Repeat("a", MinChars)
	for name, tc := range map[string]struct {
		segment string
		want    bool
	}{
		"empty":                 {"", false},
		"a user's folder":       {"user", false},
		"one character less":    {least[1:], false},
		"the shortest":          {least, true},
		"of any length":         {strings.Repeat("a", MaxChars+1), true},
		"all characters":        {alphabet, true},
		"with the tilde":        {"~" + least, false},
		"a dot":                 {least + ".", false},
		"a ticket":              {"a.AQIDBAUGBwgJCgsMDQ4P_2qxO4D-3LqYnolzPpUV-h39vfloB", false},
		"percent-encoded":       {least + "%41", false},
		"padded":                {least + "=", false},
		"of the other alphabet": {least + "+/", false},
		"a newline":             {least + "\n", false},
		"beyond ASCII":          {least + "é", false},
	} {
		if got := IsReference(tc.segment); got != tc.want {
			t.Errorf("%s: IsReference(%q) is %v, want %v", name, tc.segment, got, tc.want)
		}
	}
	for c := range 256 {
		if got, want := IsReference(least+string([]byte{byte(c)})), strings.IndexByte(alphabet, byte(c)) >= 0; got != want {
			t.Errorf("with byte %d: %v, want %v", c, got, want)
		}
	}
}
