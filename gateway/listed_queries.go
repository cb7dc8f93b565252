package gateway

import (
	"slices"
	"strings"

	"github.com/maypok86/otter/v2"

	"usher/gateway/hls"
)

// maxListedPaths bounds how many paths with a query are remembered, over all channels.
const maxListedPaths = 200_000

// listedQueries remember which queries the origins' playlists list. Only those are forwarded: a parameter that a viewer
// invents must not miss the cache. They are safe for concurrent use.
type listedQueries struct {
	queries  *otter.Cache[listedPath, []string]
	channels *otter.Cache[listedChannel, struct{}]
}

// listedPath is a path on a route's origin, decoded because playlists and players escape it differently.
type listedPath struct{ route, path string }

// listedChannel marks a channel whose playlists were seen: multivariant ones, which list playlists, or media playlists.
type listedChannel struct {
	route, channel string
	isMaster       bool
}

func newListedQueries() *listedQueries {
	return &listedQueries{
		queries:  otter.Must(&otter.Options[listedPath, []string]{MaximumSize: maxListedPaths}),
		channels: otter.Must(&otter.Options[listedChannel, struct{}]{MaximumSize: maxListedPaths}),
	}
}

// record remembers the queries that a playlist of the channel lists.
func (l *listedQueries) record(r *route, channel string, tpl *hls.Template) {
	l.channels.Set(listedChannel{r.name, channel, tpl.Info().IsMultivariant}, struct{}{})
	for _, ref := range tpl.ListedQueries() {
		path, query, _ := strings.Cut(strings.TrimPrefix(ref, r.originPrefix), "?")
		l.queries.Compute(listedPath{r.name, unescape(path)}, func(old []string, _ bool) ([]string, otter.ComputeOp) {
			if slices.Contains(old, query) {
				return old, otter.CancelOp
			}
			return append(slices.Clone(old[max(0, len(old)-maxQueriesPerPath+1):]), query), otter.WriteOp
		})
	}
}

// maxQueriesPerPath bounds the queries of one path, such as tokens that change at each reload.
const maxQueriesPerPath = 64

// originQuery returns the query that is sent to the origin: what the route forwards, and what a playlist listed.
func (g *Gateway) originQuery(rc *requestContext, path string) string {
	query := rc.request.Query
	if query == "" {
		return ""
	}
	r := rc.target.route
	forwarded := ""
	if len(r.config.ForwardQuery) > 0 {
		forwarded = filterQuery(query, func(name, _ string) bool { return slices.Contains(r.config.ForwardQuery, name) })
	}
	given := filterQuery(query, func(name, _ string) bool {
		return name != g.options.Config.Tickets.Parameter && !isDirective(name) && name != "CMCD" &&
			!slices.Contains(r.config.IgnoreQuery, name) && !slices.Contains(r.config.ForwardQuery, name)
	})
	return joinQuery(g.listed.filter(rc, path, given), forwarded)
}

// filter returns the part of the given query that a playlist listed for the path.
func (l *listedQueries) filter(rc *requestContext, path, given string) string {
	if given == "" {
		return ""
	}
	key := listedPath{rc.target.route.name, unescape(path)}
	queries, found := l.queries.GetIfPresent(key)
	if !found {
		return l.filterUnknown(rc, key, given)
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

// filterUnknown returns the part of the given query that counts as listed although no known playlist lists the path.
// Until the node has seen a playlist of the channel that could list it, such as after a restart, that is what stands on a
// URI with our ticket, so that a restart breaks no playback. What may be a credential never counts.
func (l *listedQueries) filterUnknown(rc *requestContext, key listedPath, given string) string {
	r := rc.target.route
	if rc.isPlaylist && !rc.hasTicket {
		// Sessions open at this URI, so no playlist lists it. Later requests with a ticket must not pass their query either.
		l.queries.SetIfAbsent(key, nil)
		return ""
	}
	if !rc.hasTicket && r.config.TicketIn != hls.TicketInNone || r.config.CredentialsEverywhere && len(r.config.Credentials) == 0 {
		return ""
	}
	if _, known := l.channels.GetIfPresent(listedChannel{r.name, rc.target.channel, rc.isPlaylist}); known {
		return ""
	}
	return filterQuery(given, func(name, value string) bool {
		return !slices.Contains(r.config.Credentials, name) && !slices.Contains(r.config.Required, name) && !r.isIgnored(name, value)
	})
}

// containsPairs reports whether the whole has every pair of the part, in order. Empty pairs do not count.
func containsPairs(whole, part string) bool {
	for part != "" {
		var pair, other string
		pair, part, _ = strings.Cut(part, "&")
		for pair != "" {
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
