package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"usher/bench/record"
	"usher/bench/viewer/playlist"
)

// play starts all who ask the nodes.
func (w *world) play(ctx context.Context, parts *sync.WaitGroup) {
	pool := &ticketPool{}
	chance := func(number int) *rand.Rand {
		return rand.New(rand.NewPCG(w.config.Seed, uint64(number)+1))
	}
	w.ledger.recorder.Planned(w.config.Viewers)
	for number := range w.config.Viewers {
		p := &player{world: w, pool: pool, number: number, chance: chance(number), client: playerOf(w.hosts["viewers"])}
		parts.Go(func() { p.run(ctx) })
	}
	for i := range w.nodes {
		parts.Go(func() { w.sendNewViewers(ctx, i) })
	}
	parts.Go(func() { w.forge(ctx, pool, chance(w.config.Viewers)) })
	for number := range banners {
		b := &banner{world: w, number: number, chance: chance(w.config.Viewers + 1 + number)}
		parts.Go(func() { b.run(ctx) })
	}
}

// What players do, on average.
const (
	stay         = 45 * time.Second // on a channel, with one token
	roam         = 60 * time.Second // until another address
	hop          = 30 * time.Second // until another node, as a balancer does
	badEvery     = 12               // one in so many has a token that the middleware denies
	playTimeout  = 5 * time.Second
	retry        = 500 * time.Millisecond
	retryDenied  = 4 * time.Second
	giveUp       = 4 // failures in a row, then the entry URL
	startsWithin = 0.06
)

// player is a viewer.
type player struct {
	*world
	pool   *ticketPool
	number int
	chance *rand.Rand
	client *http.Client

	life                  int // how often the player began anew
	at                    int // the node
	roams                 int
	route, channel, token string
	isBad                 bool
	leaves                time.Time

	media    string // the path of the media playlist; empty: to be opened
	next     int64  // the segment to fetch
	failures int
}

func (p *player) run(ctx context.Context) {
	defer p.client.CloseIdleConnections()
	if !pause(ctx, time.Duration(p.chance.Float64()*startsWithin*float64(p.config.For))) {
		return
	}
	p.ledger.recorder.Started(1)
	p.playing.Add(1)
	for ctx.Err() == nil {
		if !time.Now().Before(p.leaves) {
			p.begin()
		}
		p.move()
		wait := segmentDuration
		if !p.step(ctx) {
			wait = retry
			if p.isBad {
				wait = retryDenied
			}
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// begin begins anew, with another token and channel.
func (p *player) begin() {
	p.life++
	p.isBad = p.number%badEvery == badEvery-1
	p.token = fmt.Sprintf("good-%d-%d", p.number, p.life)
	if p.isBad {
		p.token = badToken + p.token
	}
	p.route, p.channel = routes()[p.chance.IntN(len(routes()))], channel(p.chance.IntN(channels))
	p.at, p.media, p.failures = p.chance.IntN(len(p.nodes)), "", 0
	p.leaves = time.Now().Add(time.Duration(p.chance.ExpFloat64() * float64(stay)))
}

// move changes address or node by chance.
func (p *player) move() {
	isTime := func(mean time.Duration) bool { return p.chance.Float64() < segmentDuration.Seconds()/mean.Seconds() }
	if isTime(roam) {
		p.roams++
	}
	if isTime(hop) {
		p.at++
	}
}

// step opens the channel, or reloads its playlist and fetches what is new.
func (p *player) step(ctx context.Context) (ok bool) {
	op := record.Playlist
	if p.media == "" {
		text, ok := p.get(ctx, record.Opening, "/"+p.route+"/"+p.channel+"/index.m3u8?token="+p.token)
		var list playlist.Playlist
		if !ok || list.Read(text) != nil || len(list.Variants) == 0 {
			return false
		}
		p.media, p.next = string(list.Lowest().URI), -1
	}
	text, ok := p.get(ctx, op, p.media)
	var list playlist.Playlist
	if !ok || list.Read(text) != nil || len(list.Segments) == 0 {
		return false
	}
	p.pool.add(p.media)
	end := list.Sequence + int64(len(list.Segments))
	if p.next < list.Sequence || p.next > end {
		p.next = end - 1
	}
	for ; p.next < end; p.next++ {
		folder := p.media[:strings.LastIndexByte(p.media, '/')+1]
		path := string(playlist.Resolve(nil, []byte("http://node"+folder), list.Segments[p.next-list.Sequence].URI))
		if _, ok := p.get(ctx, record.Segment, strings.TrimPrefix(path, "http://node")); !ok {
			return false
		}
	}
	p.failures = 0
	return true
}

// get fetches a path of the node where the player is. After a failure the player goes to the next one, or to the entry URL.
func (p *player) get(ctx context.Context, op record.Op, path string) (body []byte, ok bool) {
	n := p.nodes[p.at%len(p.nodes)]
	ctx, cancel := context.WithTimeout(ctx, playTimeout)
	defer cancel()
	sent := time.Now()
	address := fmt.Sprintf("10.%d.%d.%d", 100+p.roams%100, p.number>>8, p.number&0xff)
	status, body, err := fetch(ctx, p.client, n.url()+path, map[string]string{"X-Forwarded-For": address})
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, false // the run is over
	}
	what := p.judge(op, n, outcome(status, body, err), func() string {
		return fmt.Sprintf("%s: viewer %s from %s, %s: status %d: %s", n.host.Name, p.token, address, op, status, strings.TrimSpace(string(body)))
	})
	failure := string(what)
	if what == served || what == denied {
		failure = ""
	}
	p.ledger.recorder.Request(record.Request{
		Op: op, Intended: sent, Sent: sent, FirstByte: sent, End: time.Now(), Bytes: len(body), Failure: failure,
	})
	if what == served {
		return body, true
	}
	p.failures++
	if what == refused || what == denied || p.failures%giveUp == 0 {
		p.media = ""
	}
	if err != nil {
		p.at++
	}
	return nil, false
}

// judge checks what a player got, and returns it as the report has it. A new viewer may be turned away for a moment.
func (p *player) judge(op record.Op, n *node, what seen, describe func() string) seen {
	switch isNew := op == record.Opening; {
	case what == refused && p.isBad:
		what = denied
	case isNew && !p.ledger.answeredNew(n.host.Name, p.route, what, describe()):
		if what == served {
			p.ledger.check(viewersServed, "")
		}
	case what == served:
		p.ledger.check(viewersServed, "")
	case what.isByAuth():
		p.ledger.check(viewersServed, describe())
	}
	p.ledger.saw(string(what))
	return what
}

// seen is what an answer was to a viewer.
type seen string

// What viewers see.
const (
	served   seen = "served"
	refused  seen = "refused by auth"
	unsure   seen = "turned away by auth"
	denied   seen = "denied as the middleware says"
	draining seen = "node draining"
	failed   seen = "origin failed"
	missing  seen = "missing at the origin"
	timeout  seen = "timeout"
	noServer seen = "connection refused"
	cut      seen = "connection broken"
	other    seen = "other status"
)

func (s seen) isByAuth() bool { return s == refused || s == unsure || s == other }

// outcome says what an answer was. What is not known to be another's fault is auth's.
func outcome(status int, body []byte, err error) seen {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return timeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return noServer
	case err != nil:
		return cut
	}
	switch status {
	case http.StatusOK, http.StatusNoContent:
		return served
	case http.StatusForbidden, http.StatusUnauthorized:
		return refused
	case http.StatusNotFound, http.StatusGone:
		return missing
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return failed
	case http.StatusServiceUnavailable:
		return turnedAwayBy(string(body[:min(len(body), maxReason)]))
	}
	return other
}

// maxReason is how much of a body is read for the reason of a refusal.
const maxReason = 200

// turnedAwayBy says whose 503 it is, by its text.
func turnedAwayBy(text string) seen {
	switch {
	case strings.Contains(text, "draining"):
		return draining
	case strings.Contains(text, "origin"):
		return failed
	}
	return unsure
}

// ticketPool keeps paths with good tickets. Safe for concurrent use.
type ticketPool struct {
	mu    sync.Mutex
	paths []string
}

const poolSize = 256

func (t *ticketPool) add(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.paths = append(t.paths, path)
	if extra := len(t.paths) - poolSize; extra > 0 {
		t.paths = t.paths[extra:]
	}
}

func (t *ticketPool) draw(chance *rand.Rand) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.paths) == 0 {
		return "", false
	}
	return t.paths[chance.IntN(len(t.paths))], true
}

// waitSlack is what a new viewer may wait beyond answer_deadline, for the way there and for a machine that is busy.
const waitSlack = 500 * time.Millisecond

// sendNewViewers asks a node again and again about a viewer whom nobody has seen, as an edge does: no origin is in the way.
func (w *world) sendNewViewers(ctx context.Context, at int) {
	const interval, most = 500 * time.Millisecond, 10 * time.Second
	deadline, _ := time.ParseDuration(answerDeadline) // a constant
	n := w.nodes[at]
	for number := 0; pause(ctx, interval); number++ {
		route := routes()[number%len(routes())]
		header := map[string]string{
			"X-Original-URI": "/" + route + "/" + channel(number) + "/index.m3u8?token=good-new-" + strconv.Itoa(at) + "-" + strconv.Itoa(number),
			"X-Real-IP":      fmt.Sprintf("10.%d.%d.%d", 10+at, number>>8&0xff, number&0xff), "X-Original-Method": http.MethodGet,
		}
		sent := time.Now()
		lag := measureLag()
		whole, cancel := context.WithTimeout(ctx, most)
		status, body, err := fetch(whole, n.client, publicURL+"/auth/"+route, header)
		cancel()
		waited, late := time.Since(sent), lag()
		if ctx.Err() != nil || !n.isUndisturbed(sent) {
			continue
		}
		fault, what := "", outcome(status, body, err)
		if what == refused && strings.HasPrefix(string(body), "access cannot be checked now") {
			what = unsure // nginx knows no 503 of its auth server's
		}
		if !w.ledger.servedNew(n.host.Name, route, what, string(body)) {
			fault = fmt.Sprintf("%s: %s: status %d, %v: %s", n.host.Name, header["X-Original-URI"], status, err, strings.TrimSpace(string(body)))
		}
		w.ledger.check(newServed, fault)
		if fault = ""; waited > deadline+waitSlack+late {
			fault = fmt.Sprintf("%s: %s waited %v (this machine stood still for %v)", n.host.Name, header["X-Original-URI"],
				waited.Round(time.Millisecond), late.Round(time.Millisecond))
		}
		w.ledger.check(noWait, fault)
	}
}

// measureLag measures for how long this machine does not run a goroutine that is due, until it is called: that is no wait of a node's.
func measureLag() (total func() time.Duration) {
	const step = 10 * time.Millisecond
	stop, done := make(chan struct{}), make(chan time.Duration)
	go func() {
		var late time.Duration
		for {
			begun := time.Now()
			select {
			case <-time.After(step):
				if over := time.Since(begun) - step; over > step {
					late += over
				}
			case <-stop:
				done <- late
				return
			}
		}
	}()
	return func() time.Duration {
		close(stop)
		return <-done
	}
}
