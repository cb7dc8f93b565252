package attack

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	// probing is for how long a flood goes as fast as it can, to learn how fast the server refuses.
	probing = 3 * time.Second
	// senders is how many connections a flood uses.
	senders = 128
)

// flood asks with tokens that nobody has: as fast as the server answers, or half as fast. The addresses are told with
// X-Forwarded-For.
func (t *target) flood(ctx context.Context) {
	if t.kind == kindUnpaced {
		t.probe(ctx)
		return
	}
	rate := t.rate
	if rate == 0 {
		probing, cancel := context.WithTimeout(ctx, probing)
		defer cancel()
		rate = t.probe(probing) / 2
	}
	t.send(ctx, rate)
}

// probe asks as fast as the server answers until ctx ends, and returns how many tokens a second that were.
func (t *target) probe(ctx context.Context) float64 {
	begun := time.Now()
	t.send(ctx, 0)
	rate := float64(t.answered.Load()) / time.Since(begun).Seconds()
	t.refused.Store(int64(rate))
	return rate
}

// send asks until ctx ends, at a rate a second; 0: as fast as it can.
func (t *target) send(ctx context.Context, rate float64) {
	var sending sync.WaitGroup
	for i := range senders {
		sending.Go(func() {
			for pause := time.Duration(0); wait(ctx, pause); pause = time.Second {
				conn, err := t.dial(ctx, i)
				if err != nil {
					t.closed.Add(1)
					continue
				}
				t.open.Add(1)
				stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
				if t.sendOver(ctx, conn, rate, i); ctx.Err() == nil {
					t.closed.Add(1)
				}
				stop()
				_ = conn.Close()
				t.open.Add(-1)
			}
		})
	}
	sending.Wait()
}

// tick is the time between two groups of connections that ask at once. Each at a time of its own would wake threads for each
// request, which costs more than the requests; all at once would be a burst, as no network delivers one.
const tick = time.Millisecond

// sendOver asks over one connection until that or ctx ends.
func (t *target) sendOver(ctx context.Context, conn net.Conn, rate float64, number int) {
	var between, after time.Duration
	if rate > 0 {
		between = time.Duration(senders / rate * float64(time.Second))
		after = tick * time.Duration(number) % max(tick, between.Truncate(tick))
	}
	answers, next := bufio.NewReader(conn), time.Now().Truncate(tick).Add(after-between)
	var response fasthttp.Response
	for ctx.Err() == nil {
		if rate > 0 {
			next = next.Add(between)
			if !wait(ctx, time.Until(next)) {
				return
			}
		}
		n := rand.IntN(t.count) // no viewer's network
		_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nX-Forwarded-For: 198.18.%d.%d\r\n\r\n",
			t.playlist("bad-"+strconv.FormatUint(rand.Uint64(), 36)), t.host, n>>8&0xff, n&0xff)
		if err != nil || response.Read(answers) != nil {
			return
		}
		t.answered.Add(1)
		if response.StatusCode() < fasthttp.StatusMultipleChoices && bytes.HasPrefix(response.Body(), []byte("#EXTM3U")) {
			t.served.Add(1)
		}
	}
}
