// Package overloadstats shows as metrics what a node does so as not to grow beyond its memory: what it sheds, and which bounds of
// queues and caches it has reached.
package overloadstats

import (
	"github.com/prometheus/client_golang/prometheus"

	"usher/gateway/memory"
)

// Stats are the numbers of a node.
type Stats struct {
	Memory memory.Stats
	// Reached is how often each bound of a queue, a cache or a table was reached since the start, by its name. What turned a viewer
	// away is not among them.
	Reached map[string]uint64
}

type collector struct {
	stats func() Stats

	limit, live, shedding, reached *prometheus.Desc
}

// New returns the metrics of what stats returns.
func New(stats func() Stats) prometheus.Collector {
	return &collector{
		stats: stats,
		limit: prometheus.NewDesc("usher_memory_limit_bytes", "Memory that the process may use, GOMEMLIMIT; 0: no limit.", nil, nil),
		live:  prometheus.NewDesc("usher_memory_live_bytes", "Memory that cannot be collected, as of the last collection.", nil, nil),
		shedding: prometheus.NewDesc("usher_memory_shedding",
			"1 while no sessions are opened because memory is short, of strangers or of anybody, else 0.", []string{"sessions"}, nil),
		reached: prometheus.NewDesc("usher_bound_reached_total",
			"What a full queue did not take, or a full cache or table gave up, by the bound.", []string{"bound"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.limit, c.live, c.shedding, c.reached} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.stats()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(c.limit, float64(s.Memory.Limit))
	gauge(c.live, float64(s.Memory.Live))
	for sessions, isShed := range map[string]bool{"strangers": s.Memory.ShedsStrangers, "all": s.Memory.ShedsAll} {
		value := 0.0
		if isShed {
			value = 1
		}
		gauge(c.shedding, value, sessions)
	}
	for bound, n := range s.Reached {
		out <- prometheus.MustNewConstMetric(c.reached, prometheus.CounterValue, float64(n), bound)
	}
}
