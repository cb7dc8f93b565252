package origin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"usher/backends/setting"
)

// TestOrigin_Media_LargestObject_Stored fetches bodies of cache.max_object_size, and of one byte more, with a length and without,
// plain and encoded.
func TestOrigin_Media_LargestObject_Stored(t *testing.T) {
	t.Parallel()
	const largest = int(setting.MiB)
	for name, test := range map[string]struct {
		size       int
		hasLength  bool
		isGzip     bool
		wantStored bool
	}{
		"as large, with its length":    {largest, true, false, true},
		"as large, without a length":   {largest, false, false, true},
		"as large, encoded":            {largest, true, true, true},
		"one byte more, with a length": {largest + 1, true, false, false},
		"one byte more, without":       {largest + 1, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole := randomBody(test.size)
			sent := whole
			if test.isGzip {
				sent = compress(t, "gzip", whole)
			}
			o := newFixture(t, func(c *Config) { c.Cache.MaxObjectSize = setting.MiB }, []string{serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "video/mp2t")
				if test.isGzip {
					w.Header().Set("Content-Encoding", "gzip")
				}
				if test.hasLength {
					w.Header().Set("Content-Length", strconv.Itoa(len(sent)))
				}
				_, _ = w.Write(sent[:len(sent)/2])
				_ = http.NewResponseController(w).Flush()
				_, _ = w.Write(sent[len(sent)/2:])
			})})
			if _, got := mustMedia(t, o, Request{Path: "/seg.ts"}); got != string(whole) {
				t.Fatalf("got %d bytes, want the %d of the origin", len(got), len(whole))
			}
			o.cache.entries.CleanUp()
			if s := o.cache.Stats(); (s.Entries == 1) != test.wantStored || s.InFlight != 0 {
				t.Errorf("%d entries, %d bytes in flight; want it stored: %v", s.Entries, s.InFlight, test.wantStored)
			}
		})
	}
}

func TestHeader_IsTypedAsMedia(t *testing.T) {
	t.Parallel()
	for contentType, want := range map[string]bool{
		"": false, "text/plain": false, "application/octet-stream": false, "application/vnd.apple.mpegurl": false,
		"audio/x-mpegurl": false, "AUDIO/MPEGURL": false, "video/mpegurl": false,
		"audio/aac": true, "Video/MP2T": true, "image/jpeg": true,
	} {
		if got := (&Header{ContentType: contentType}).isTypedAsMedia(); got != want {
			t.Errorf("%q: got %v, want %v", contentType, got, want)
		}
	}
}

// newSmallCache returns a cache of objects of up to a MiB, with as much room for bodies in flight.
func newSmallCache(t *testing.T) *Cache {
	t.Helper()
	c, err := NewCache(CacheConfig{MaxSize: 4 * setting.MiB, MaxObjectSize: setting.MiB}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// newChunks returns a buffer of chunks that holds the body.
func newChunks(c *Cache, body []byte) *buffer {
	b := &buffer{}
	for len(body) > 0 {
		if b.freeSpace() == nil {
			c.reserveAnyway(chunkSize)
			b.grow(c)
		}
		n := copy(b.freeSpace(), body)
		b.advance(n)
		body = body[n:]
	}
	return b
}

func TestBuffer_Prepare_Bounds(t *testing.T) {
	t.Parallel()
	const largest = int64(setting.MiB)
	for name, test := range map[string]struct {
		length, occupied  int64
		isDecoded         bool
		wantFlat, wantFar bool
	}{
		"as large as is stored":    {largest, 0, false, true, false},
		"one byte more":            {largest + 1, 0, false, false, true},
		"one byte":                 {1, 0, false, true, false},
		"no byte":                  {0, 0, false, false, false},
		"of unknown length":        {-1, 0, true, false, false},
		"in all the room":          {10, largest - 10, false, true, false},
		"one byte more than there": {10, largest - 9, false, false, false},
	} {
		c, b := newSmallCache(t), buffer{}
		c.reserveAnyway(test.occupied)
		b.prepare(c, test.length, test.isDecoded)
		if (b.flat != nil) != test.wantFlat || b.isPassThrough != test.wantFar || b.isDecoded != test.isDecoded || cap(b.hasRoom) != 1 {
			t.Errorf("%s: got flat %v, passing through %v, decoded %v", name, b.flat != nil, b.isPassThrough, b.isDecoded)
		}
		want := int64(0)
		if test.wantFlat {
			want = test.length
		}
		if b.reserved != want || c.Stats().InFlight != test.occupied+want || int64(cap(b.flat)) != want {
			t.Errorf("%s: reserved %d, in flight %d of a slice of %d", name, b.reserved, c.Stats().InFlight, cap(b.flat))
		}
	}
}

func TestBuffer_At_Bounds(t *testing.T) {
	t.Parallel()
	const tail = 100
	body := randomBody(2*chunkSize + tail)
	size := int64(len(body))
	c := newSmallCache(t)
	chunks := newChunks(c, body)
	late := newChunks(c, body)
	if !late.dropBefore(c, chunkSize) {
		t.Fatal("nothing dropped")
	}
	flat := &buffer{flat: append(make([]byte, 0, size+5), body...), size: size}
	for name, test := range map[string]struct {
		b         *buffer
		off, want int64
	}{
		"the first":            {chunks, 0, chunkSize},
		"the second":           {chunks, 1, chunkSize - 1},
		"the last of a chunk":  {chunks, chunkSize - 1, 1},
		"the next chunk":       {chunks, chunkSize, chunkSize},
		"its last":             {chunks, 2*chunkSize - 1, 1},
		"the rest":             {chunks, 2 * chunkSize, tail},
		"the middle of it":     {chunks, 2*chunkSize + 40, tail - 40},
		"the last":             {chunks, size - 1, 1},
		"the end":              {chunks, size, 0},
		"dropped":              {late, 0, 0},
		"the last dropped":     {late, chunkSize - 1, 0},
		"the first kept":       {late, chunkSize, chunkSize},
		"the rest, kept":       {late, 2*chunkSize + 1, tail - 1},
		"flat":                 {flat, 0, size},
		"flat, later":          {flat, 7, size - 7},
		"flat, the last":       {flat, size - 1, 1},
		"flat, the end":        {flat, size, 0},
		"flat, beyond the end": {flat, size + 1, 0},
	} {
		got := test.b.at(test.off)
		if (got == nil) != (test.want == 0) || test.want > 0 && !bytes.Equal(got, body[test.off:test.off+test.want]) {
			t.Errorf("%s: got %d bytes, want %d", name, len(got), test.want)
		}
	}
	if got := flat.at(0); cap(got) != len(got) {
		t.Errorf("a reader gets %d bytes that have not arrived", cap(got)-len(got))
	}
}

func TestBuffer_FreeSpace_Bounds(t *testing.T) {
	t.Parallel()
	c := newSmallCache(t)
	late := newChunks(c, randomBody(2*chunkSize+7))
	late.dropBefore(c, chunkSize)
	lateFull := newChunks(c, randomBody(2*chunkSize))
	lateFull.dropBefore(c, chunkSize)
	empty := newChunks(c, randomBody(chunkSize))
	empty.grow(c)
	for name, test := range map[string]struct {
		b    *buffer
		want int
	}{
		"nothing":                  {&buffer{}, 0},
		"flat":                     {&buffer{flat: make([]byte, 0, 10)}, 10},
		"flat, one byte left":      {&buffer{flat: make([]byte, 9, 10), size: 9}, 1},
		"flat, full":               {&buffer{flat: make([]byte, 10), size: 10}, 1},
		"a byte of a chunk":        {newChunks(c, randomBody(1)), chunkSize - 1},
		"a chunk but one byte":     {newChunks(c, randomBody(chunkSize-1)), 1},
		"a chunk":                  {newChunks(c, randomBody(chunkSize)), 0},
		"a chunk and a byte":       {newChunks(c, randomBody(chunkSize+1)), chunkSize - 1},
		"three chunks":             {newChunks(c, randomBody(3*chunkSize)), 0},
		"a chunk and an empty one": {empty, chunkSize},
		"after a drop":             {late, chunkSize - 7},
		"full after a drop":        {lateFull, 0},
	} {
		if got := test.b.freeSpace(); len(got) != test.want || (got == nil) != (test.want == 0) {
			t.Errorf("%s: got %d bytes, want %d", name, len(got), test.want)
		}
	}
	full := &buffer{flat: make([]byte, 10), size: 10}
	if got := full.freeSpace(); &got[0] != &full.scratch[0] {
		t.Error("the space after the last byte is not the scratch")
	}
	last := &buffer{flat: make([]byte, 9, 10), size: 9}
	if got := last.freeSpace(); &got[0] != &last.flat[:10][9] {
		t.Error("the space of the last byte is not the body's")
	}
}

func TestBuffer_DropBefore_Bounds(t *testing.T) {
	t.Parallel()
	const chunks = 3
	for off, want := range map[int64]int64{
		0: 0, 1: 0, chunkSize - 1: 0, chunkSize: 1, chunkSize + 1: 1, 2*chunkSize - 1: 1, 2 * chunkSize: 2, chunks * chunkSize: 3, 9 * chunkSize: 3,
	} {
		c := newSmallCache(t)
		b := newChunks(c, randomBody(chunks*chunkSize))
		got := b.dropBefore(c, off)
		left := chunks - want
		if got != (want > 0) || b.base != want*chunkSize || int64(len(b.chunks)) != left || b.reserved != left*chunkSize ||
			c.Stats().InFlight != left*chunkSize {
			t.Errorf("before %d: got %v, base %d, %d chunks, %d reserved, %d in flight; want %d dropped", off, got, b.base, len(b.chunks),
				b.reserved, c.Stats().InFlight, want)
		}
	}
}

func TestBuffer_DropBefore_ByAndBy(t *testing.T) {
	t.Parallel()
	c := newSmallCache(t)
	b := newChunks(c, randomBody(4*chunkSize))
	for off, want := range []bool{0: false, 1: true, 2: true, 3: true} {
		if got := b.dropBefore(c, int64(off)*chunkSize); got != want {
			t.Errorf("before chunk %d: got %v", off, got)
		}
	}
	if b.base != 3*chunkSize || len(b.chunks) != 1 {
		t.Errorf("got base %d and %d chunks", b.base, len(b.chunks))
	}
}

func TestBuffer_Bytes_Bounds(t *testing.T) {
	t.Parallel()
	c := newSmallCache(t)
	for _, n := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 2 * chunkSize, 2*chunkSize + 5} {
		body := randomBody(n)
		got := newChunks(c, body).bytes()
		requireSameBytes(t, got, body)
		if cap(got) != n {
			t.Errorf("%d bytes take %d", n, cap(got))
		}
		requireSameBytes(t, (&buffer{flat: body}).bytes(), body)
	}
}

func TestBuffer_EndsReservation(t *testing.T) {
	t.Parallel()
	c := newSmallCache(t)
	body := randomBody(chunkSize + 5)
	replaced, discarded := newChunks(c, body), newChunks(c, body)
	if got := c.Stats().InFlight; got != 4*chunkSize {
		t.Fatalf("in flight: got %d, want four chunks", got)
	}
	replaced.replaceBody(c, body)
	if got := c.Stats().InFlight; got != 2*chunkSize || replaced.reserved != 0 || replaced.chunks != nil || replaced.size != int64(len(body)) {
		t.Errorf("replaced: %d in flight, %d reserved, size %d", got, replaced.reserved, replaced.size)
	}
	discarded.discard(c)
	if got := c.Stats().InFlight; got != 0 || discarded.reserved != 0 || discarded.base != int64(len(body)) || discarded.at(0) != nil {
		t.Errorf("discarded: %d in flight, %d reserved, base %d", got, discarded.reserved, discarded.base)
	}
}

func TestBuffer_Grow_PassThrough(t *testing.T) {
	t.Parallel()
	for far, want := range map[bool]int64{false: 0, true: chunkSize} {
		c, b := newSmallCache(t), buffer{isPassThrough: far}
		b.grow(c)
		if got := c.Stats().InFlight; got != want || b.reserved != chunkSize || len(b.chunks) != 1 || len(b.chunks[0]) != chunkSize {
			t.Errorf("passing through %v: got %d in flight, %d reserved", far, got, b.reserved)
		}
	}
}

func TestFetch_NextSpace_Bounds(t *testing.T) {
	t.Parallel()
	const largest = int64(setting.MiB)
	for name, test := range map[string]struct {
		size, occupied   int64
		isDecoded        bool
		wantFar, wantErr bool
	}{
		"the first":                    {0, 0, false, false, false},
		"a body as large as is stored": {largest, 0, false, false, false},
		"one chunk more":               {largest + chunkSize, 0, false, true, false},
		"no room":                      {chunkSize, largest, false, true, false},
		"room for a chunk":             {chunkSize, largest - chunkSize, false, false, false},
		"a byte less":                  {chunkSize, largest - chunkSize + 1, false, true, false},
		"decoded, as large":            {largest, 0, true, false, false},
		"decoded, more":                {largest + 1, 0, true, false, true},
		"decoded, a chunk more":        {largest + chunkSize, 0, true, false, true},
	} {
		c := newSmallCache(t)
		addr := newAddress(mustURL(t, "http://a"), 1, false)
		addr.connSlots[classMedia] <- struct{}{}
		f := &fetch{cache: c, ctx: t.Context(), conn: &connSlot{addr: addr, class: classMedia}}
		f.body = *newChunks(c, nil)
		f.body.size, f.body.isDecoded = test.size, test.isDecoded
		if f.body.size > 0 { // the last chunk is full and all others are read
			f.body.base = (f.body.size - 1) / chunkSize * chunkSize
			f.body.chunks = [][]byte{make([]byte, chunkSize)}
		}
		c.reserveAnyway(test.occupied)
		free, err := f.nextSpace(time.Hour)
		if f.body.isPassThrough != test.wantFar || errors.Is(err, ErrTooLarge) != test.wantErr || err == nil && len(free) != chunkSize {
			t.Errorf("%s: got %d bytes, passing through %v, %v", name, len(free), f.body.isPassThrough, err)
		}
		if isMoved := len(addr.connSlots[classMedia]) == 0 && len(addr.connSlots[classLarge]) == 1; isMoved != test.wantFar {
			t.Errorf("%s: the connection is of large media %v, want %v", name, isMoved, test.wantFar)
		}
	}
}

func TestIsPlaylistStart_Bounds(t *testing.T) {
	t.Parallel()
	const mark = "\ufeff"
	blank := func(n int) string { return strings.Repeat(" ", n) }
	for _, test := range []struct {
		start               string
		isWhole, want, know bool
	}{
		{"", false, false, false},
		{"", true, false, true},
		{mark[:1], false, false, false},
		{mark[:2], false, false, false},
		{mark[:2], true, false, true},
		{mark, false, false, false},
		{mark, true, false, true},
		{"\xefx", false, false, true},
		{"xx", false, false, true},
		{blank(maxBlank), false, false, false},
		{blank(maxBlank + 1), false, false, true},
		{blank(maxBlank), true, false, true},
		{blank(maxBlank-1) + "#", false, false, false},
		{"#", false, false, false},
		{"#", true, false, true},
		{"#EXTM3", false, false, false},
		{"#EXTM3", true, false, true},
		{"#EXTX", false, false, true},
		{"EXT", false, false, true},
		{"#EXTM3U", false, false, false},
		{"#EXTM3U", true, true, true},
		{"#EXTM3X", false, false, true},
		{"#EXTM3X", true, false, true},
		{"#EXTM3XYZ", false, false, true},
		{"#EXTM3U8", false, false, true},
		{"#EXTM3U\n", false, true, true},
		{"#EXTM3U\r\n", false, true, true},
		{"#EXTM3U\t", false, true, true},
		{"#EXTM3U ", false, true, true},
		{"#EXTM3U\n#EXTINF", true, true, true},
		{" \t\r\n#EXTM3U\n", false, true, true},
		{mark + "#EXTM3U\n", false, true, true},
		{mark + "\n#EXTM3U\n", false, true, true},
		{mark + mark + "#EXTM3U\n", false, false, true},
		{"\n" + mark + "#EXTM3U\n", false, false, true},
	} {
		if got, known := isPlaylistStart([]byte(test.start), test.isWhole); got != test.want || known != test.know {
			t.Errorf("%q, whole %v: got %v, known %v; want %v, %v", test.start, test.isWhole, got, known, test.want, test.know)
		}
	}
}

func TestFetch_IsComplete_Bounds(t *testing.T) {
	t.Parallel()
	const largest = int64(setting.MiB)
	c := newSmallCache(t)
	for _, test := range []struct {
		base, size int64
		want       bool
	}{
		{0, 0, true}, {0, largest - 1, true}, {0, largest, true}, {0, largest + 1, false}, {1, 10, false}, {chunkSize, largest, false},
	} {
		f := &fetch{cache: c, body: buffer{base: test.base, size: test.size}}
		if got := f.isComplete(); got != test.want {
			t.Errorf("[%d, %d): got %v, want %v", test.base, test.size, got, test.want)
		}
	}
}

func TestFetch_WaitForRoom_Bounds(t *testing.T) {
	t.Parallel()
	errOver := errors.New("over")
	for name, test := range map[string]struct {
		size     int
		offset   int64
		wantBase int64
		want     error
	}{
		"within the window":            {passThroughWindow - 1, 0, 0, nil},
		"at its end, none read":        {passThroughWindow, 0, 0, errOver},
		"at its end, a chunk read":     {passThroughWindow, chunkSize, chunkSize, nil},
		"at its end, almost a chunk":   {passThroughWindow, chunkSize - 1, 0, errOver},
		"at its end, all read":         {passThroughWindow, passThroughWindow, passThroughWindow, nil},
		"within, a chunk read":         {passThroughWindow - 1, chunkSize, 0, nil},
		"a chunk more, one chunk read": {passThroughWindow + chunkSize, chunkSize, chunkSize, errOver},
		"a chunk more, two read":       {passThroughWindow + chunkSize, 2 * chunkSize, 2 * chunkSize, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newSmallCache(t)
			f := &fetch{cache: c, joined: 1, readers: map[*reader]struct{}{{offset: test.offset}: {}}}
			var cancel context.CancelCauseFunc
			f.ctx, cancel = context.WithCancelCause(t.Context())
			cancel(errOver) // who has to wait returns at once
			f.body = *newChunks(c, randomBody(test.size))
			f.mu.Lock()
			defer f.mu.Unlock()
			if err := f.waitForRoom(time.Hour); !errors.Is(err, test.want) || f.body.base != test.wantBase {
				t.Errorf("got %v, base %d; want %v, %d", err, f.body.base, test.want, test.wantBase)
			}
		})
	}
}

func TestFetch_SlowestOffset(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		joined  int
		readers []reader
		want    int64
	}{
		"no one":                        {0, nil, 100},
		"one":                           {1, []reader{{offset: 40}}, 40},
		"two":                           {2, []reader{{offset: 70}, {offset: 40}}, 40},
		"one who has just joined":       {2, []reader{{offset: 40}}, 0},
		"one at the end":                {1, []reader{{offset: 100}}, 100},
		"one further on, as of a range": {1, []reader{{offset: 130}}, 100},
		"one who was dropped":           {2, []reader{{offset: 70}, {offset: 40, wasDropped: true}}, 70},
	} {
		f := &fetch{joined: test.joined, readers: map[*reader]struct{}{}, body: buffer{size: 100}}
		for i := range test.readers {
			f.readers[&test.readers[i]] = struct{}{}
		}
		if got := f.slowestOffset(); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}

func TestFetch_DropSlowReaders_Bounds(t *testing.T) {
	t.Parallel()
	const base, size = chunkSize, 9 * chunkSize
	for name, test := range map[string]struct {
		offsets []int64
		want    []bool
	}{
		"no one starves":               {[]int64{base, size - 1}, []bool{false, false}},
		"one starves":                  {[]int64{base, size}, []bool{true, false}},
		"two starve":                   {[]int64{size, base, size}, []bool{false, true, false}},
		"the last of the first chunk":  {[]int64{base + chunkSize - 1, size}, []bool{true, false}},
		"the first of the next chunk":  {[]int64{base + chunkSize, size}, []bool{false, false}},
		"one in a later chunk as well": {[]int64{base, base + 3*chunkSize, size}, []bool{true, false, false}},
	} {
		f := &fetch{readers: map[*reader]struct{}{}, body: buffer{base: base, size: size}}
		readers := make([]reader, len(test.offsets))
		for i, off := range test.offsets {
			readers[i].offset = off
			f.readers[&readers[i]] = struct{}{}
		}
		f.dropSlowReaders()
		for i, want := range test.want {
			if readers[i].wasDropped != want {
				t.Errorf("%s: reader at %d dropped: %v, want %v", name, test.offsets[i], readers[i].wasDropped, want)
			}
		}
	}
}

func TestFetch_BeginsPlaylist(t *testing.T) {
	t.Parallel()
	errBroken := errors.New("broken")
	const list = "\n#EXTM3U\n#EXTINF:4,\n"
	broken := func(start string) io.Reader {
		return io.MultiReader(strings.NewReader(start), iotest.ErrReader(errBroken))
	}
	for name, test := range map[string]struct {
		body     io.Reader
		want     bool
		wantErr  error
		wantRead int64
	}{
		"a list":                       {strings.NewReader(list), true, nil, int64(len(list))},
		"byte by byte":                 {iotest.OneByteReader(strings.NewReader(list)), true, nil, int64(len("\n#EXTM3U\n"))},
		"with the end":                 {iotest.DataErrReader(strings.NewReader("#EXTM3U")), true, nil, 7},
		"with the end after it":        {strings.NewReader("#EXTM3U"), true, nil, 7},
		"a segment, byte by byte":      {iotest.OneByteReader(strings.NewReader("Gxy")), false, nil, 1},
		"nothing":                      {strings.NewReader(""), false, nil, 0},
		"broken off before it shows":   {broken("#EXT"), false, errBroken, 4},
		"broken off with the tag read": {broken("#EXTM3U"), false, errBroken, 7},
		"broken off after it shows":    {broken(list), true, nil, int64(len(list))},
		"broken off at once":           {broken(""), false, errBroken, 0},
	} {
		f := &fetch{cache: newSmallCache(t), ctx: t.Context()}
		f.prepareBody(-1, false)
		got, err := f.beginsPlaylist(test.body, 0, time.Hour)
		if got != test.want || !errors.Is(err, test.wantErr) || f.body.size != test.wantRead {
			t.Errorf("%s: got %v, %v after %d bytes; want %v, %v after %d", name, got, err, f.body.size, test.want, test.wantErr, test.wantRead)
		}
	}
}

func TestFetch_BeginsPlaylist_PartWithoutFirstBytes(t *testing.T) {
	t.Parallel()
	errBroken := errors.New("broken")
	for name, test := range map[string]struct {
		body     io.Reader
		wantErr  error
		wantRead int64
	}{
		"like a list, byte by byte": {iotest.OneByteReader(strings.NewReader("#EXTM3U\n")), nil, 1},
		"nothing":                   {strings.NewReader(""), nil, 0},
		"broken off at once":        {iotest.ErrReader(errBroken), errBroken, 0},
	} {
		f := &fetch{cache: newSmallCache(t), ctx: t.Context()}
		f.prepareBody(-1, false)
		got, err := f.beginsPlaylist(test.body, 1, time.Hour)
		if got || !errors.Is(err, test.wantErr) || f.body.size != test.wantRead {
			t.Errorf("%s: got %v, %v after %d bytes; want %v after %d", name, got, err, f.body.size, test.wantErr, test.wantRead)
		}
	}
}

func TestFetch_ReadBody(t *testing.T) {
	t.Parallel()
	errBroken := errors.New("broken")
	body := randomBody(2*chunkSize + 5)
	for name, test := range map[string]struct {
		reader  io.Reader
		length  int64
		wantErr error
	}{
		"of its length":           {bytes.NewReader(body), int64(len(body)), nil},
		"of unknown length":       {bytes.NewReader(body), -1, nil},
		"its end with the last":   {iotest.DataErrReader(bytes.NewReader(body)), -1, nil},
		"by halves":               {iotest.HalfReader(bytes.NewReader(body)), -1, nil},
		"longer than stated":      {bytes.NewReader(body), 0, nil},
		"broken off at its end":   {io.MultiReader(bytes.NewReader(body), iotest.ErrReader(errBroken)), -1, errBroken},
		"broken off, of a length": {io.MultiReader(bytes.NewReader(body), iotest.ErrReader(errBroken)), int64(len(body)), errBroken},
	} {
		f := &fetch{cache: newSmallCache(t), ctx: t.Context()}
		f.prepareBody(test.length, false)
		if err := f.readBody(test.reader, time.Hour); !errors.Is(err, test.wantErr) {
			t.Errorf("%s: got %v, want %v", name, err, test.wantErr)
		}
		requireSameBytes(t, f.body.bytes(), body)
	}
}
