package overview

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// Overview is what the nodes of a cluster do.
type Overview struct {
	// Time is when it was joined.
	Time time.Time `json:"time"`
	// Sessions counts the live sessions of all nodes. Join leaves it zero.
	Sessions int `json:"sessions"`
	// Approximate reports that this count is an estimate, with a standard error of 3 %.
	Approximate bool `json:"approximate,omitempty"`
	// OpeningsPerSecond and DenialsPerSecond are of the last complete interval.
	OpeningsPerSecond float64 `json:"openings_per_second"`
	DenialsPerSecond  float64 `json:"denials_per_second"`
	// FailOpenShare is the share of the sessions that are admitted by fail-open, UnverifiedShare of those that are allowed
	// without an answer; 0 to 1.
	FailOpenShare   float64 `json:"fail_open_share"`
	UnverifiedShare float64 `json:"unverified_share"`
	// IntervalSeconds is the time between two values of a series.
	IntervalSeconds float64 `json:"interval_seconds"`
	// Series are the last ten minutes, the newest value last.
	Series Series `json:"series"`
	// Backends are sorted by name.
	Backends []Backend `json:"backends"`
	// Nodes are the names of the nodes that responded, sorted; UnreachableNodes of those that did not, or did not count their
	// sessions.
	Nodes            []string `json:"nodes"`
	UnreachableNodes []string `json:"unreachable_nodes,omitempty"`
	// RedisUp reports whether the node that responds reaches Redis, or needs none. Join leaves it false.
	RedisUp bool `json:"redis_up"`
}

// Series are values over time. All have the same length.
type Series struct {
	Openings      []float64 `json:"openings_per_second"`
	Denials       []float64 `json:"denials_per_second"`
	FailOpenShare []float64 `json:"fail_open_share"`
}

// Backend is the breaker of one backend over all nodes.
type Backend struct {
	Name string `json:"name"`
	// Breaker is the worst state of all nodes: closed, half-open or open.
	Breaker string `json:"breaker"`
	// Nodes are the states by the node's name.
	Nodes map[string]string `json:"nodes"`
	// History has a letter for each interval, the newest last: c for closed, h for half-open, o for open, "-" for unknown. It
	// is the worst state of all nodes.
	History string `json:"history"`
}

// Join joins what the nodes of the given names tell. A node whose reply cannot be read counts as silent, too.
func Join(now time.Time, replies map[string][]byte, silent []string) Overview {
	o := Overview{Time: now.UTC().Truncate(time.Second), IntervalSeconds: Interval.Seconds(), UnreachableNodes: slices.Clone(silent)}
	nodes := map[string]nodeState{}
	for name, body := range replies {
		var n nodeState
		if err := json.Unmarshal(body, &n); err != nil || !n.isValid() {
			o.UnreachableNodes = append(o.UnreachableNodes, name)
			continue
		}
		nodes[name] = n
	}
	slices.Sort(o.UnreachableNodes)
	o.Nodes = slices.Sorted(maps.Keys(nodes))
	last, length := span(nodes, intervalOf(now))
	o.addSamples(nodes, last, length)
	o.addBackends(nodes, last, length)
	return o
}

// isValid reports whether a reply can be of a node.
func (n *nodeState) isValid() bool {
	for _, values := range n.Samples {
		if len(values) != len(n.Samples[0]) || len(values) > Kept {
			return false
		}
	}
	for _, b := range n.Breakers {
		if len(b.History) > Kept {
			return false
		}
	}
	return true
}

// span returns the last interval that all nodes may have sampled, and how many intervals are known up to it. A node that has
// just begun an interval is ahead of the others. One whose clock is ahead of the present one would hide what they counted.
func span(nodes map[string]nodeState, present int64) (last int64, length int) {
	for _, n := range nodes {
		if n.Last <= present+1 || len(nodes) == 1 {
			last = max(last, n.Last)
		}
	}
	if len(nodes) > 1 {
		last--
	}
	for _, n := range nodes {
		length = max(length, len(n.Samples[0])-int(min(max(0, n.Last-last), int64(Kept))))
	}
	return last, max(0, length)
}

// at returns where a node has the value of the interval that is back intervals before last, or -1.
func (n *nodeState) at(length int, last int64, back int) int {
	i := int64(length) - 1 - (n.Last - last) - int64(back)
	if i < 0 || i >= int64(length) {
		return -1
	}
	return int(i)
}

func (o *Overview) addSamples(nodes map[string]nodeState, last int64, length int) {
	o.Series = Series{make([]float64, length), make([]float64, length), make([]float64, length)}
	for k := range length {
		var sums [4]int64
		for _, n := range nodes {
			if i := n.at(len(n.Samples[0]), last, length-1-k); i >= 0 {
				for s := range sums {
					sums[s] += n.Samples[s][i]
				}
			}
		}
		o.Series.Openings[k] = float64(sums[0]) / Interval.Seconds()
		o.Series.Denials[k] = float64(sums[1]) / Interval.Seconds()
		o.Series.FailOpenShare[k] = share(sums[3], sums[2])
	}
	if length > 0 {
		o.OpeningsPerSecond, o.DenialsPerSecond = o.Series.Openings[length-1], o.Series.Denials[length-1]
	}
	var sessions, failOpen, unverified int64
	for _, n := range nodes {
		sessions, failOpen, unverified = sessions+n.Sessions, failOpen+n.FailOpen, unverified+n.Unverified
	}
	o.FailOpenShare, o.UnverifiedShare = share(failOpen, sessions), share(unverified, sessions)
}

// share returns part ÷ whole, 0 to 1.
func share(part, whole int64) float64 {
	if whole <= 0 || part <= 0 {
		return 0
	}
	return min(1, float64(part)/float64(whole))
}

func (o *Overview) addBackends(nodes map[string]nodeState, last int64, length int) {
	all := map[string]*Backend{}
	for node, n := range nodes {
		for name, b := range n.Breakers {
			if all[name] == nil {
				all[name] = &Backend{Name: name, Breaker: b.State, Nodes: map[string]string{}, History: strings.Repeat("-", length)}
			}
			joined := all[name]
			joined.Nodes[node] = b.State
			if rank(b.State) > rank(joined.Breaker) {
				joined.Breaker = b.State
			}
			history := []byte(joined.History)
			for k := range history {
				if i := n.at(len(b.History), last, length-1-k); i >= 0 && rank(b.History[i:i+1]) > rank(string(history[k])) {
					history[k] = b.History[i]
				}
			}
			joined.History = string(history)
		}
	}
	o.Backends = []Backend{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		o.Backends = append(o.Backends, *all[name])
	}
}

// rank orders states, or their letters, by how bad they are; -1 for an unknown one.
func rank(state string) int {
	if state == "" {
		return -1
	}
	return strings.Index(letters, state[:1])
}
