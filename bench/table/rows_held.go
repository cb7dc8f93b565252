package table

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"usher/backends/backendtest"
	"usher/bench/load"
	"usher/bench/process"
)

const (
	// minHold is the least time for which re-checks are due a second or more after another.
	minHold = 2 * time.Second
	// heldPeriods is how many times the decision of a session expires while it is held: every 180 s for five minutes.
	heldPeriods = 5.0 / 3
	// heldPrefix begins the tokens of viewers whose streams the middleware limits, to heldLimit.
	heldPrefix = "good-held-"
	heldLimit  = 3
)

// heldToken returns the token of a session among those that are held: 64 characters.
func heldToken(i int) string { return fmt.Sprintf(heldPrefix+"%054d", i) }

// userOf is the middleware's answer about a token.
func userOf(token string) (backendtest.User, bool) {
	number, isHeld := strings.CutPrefix(token, heldPrefix)
	if !isHeld {
		return backendtest.User{}, strings.HasPrefix(token, "good")
	}
	return backendtest.User{ID: "user-" + strings.TrimLeft(number, "0"), MaxSessions: heldLimit}, true
}

// heldHead is a viewer's first request, from one of some hundred players, by one of the operator's names.
func heldHead(t *target, i int) []byte {
	const hosts, agents = 20, 300
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: tv%d.example.net\r\nUser-Agent: Mozilla/5.0 (Linux; Android 12; Box %d) Player/2.1\r\nAccept: */*\r\n\r\n",
		t.request(sessionPath(i), heldToken(i)), i%hosts, i%agents)
}

// held opens sessions that have all that a cluster's have, and holds them while they are re-checked. Then viewers of them and those
// of a node with few sessions request segments in alternation, while the re-checks go on.
func held(ctx context.Context, b *bed) ([]Line, error) {
	shared, stop, err := b.startRedis(ctx, "held")
	if err != nil {
		return nil, err
	}
	defer stop()
	s := setting{validity: time.Duration(float64(b.Hold) / heldPeriods), idle: 2 * time.Hour, yaml: shared}
	// An operator sets the rate for as many sessions, and some more. The nodes of a cluster share it evenly: this one has two.
	const room, nodes = 1.2, 2
	s.recheckRate = max(1, int(nodes*room*float64(b.Sessions)/s.validity.Seconds()))
	// The viewers who request segments are far from each other in the table of sessions, and the same on both nodes.
	apart := b.Sessions / tokens
	few, err := b.populate(ctx, "held", tokens, s, func(t *target, i int) []byte { return heldHead(t, i*apart) })
	if err != nil {
		return nil, err
	}
	defer few.close()
	many, err := b.populate(ctx, "held", b.Sessions, s, heldHead)
	if err != nil {
		return nil, err
	}
	defer many.close()
	h, err := b.hold(ctx, many, s.validity)
	if err != nil {
		return nil, err
	}
	r, err := b.alternate(ctx, "held", fewConnections, []*target{few.target, many.target}, func(ctx context.Context, t *target) (func(int, int) load.Request, error) {
		requests, err := segmentRequests(ctx, t, func(i int) (string, string) { return sessionPath(i * apart), heldToken(i * apart) })
		return shuffled(requests), err
	})
	if err != nil {
		return nil, err
	}
	live, err := many.metric(ctx, "usher_active_sessions")
	if err != nil {
		return nil, err
	}
	return heldLines(r, few, many, h, max(0, many.sessions-int(live))), nil
}

// holding is what sessions took while they were held.
type holding struct {
	validity, length time.Duration
	calls            float64 // of the middleware for each session
	cores            float64 // of the node
	waiting          float64 // re-checks that were due and not made at the end
	resident, peak   uint64
}

// hold waits while the sessions are re-checked.
func (b *bed) hold(ctx context.Context, p *populated, validity time.Duration) (holding, error) {
	h := holding{validity: validity, length: b.Hold}
	before, err := readMeter(p.target)
	if err != nil {
		return h, err
	}
	calls := b.middleware.Calls()
	select {
	case <-time.After(b.Hold):
	case <-ctx.Done():
		return h, ctx.Err()
	}
	h.calls = float64(b.middleware.Calls()-calls) / float64(p.sessions)
	after, err := readMeter(p.target)
	if err != nil {
		return h, err
	}
	h.cores = (after.server - before.server).Seconds() / after.at.Sub(before.at).Seconds()
	var errs [3]error
	h.waiting, errs[0] = p.metric(ctx, `usher_backend_rechecks_waiting{backend="portal"}`)
	h.resident, errs[1] = p.memory()
	h.peak, errs[2] = process.Peak(p.pid)
	b.say("held: %s for %s: %.2f calls of the middleware a session, %.0f re-checks wait, %.2f cores; %.2f GB resident, %.2f at most",
		p.name, b.Hold, h.calls, h.waiting, h.cores, float64(h.resident)/1e9, float64(h.peak)/1e9)
	return h, errors.Join(errs[:]...)
}

var errNoMetric = errors.New("the node's metrics do not have")

// metric returns the value of a series of the node, labels included.
func (t *target) metric(ctx context.Context, series string) (float64, error) {
	page, err := fetch(ctx, t.metricsURL)
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(page)); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), series+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("%w %s", errNoMetric, series)
}

// isInTime reports whether a session was re-checked as often as its decision expired. Re-checks are a tenth early or late.
func isInTime(rechecks, expiries float64) bool {
	const inTime = 0.1
	return math.Abs(rechecks/expiries-1) <= inTime
}

func heldLines(r *runs, few, many *populated, h holding, lost int) []Line {
	const mostBytes, mostPeak, leastRate, mostP99 = 1000.0, 1300.0, 0.9, 1.3 // a gigabyte for a million
	n := float64(many.sessions)
	a, b := r.samples[many.name], r.samples[few.name]
	rate, slower := compare(a, b, perSecond), compare(a, b, p99)
	return []Line{
		{
			Work: fmt.Sprintf("%s with Redis, a limit each, opened over HTTP, held for %s, re-checks due every %s", many.name, h.length, h.validity),
			Goal: "≤ 1.0 GB resident and ≤ 1.3 GB at most for a million, none lost", Peers: "–",
			Usher: fmt.Sprintf("%.2f GB resident, %.2f at most; %s openings/s, %.0f µs of CPU each; %.2f cores while held; %d sessions lost",
				float64(h.resident)/1e9, float64(h.peak)/1e9, thousands(many.opened.PerSecond()), many.spent.Seconds()*1e6/n, h.cores, lost),
			Ratio: "–", Met: float64(h.resident)/n <= mostBytes && float64(h.peak)/n <= mostPeak && lost == 0,
		},
		{
			Work: "middleware calls for each of them while held", Goal: fmt.Sprintf("duration ÷ validity = %.2f", heldPeriods), Peers: "–",
			Usher: fmt.Sprintf("%.2f; %s re-checks wait at the end", h.calls, thousands(h.waiting)),
			Ratio: "–", Met: isInTime(h.calls, heldPeriods),
		},
		{
			Work: "segments of 1,000 viewers among them", Goal: "≥ 0.9 of the throughput, p99 ≤ × 1.3",
			Peers: "Usher with " + few.name + ": " + r.describe(few.name), Usher: r.describe(many.name),
			Ratio: fmt.Sprintf("**%s**; p99 × %s", rate, slower), Met: rate.median >= leastRate && slower.median <= mostP99 && failed(a)+failed(b) == 0,
		},
	}
}
