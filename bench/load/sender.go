package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// sender is one connection.
type sender struct {
	index  int
	o      *Options
	start  time.Time
	from   time.Time
	to     time.Time
	result Result

	conn     net.Conn
	stop     func() bool // ends the watch of ctx for conn
	reader   *bufio.Reader
	deadline time.Time // of conn
	response fasthttp.Response
}

// bufferSize has a megabyte read in a few calls, and stays in the processor's cache.
const bufferSize = 64 << 10

func newSender(index int, o *Options, start, from, to time.Time) *sender {
	s := &sender{index: index, o: o, start: start, from: from, to: to, reader: bufio.NewReaderSize(nil, bufferSize)}
	s.result.Failures = make(map[string]uint64)
	s.response.Header.DisableNormalizing()
	return s
}

func (s *sender) run(ctx context.Context) {
	for n := 0; s.o.Limit == 0 || n < s.o.Limit; n++ {
		intended, ok := s.await(ctx, n)
		if !ok {
			return
		}
		s.send(ctx, s.o.Next(s.index, n), intended)
	}
}

// await waits until the n-th request is due, and returns when that was. It returns false after the last one.
func (s *sender) await(ctx context.Context, n int) (intended time.Time, ok bool) {
	now := time.Now()
	if s.o.Rate == 0 {
		return now, now.Before(s.to) && ctx.Err() == nil
	}
	// Connections take turns.
	intended = s.start.Add(time.Duration((float64(n)*float64(s.o.Connections) + float64(s.index)) / s.o.Rate * float64(time.Second)))
	if !intended.Before(s.to) || ctx.Err() != nil {
		return intended, false
	}
	if wait := intended.Sub(now); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return intended, false
		}
	}
	return intended, true
}

// send sends a request and counts what came of it.
func (s *sender) send(ctx context.Context, r Request, intended time.Time) {
	if s.o.Rate > 0 && time.Since(intended) > s.o.Timeout {
		s.count(intended, time.Time{}, time.Time{}, 0, "not sent in time")
		return
	}
	size, firstByte, err := s.exchange(ctx, r)
	end := time.Now()
	if _, isStatus := errors.AsType[statusError](err); err != nil && !isStatus {
		s.disconnect()
	}
	if ctx.Err() != nil || s.o.Rate == 0 && end.After(s.to) {
		return // in flight at the end
	}
	s.count(intended, firstByte, end, size, failure(err))
}

func (s *sender) count(intended, firstByte, end time.Time, size int, failed string) {
	if intended.Before(s.from) {
		return
	}
	if failed != "" {
		s.result.Failures[failed]++
		return
	}
	s.result.Served++
	s.result.Bytes += uint64(size)
	s.result.Latency.Record(end.Sub(intended))
	s.result.FirstByte.Record(firstByte.Sub(intended))
}

// statusError is an answer with another status than 2xx. The connection can be used again.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("status %d", int(e)) }

var errBody = errors.New("broken body")

// exchange sends a request and reads its answer.
func (s *sender) exchange(ctx context.Context, r Request) (size int, firstByte time.Time, err error) {
	if err := s.connect(ctx); err != nil {
		return 0, firstByte, err
	}
	if _, err := s.conn.Write(r.Head); err != nil {
		return 0, firstByte, err
	}
	if _, err := s.reader.Peek(1); err != nil {
		return 0, firstByte, err
	}
	firstByte = time.Now()
	if err := s.response.Header.Read(s.reader); err != nil {
		return 0, firstByte, err
	}
	size, err = s.readBody(r)
	if err == nil && s.response.Header.ConnectionClose() {
		s.disconnect()
	}
	if status := s.response.StatusCode(); err == nil && status/100 != 2 {
		err = statusError(status)
	}
	return size, firstByte, err
}

// readBody reads the body after its head, and requires its first byte to be the request's.
func (s *sender) readBody(r Request) (size int, err error) {
	status := s.response.StatusCode()
	if status == fasthttp.StatusNoContent || status == fasthttp.StatusNotModified {
		if status == fasthttp.StatusNoContent && r.First != 0 {
			return 0, errBody
		}
		return 0, nil
	}
	first, size, err := s.discardBody()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return size, errBody
	}
	if err == nil && status/100 == 2 && r.First != 0 && first != r.First {
		return size, errBody
	}
	return size, err
}

// discardBody reads the body, and returns its first byte, 0 if it is empty.
func (s *sender) discardBody() (first byte, size int, err error) {
	size = s.response.Header.ContentLength()
	switch {
	case size == 0:
		return 0, 0, nil
	case size < 0: // chunked, or until the connection ends
		err = s.response.ReadBody(s.reader, 0)
		body := s.response.Body()
		if len(body) > 0 {
			first = body[0]
		}
		return first, len(body), err
	}
	head, err := s.reader.Peek(1)
	if err != nil {
		return 0, 0, err
	}
	first = head[0]
	_, err = s.reader.Discard(size)
	return first, size, err
}

// connect opens the connection if there is none. The deadline is renewed rarely, because each time costs as much as a system
// call: a request may take up to a quarter longer than the timeout.
func (s *sender) connect(ctx context.Context) error {
	now := time.Now()
	if s.conn == nil {
		dialer := net.Dialer{Timeout: s.o.Timeout}
		conn, err := dialer.DialContext(ctx, "tcp", s.o.Address)
		if err != nil {
			s.pause(ctx)
			return err
		}
		s.conn, s.deadline = conn, time.Time{}
		// The end of ctx interrupts what the connection waits for.
		s.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
		s.reader.Reset(conn)
	}
	if s.deadline.Sub(now) >= s.o.Timeout {
		return nil
	}
	s.deadline = now.Add(s.o.Timeout + s.o.Timeout/4)
	return s.conn.SetDeadline(s.deadline)
}

// pause keeps a closed loop from spinning while nothing listens.
func (s *sender) pause(ctx context.Context) {
	const length = 10 * time.Millisecond
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (s *sender) disconnect() {
	if s.conn != nil {
		s.stop()
		_ = s.conn.Close()
		s.conn = nil
	}
}

// failure names what was wrong as reports do; empty: nothing.
func failure(err error) string {
	status, isStatus := errors.AsType[statusError](err)
	switch {
	case err == nil:
		return ""
	case isStatus:
		return status.Error()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, errBody):
		return errBody.Error()
	default:
		return "reset"
	}
}
