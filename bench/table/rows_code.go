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
	l := Line{
		Work: "this generator beside wrk, on nginx-static", Goal: "within 10 %", Ratio: "–",
	}
	if _, err := exec.LookPath("wrk"); err != nil {
		l.Usher, l.Peers = "–", "not measured: wrk is not installed (apt-get install -y wrk)"
		return []Line{l}, nil
	}
	t, err := b.start(ctx, "nginx-static", setting{})
	if err != nil {
		return nil, err
	}
	defer t.close()
	var theirs, ours []sample
	for range b.Rounds {
		url := "http://" + t.address + t.request(playlist, knownToken(0))
		seconds := strconv.Itoa(max(1, int(b.Length.Seconds()))) // wrk takes whole ones
		out, err := exec.CommandContext(ctx, "wrk", "-t2", "-c"+strconv.Itoa(fewConnections), "-d"+seconds, url).Output()
		match := wrkRE.FindSubmatch(out)
		if err != nil || match == nil {
			return nil, fmt.Errorf("wrk: %w: %s", err, out)
		}
		rate, err := strconv.ParseFloat(string(match[1]), 64)
		if err != nil {
			return nil, err
		}
		theirs = append(theirs, sample{perSecond: rate})
		s, err := b.measure(ctx, t, load.Options{
			Connections: fewConnections, For: b.Length, Warm: b.Warm, Next: shuffled(playlistRequests(t, 1)),
		})
		if err != nil {
			return nil, err
		}
		ours = append(ours, s)
		b.say("generator: wrk %s/s, the harness %s/s with %.2f cores", thousands(rate), thousands(s.perSecond), s.generator)
	}
	r := compare(ours, theirs, perSecond)
	const tolerance = 0.1
	l.Peers = "wrk " + thousands(median(theirs, perSecond)) + "/s"
	l.Usher = fmt.Sprintf("the harness %s/s, with %.1f cores", thousands(median(ours, perSecond)), median(ours, generatorCPU))
	l.Ratio, l.Met = "÷ wrk "+r.String(), r.median >= 1-tolerance && r.median <= 1+tolerance
	return []Line{l}, nil
}
