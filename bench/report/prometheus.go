package report

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"usher/bench/record"
)

// Prometheus serves what a run has measured so far, for scraping while it runs. latest returns the last second's snapshot, and is
// called for each scrape, concurrently.
//
//	usher_bench_value{name}        the last second's value of a line, by the names of a result's lines, in its unit
//	usher_bench_count_total{name}  a total since the start: requests, errors, bytes, and counts by their names
//	usher_bench_fault{name}        1 for each fault in force
func Prometheus(latest func() record.Snapshot) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(&collector{
		latest: latest,
		value:  prometheus.NewDesc("usher_bench_value", "Value of a line in the last second, in its unit.", []string{"name"}, nil),
		count:  prometheus.NewDesc("usher_bench_count_total", "Total since the start.", []string{"name"}, nil),
		fault:  prometheus.NewDesc("usher_bench_fault", "1 for each fault in force.", []string{"name"}, nil),
	})
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// collector reads the last snapshot at the time of a scrape.
type collector struct {
	latest              func() record.Snapshot
	value, count, fault *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.value, c.count, c.fault} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.latest()
	for name, v := range s.Values {
		out <- prometheus.MustNewConstMetric(c.value, prometheus.GaugeValue, v, name)
	}
	for name, v := range s.Totals {
		out <- prometheus.MustNewConstMetric(c.count, prometheus.CounterValue, v, name)
	}
	once := map[string]bool{}
	for _, name := range s.Faults {
		if !once[name] {
			out <- prometheus.MustNewConstMetric(c.fault, prometheus.GaugeValue, 1, name)
		}
		once[name] = true
	}
}
