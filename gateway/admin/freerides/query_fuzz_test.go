package freerides

import (
	"net/url"
	"testing"
)

// FuzzParseQuery parses queries of the reports. What is accepted is what the query says.
func FuzzParseQuery(f *testing.F) {
	for _, query := range []string{"backend=portal&format=csv", "from=2026-01-31T20:15:00Z&to=2026-02-01T00:00:00%2B01:00", "from=yesterday", "format=xml", "x=1", ""} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		query, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		filter, isCSV, err := parseQuery(query)
		if err != nil {
			return
		}
		if filter.Backend != query.Get("backend") || isCSV != (query.Get("format") == "csv") {
			t.Errorf("%q: got %+v, CSV %t", raw, filter, isCSV)
		}
	})
}
