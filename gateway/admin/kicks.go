package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// kickRequest is the body of a request for a kick.
type kickRequest struct {
	// For is how long the viewer is refused; empty means the configured duration.
	For string `json:"duration"`
	confirmation
}

// parse returns the ban that the kick demands, without its subject.
func (k *kickRequest) parse(h *handler) (session.Ban, error) {
	d, err := parseDuration(k.For, maxKick)
	if err = errors.Join(err, k.validate()); err != nil {
		return session.Ban{}, err
	}
	return session.Ban{Until: time.Now().Add(cmp.Or(d, h.KickDuration)), Reason: k.Reason, IsKick: true}, nil
}

// read reads a request for the kick of one session.
func (k *kickRequest) read(h *handler, w http.ResponseWriter, r *http.Request) (id backends.SessionID, wanted session.Ban, err error) {
	if err = decodeBody(w, r, k); err != nil {
		return id, wanted, err
	}
	if wanted, err = k.parse(h); err != nil {
		return id, wanted, err
	}
	if id, err = backends.ParseSessionID(r.PathValue("id")); err != nil {
		err = fmt.Errorf("id: %w: %w", errInvalidInput, err)
	}
	return id, wanted, err
}

// KickResult is the result of a kick.
type KickResult struct {
	// Matched counts the sessions that match, Addresses the subscriber prefixes that they are from.
	Matched   int `json:"matched"`
	Addresses int `json:"addresses"`
	// Kicked counts the sessions that were ended.
	Kicked int `json:"kicked"`
	// Approximate reports that the numbers are estimates.
	Approximate bool `json:"approximate,omitempty"`
	// Bans are the ids of the bans that refuse the viewers for a while. Removing them readmits the viewers.
	Bans []string `json:"bans,omitempty"`
	// Silent are the names of the nodes that did not respond, or that could not kick their sessions.
	Silent []string `json:"unreachable_nodes,omitempty"`
	// NotKicked are the nodes whose sessions a kick of all that match did not end, by name, with the reason. A session that
	// another node holds too is ended there as well.
	NotKicked map[string]string `json:"not_kicked,omitempty"`
}

func (h *handler) kick(w http.ResponseWriter, r *http.Request) {
	var k kickRequest
	id, wanted, err := k.read(h, w, r)
	if h.refuse(w, r, "kick", r.PathValue("id"), err, k.attributes()...) {
		return
	}
	if !h.mayKickOrBan(w, r, "kick", id.String(), k.confirmation) {
		return
	}
	v, err := h.findViewer(r.Context(), id)
	if h.refuse(w, r, "kick", id.String(), err, k.attributes()...) {
		return
	}
	impact, isConfirmed := h.confirm(w, r, "kick", id.String(), k.confirmation, v.filter(), 1)
	if !isConfirmed {
		return
	}
	got, err := h.kickViewer(r, v, wanted, impact.attributes()...)
	if err != nil && !errors.Is(err, errPending) {
		writeError(w, err)
		return
	}
	writeJSON(w, KickResult{
		Matched: impact.Sessions, Addresses: impact.Addresses, Kicked: impact.Sessions, Approximate: impact.Approximate,
		Bans: []string{got.ID}, Silent: impact.UnreachableNodes,
	}, err)
}

// viewer is who is refused when their session is kicked.
type viewer struct {
	id     backends.SessionID
	opened time.Time // zero: unknown
	// user is their id, or their name if they have none; empty: the backend has not named them.
	user, backend, channel string
	// presented is a request with their credentials; nil: they are unknown.
	presented *backends.Request
}

// filter matches the sessions that the viewer's kick ends.
func (v *viewer) filter() Filter {
	f := Filter{User: v.user, Backend: v.backend, Channel: v.channel}
	switch {
	case v.channel == "" || v.user == "" && v.presented == nil:
		f = Filter{ID: v.id.String()}
	case v.user == "":
		f.CredentialsOf = v.id.String()
	}
	return f
}

// limit names the viewer as the ban's subject: the user, or what they presented if no user is known, on their channel. If
// neither is known it is their session.
func (v *viewer) limit(b *session.Ban, credentials func(*backends.Request) string) {
	b.User, b.Backend, b.Channel = v.user, v.backend, v.channel
	switch {
	case v.channel == "" || v.user == "" && v.presented == nil:
		b.User, b.Backend, b.Channel, b.Session = "", "", "", v.id
	case v.user == "":
		b.Credentials = credentials(v.presented)
	}
}

// findViewer returns whose session it is, as this node, the store or another node knows it.
func (h *handler) findViewer(ctx context.Context, id backends.SessionID) (*viewer, error) {
	v := &viewer{id: id}
	isFound := false
	if s := h.Sessions.Find(id); s != nil {
		isFound, v.opened = true, s.Ticket().Opened
		v.add(s.Request(), s.Decision())
	}
	if v.user == "" || v.presented == nil {
		found, err := h.Cluster.AcquireLease(ctx, session.LeaseRequest{ID: id, KnownRevision: anyRevision})
		if err == nil && found.Found {
			isFound = true
			if found.Record.Opened.After(v.opened) {
				v.opened = found.Record.Opened
			}
			v.add(found.Record.Request, &found.Record.Decision)
		}
	}
	if v.channel != "" {
		return v, nil
	}
	for _, s := range h.findSessions(ctx, Filter{ID: id.String()}, 1).Sessions {
		isFound = true
		v.user, v.backend, v.channel = cmp.Or(s.UserID, s.User), s.Backend, s.Channel
	}
	if !isFound {
		return nil, fmt.Errorf("session %s: %w", id, errNotFound)
	}
	return v, nil
}

// add adds what a request and a decision tell of the viewer. Either may be nil.
func (v *viewer) add(r *backends.Request, d *backends.Decision) {
	if r != nil {
		v.backend, v.channel = r.Backend, r.Channel
		if v.presented == nil && !r.Credentials().IsEmpty() {
			v.presented = r
		}
	}
	if d != nil && v.user == "" {
		v.user = cmp.Or(d.UserID, d.User)
	}
}

// kickViewer ends the viewer's session and refuses them. With errPending the returned ban is valid.
func (h *handler) kickViewer(r *http.Request, v *viewer, wanted session.Ban, attributes ...slog.Attr) (session.Ban, error) {
	v.limit(&wanted, h.Cluster.Credentials)
	got, err := h.Cluster.Kick(r.Context(), v.id, v.opened, wanted, v.presented)
	err = asPending(err)
	h.log.Record(r, "kick", v.id.String(), err, append(attributes, slog.String("ban", got.ID), slog.String("subject", banOf(got).Subject()),
		slog.Time("until", wanted.Until), slog.String("reason", wanted.Reason))...)
	return got, err
}
