package origin

import (
	"context"
	"errors"
	"io"
	"time"
)

// Stream is the answer to a request for media: a body in memory, or one that is still arriving. It serves one viewer
// and is not safe for concurrent use. Close it.
type Stream struct {
	// Header is never nil and is shared: it must not be written to.
	*Header
	// Status is 200, 206, 304 or 416.
	Status int
	// ContentRange is the Content-Range of a 206 or 416.
	ContentRange string
	// ContentLength is the length of the body, or -1 if the origin has not said. After Head it is the length that a GET
	// would give.
	ContentLength int64
	// Fetched is the Object's.
	Fetched time.Time
	// Stale says that the origin failed and that this is an expired copy.
	Stale bool

	object *Object
	body   []byte // what is handed out next
	live   *follower
}

// Object returns the object if the answer is all of it, as it is in memory. Its Body is what Bytes would return. After
// Head its body is not to be sent.
func (s *Stream) Object() (*Object, bool) { return s.object, s.object != nil }

// Bytes returns the whole body of the answer if it is in memory, to be sent in one write. It must not be written to.
func (s *Stream) Bytes() ([]byte, bool) { return s.body, s.live == nil }

// Ready reports whether Next would return at once. If not, now is the time to flush what was written.
func (s *Stream) Ready() bool { return len(s.body) > 0 || s.live == nil || s.live.ready() }

// Next returns the next bytes of the body, as many as there are, without copying them, and waits if there are none. At
// the end it returns io.EOF. The bytes stay valid and must not be written to. An error before the end means that the
// viewer must see a broken transfer: the cause is the viewer's own context, an *UnreachableError, or [ErrTooSlow].
func (s *Stream) Next() ([]byte, error) {
	if len(s.body) > 0 {
		data := s.body
		s.body = nil
		return data, nil
	}
	if s.live == nil {
		return nil, io.EOF
	}
	return s.live.next()
}

// Read copies what Next would return.
func (s *Stream) Read(p []byte) (int, error) {
	if len(s.body) == 0 {
		data, err := s.Next()
		if err != nil {
			return 0, err
		}
		s.body = data
	}
	n := copy(p, s.body)
	s.body = s.body[n:]
	return n, nil
}

// WriteTo writes the rest of the body to w. Before it waits for more it calls w's Flush, if there is one, so that the
// viewer gets what there is before the origin has finished.
func (s *Stream) WriteTo(w io.Writer) (int64, error) {
	var written int64
	for {
		if !s.Ready() {
			if err := flush(w); err != nil {
				return written, err
			}
		}
		data, err := s.Next()
		if errors.Is(err, io.EOF) {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		n, err := w.Write(data)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
}

// Close ends the viewer's interest. It may be called more than once.
func (s *Stream) Close() error {
	if s.live != nil {
		s.live.flight.leave(s.live)
		s.live = nil
	}
	s.body = nil
	return nil
}

func flush(w io.Writer) error {
	switch f := w.(type) {
	case interface{ FlushError() error }:
		return f.FlushError()
	case interface{ Flush() error }:
		return f.Flush()
	case interface{ Flush() }:
		f.Flush()
	}
	return nil
}

// follower is one viewer's place in the body of a flight.
type follower struct {
	flight *flight
	ctx    context.Context // the viewer's: io.Reader leaves no other way for it
	off    int64
	end    int64 // -1: where the body ends
	cut    bool  // it held back the others for too long
}

// follow gives a viewer who has entered a place to read [lo, hi) from.
func (f *flight) follow(ctx context.Context, lo, hi int64) *follower {
	fo := &follower{flight: f, ctx: ctx, off: lo, end: hi}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.followers == nil {
		f.followers = make(map[*follower]struct{})
	}
	f.followers[fo] = struct{}{}
	return fo
}

func (fo *follower) ready() bool {
	fo.flight.mu.Lock()
	defer fo.flight.mu.Unlock()
	return fo.flight.ended || fo.off == fo.end || len(fo.flight.body.at(fo.off)) > 0
}

func (fo *follower) next() ([]byte, error) {
	f := fo.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		if fo.off == fo.end {
			return nil, io.EOF
		}
		if fo.cut {
			return nil, ErrTooSlow
		}
		if data := f.body.at(fo.off); len(data) > 0 {
			return fo.take(data), nil
		}
		if f.ended {
			return nil, fo.verdict()
		}
		if err := f.await(fo.ctx); err != nil {
			return nil, err
		}
	}
}

// take moves the place behind data, as far as the viewer wants it. The flight's lock is held.
func (fo *follower) take(data []byte) []byte {
	if fo.end >= 0 {
		data = data[:min(int64(len(data)), fo.end-fo.off)]
	}
	fo.off += int64(len(data))
	if fo.flight.body.passing {
		fo.flight.body.moved()
	}
	return data
}

// verdict is why there is nothing more. The flight's lock is held.
func (fo *follower) verdict() error {
	switch {
	case fo.flight.err != nil:
		return fo.flight.err
	case fo.end >= 0:
		return io.ErrUnexpectedEOF
	default:
		return io.EOF
	}
}
