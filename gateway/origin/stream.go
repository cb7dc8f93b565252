package origin

import (
	"context"
	"errors"
	"io"
	"time"
)

// Stream is the response to a request for media: a body in memory, or one that is still arriving. It serves one viewer
// and is not safe for concurrent use. Close it.
type Stream struct {
	// Header is never nil and is shared: it must not be written to.
	*Header
	// Status is 200, 206, 304 or 416.
	Status int
	// ContentRange is the Content-Range of a 206 or 416.
	ContentRange string
	// ContentLength is the length of the body, or -1 if the origin has not stated it. For Head it is the length of the
	// body of a GET.
	ContentLength int64
	// Fetched is Object.Fetched.
	Fetched time.Time
	// Stale reports that the origin failed and that this is an expired copy.
	Stale bool

	object *Object
	// isPart reports that the bytes are of a range as the origin sent it.
	isPart bool
	body   []byte // the bytes that Next returns
	reader *reader
}

// Object returns the object if the response is the whole object from memory. Its Body equals Bytes. For Head its body
// must not be sent.
func (s *Stream) Object() (*Object, bool) { return s.object, s.object != nil }

// Bytes returns the whole body if it is in memory, to be sent in one write. The caller must not modify it.
func (s *Stream) Bytes() ([]byte, bool) { return s.body, s.reader == nil }

// IsReady reports whether Next would return at once. If not, the caller should flush before it calls Next.
func (s *Stream) IsReady() bool { return len(s.body) > 0 || s.reader == nil || s.reader.hasNext() }

// Next returns the available bytes of the body without copying them, and waits if there are none. At the end it returns
// io.EOF. The bytes stay valid and must not be modified. After any other error the viewer must see a broken transfer. The
// cause is the viewer's context, an *UnreachableError, or [ErrTooSlow].
func (s *Stream) Next() ([]byte, error) {
	if len(s.body) > 0 {
		data := s.body
		s.body = nil
		return data, nil
	}
	if s.reader == nil {
		return nil, io.EOF
	}
	return s.reader.next()
}

// Read implements io.Reader. It copies the bytes of Next.
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

// WriteTo writes the rest of the body to w. Before it waits for more bytes it flushes w, if w has a Flush, so that the
// viewer gets the available bytes before the origin has finished.
func (s *Stream) WriteTo(w io.Writer) (int64, error) {
	var written int64
	for {
		if !s.IsReady() {
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

// Close leaves the fetch. It may be called more than once.
func (s *Stream) Close() error {
	if s.reader != nil {
		s.reader.fetch.leave(s.reader)
		s.reader = nil
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

// reader is the position of one viewer in the body of a fetch.
type reader struct {
	fetch      *fetch
	ctx        context.Context // the viewer's; io.Reader has no parameter for it
	offset     int64
	end        int64 // -1: the end of the body
	wasDropped bool  // it held back the others for too long
}

// newReader returns a reader of the bytes [lo, hi) for a viewer that has joined.
func (f *fetch) newReader(ctx context.Context, lo, hi int64) *reader {
	r := &reader{fetch: f, ctx: ctx, offset: lo, end: hi}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.readers == nil {
		f.readers = make(map[*reader]struct{})
	}
	f.readers[r] = struct{}{}
	return r
}

func (r *reader) hasNext() bool {
	r.fetch.mu.Lock()
	defer r.fetch.mu.Unlock()
	return r.fetch.isDone || r.offset == r.end || len(r.fetch.body.at(r.offset)) > 0
}

func (r *reader) next() ([]byte, error) {
	f := r.fetch
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		if r.offset == r.end {
			return nil, io.EOF
		}
		if r.wasDropped {
			return nil, ErrTooSlow
		}
		if data := f.body.at(r.offset); len(data) > 0 {
			return r.consume(data), nil
		}
		if f.isDone {
			return nil, r.endError()
		}
		if err := f.waitForChange(r.ctx); err != nil {
			return nil, err
		}
	}
}

// consume advances the offset and returns data up to the end of the range. The fetch's lock is held.
func (r *reader) consume(data []byte) []byte {
	if r.end >= 0 {
		data = data[:min(int64(len(data)), r.end-r.offset)]
	}
	r.offset += int64(len(data))
	if r.fetch.body.isPassThrough {
		r.fetch.body.notifyRoom()
	}
	return data
}

// endError returns why there are no more bytes. The fetch's lock is held.
func (r *reader) endError() error {
	switch {
	case r.fetch.err != nil:
		return r.fetch.err
	case r.end >= 0:
		return io.ErrUnexpectedEOF
	default:
		return io.EOF
	}
}
