package origin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
)

var errWrite = errors.New("write failed")

// newBodyFetch returns a fetch of one viewer whose body has arrived so far.
func newBodyFetch(t *testing.T, arrived string) *fetch {
	t.Helper()
	return &fetch{
		cache: newSmallCache(t), joined: 1, ctx: t.Context(), cancel: func(error) {},
		body: buffer{flat: []byte(arrived), size: int64(len(arrived)), hasRoom: make(chan struct{}, 1)},
	}
}

func TestReader_Next_Bounds(t *testing.T) {
	t.Parallel()
	errBroken := errors.New("broken")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		lo, hi     int64
		isDone     bool
		err        error
		wasDropped bool
		want       string
		wantEnd    error
	}{
		"all":                            {0, -1, true, nil, false, "0123456789", io.EOF},
		"of a broken body":               {0, -1, true, errBroken, false, "0123456789", errBroken},
		"while the origin waits":         {0, -1, false, nil, false, "0123456789", context.Canceled},
		"a part":                         {2, 5, false, nil, false, "234", io.EOF},
		"a part of a broken body":        {2, 5, true, errBroken, false, "234", io.EOF},
		"a part up to the end":           {9, 10, true, nil, false, "9", io.EOF},
		"a part that has not arrived":    {5, 12, false, nil, false, "56789", context.Canceled},
		"a part that never arrives":      {5, 12, true, nil, false, "56789", io.ErrUnexpectedEOF},
		"a part that breaks off":         {5, 12, true, errBroken, false, "56789", errBroken},
		"a part from the end on":         {10, 12, true, nil, false, "", io.ErrUnexpectedEOF},
		"nothing":                        {0, 0, false, nil, false, "", io.EOF},
		"dropped":                        {0, -1, true, nil, true, "", ErrTooSlow},
		"dropped, though all is read":    {5, 5, true, nil, true, "", io.EOF},
		"the first byte, of all arrived": {0, 1, false, nil, false, "0", io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newBodyFetch(t, "0123456789")
			f.isDone, f.err = test.isDone, test.err
			r := f.newReader(gone, test.lo, test.hi)
			r.wasDropped = test.wasDropped
			if _, ok := f.readers[r]; !ok || len(f.readers) != 1 {
				t.Errorf("got %d readers", len(f.readers))
			}
			var got []byte
			var err error
			for err == nil {
				if !r.hasNext() && !errors.Is(test.wantEnd, context.Canceled) {
					t.Error("not ready, though it does not wait")
				}
				var data []byte
				data, err = r.next()
				got = append(got, data...)
			}
			if string(got) != test.want || !errors.Is(err, test.wantEnd) {
				t.Errorf("got %q, %v; want %q, %v", got, err, test.want, test.wantEnd)
			}
			if errors.Is(test.wantEnd, context.Canceled) && r.hasNext() {
				t.Error("ready, though it waits")
			}
		})
	}
}

func TestReader_Consume_NotifiesFetchOfPassThrough(t *testing.T) {
	t.Parallel()
	for far, want := range map[bool]int{false: 0, true: 1} {
		f := newBodyFetch(t, "0123456789")
		f.body.isPassThrough = far
		r := f.newReader(t.Context(), 0, -1)
		if data, err := r.next(); string(data) != "0123456789" || err != nil || r.offset != 10 {
			t.Errorf("got %q, %v, offset %d", data, err, r.offset)
		}
		if got := len(f.body.hasRoom); got != want {
			t.Errorf("passing through %v: %d notices, want %d", far, got, want)
		}
	}
}

func TestStream_InMemory(t *testing.T) {
	t.Parallel()
	s := Stream{body: []byte("0123456789")}
	if _, ok := s.Object(); ok {
		t.Error("an object without one")
	}
	if got, ok := s.Bytes(); string(got) != "0123456789" || !ok {
		t.Errorf("Bytes: got %q, %v", got, ok)
	}
	p := make([]byte, 4)
	for _, want := range []string{"0123", "4567"} {
		if n, err := s.Read(p); string(p[:n]) != want || err != nil || !s.IsReady() {
			t.Errorf("Read: got %q, %v; want %q", p[:n], err, want)
		}
	}
	if got, err := s.Next(); string(got) != "89" || err != nil || !s.IsReady() {
		t.Errorf("Next: got %q, %v", got, err)
	}
	if got, err := s.Next(); got != nil || !errors.Is(err, io.EOF) {
		t.Errorf("Next at the end: got %q, %v", got, err)
	}
	if n, err := s.Read(p); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("Read at the end: got %d, %v", n, err)
	}
	object := &Object{}
	s = Stream{object: object, body: []byte("x")}
	if got, ok := s.Object(); got != object || !ok {
		t.Errorf("Object: got %v, %v", got, ok)
	}
	if err := s.Close(); err != nil || s.body != nil {
		t.Errorf("Close: got %v, body %q", err, s.body)
	}
}

func TestStream_Arriving(t *testing.T) {
	t.Parallel()
	f := newBodyFetch(t, "0123456789")
	s := Stream{reader: f.newReader(t.Context(), 0, -1)}
	if _, ok := s.Bytes(); ok || !s.IsReady() {
		t.Errorf("in memory %v, ready %v", ok, s.IsReady())
	}
	p := make([]byte, 4)
	if n, err := s.Read(p); string(p[:n]) != "0123" || err != nil || !s.IsReady() {
		t.Errorf("Read: got %q, %v", p[:n], err)
	}
	if got, err := s.Next(); string(got) != "456789" || err != nil || s.IsReady() {
		t.Errorf("Next: got %q, %v, ready %v", got, err, s.IsReady())
	}
	if err := s.Close(); err != nil || s.reader != nil || f.joined != 0 || len(f.readers) != 0 {
		t.Errorf("Close: got %v; %d joined, %d readers", err, f.joined, len(f.readers))
	}
	if err := s.Close(); err != nil || f.joined != 0 || !s.IsReady() {
		t.Errorf("Close again: got %v; %d joined", err, f.joined)
	}
}

// sink is a writer that has room for some writes and flushes.
type sink struct {
	bytes.Buffer
	writes, flushes int
}

func (s *sink) Write(p []byte) (int, error) {
	if s.writes--; s.writes < 0 {
		n, _ := s.Buffer.Write(p[:1])
		return n, errWrite
	}
	return s.Buffer.Write(p)
}

func (s *sink) Flush() error {
	if s.flushes--; s.flushes < 0 {
		return errWrite
	}
	return nil
}

func TestStream_WriteTo_Bounds(t *testing.T) {
	t.Parallel()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		arrived string
		isDone  bool
		to      sink
		want    string
		flushes int
		wantErr error
	}{
		"all":                     {"0123", true, sink{writes: 9}, "0123", 0, nil},
		"nothing":                 {"", true, sink{}, "", 0, nil},
		"flushed before it waits": {"0123", false, sink{writes: 9, flushes: 1}, "0123", 0, context.Canceled},
		"a failed flush":          {"0123", false, sink{writes: 9}, "0123", -1, errWrite},
		"a failed write":          {"0123", true, sink{}, "0", 0, errWrite},
	} {
		f := newBodyFetch(t, test.arrived)
		f.isDone = test.isDone
		s := Stream{reader: f.newReader(gone, 0, -1)}
		n, err := s.WriteTo(&test.to)
		if got := test.to.String(); got != test.want || n != int64(len(test.want)) || !errors.Is(err, test.wantErr) || test.to.flushes != test.flushes {
			t.Errorf("%s: got %q, %d, %v; %d flushes left", name, got, n, err, test.to.flushes)
		}
	}
	s := Stream{body: []byte("0123")}
	to := sink{writes: 1}
	if n, err := s.WriteTo(&to); n != 4 || err != nil || to.String() != "0123" {
		t.Errorf("in memory: got %q, %d, %v", to.String(), n, err)
	}
}

type (
	errorFlusher struct{ io.Writer }
	plainFlusher struct {
		io.Writer
		count *int
	}
)

func (errorFlusher) FlushError() error { return errWrite }
func (f plainFlusher) Flush()          { *f.count++ }

func TestFlush(t *testing.T) {
	t.Parallel()
	count := 0
	for name, test := range map[string]struct {
		w    io.Writer
		want error
	}{
		"a writer": {io.Discard, nil}, "with FlushError": {errorFlusher{}, errWrite}, "with Flush and its error": {&sink{}, errWrite},
		"with Flush": {plainFlusher{count: &count}, nil},
	} {
		if err := flush(test.w); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
	if count != 1 {
		t.Errorf("flushed %d times", count)
	}
}
