package actors

import (
	"log/slog"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// revoker ends the sessions of this node that others revoked.
type revoker struct{ core }

func (r *revoker) apply(v session.Revocation) {
	switch v.Kind {
	case session.RevokedBanned:
		if !v.Ban.Session.IsZero() {
			r.applySessionBan(v.Ban)
			return
		}
		r.life.tryRun(func() { r.applyBan(v.Ban) })
	case session.RevokedUnbanned:
		r.life.tryRun(r.liftBans)
	default:
		if s := r.table.find(v.Session); s != nil {
			r.send(s, session.Revoked{Kind: v.Kind, Opened: v.Opened, Decision: v.Decision})
		}
	}
}

// applySessionBan denies the banned session, which needs no pass over all of them: a ban of a user leads to many of these.
func (r *revoker) applySessionBan(b session.Ban) {
	if s := r.table.find(b.Session); s != nil {
		r.send(s, session.Revoked{Kind: session.RevokedBanned, Decision: banDecision(b)})
	}
}

// applyBan denies the sessions that are banned now. It also bans the credentials that a banned user's viewers presented, so
// that they stay out when the middleware cannot name the user.
func (r *revoker) applyBan(b session.Ban) {
	r.table.each(func(s *Session) bool {
		ban, isBanned := r.cluster.Banned(s.Request(), s.Decision())
		if !isBanned {
			return !r.life.isEnding()
		}
		r.send(s, session.Revoked{Kind: session.RevokedBanned, Decision: banDecision(ban)})
		if b.User != "" && ban.ID == b.ID && s.hasCredentials.Load() {
			r.banCredentials(b, s.Request())
		}
		return !r.life.isEnding()
	})
}

func (r *revoker) banCredentials(of session.Ban, presented *backends.Request) {
	ctx, cancel := r.life.writeContext()
	defer cancel()
	if err := r.cluster.BanCredentials(ctx, of, presented); err != nil {
		r.log.Warn("credentials of a banned user not banned", slog.String("ban", of.ID), slog.Any("error", err))
	}
}

func banDecision(b session.Ban) backends.Decision {
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromBan, UserID: b.User, Reason: "banned: " + b.ID}
}

// liftBans closes the sessions that a ban denied. A viewer who is still banned is denied again at the next request.
func (r *revoker) liftBans() {
	r.table.each(func(s *Session) bool {
		if d := s.Decision(); d != nil && d.Source == backends.FromBan {
			r.send(s, session.Unbanned{})
		}
		return !r.life.isEnding()
	})
}

// reloadPause spaces look-ups of many sessions, so that the store sees at most two thousand per second.
const reloadPause = 500 * time.Microsecond

func (r *revoker) reloadUnverified() {
	r.life.tryRun(func() {
		r.table.each(func(s *Session) bool {
			if d := s.Decision(); d == nil || d.Verdict != backends.Allowed || d.Source.IsAuthoritative() {
				return !r.life.isEnding()
			}
			r.send(s, session.MustReload{})
			return pause(r.life.ctx, reloadPause)
		})
	})
}

func (r *revoker) reloadAll() {
	r.life.tryRun(func() {
		r.table.each(func(s *Session) bool {
			r.send(s, session.MustReload{})
			return pause(r.life.ctx, reloadPause)
		})
	})
}
