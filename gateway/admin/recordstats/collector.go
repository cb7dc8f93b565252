// Package recordstats shows the delivery of session records as metrics.
package recordstats

import "github.com/prometheus/client_golang/prometheus"

// Stats are numbers of the webhook that takes session records.
type Stats struct {
	// Waiting is how many records wait for it, and WaitingBytes how much room they take.
	Waiting, WaitingBytes int64
	// Open is how many sessions are noted as open, so that a kill loses no record.
	Open int64
	// Delivered and Dropped are how many records it took and how many were lost, since the start.
	Delivered, Dropped uint64
	// FailedRequests is how many requests failed since the start.
	FailedRequests uint64
}

type collector struct {
	stats func() Stats

	delivered, dropped, failed, waiting, waitingBytes, open *prometheus.Desc
}

// New returns the metrics of what stats returns.
func New(stats func() Stats) prometheus.Collector {
	return &collector{
		stats: stats,
		delivered: prometheus.NewDesc("usher_records_delivered_total",
			"Session records that the webhook took.", nil, nil),
		dropped: prometheus.NewDesc("usher_records_dropped_total",
			"Session records that were lost: too many or too old ones waited for the webhook, or the spool failed.", nil, nil),
		failed: prometheus.NewDesc("usher_records_failed_requests_total",
			"Requests to the webhook that failed. Their records are sent again.", nil, nil),
		waiting: prometheus.NewDesc("usher_records_waiting",
			"Session records that wait for the webhook.", nil, nil),
		waitingBytes: prometheus.NewDesc("usher_records_waiting_bytes",
			"Room that the waiting session records take of records.spool.max_size.", nil, nil),
		open: prometheus.NewDesc("usher_records_open_sessions",
			"Sessions that are noted as open, so that a kill loses no record. 0 with redis.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.delivered, c.dropped, c.failed, c.waiting, c.waitingBytes, c.open} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.stats()
	for d, n := range map[*prometheus.Desc]uint64{c.delivered: s.Delivered, c.dropped: s.Dropped, c.failed: s.FailedRequests} {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
	out <- prometheus.MustNewConstMetric(c.waiting, prometheus.GaugeValue, float64(s.Waiting))
	out <- prometheus.MustNewConstMetric(c.waitingBytes, prometheus.GaugeValue, float64(s.WaitingBytes))
	out <- prometheus.MustNewConstMetric(c.open, prometheus.GaugeValue, float64(s.Open))
}
