package actors

import (
	"log/slog"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// Apply carries out what another node, or an operator, revoked. It does not block. The bans that the registry was given
// are up to date by then.
func (r *Registry) Apply(v session.Revocation) {
	switch v.Kind {
	case session.RevokedBanned:
		r.background(func() { r.applyBan(v.Ban) })
	case session.RevokedUnbanned:
		r.background(r.pardon)
	default:
		if s := r.table.find(v.Session); s != nil {
			r.tell(s, session.Revoked{Kind: v.Kind, Opened: v.Opened, Decision: v.Decision})
		}
	}
}

// background runs something on behalf of many sessions, unless the registry is closed.
func (r *Registry) background(do func()) (begun bool) {
	r.door.RLock()
	defer r.door.RUnlock()
	if !r.shut {
		r.running.Go(do)
	}
	return !r.shut
}

// applyBan refuses those who are banned now. What a banned user showed is told, so that he stays out when nobody can say
// who he is.
func (r *Registry) applyBan(b session.Ban) {
	r.table.each(func(s *Session) bool {
		f := s.Request()
		ban, banned := r.o.Cluster.Banned(f, s.Decision())
		if !banned {
			return r.life.Err() == nil
		}
		r.tell(s, session.Revoked{Kind: session.RevokedBanned, Decision: bannedBy(ban)})
		if b.User != "" && ban.ID == b.ID && s.introduced.Load() {
			r.banCredentials(b, f)
		}
		return r.life.Err() == nil
	})
}

// banCredentials bans what the viewer of a banned user presented.
func (r *Registry) banCredentials(of session.Ban, presented *backends.Request) {
	ctx, cancel := r.writing()
	defer cancel()
	if err := r.o.Cluster.BanCredentials(ctx, of, presented); err != nil {
		r.o.Logger.Warn("credentials of a banned user could not be banned", slog.String("ban", of.ID), slog.Any("error", err))
	}
}

func bannedBy(b session.Ban) backends.Decision {
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromBan, UserID: b.User, Reason: "banned: " + b.ID}
}

// pardon forgets who was refused by a ban; who is banned still is refused again when he asks.
func (r *Registry) pardon() {
	r.table.each(func(s *Session) bool {
		if d := s.Decision(); d != nil && d.Source == backends.FromBan {
			r.tell(s, session.Unbanned{})
		}
		return r.life.Err() == nil
	})
}

// Over has the store told how the sessions of a user stand who exceeds his limit, named by his hash. It does not block.
func (r *Registry) Over(userHash string) { r.limits.over(userHash) }

// Returned looks again at those who were let in on no answer: what nodes share was away and is back, and may know who
// they are. It does not block.
func (r *Registry) Returned() {
	r.background(func() {
		r.table.each(func(s *Session) bool {
			if d := s.Decision(); d == nil || d.Verdict != backends.Allowed || d.Source.IsAuthoritative() {
				return r.life.Err() == nil
			}
			r.tell(s, session.MustReload{})
			return pause(r.life, rereadPause)
		})
	})
}

// rereadPause spaces the sessions that are looked at again, so that the store sees no more than two thousand a second.
const rereadPause = 500 * time.Microsecond

// Reread looks at every session again in the store, paced: revocations may have been missed. It does not block.
func (r *Registry) Reread() {
	r.background(func() {
		r.table.each(func(s *Session) bool {
			r.tell(s, session.MustReload{})
			return pause(r.life, rereadPause)
		})
	})
}
