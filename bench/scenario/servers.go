package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/bench/peers"
	"usher/bench/rig"
	"usher/bench/viewer/edge"
)

// minValidity is the least that Usher's settings accept.
const minValidity = time.Second

// checkServers reports what the servers that the harness starts cannot do.
func (s *Scenario) checkServers() error {
	var errs []error
	if s.Nodes > 1 && !s.sharesRedis() {
		errs = append(errs, fmt.Errorf("nodes: %d with redis: false: they would share nothing; set redis=true or nodes=1", s.Nodes))
	}
	if s.HTTP2 && !s.TLS {
		errs = append(errs, errors.New("http2: true with tls: false: the nodes speak HTTP/2 by TLS alone; set tls=true"))
	}
	errs = append(errs, s.checkDialect())
	if s.Hop.Of(s.For) > 0 && s.Nodes < 2 {
		errs = append(errs, fmt.Errorf("hop: %s with nodes: %d: there is no other node to reach; set nodes=2 and redis=true, or hop=0s", s.Hop, s.Nodes))
	}
	if validity := s.Validity.Of(s.For); validity < minValidity {
		errs = append(errs, fmt.Errorf("validity: %s of for: %s is below %s, the least that a node takes; set validity=1s or a longer for",
			s.Validity, s.For, minValidity))
	}
	isWhole := true
	for _, f := range s.Faults {
		if err := s.checkFault(f.What); err != nil {
			errs, isWhole = append(errs, fmt.Errorf("fault %q: %w", f.What, err)), false
		}
	}
	if isWhole {
		errs = append(errs, s.checkAlive())
	}
	return errors.Join(errs...)
}

// checkDialect reports an edge that the harness's servers do not understand. All of them are asked as nginx asks.
func (s *Scenario) checkDialect() error {
	if s.Dialect == "" || edge.Dialect(s.Dialect) == edge.Nginx {
		return nil
	}
	return fmt.Errorf("dialect: %s: the harness's servers know nginx's alone; give --auth for a server of yours, or set dialect=nginx", s.Dialect)
}

// checkPeer reports what the peer of that name cannot do.
func (s *Scenario) checkPeer(name string) error {
	errs := []error{s.checkDialect()}
	if recipe, err := peers.Find(name); err != nil {
		errs = append(errs, err)
	} else if s.Dialect != "" && !recipe.HasAuthURL {
		errs = append(errs, fmt.Errorf("dialect: %s: %w", s.Dialect, errNoEdges))
	}
	for _, f := range s.Faults {
		if server, _, _ := splitFault(f.What); server != "middleware" && server != "origin" {
			errs = append(errs, fmt.Errorf("fault %q: %w: beside a peer are a middleware and an origin alone", f.What, rig.ErrNoServer))
		}
	}
	if s.TLS || s.HTTP2 {
		errs = append(errs, fmt.Errorf("tls: %t, http2: %t: peers speak HTTP/1.1 without TLS; set both to false", s.TLS, s.HTTP2))
	}
	return errors.Join(errs...)
}

// sharesRedis reports whether the nodes share a Redis, which may be one that the settings name.
func (s *Scenario) sharesRedis() bool {
	cluster, _ := s.Settings["cluster"].(map[string]any)
	return s.Redis || cluster["redis"] != nil
}

// checkFault reports a fault of a server that the scenario does not run.
func (s *Scenario) checkFault(what string) error {
	server, _, which := splitFault(what)
	switch {
	case server == "redis" && !s.Redis:
		return errors.New("redis: false: there is no redis-server to break; set redis=true")
	case server != "node" || which == "all":
		return nil
	}
	if n, err := strconv.Atoi(which); err != nil || n < 1 || n > s.Nodes {
		return fmt.Errorf("nodes: %d: there is no node %q; set nodes=%d, or name one from 1 to %d", s.Nodes, which, max(n, s.Nodes), s.Nodes)
	}
	return nil
}

func splitFault(what string) (server, kind, which string) {
	fields := append(strings.Fields(what), "", "", "")
	return fields[0], fields[1], fields[2]
}

// checkOverlaps reports two faults of one server at once: the end of the first would mend what the second broke.
func (s *Scenario) checkOverlaps() error {
	for i := range s.Faults {
		for j := range i {
			a, b := &s.Faults[j], &s.Faults[i]
			from, to := max(a.At.Of(s.For), b.At.Of(s.For)), min(a.endIn(s.For), b.endIn(s.For))
			if from < to && a.isOfServerOf(b) {
				return fmt.Errorf("faults %q and %q overlap: a server has one fault at a time", a.What, b.What)
			}
		}
	}
	return nil
}

// endsByItself reports whether the fault needs no time of its own: a flush is done at once, and a restart lasts as long as it takes.
func (f *Fault) endsByItself() bool {
	server, kind, _ := splitFault(f.What)
	return server == "redis" && kind == "flush" || server == "node" && kind == "restart"
}

// endIn returns when the fault ends in a run of that length. One that ends by itself takes a moment.
func (f *Fault) endIn(run time.Duration) time.Duration { return f.At.Of(run) + max(f.For.Of(run), 1) }

// isOfServerOf reports whether both faults are of one server. Attacks go on beside each other.
func (f *Fault) isOfServerOf(other *Fault) bool {
	server, _, which := splitFault(f.What)
	otherServer, _, otherWhich := splitFault(other.What)
	if server != otherServer || server == "attack" {
		return false
	}
	return server != "node" || which == otherWhich || which == "all" || otherWhich == "all"
}

// checkAlive reports faults that together leave no node alive, if an expectation bounds the failures of that time.
func (s *Scenario) checkAlive() error {
	for _, f := range s.Faults {
		if s.nodesDown(f.At.Of(s.For)) < s.Nodes {
			continue
		}
		for i := range s.Expect {
			if e := &s.Expect[i]; e.boundsFailures(f.Name) {
				return fmt.Errorf("fault %q with nodes: %d leaves no node alive, but %q is expected; set nodes=%d and redis=true",
					f.What, s.Nodes, e.Text, s.Nodes+1)
			}
		}
	}
	return nil
}

// nodesDown returns how many nodes are down at a time. Of nodes that restart in turn it is one.
func (s *Scenario) nodesDown(at time.Duration) int {
	down := map[string]bool{}
	for _, f := range s.Faults {
		from := f.At.Of(s.For)
		if server, _, which := splitFault(f.What); server == "node" && from <= at && at <= from+f.For.Of(s.For) {
			down[which] = true
		}
	}
	return len(down)
}

// boundsFailures reports whether the expectation allows only so many failures while a fault of that name holds.
func (e *Expectation) boundsFailures(fault string) bool {
	switch e.operator {
	case "==":
		return e.left.countsFailures(fault) || e.right.countsFailures(fault)
	case "<", "<=":
		return e.left.countsFailures(fault)
	case ">", ">=":
		return e.right.countsFailures(fault)
	}
	return false
}

// countsFailures reports whether the term has a number of failures that those during the fault are in.
func (t *term) countsFailures(fault string) bool {
	if t.operator != "" {
		return t.left.countsFailures(fault) || t.right.countsFailures(fault)
	}
	return slices.Contains([]string{"errors", "failures"}, t.name) && slices.Contains([]string{"", "fault", fault}, t.phase)
}
