package admin

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// banRequest is the body of a request for a ban.
type banRequest struct {
	User    string `json:"user"`
	Session string `json:"session"`
	// Address is an address or a prefix.
	Address prefix `json:"address"`
	// CredentialsOf is the id of a session whose credentials are banned.
	CredentialsOf string `json:"credentials_of"`
	// For is the duration of the ban.
	For string `json:"duration"`
	confirmation
}

// filter matches the live sessions that the ban hits.
func (b *banRequest) filter() Filter {
	return Filter{User: b.User, ID: b.Session, Address: b.Address, CredentialsOf: b.CredentialsOf}
}

// parse validates the request and returns the ban, which ends at now plus the requested duration.
func (b *banRequest) parse(now time.Time) (Ban, error) {
	subjects := 0
	for _, text := range [...]string{b.User, b.Session, b.Address.String(), b.CredentialsOf} {
		if text != "" {
			subjects++
		}
	}
	if subjects != 1 {
		return Ban{}, fmt.Errorf("ban: %w: it has %d of user, session, address and credentials_of; want exactly one", errInvalidInput, subjects)
	}
	d, err := parseDuration(b.For, maxBan)
	if err = errors.Join(err, b.validate()); err != nil {
		return Ban{}, err
	}
	if d == 0 {
		return Ban{}, fmt.Errorf(`duration: %w: missing; want a duration such as "24h"`, errInvalidInput)
	}
	ban := Ban{
		User: b.User, Session: b.Session, Address: b.Address.String(), CredentialsOf: b.CredentialsOf, Reason: b.Reason,
		// Not in UTC, which drops the monotonic clock: a ban lasts as long as it was to, also if the machine's clock is set.
		Until: now.Add(d),
	}
	return ban, nil
}

func (h *handler) ban(w http.ResponseWriter, r *http.Request) {
	var body banRequest
	requested, err := Ban{}, decodeBody(w, r, &body)
	if err == nil {
		requested, err = body.parse(time.Now())
	}
	if h.refuse(w, r, "ban", r.URL.Path, err, body.attributes()...) {
		return
	}
	if !h.mayKickOrBan(w, r, "ban", requested.Subject(), body.confirmation) {
		return
	}
	wanted, err := h.sessionBan(r.Context(), requested)
	if h.refuse(w, r, "ban", requested.Subject(), err, body.attributes()...) {
		return
	}
	impact, isConfirmed := h.confirm(w, r, "ban", requested.Subject(), body.confirmation, body.filter(), 0)
	if !isConfirmed {
		return
	}
	ban, err := h.placeBan(r.Context(), wanted)
	ban.CredentialsOf = requested.CredentialsOf
	h.log.Record(r, "ban", requested.Subject(), err, append(impact.attributes(), slog.String("ban", ban.ID),
		slog.Time("until", requested.Until.UTC()), slog.String("reason", requested.Reason))...)
	if err != nil && !errors.Is(err, errPending) {
		writeError(w, err)
		return
	}
	writeJSON(w, struct {
		Ban
		Impact
	}{ban, impact}, err)
}

func (h *handler) unban(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	found, err := h.Cluster.Unban(r.Context(), id)
	if err = asPending(err); err == nil && !found {
		err = fmt.Errorf("ban %s: %w", id, errNotFound)
	}
	h.log.Record(r, "unban", id, err)
	if err != nil && !errors.Is(err, errPending) {
		writeError(w, err)
		return
	}
	writeJSON(w, struct {
		Unbanned string `json:"unbanned"`
	}{id}, err)
}

func (h *handler) bans(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, struct {
		Bans []Ban `json:"bans"`
	}{listBans(h.Cluster.Bans())})
}

// listBans returns bans as the API lists them: the groups of one kick are one.
func listBans(bans []session.Ban) []Ban {
	listed := []Ban{}
	kicks, viewers := make(map[string]int), make(map[string]map[backends.SessionID]struct{})
	for _, b := range bans {
		if len(b.Sessions) == 0 {
			listed = append(listed, banOf(b))
			continue
		}
		at, isListed := kicks[b.Cause]
		if !isListed {
			at = len(listed)
			kicks[b.Cause], viewers[b.Cause] = at, make(map[backends.SessionID]struct{})
			kick := banOf(b)
			kick.ID, kick.Cause = b.Cause, ""
			listed = append(listed, kick)
		}
		addAll(viewers[b.Cause], b.Sessions)
		kick := &listed[at]
		kick.Viewers = len(viewers[b.Cause])
		if kick.Backend != b.Backend {
			kick.Backend = ""
		}
		if kick.Channel != b.Channel {
			kick.Channel = ""
		}
	}
	return listed
}

// countBans counts the bans that listBans lists.
func countBans(bans []session.Ban) int {
	others, kicks := 0, make(map[string]struct{})
	for i := range bans {
		if len(bans[i].Sessions) > 0 {
			kicks[bans[i].Cause] = struct{}{}
		} else {
			others++
		}
	}
	return others + len(kicks)
}
