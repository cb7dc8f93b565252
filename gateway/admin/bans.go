package admin

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// banRequest is what an operator says of a ban.
type banRequest struct {
	User    string `json:"user"`
	Session string `json:"session"`
	// Address is an address or a prefix.
	Address string `json:"address"`
	// CredentialsOf is the id of a session whose viewer shows what is banned.
	CredentialsOf string `json:"credentials_of"`
	For           string `json:"duration"`
	Reason        string `json:"reason"`
}

// ban checks all that can be checked here.
func (b *banRequest) ban(now time.Time) (Ban, error) {
	named := 0
	for _, text := range [...]string{b.User, b.Session, b.Address, b.CredentialsOf} {
		if text != "" {
			named++
		}
	}
	if named != 1 {
		return Ban{}, fmt.Errorf("the ban is %w: it names %d of user, session, address and credentials_of; want exactly one", errInput, named)
	}
	d, err := span(b.For, longestBan)
	if err = errors.Join(err, checkReason(b.Reason)); err != nil {
		return Ban{}, err
	}
	if d == 0 {
		return Ban{}, fmt.Errorf(`duration: it is missing, so the ban is %w; want a duration such as "24h"`, errInput)
	}
	ban := Ban{
		User: b.User, Session: b.Session, CredentialsOf: b.CredentialsOf, Until: now.Add(d).UTC(), Reason: b.Reason,
	}
	if b.Address != "" {
		p, err := network(b.Address)
		if err != nil {
			return Ban{}, err
		}
		ban.Address = p.String()
	}
	return ban, nil
}

func (h *handler) ban(w http.ResponseWriter, r *http.Request) {
	var asked banRequest
	if fail(w, read(w, r, &asked)) {
		return
	}
	wanted, err := asked.ban(time.Now())
	if fail(w, err) {
		return
	}
	got, err := h.cluster.Ban(r.Context(), wanted)
	h.audit(r, "ban", wanted.Subject(), err, slog.String("ban", got.ID), slog.Time("until", wanted.Until),
		slog.String("reason", wanted.Reason))
	if err != nil && !errors.Is(err, ErrPending) {
		fail(w, err)
		return
	}
	show(w, got, err)
}

func (h *handler) unban(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	err := h.cluster.Unban(r.Context(), id)
	h.audit(r, "unban", id, err)
	if err != nil && !errors.Is(err, ErrPending) {
		fail(w, err)
		return
	}
	show(w, struct {
		Unbanned string `json:"unbanned"`
	}{id}, err)
}

func (h *handler) bans(w http.ResponseWriter, _ *http.Request) {
	bans := h.cluster.Bans()
	if bans == nil {
		bans = []Ban{}
	}
	show(w, struct {
		Bans []Ban `json:"bans"`
	}{bans})
}
