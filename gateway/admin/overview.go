package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"usher/gateway/admin/access"
	"usher/gateway/admin/overview"
	"usher/gateway/admin/page"
)

// overviewQueryKind is the kind of a query for what the nodes count for the overview.
const overviewQueryKind = "overview"

// overviewTimeout bounds the wait for the nodes: an overview is made every second.
const overviewTimeout = time.Second

// AnswerOverviewQuery returns the response of this node to a request of [Cluster.Ask]. It reports false if the request is not
// for the overview.
func (m *Recorder) AnswerOverviewQuery(asked []byte) (response []byte, isAsked bool) {
	var q struct {
		Kind string `json:"ask"`
	}
	if err := json.Unmarshal(asked, &q); err != nil || q.Kind != overviewQueryKind {
		return nil, false
	}
	return m.counters.Node(), true
}

// makeOverview returns what all nodes do now.
func (h *handler) makeOverview(ctx context.Context) overview.Overview {
	asking, cancel := context.WithTimeout(ctx, overviewTimeout)
	defer cancel()
	replies, silent := h.Cluster.Ask(asking, encode(sessionQuery{Kind: overviewQueryKind, Limit: 1}))
	o := overview.Join(time.Now(), replies, silent)
	o.RedisUp = !h.Cluster.RedisDown()
	if h.Cluster.Live() == 1 && len(o.UnreachableNodes) == 0 {
		o.Sessions = h.Sessions.Len()
		return o
	}
	list := h.findSessions(ctx, Filter{}, 1) // a count would count addresses too, which takes longer
	o.Sessions, o.Approximate = list.Total, list.Approximate
	o.UnreachableNodes = append(o.UnreachableNodes, list.UnreachableNodes...) // what only they hold is missing in the total
	slices.Sort(o.UnreachableNodes)
	o.UnreachableNodes = slices.Compact(o.UnreachableNodes)
	return o
}

func (h *handler) overview(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, h.makeOverview(r.Context()))
}

// overviewJSON returns the overview for the live page.
func (h *handler) overviewJSON(ctx context.Context) []byte {
	body, err := json.Marshal(h.makeOverview(ctx))
	if err != nil {
		panic("BUG: " + err.Error()) // it holds only strings and finite numbers
	}
	return body
}

// newPage returns the live page.
func (h *handler) newPage(c Config) *page.Page {
	return page.New(page.Options{
		Tokens: func() []access.Token {
			return append([]access.Token{{Name: access.AdminName, Token: c.Token, Role: access.Write}}, c.Tokens...)
		},
		Authenticator: h.tokens, Overview: h.overviewJSON, Audit: h.log, Replaced: h.Replaced,
	})
}
