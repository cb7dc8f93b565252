package plainhttp

import (
	"errors"
	"io"
	"sync"
)

// Body is an answer's body. Its end, or Close, ends the call. Its methods may be called at once.
type Body struct {
	from   io.Reader
	conn   *conn
	isKept bool

	mu  sync.Mutex // held while reading
	err error      // of the last read

	ending  sync.Mutex
	isEnded bool // the connection is no longer this call's
}

// Detach lets the call go on when the context of its request ends.
func (b *Body) Detach() {
	b.ending.Lock()
	defer b.ending.Unlock()
	if !b.isEnded && b.conn.detach() {
		b.conn.detach = func() bool { return true }
	}
}

// Abort ends the call as the end of its context does: a read that waits fails.
func (b *Body) Abort() {
	b.ending.Lock()
	defer b.ending.Unlock()
	if !b.isEnded {
		b.conn.abort()
	}
}

// end ends the call, once.
func (b *Body) end(isKept bool) {
	b.ending.Lock()
	defer b.ending.Unlock()
	if b.isEnded {
		return
	}
	b.isEnded = true
	b.conn.end(isKept)
}

// Read reads from the body. At its end the connection is kept for the next call.
func (b *Body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.from.Read(p)
	if err == nil {
		return n, nil
	}
	isEnd := errors.Is(err, io.EOF)
	if !isEnd {
		err = causeOf(b.conn.ctx, err)
	}
	b.err = err
	b.end(b.isKept && isEnd)
	return n, err
}

var errClosed = errors.New("read after close")

// Close closes the connection, unless the body was read to its end.
func (b *Body) Close() error {
	b.end(false)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = errClosed
	}
	return nil
}
