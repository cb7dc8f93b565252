package attack

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Attack is one kind of attack with a number of connections, or of addresses.
type Attack struct {
	kind  string
	count int
	// open is how many connections are open, and closed how many the server has closed.
	open, closed atomic.Int64
	// rate is how many tokens a second a flood asks with. Zero: half as many as the server refuses, which it measures first.
	rate float64
	// refused is how many tokens a second the server answered, once a flood that was not paced has ended.
	refused atomic.Int64
	// pid is the id of the process that attacks; 0: this one.
	pid atomic.Int64
	// resets is how many streams of HTTP/2 were opened and reset.
	resets atomic.Int64
	// answered and served are how many requests with tokens that nobody has were answered, and how many of those got a playlist.
	answered, served atomic.Int64
}

// Stats are what an attack has done.
type Stats struct {
	// Connections are those that are open.
	Connections int64 `json:"connections"`
	// Closed counts the connections that the server has ended, Answers the answers to tokens that nobody has, and Served those that
	// were playlists.
	Closed  int64 `json:"closed"`
	Answers int64 `json:"answers"`
	Served  int64 `json:"served"`
	// Resets counts the streams of HTTP/2 that were opened and reset.
	Resets int64 `json:"resets"`
	// Refused is how many tokens a second the server answered, once a flood that was not paced has ended. Zero: nothing of that kind.
	Refused int64 `json:"refused"`
}

// Kinds returns the forms of attacks, for help and errors.
func Kinds() []string {
	return []string{"slow-headers 500", "slow-bodies 500", "slow-readers 500", "idle 2000", "resets 20", "tokens 1000", "tokens-unpaced 1000"}
}

var (
	errUnknown = errors.New("unknown attack")
	errCount   = errors.New("want a number above 0")
)

// ErrTooFewFiles is wrapped by the error for more connections than the process may open.
var ErrTooFewFiles = errors.New("the process may open too few files")

// Parse returns an attack of that kind. The count is of connections, for tokens of addresses.
func Parse(kind, count string) (*Attack, error) {
	if !slices.ContainsFunc(Kinds(), func(form string) bool { return strings.HasPrefix(form, kind+" ") }) {
		return nil, fmt.Errorf("%w %q; want one such as %s", errUnknown, kind, strings.Join(Kinds(), ", "))
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 1 {
		return nil, fmt.Errorf("%s %q: %w", kind, count, errCount)
	}
	a := &Attack{kind: kind, count: n}
	return a, a.checkFiles()
}

// checkFiles reports whether this process, and a server that it starts, can have so many connections.
func (a *Attack) checkFiles() error {
	const others = 1000
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if want := uint64(a.count) + others; !a.isFlood() && files.Max < want {
		return fmt.Errorf("%w: %d, want %d; run: ulimit -n %d", ErrTooFewFiles, files.Max, want, want)
	}
	return nil
}

const (
	kindTokens  = "tokens"
	kindUnpaced = "tokens-unpaced"
)

func (a *Attack) isFlood() bool { return a.kind == kindTokens || a.kind == kindUnpaced }

// Follow lets a flood of tokens be half as fast as the server answered a former one that was not paced. Other attacks, and a flood
// without a former one, are as they were.
func (a *Attack) Follow(former *Attack) {
	if former != nil && a.kind == kindTokens {
		a.rate = float64(former.refused.Load()) / 2
	}
}

// Run attacks the server at a URL until ctx ends. A playlist is at path, with {token} in it.
func (a *Attack) Run(ctx context.Context, base, path string) error {
	u, err := url.Parse(base)
	if err != nil {
		return fmt.Errorf("attack: %w", err)
	}
	t := &target{Attack: a, base: base, host: u.Host, path: path}
	if u.Scheme == "https" {
		t.secure = &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}} // an attacker does not care
		if a.kind == "resets" {
			t.secure.NextProtos = []string{"h2"}
		}
	}
	hold := map[string]func(context.Context, net.Conn) error{
		"slow-headers": t.slowHeaders, "slow-bodies": t.slowBodies, "slow-readers": t.slowReader, "idle": t.idle, "resets": t.reset,
	}[a.kind]
	if a.isFlood() {
		t.flood(ctx)
		return nil
	}
	if a.kind == "slow-readers" {
		for t.segment, err = t.findSegment(ctx); err != nil; t.segment, err = t.findSegment(ctx) {
			if !wait(ctx, time.Second) {
				return nil // nobody was let in: no connection was opened, as the counts say
			}
		}
	}
	var connections sync.WaitGroup
	for i := range a.count {
		connections.Go(func() { t.keep(ctx, i, hold) })
	}
	connections.Wait()
	return nil
}

// Stats returns what the attack has done so far.
func (a *Attack) Stats() Stats {
	return Stats{a.open.Load(), a.closed.Load(), a.answered.Load(), a.served.Load(), a.resets.Load(), a.refused.Load()}
}

// target is a server under attack.
type target struct {
	*Attack
	base, host, path string
	secure           *tls.Config // nil: no TLS
	// segment is the path of a segment, for slow readers.
	segment string
}

const (
	// spacing is the time between two connections at the beginning.
	spacing = time.Millisecond
	// again is when a connection that the server has ended is opened again: an attack of thousands of connections then opens
	// some hundreds a second, as tools do.
	again = 10 * time.Second
)

// keep keeps one connection open.
func (t *target) keep(ctx context.Context, number int, hold func(context.Context, net.Conn) error) {
	for pause := spacing * time.Duration(number); wait(ctx, pause); pause = again {
		conn, err := t.dial(ctx, number)
		if err != nil {
			t.closed.Add(1)
			continue
		}
		t.open.Add(1)
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		if err = hold(ctx, conn); ctx.Err() == nil && err != nil {
			t.closed.Add(1)
		}
		stop()
		_ = conn.Close()
		t.open.Add(-1)
	}
}

// addresses is how many loopback addresses an attack comes from.
const addresses = 1000

func (t *target) dial(ctx context.Context, number int) (net.Conn, error) {
	n := number % addresses
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 2, byte(n/250), byte(n%250+1))}}
	if t.secure != nil {
		return (&tls.Dialer{NetDialer: &d, Config: t.secure}).DialContext(ctx, "tcp", t.host)
	}
	return d.DialContext(ctx, "tcp", t.host)
}

// wait waits, and reports whether ctx goes on.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
