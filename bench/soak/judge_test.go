package soak

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"usher/bench/soak/netns"
)

func TestJudgeGrowth(t *testing.T) {
	t.Parallel()
	const mega = 1e6
	calm := usage{goroutines: 300, resident: 100 * mega, heap: 40 * mega}
	tests := map[string]struct {
		after usage
		want  string // the assertion that does not hold
	}{
		"the same":             {calm, ""},
		"less":                 {usage{200, 60 * mega, 20 * mega}, ""},
		"within noise":         {usage{380, 120 * mega, 55 * mega}, ""},
		"goroutines leak":      {usage{480, 100 * mega, 40 * mega}, "goroutines"},
		"the heap grows":       {usage{300, 110 * mega, 80 * mega}, "heap of node1"},
		"memory grows outside": {usage{300, 150 * mega, 40 * mega}, "resident bytes of node1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failed := 0
			for _, a := range judgeGrowth([]string{"node1"}, []usage{calm}, []usage{test.after}) {
				if a.Kept {
					continue
				}
				if failed++; test.want == "" || !strings.Contains(a.Text, test.want) {
					t.Errorf("%s: %s", a.Text, a.Got)
				}
			}
			if (failed == 1) != (test.want != "") {
				t.Errorf("%d assertions fail, want %q alone", failed, test.want)
			}
		})
	}
}

func TestMedians_OfSpan(t *testing.T) {
	t.Parallel()
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	var samples []sample
	for second := range 20 {
		samples = append(samples, sample{at: at(second), goroutines: float64(second), resident: 2, heap: 3})
	}
	got, ok := medians(samples, span{at(9), at(15)})
	if want := (usage{12, 2, 3}); !ok || got != want {
		t.Errorf("%+v, %v; want %+v", got, ok, want)
	}
	if got, ok := medians(samples, span{at(30), at(40)}); ok {
		t.Errorf("%+v of no samples", got)
	}
}

func TestOutcome(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status int
		body   string
		err    error
		want   seen
	}{
		"served":                {200, "#EXTM3U", nil, served},
		"refused":               {403, "denied by backend", nil, refused},
		"asked for credentials": {401, "", nil, refused},
		"turned away":           {503, "access cannot be checked now; try again", nil, unsure},
		"shed":                  {503, "sessions.max=10 reached", nil, unsure},
		"origin failed":         {502, "the origin failed", nil, failed},
		"origin full":           {503, `too many requests wait for origin "nginx"`, nil, failed},
		"missing":               {404, "the origin does not have this file", nil, missing},
		"draining":              {503, "the node is draining; try again", nil, draining},
		"a broken node":         {500, "", nil, other},
		"no answer":             {0, "", fmt.Errorf("get: %w", context.DeadlineExceeded), timeout},
		"killed":                {0, "", fmt.Errorf("dial: %w", syscall.ECONNREFUSED), noServer},
		"broken off":            {200, "#EXT", errors.New("unexpected EOF"), cut},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := outcome(test.status, []byte(test.body), test.err); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// TestLedger_AnsweredNew bounds how many new viewers a node turns away before its breaker opens.
func TestLedger_AnsweredNew(t *testing.T) {
	t.Parallel()
	const unchecked = "access cannot be checked now; try again (no answer: status 503)"
	l := newLedger(time.Now())
	for i := range maxUnsure {
		if l.answeredNew("node1", "play", unsure, unchecked) {
			t.Errorf("number %d is one too many", i+1)
		}
	}
	if l.answeredNew("node2", "play", unsure, unchecked) || l.answeredNew("node1", "live", unsure, unchecked) {
		t.Error("another node or middleware counts with it")
	}
	if !l.answeredNew("node1", "play", unsure, unchecked) {
		t.Error("any number may be turned away")
	}
	if l.answeredNew("node1", "play", served, "") || l.answeredNew("node1", "play", unsure, unchecked) {
		t.Error("they are not in a row")
	}
	if !l.answeredNew("node1", "play", refused, "denied by backend") || !l.answeredNew("node1", "play", unsure, "sessions.max=1 reached") {
		t.Error("a refusal is taken for a check that failed")
	}
	if l.answeredNew("node1", "play", failed, "the origin failed") {
		t.Error("the origin's fault is taken for auth's")
	}
}

// TestLedger_CheckRefused counts refusals and viewers who were let in, and nothing of an origin's.
func TestLedger_CheckRefused(t *testing.T) {
	t.Parallel()
	for status, want := range map[int][2]int{
		200: {1, 1}, 206: {1, 1}, 302: {1, 1}, 400: {1, 0}, 401: {1, 0}, 403: {1, 0},
		404: {0, 0}, 410: {0, 0}, 429: {0, 0}, 500: {0, 0}, 502: {0, 0}, 503: {0, 0}, 504: {0, 0},
	} {
		l := newLedger(time.Now())
		l.checkRefused(forgedRefused, status, func() string { return "let in" })
		if got := [2]int{l.checked[forgedRefused], len(l.broken[forgedRefused])}; got != want {
			t.Errorf("status %d: checked, broken %v; want %v", status, got, want)
		}
	}
}

// TestLedger_ServedNew takes nothing for good but a viewer who is served, or turned away within the bound.
func TestLedger_ServedNew(t *testing.T) {
	t.Parallel()
	const unchecked = "access cannot be checked now; try again (no answer: status 503)"
	l := newLedger(time.Now())
	for _, what := range []seen{refused, denied, draining, failed, missing, timeout, noServer, cut, other} {
		if l.servedNew("node1", "play", what, "") {
			t.Errorf("%s: taken for served", what)
		}
	}
	if !l.servedNew("node1", "play", served, "") {
		t.Error("served: taken for a failure")
	}
	for i := range maxUnsure + 1 {
		if got := l.servedNew("node1", "play", unsure, unchecked); got != (i < maxUnsure) {
			t.Errorf("turned away %d times in a row: taken for served: %t", i+1, got)
		}
	}
}

// TestLedger_Finish_Promises requires a promise that was never checked to count as broken.
func TestLedger_Finish_Promises(t *testing.T) {
	t.Parallel()
	l := newLedger(time.Now())
	for _, p := range promises()[1:] {
		l.check(p, "")
	}
	l.check(bansHeld, "node1 let one in")
	l.saw("served")
	end := l.recorder.Fault("partition of node1 and redis", time.Now())
	end(time.Now())
	m := l.finish(time.Now())
	for _, a := range m.Assertions {
		if want := a.Text != string(bansHeld) && a.Text != string(promises()[0]); a.Kept != want {
			t.Errorf("%s: holds %v (%s), want %v", a.Text, a.Kept, a.Got, want)
		}
	}
	if len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "node1 let one in") {
		t.Errorf("notes %q, want what was found", m.Notes)
	}
	if m.Faults[0].Seen["served"] != 1 {
		t.Errorf("viewers saw %v during the fault", m.Faults[0].Seen)
	}
}

// TestBanner_MustRefuse walks what a node can know of a ban.
func TestBanner_MustRefuse(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	const minute = time.Minute
	tests := map[string]struct {
		prepare func(placer, other *node, placers, others *watched)
		at      int
		want    bool
	}{
		"the placer":               {func(_, _ *node, _, _ *watched) {}, 0, true},
		"the placer, started anew": {func(p, _ *node, _, _ *watched) { p.starts = 2 }, 0, false},
		"nobody told":              {func(_, _ *node, _, _ *watched) {}, 1, false},
		"listed":                   {func(_, _ *node, _, o *watched) { o.heard["b"] = hearing{ago(time.Millisecond), 1} }, 1, true},
		"listed before the kill": {func(_, o *node, _, w *watched) {
			o.starts, o.ended, w.heard["b"] = 2, ago(time.Second), hearing{ago(minute), 1}
		}, 1, true},
		"listed, then a full disk": {func(_, o *node, _, w *watched) {
			o.starts, o.ended, w.heard["b"], w.distrusted = 2, ago(time.Second), hearing{ago(minute), 1}, ago(time.Second)
		}, 1, false},
		"listed just before the kill": {func(_, o *node, _, w *watched) {
			o.starts, o.ended, w.heard["b"] = 2, ago(minute), hearing{ago(minute), 1}
		}, 1, false},
		"both reach redis":       {func(_, _ *node, p, o *watched) { p.reaches, o.reaches = ago(minute), ago(2*time.Second) }, 1, true},
		"for less than a second": {func(_, _ *node, p, o *watched) { p.reaches, o.reaches = ago(minute), ago(900*time.Millisecond) }, 1, false},
		"the placer does not":    {func(_, _ *node, _, o *watched) { o.reaches = ago(minute) }, 1, false},
		"a fault is between":     {func(_, _ *node, p, o *watched) { p.reaches, o.reaches, o.broken = ago(minute), ago(minute), 1 }, 1, false},
		"lost with the placer's disk": {func(p, _ *node, pw, o *watched) {
			pw.reaches, o.reaches, p.starts, pw.isDistrusted = ago(minute), ago(minute), 2, true
		}, 1, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &world{}
			for number := range 2 {
				w.nodes = append(w.nodes, &node{server: &server{host: &netns.Host{Name: nodeName(number)}, starts: 1}})
				w.watched = append(w.watched, &watched{heard: map[string]hearing{}})
			}
			test.prepare(w.nodes[0], w.nodes[1], w.watched[0], w.watched[1])
			b := &banner{world: w}
			why := b.mustRefuse(test.at, &ban{id: "b", process: 1, since: ago(3 * time.Second)}, now)
			if (why != "") != test.want {
				t.Errorf("%q, want that it must: %v", why, test.want)
			}
		})
	}
}

func TestAlter_NeverTheSame(t *testing.T) {
	t.Parallel()
	const good = "/~a.abcdefghijABCDEFGHIJabcdefghijABCDEFGHIJabcdefgh/play/ch1/low.m3u8"
	chance, seen, existing := chanceOf(1), map[string]bool{}, map[string]bool{}
	for range 1000 {
		forged := alter(good, chance)
		if forged == good || !strings.HasPrefix(forged, "/~") || strings.Count(forged, "/") != strings.Count(good, "/") {
			t.Errorf("%s became %s", good, forged)
		}
		seen[forged] = true
		_, rest, _ := strings.Cut(strings.TrimPrefix(forged, "/"), "/")
		for number := range channels {
			if rest == "play/"+channel(number)+"/low.m3u8" {
				existing[channel(number)] = true
			}
		}
	}
	if len(seen) < 100 {
		t.Errorf("only %d forms", len(seen))
	}
	if len(existing) != channels {
		t.Errorf("made for %v; want all %d channels that there are, so that a ticket that is believed is served", existing, channels)
	}
}

func question(t *testing.T, name string, kind dnsmessage.Type) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
	}
	text, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAnswerDNS(t *testing.T) {
	t.Parallel()
	addresses := map[string]netip.Addr{"redis": netip.MustParseAddr("10.77.0.5")}
	tests := map[string]struct {
		name    string
		kind    dnsmessage.Type
		answers int
		code    dnsmessage.RCode
	}{
		"a host":           {"redis.soak.", dnsmessage.TypeA, 1, dnsmessage.RCodeSuccess},
		"in other letters": {"REDIS.soak.", dnsmessage.TypeA, 1, dnsmessage.RCodeSuccess},
		"has no IPv6":      {"redis.soak.", dnsmessage.TypeAAAA, 0, dnsmessage.RCodeSuccess},
		"nobody":           {"nobody.soak.", dnsmessage.TypeA, 0, dnsmessage.RCodeNameError},
		"another domain's": {"redis.example.", dnsmessage.TypeA, 0, dnsmessage.RCodeNameError},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := answerDNS(question(t, test.name, test.kind), addresses)
			var m dnsmessage.Message
			if err = errors.Join(err, m.Unpack(text)); err != nil {
				t.Fatal(err)
			}
			if m.ID != 7 || !m.Response || m.RCode != test.code || len(m.Answers) != test.answers {
				t.Errorf("answer %+v", m)
			}
		})
	}
}

func FuzzAnswerDNS(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05redis\x04soak\x00\x00\x01\x00\x01"))
	f.Fuzz(func(t *testing.T, text []byte) {
		answer, err := answerDNS(text, map[string]netip.Addr{"redis": netip.MustParseAddr("10.77.0.5")})
		var m dnsmessage.Message
		if err == nil && m.Unpack(answer) != nil {
			t.Errorf("%q is answered by what is no message: %q", text, answer)
		}
	})
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	bad := Config{For: time.Second, Viewers: -1}
	err := bad.Validate()
	if err == nil || !strings.Contains(err.Error(), "for: 1s is below 40s") || !strings.Contains(err.Error(), "viewers: -1") {
		t.Errorf("%v, want both problems", err)
	}
	good := Config{For: time.Minute, Viewers: 10}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

// TestParseMetrics reads the series without labels.
func TestParseMetrics(t *testing.T) {
	t.Parallel()
	got := parseMetrics([]byte("# TYPE a gauge\na 1\nb{c=\"d\"} 2\ne 1.5e+06\nbroken\n"))
	if got["a"] != 1 || got["e"] != 1.5e6 || got["b"] != 0 {
		t.Errorf("%v", got)
	}
}
