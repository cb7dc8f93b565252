package gateway

import (
	"slices"
	"strings"

	"github.com/maypok86/otter/v2"

	"usher/gateway/hls"
)

// maxListed bounds how many URIs with a query are remembered, over all channels.
const maxListed = 200_000

// listings remember which queries an origin's playlists list, since only those are forwarded: a parameter that a viewer
// makes up must not miss the cache. They are safe for concurrent use.
type listings struct {
	queries  *otter.Cache[listedKey, []string]
	channels *otter.Cache[listedKey, struct{}]
}

// listedKey is a path on a route's origin, or a channel.
type listedKey struct{ route, name string }

func newListings() *listings {
	return &listings{
		queries:  otter.Must(&otter.Options[listedKey, []string]{MaximumSize: maxListed}),
		channels: otter.Must(&otter.Options[listedKey, struct{}]{MaximumSize: maxListed}),
	}
}

// note remembers the references with a query that a playlist of the channel lists.
func (l *listings) note(r *route, channel string, refs []string) {
	l.channels.Set(listedKey{r.name, channel}, struct{}{})
	for _, ref := range refs {
		path, query, _ := strings.Cut(strings.TrimPrefix(ref, r.prefix), "?")
		l.queries.Compute(listedKey{r.name, path}, func(old []string, _ bool) ([]string, otter.ComputeOp) {
			if slices.Contains(old, query) {
				return old, otter.CancelOp
			}
			return append(slices.Clone(old[max(0, len(old)-maxQueriesPerPath+1):]), query), otter.WriteOp
		})
	}
}

// maxQueriesPerPath bounds the queries that one path is listed with: byte ranges or tokens that change at each reload.
const maxQueriesPerPath = 64

// originQuery is the query that the origin gets to see: what the route forwards, and what a playlist listed. While no
// playlist of the channel has been seen (the node has just started), what stands on a URI below a ticket counts as
// listed, so that no viewer meets an error for our having forgotten.
func (e *Edge) originQuery(v *visit, path string) string {
	query := v.view.Query
	if query == "" {
		return ""
	}
	r := v.target.route
	forwarded := ""
	if len(r.config.ForwardQuery) > 0 {
		forwarded = filterQuery(query, func(name string) bool { return slices.Contains(r.config.ForwardQuery, name) })
	}
	given := filterQuery(query, func(name string) bool {
		return name != e.o.Config.Tickets.Parameter && !isDirective(name) && name != "CMCD" &&
			!slices.Contains(r.config.IgnoreQuery, name) && !slices.Contains(r.config.ForwardQuery, name)
	})
	return joinQuery(e.listed.listed(v, path, given), forwarded)
}

// listed is as much of the given query as a playlist listed for the path.
func (l *listings) listed(v *visit, path, given string) string {
	if given == "" {
		return ""
	}
	r := v.target.route
	queries, found := l.queries.GetIfPresent(listedKey{r.name, path})
	if !found {
		_, known := l.channels.GetIfPresent(listedKey{r.name, v.target.channel})
		below := v.underTicket || !v.isPlaylist && r.config.Carry != hls.CarryCookie
		if known || !below {
			return ""
		}
		return given
	}
	if slices.Contains(queries, given) {
		return given
	}
	for _, q := range queries {
		if containsPairs(given, q) {
			return q
		}
	}
	return ""
}

// containsPairs reports whether every pair of the part stands in the whole, in order.
func containsPairs(whole, part string) bool {
	for part != "" {
		var pair, other string
		pair, part, _ = strings.Cut(part, "&")
		for {
			if whole == "" {
				return false
			}
			if other, whole, _ = strings.Cut(whole, "&"); other == pair {
				break
			}
		}
	}
	return true
}

func joinQuery(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "&" + b
}
