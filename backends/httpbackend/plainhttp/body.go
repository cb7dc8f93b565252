package plainhttp

import (
	"errors"
	"io"
	"sync"
)

// body is an answer's body. Its end, or Close, ends the call. Read and Close may be called at once.
type body struct {
	from   io.Reader
	conn   *conn
	isKept bool

	mu      sync.Mutex // held while reading
	err     error      // of the last read
	closing sync.Once
}

// Read reads from the body. At its end the connection is kept for the next call.
func (b *body) Read(p []byte) (int, error) {
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
	b.closing.Do(func() { b.conn.end(b.isKept && isEnd) })
	return n, err
}

var errClosed = errors.New("read after close")

// Close closes the connection, unless the body was read to its end.
func (b *body) Close() error {
	b.closing.Do(b.conn.close)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = errClosed
	}
	return nil
}
