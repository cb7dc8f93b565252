package rig

import (
	"maps"
	"slices"
	"strings"

	"usher/backends"
	"usher/bench/peers"
	"usher/bench/result"
)

// Lines returns the names of the lines that Sample records. Nodes and servers beyond the first have other numbers.
func Lines() []string {
	all := slices.Collect(maps.Values(counters()))
	all = append(all, callsLine, "redis.up", "rechecks.waiting", "attack.connections", "attack.closed", "attack.answers", "attack.served", "attack.resets")
	all = append(all, "sessions.node1")
	for _, state := range sessionStates() {
		all = append(all, "sessions."+state)
	}
	for source := backends.SourceNone; source <= backends.FromOperator; source++ {
		all = append(all, "decisions."+source.String())
	}
	for state := backends.BreakerClosed; state <= backends.BreakerOpen; state++ {
		all = append(all, "breakers."+state.String())
	}
	for _, name := range append(peers.Names(), "node1", "server1", "redis", result.Generator, result.Attacker) {
		all = append(all, "cpu."+name, "memory."+name)
	}
	return all
}

// IsLine reports whether Sample may record a line of that name.
func IsLine(name string) bool {
	of := strings.TrimRight(name, "0123456789")
	if of != name && (strings.HasSuffix(of, ".node") || strings.HasSuffix(of, ".server")) {
		name = of + "1"
	}
	return slices.Contains(Lines(), name)
}

// sessionStates returns the states in which nodes count sessions.
func sessionStates() []string { return []string{"allowed", "unverified", "denied", "pending"} }

// callsLine is the line of the middleware's calls.
const callsLine = "middleware.calls"

// Tells reports whether the operator's servers, or what the harness runs for them, tell the line.
func (e *External) Tells(name string) bool {
	kind, of, _ := strings.Cut(name, ".")
	switch {
	case name == callsLine && e.Middleware != "":
		return true
	case kind == "cpu" || kind == "memory":
		return of == result.Generator || len(e.PIDs) > 0 && strings.HasPrefix(of, "server")
	case kind == "attack":
		return false
	}
	return len(e.Metrics) > 0
}
