package table

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"usher/bench/load"
)

// module returns the folder of Usher's source; empty: the harness was not started in it.
func module(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Path}} {{.Dir}}").Output()
	if folder, ok := strings.CutPrefix(strings.TrimSpace(string(out)), "usher "); err == nil && ok {
		return folder
	}
	return ""
}

// lookupRE reads the benchmark that finds a session and reads its decision.
var lookupRE = regexp.MustCompile(`(?m)^BenchmarkRegistry_Find/find_and_decide\S*\s+\d+\s+([\d.]+) ns/op\s+\d+ B/op\s+(\d+) allocs/op`)

// lookup runs the benchmark of the code that every request passes.
func lookup(ctx context.Context, b *bed) ([]Line, error) {
	l := Line{
		Work: "session lookup and decision among a million, cold", Goal: "≤ 0.5 µs, 0 allocations",
		Peers: "maps 0.6–1.0 µs", Ratio: "–",
	}
	folder := module(ctx)
	if folder == "" {
		l.Usher = "not measured: start the harness in Usher's source, where go test can run"
		return []Line{l}, nil
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkRegistry_Find$/^find_and_decide$", "-benchmem",
		"-count", strconv.Itoa(b.Rounds), "./actors")
	cmd.Dir = folder
	out, err := cmd.CombinedOutput()
	found := lookupRE.FindAllSubmatch(out, -1)
	if err != nil || len(found) == 0 {
		return nil, fmt.Errorf("%s: %w: %s", cmd, err, out)
	}
	var times []float64
	var allocations string
	for _, match := range found {
		ns, err := strconv.ParseFloat(string(match[1]), 64)
		if err != nil {
			return nil, err
		}
		times = append(times, ns)
		allocations = string(match[2])
	}
	const most = 500
	l.Usher = fmt.Sprintf("%.2f µs, %s allocations", medianOf(times)/1e3, allocations)
	l.Met = medianOf(times) <= most && allocations == "0"
	b.say("lookup: %s", l.Usher)
	return []Line{l}, nil
}

// wrkRE reads wrk's rate.
var wrkRE = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)

// generator measures the closed loop against wrk on a server that costs as little as any.
func generator(ctx context.Context, b *bed) ([]Line, error) {
	program, err := exec.LookPath("wrk")
	if err != nil {
		const text = "not measured: wrk is not installed (apt-get install -y wrk)"
		return []Line{{Work: "this generator beside wrk", Goal: within, Peers: text, Usher: "–", Ratio: "–"}}, nil
	}
	t, err := b.start(ctx, "nginx-static", setting{})
	if err != nil {
		return nil, err
	}
	defer t.close()
	var lines []Line
	for _, path := range []string{playlist, fixedSegment} {
		l, err := b.besideWrk(ctx, t, program, path)
		if err != nil {
			return nil, err
		}
		lines = append(lines, l)
	}
	return lines, nil
}

const within = "within 10 % of wrk"

// besideWrk requests one file in alternation with wrk.
func (b *bed) besideWrk(ctx context.Context, t *target, program, path string) (Line, error) {
	var theirs, ours []sample
	target := t.request(path, knownToken(0))
	next := shuffled([]load.Request{{Head: load.Get(t.address, target)}})
	for range b.Rounds {
		seconds := strconv.Itoa(max(1, int(b.Length.Seconds()))) // wrk takes whole ones
		out, err := exec.CommandContext(ctx, program, "-t2", "-c"+strconv.Itoa(fewConnections), "-d"+seconds, "http://"+t.address+target).Output()
		match := wrkRE.FindSubmatch(out)
		if err != nil || match == nil {
			return Line{}, fmt.Errorf("wrk: %w: %s", err, out)
		}
		rate, err := strconv.ParseFloat(string(match[1]), 64)
		if err != nil {
			return Line{}, err
		}
		theirs = append(theirs, sample{perSecond: rate})
		s, err := b.measure(ctx, t, load.Options{Connections: fewConnections, For: b.Length, Warm: b.Warm, Next: next})
		if err != nil {
			return Line{}, err
		}
		ours = append(ours, s)
		b.say("generator, %s: wrk %s/s, the harness %s/s with %.2f cores", path, thousands(rate), thousands(s.perSecond), s.generator)
	}
	r := compare(ours, theirs, perSecond)
	const tolerance = 0.1
	return Line{
		Work: "this generator beside wrk, nginx-static, " + path, Goal: within, Peers: "wrk " + thousands(median(theirs, perSecond)) + "/s",
		Usher: fmt.Sprintf("the harness %s/s, with %.1f cores", thousands(median(ours, perSecond)), median(ours, generatorCPU)) + failures(ours),
		Ratio: "÷ wrk " + r.String(), Met: r.median >= 1-tolerance && r.median <= 1+tolerance && failed(ours) == 0,
	}, nil
}
