package records

import (
	"path/filepath"
	"testing"
)

// BenchmarkDelivery_Closed records sessions in the batches in which they close, with a webhook that is down: in the spool, in the
// file and in neither.
func BenchmarkDelivery_Closed(b *testing.B) {
	for name, change := range map[string]func(*Config){
		"spool and file": func(*Config) {},
		"file":           func(c *Config) { c.Webhook.URL, c.Spool.Path = "", "" },
		"spool":          func(c *Config) { c.File.Path = "" },
	} {
		b.Run(name, func(b *testing.B) {
			d := benchDelivery(b, change)
			batch := closing(0, 500)
			b.ReportAllocs()
			for range b.N / len(batch) {
				if err := d.Closed(batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDelivery_KeepOpen notes open sessions in the batches of a step of the heartbeats, here of 100,000 sessions.
func BenchmarkDelivery_KeepOpen(b *testing.B) {
	d := benchDelivery(b, func(*Config) {})
	batch := closing(0, 6250)
	b.ReportAllocs()
	for range b.N / len(batch) {
		d.KeepOpen(batch)
	}
}

func benchDelivery(b *testing.B, change func(*Config)) *Delivery {
	b.Helper()
	c := DefaultConfig()
	c.Log, c.File.Path, c.Spool.Path = false, filepath.Join(b.TempDir(), "records.jsonl"), filepath.Join(b.TempDir(), "records.db")
	c.Webhook.URL, c.Webhook.Secret = "http://127.0.0.1:9", testSecret
	change(&c)
	d, err := Open(Options{Config: c, Retention: testRetention})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(d.Close)
	return d
}
