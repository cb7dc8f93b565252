package calibrate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"usher/bench/process"
	"usher/bench/rig"
)

// reading is what the servers and the machine have used up to a moment, in seconds of CPU.
type reading struct {
	at                            time.Time
	node, redis, harness, machine float64
	calls                         float64            // of the middleware
	commands                      map[string]float64 // of Redis, by name
	redisBytes                    float64
}

func read(ctx context.Context, g *rig.Rig) (r reading, err error) {
	if err := g.Died(); err != nil { // else it would have used nothing
		return r, err
	}
	node, err := process.CPU(g.Nodes[0].PID())
	if err != nil {
		return r, err
	}
	machine, err := process.Machine()
	if err != nil {
		return r, err
	}
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return r, err
	}
	r = reading{
		at: time.Now(), node: node.Seconds(), harness: time.Duration(own.Utime.Nano() + own.Stime.Nano()).Seconds(),
		machine: machine.Seconds(), calls: float64(g.Middleware.Calls()),
	}
	info, err := g.RedisInfo(ctx)
	switch {
	case errors.Is(err, rig.ErrNoServer):
		return r, nil
	case err != nil:
		return r, err
	}
	return r, r.addRedis(info)
}

// addRedis takes what Redis says about itself. Its times are in µs, finer than those of /proc.
func (r *reading) addRedis(info map[string]string) (err error) {
	number := func(text string) float64 {
		v, failed := strconv.ParseFloat(text, 64)
		if failed != nil && err == nil {
			err = fmt.Errorf("INFO of redis-server: %w", failed)
		}
		return v
	}
	r.redis = number(info["used_cpu_user"]) + number(info["used_cpu_sys"])
	r.redisBytes = number(info["used_memory"])
	r.commands = map[string]float64{}
	for name, value := range info {
		if command, ok := strings.CutPrefix(name, "cmdstat_"); ok {
			calls, _, _ := strings.Cut(strings.TrimPrefix(value, "calls="), ",")
			r.commands[command] = number(calls)
		}
	}
	return err
}

// minus returns what was used since an earlier reading.
func (r reading) minus(before reading) usage {
	u := usage{
		seconds: r.at.Sub(before.at).Seconds(), node: r.node - before.node, redis: r.redis - before.redis,
		harness: r.harness - before.harness, calls: r.calls - before.calls,
		redisBytes: r.redisBytes - before.redisBytes, commands: map[string]float64{},
	}
	u.others = max(0, r.machine-before.machine-u.node-u.redis-u.harness)
	for name, n := range r.commands {
		u.commands[name] = n - before.commands[name]
	}
	return u
}

// usage is what was used between two readings.
type usage struct {
	seconds                      float64
	node, redis, harness, others float64 // seconds of CPU
	calls                        float64 // of the middleware
	served, bytes                float64 // by the node, as the generator counts them
	commands                     map[string]float64
	redisBytes                   float64
}

// plus returns what was used in both.
func (u usage) plus(other usage) usage {
	sum := usage{
		seconds: u.seconds + other.seconds, node: u.node + other.node, redis: u.redis + other.redis, harness: u.harness + other.harness,
		others: u.others + other.others, calls: u.calls + other.calls, redisBytes: u.redisBytes + other.redisBytes,
		served: u.served + other.served, bytes: u.bytes + other.bytes, commands: maps.Clone(other.commands),
	}
	for name, n := range u.commands {
		sum.commands[name] += n
	}
	return sum
}

// beyond returns what was used beyond the same time of another usage, in which the servers had nothing to do.
func (u usage) beyond(idle usage) usage {
	share := u.seconds / idle.seconds
	u.node -= idle.node * share
	u.redis -= idle.redis * share
	return u
}

// micros returns µs of each of n operations. It is no number if there were none.
func micros(seconds, n float64) float64 { return seconds / n * 1e6 }

// notes collects what a reader has to know about the machine while costs were measured.
type notes struct {
	cores      float64
	mostOthers float64
	bottleneck []string
}

// The shares of the machine from which on a note is made.
const (
	quietEnough = 0.15 // cores that other processes may take
	full        = 0.95 // of all cores: there is nothing left to give
)

// add looks at what was used in a step of that name.
func (n *notes) add(step string, u usage) {
	n.mostOthers = max(n.mostOthers, u.others/u.seconds)
	all := u.node + u.redis + u.harness + u.others
	if u.harness > u.node+u.redis && all >= full*n.cores*u.seconds && !slices.Contains(n.bottleneck, step) {
		n.bottleneck = append(n.bottleneck, step)
	}
}

// all returns the notes as sentences.
func (n *notes) all() (lines []string) {
	if n.mostOthers > quietEnough {
		lines = append(lines, fmt.Sprintf("The machine was shared: other processes took up to %.1f of %.0f cores. Costs are higher then; repeat it on a quiet machine.",
			n.mostOthers, n.cores))
	}
	if len(n.bottleneck) > 0 {
		lines = append(lines, fmt.Sprintf(
			"The generator was the bottleneck of: %s. It took more of the full machine than the servers, so that rates say nothing; the CPU of an operation holds.",
			strings.Join(n.bottleneck, ", ")))
	}
	return lines
}
