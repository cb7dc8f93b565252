package admin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"usher/actors/session"
	"usher/backends"
)

const (
	// kickTimeout bounds the wait until all nodes have kicked their sessions, whether or not the caller still waits, and
	// kickAttempts is how often they are asked in that time: a message may be lost with a connection.
	kickTimeout  = 4 * time.Second
	kickAttempts = 2
	// kickSketchSize is how many sessions a node counts exactly in its reply, which is below a megabyte.
	kickSketchSize = 60_000
)

// kickOrder is the part of a query by which a node kicks the matching sessions that it holds.
type kickOrder struct {
	// ID is the kick's, and the cause of the bans that follow from it.
	ID string `json:"id"`
	// Duration is for how long the viewers are refused, in ms from when a node receives the order.
	Duration int64  `json:"ms"`
	Reason   string `json:"reason,omitempty"`
	// IsRepeated reports that the node may have kicked already, and its answer was lost.
	IsRepeated bool `json:"repeated,omitempty"`
}

// isValid reports whether a node may follow the order. Nil is none.
func (k *kickOrder) isValid(f *Filter) bool {
	return k != nil && k.ID != "" && k.Duration > 0 && k.Duration <= maxKick.Milliseconds() && !f.IsZero()
}

// nodeKick is the response of one node to a kick.
type nodeKick struct {
	Matched encodedSketch `json:"matched"`
	// IsPending reports that the other nodes refuse the viewers only when Redis has recovered.
	IsPending bool `json:"pending,omitempty"`
	// Error says why the node has kicked none; empty: it has kicked all that match.
	Error string `json:"error,omitempty"`
}

// queryStore is the part of [Cluster] by which a node answers queries.
type queryStore interface {
	sessionStore
	// Name returns the name of the node.
	Name() string
	// KickAll ends sessions of this node on all nodes, and refuses their viewers until the kick ends. With an error that is
	// [backends.ErrStoreUnavailable] or the end of ctx's time, the other nodes do when Redis has recovered; with another
	// one, none was kicked.
	KickAll(ctx context.Context, kick session.Ban, sessions []session.Handle) error
	// Bans lists the active bans from memory.
	Bans() []session.Ban
}

// kickHere kicks the sessions, and returns the response of this node.
func kickHere(ctx context.Context, store queryStore, q sessionQuery, matching iter.Seq[session.Handle]) []byte {
	ids := make(map[backends.SessionID]struct{})
	if q.Kick.IsRepeated { // what it has kicked may have ended since
		for _, b := range store.Bans() {
			if b.Cause == q.Kick.ID {
				addAll(ids, b.Sessions)
			}
		}
	}
	var sessions []session.Handle
	if q.Filter.Node == "" || q.Filter.Node == store.Name() {
		for s := range matching {
			if shown := NewSession(s); q.Filter.Matches(&shown) {
				ids[s.ID()] = struct{}{}
				sessions = append(sessions, s)
			}
		}
	}
	kick := session.Ban{
		ID: q.Kick.ID, IsKick: true, Reason: q.Kick.Reason, Until: time.Now().Add(time.Duration(q.Kick.Duration) * time.Millisecond),
	}
	matched := newSketch(kickSketchSize)
	for id := range ids {
		matched.add(id.String())
	}
	a := nodeKick{Matched: matched.encode()}
	if err := asPending(store.KickAll(ctx, kick, sessions)); err != nil {
		if a.IsPending = errors.Is(err, errPending); !a.IsPending {
			a.Error = err.Error()
		}
	}
	body, err := json.Marshal(a)
	if err != nil {
		panic("BUG: " + err.Error()) // it holds only strings and numbers
	}
	return body
}

func addAll(set map[backends.SessionID]struct{}, ids []backends.SessionID) {
	for _, id := range ids {
		set[id] = struct{}{}
	}
}

// kickAll ends all matching sessions, and refuses their viewers.
func (h *handler) kickAll(w http.ResponseWriter, r *http.Request) {
	var k struct {
		kickRequest
		Filter
	}
	wanted, err := session.Ban{}, decodeBody(w, r, &k)
	if err == nil {
		wanted, err = k.parse(h)
		err = errors.Join(err, k.Filter.validateKick())
	}
	if h.refuse(w, r, "kick", "all that match", err, k.attributes()...) {
		return
	}
	if !h.mayKickOrBan(w, r, "kick", "all that match", k.confirmation) {
		return
	}
	if h.refuse(w, r, "kick", "all that match", h.checkNode(r.Context(), k.Node), k.attributes()...) {
		return
	}
	impact, isConfirmed := h.confirm(w, r, "kick", "all that match", k.confirmation, k.Filter, 0)
	if !isConfirmed {
		return
	}
	done := KickResult{
		Matched: impact.Sessions, Addresses: impact.Addresses, Approximate: impact.Approximate, Silent: impact.UnreachableNodes,
	}
	if k.Filter == (Filter{User: k.User, Backend: k.Backend, Channel: k.Channel}) && k.User != "" {
		err = h.kickUser(r, wanted, k.Filter, impact, &done)
	} else {
		err = h.kickMatching(r, wanted, k.Filter, &done)
	}
	if err != nil && !errors.Is(err, errPending) {
		writeError(w, err)
		return
	}
	writeJSON(w, done, err)
}

// validateKick also rejects the filter that matches every session, and a page.
func (f *Filter) validateKick() error {
	switch {
	case f.After != "":
		return fmt.Errorf("after: %w: a kick has no pages", errInvalidInput)
	case f.IsZero():
		subjects := slices.DeleteFunc(filterParameters(), func(name string) bool { return name == "after" })
		return fmt.Errorf("%w: the filter matches every session; want one of %q or address", errInvalidInput, subjects)
	}
	return f.validate()
}

// kickUser refuses a user, whatever else their viewers show, on every channel unless the filter names one.
func (h *handler) kickUser(r *http.Request, wanted session.Ban, f Filter, impact Impact, done *KickResult) error {
	wanted.User, wanted.Backend, wanted.Channel = f.User, f.Backend, f.Channel
	got, err := h.Cluster.Ban(r.Context(), wanted)
	err = asPending(err)
	h.log.Record(r, "kick", banOf(wanted).Subject(), err, append(impact.attributes(), slog.String("ban", got.ID),
		slog.Time("until", wanted.Until), slog.String("reason", wanted.Reason))...)
	if err != nil && !errors.Is(err, errPending) {
		return fmt.Errorf("%w: %w", errInvalid, err)
	}
	done.Kicked, done.Bans = done.Matched, []string{got.ID}
	return err
}

// checkNode rejects the name of several live nodes: all of them would kick. A node that started again after a crash is listed twice for a
// while.
func (h *handler) checkNode(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	nodes, _ := h.Cluster.Nodes(ctx)
	isOther := func(n session.NodeInfo) bool { return n.Name != name || !n.IsAlive }
	if named := slices.DeleteFunc(nodes, isOther); len(named) > 1 {
		return fmt.Errorf("node: %w: %d nodes have the name %q; give each its own cluster.node_name", errInvalidInput, len(named), name)
	}
	return nil
}

// kickMatching has all nodes kick the matching sessions that they hold, each at once.
func (h *handler) kickMatching(r *http.Request, wanted session.Ban, f Filter, done *KickResult) (pending error) {
	wanted.ID = strings.ToLower(rand.Text()[:12])
	replies, why := h.order(r.Context(), wanted, f)
	done.NotKicked = why
	pending = done.merge(f, replies)
	done.Silent = slices.Sorted(maps.Keys(done.NotKicked))
	if done.Kicked > 0 {
		done.Bans = []string{wanted.ID}
	}
	filter, _ := json.Marshal(f) // it holds only strings
	h.log.Record(r, "kick", "all that match", pending, slog.String("filter", string(filter)), slog.Int("sessions", done.Matched),
		slog.Int("addresses", done.Addresses), slog.Int("kicked", done.Kicked), slog.Any("not_kicked", done.NotKicked),
		slog.String("ban", wanted.ID), slog.Time("until", wanted.Until), slog.String("reason", wanted.Reason))
	return pending
}

// order has all nodes kick, and returns why nodes have not received that, by their names. A node that is asked twice kicks what it
// has not kicked yet; its first answer counts.
func (h *handler) order(ctx context.Context, wanted session.Ban, f Filter) (replies map[string][]byte, why map[string]string) {
	replies = map[string][]byte{}
	for i := range kickAttempts {
		order := kickOrder{
			ID: wanted.ID, Duration: time.Until(wanted.Until).Milliseconds(), Reason: wanted.Reason, IsRepeated: i > 0,
		}
		attempt, cancel := context.WithTimeout(ctx, kickTimeout/kickAttempts)
		received, silent := h.Cluster.Ask(attempt, encode(sessionQuery{Kind: kickQueryKind, Filter: f, Limit: 1, Kick: &order}))
		cancel()
		maps.Copy(received, replies)
		replies = received
		if why = h.unreached(ctx, f, replies, silent); len(why) == 0 || h.Cluster.RedisDown() {
			break
		}
	}
	return replies, why
}

// unreached returns why nodes have not replied, by their names: those that are silent, and those that did not live when all were
// asked.
func (h *handler) unreached(ctx context.Context, f Filter, replies map[string][]byte, silent []string) map[string]string {
	why := map[string]string{}
	reason := fmt.Sprintf("no answer within %v", kickTimeout)
	if h.Cluster.RedisDown() {
		reason = "redis unavailable"
	}
	for _, node := range silent {
		why[node] = reason
	}
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	nodes, err := h.Cluster.Nodes(ctx)
	if err != nil {
		nodes = nil // Redis is unavailable, and the silent ones are known
	}
	for _, n := range nodes {
		switch {
		case !n.IsAlive:
			why[n.Name] = fmt.Sprintf("no heartbeat for %v", time.Since(n.LastSeen).Round(time.Second))
		case why[n.Name] == "":
			why[n.Name] = "no heartbeat when all were asked"
		}
	}
	maps.DeleteFunc(why, func(node, _ string) bool {
		_, hasReplied := replies[node]
		return hasReplied || f.Node != "" && node != f.Node
	})
	return why
}

// merge adds the replies of the nodes, and returns errPending if one of them could not tell the others.
func (k *KickResult) merge(f Filter, replies map[string][]byte) (pending error) {
	var matched, kicked []encodedSketch
	for node, body := range replies {
		var a nodeKick
		switch err := json.Unmarshal(body, &a); {
		case f.Node != "" && node != f.Node:
			continue
		case err != nil:
			k.NotKicked[node] = "its answer is unreadable: it has another version, or could not read the store"
			continue
		case a.Error != "":
			k.NotKicked[node] = a.Error
		default:
			kicked = append(kicked, a.Matched)
		}
		matched = append(matched, a.Matched)
		if a.IsPending {
			pending = fmt.Errorf("%w: %w", errPending, backends.ErrStoreUnavailable)
		}
	}
	all, isExact := countUnion(matched)
	k.Kicked, k.Approximate = all, !isExact
	if k.Matched = all; len(kicked) != len(matched) {
		var isKickedExact bool
		k.Kicked, isKickedExact = countUnion(kicked)
		k.Approximate = k.Approximate || !isKickedExact
	}
	return pending
}
