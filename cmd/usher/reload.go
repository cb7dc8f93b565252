package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
	"usher/cmd/usher/config"
	"usher/gateway"
	"usher/gateway/admin"
)

// reloadSettings say when a running node reads its settings anew, besides on SIGHUP and POST /api/v1/reload.
type reloadSettings struct {
	// PollInterval is how often the node looks whether the file, or a file that it names, has changed; zero: never.
	PollInterval time.Duration `yaml:"poll_interval"`
}

// Validate names every setting that cannot work.
func (r reloadSettings) Validate() error {
	if r.PollInterval != 0 && r.PollInterval < time.Second {
		return fmt.Errorf("poll_interval: %v is too short; want at least 1s, or 0s for never", r.PollInterval)
	}
	return nil
}

// restartSettings are the settings, with all below them, that hold until the node ends. A reload that changes one is refused.
// All others are reloaded.
func restartSettings() []string {
	return []string{
		"listen", "tls", "proxy_protocol", "admin.listen", "ext_authz", // listeners that are open
		"limits.max_header_size", "limits.read_timeout", "limits.idle_timeout", "limits.max_connections",
		"limits.max_connections_per_address", "drain", // of the server of one
		"identity.secret",               // all session ids would be others
		"cluster", "tickets.revive_for", // what nodes and Redis agree on
		"sessions.idle_timeout", "sessions.per_user.policy", "sessions.per_user.grace_period", "sessions.per_user.eviction_ttl",
		"cache",                                                        // its memory
		"tracing", "log.format", "admin.audit", "records", "retention", // exporters and files
	}
}

// needRestart returns an error for each change that a running node cannot make.
func needRestart(changes []config.Change) error {
	var errs []error
	for _, c := range changes {
		if !slices.ContainsFunc(restartSettings(), func(s string) bool { return c.Path == s || strings.HasPrefix(c.Path, s+".") }) {
			continue
		}
		values := ""
		if c.Before != c.After { // not of a secret, which is hidden
			values = fmt.Sprintf(" from %s to %s", cmp.Or(c.Before, "nothing"), cmp.Or(c.After, "nothing"))
		}
		errs = append(errs, fmt.Errorf("%s: changed%s, which needs a restart; undo the change or restart the node", c.Path, values))
	}
	return errors.Join(errs...)
}

// reloads is how a node reloads its settings.
type reloads struct {
	// load reads the settings; nil: there is no file.
	load func() (*settings, *config.Source, error)
	// signals asks for a reload.
	signals <-chan os.Signal
	// applied has a token when other settings are in force.
	applied chan struct{}

	mu    sync.Mutex
	tried loadedSettings // by the last reload
	lost  []lostKey      // in the order in which reloads took them away
}

// lostKey is a key of tickets.keys that a reload took away, by itself or with another secret in its place.
type lostKey struct {
	setting.Key
	at time.Time
}

// loadedSettings are what a file says, or what is wrong with it.
type loadedSettings struct {
	settings *settings
	source   *config.Source
	problem  error
}

func (r *reloads) read() (l loadedSettings) {
	l.settings, l.source, l.problem = r.load()
	return l
}

// isSame reports whether two readings say the same.
func (l loadedSettings) isSame(other loadedSettings) bool {
	if l.problem != nil || other.problem != nil {
		return l.problem != nil && other.problem != nil && l.problem.Error() == other.problem.Error()
	}
	return reflect.DeepEqual(l.settings, other.settings)
}

// forgetInterval is how often the series of what earlier settings had are looked for: seldom, so that their last values are scraped.
const forgetInterval = 5 * time.Minute

// runReloads reloads the settings on a signal, and when the file has changed, until ctx ends.
func (n *node) runReloads(ctx context.Context) {
	if n.reloads.load == nil {
		return
	}
	forget := time.NewTicker(forgetInterval)
	defer forget.Stop()
	seen := n.reloads.lastTried() // a file that is being written differs between two looks, and is left alone
	for {
		var look <-chan time.Time
		interval := n.current.Load().settings.Reload.PollInterval
		if interval > 0 {
			look = time.After(interval)
		}
		select {
		case <-ctx.Done():
			return
		case <-n.reloads.signals:
			n.reload("signal") //nolint:contextcheck // what it starts lives as long as the node
		case <-n.reloads.applied: // the interval may be another one
		case <-forget.C:
			n.forgetMetrics()
		case <-look:
			now := n.reloads.read()
			if now.isSame(seen) && !now.isSame(n.reloads.lastTried()) {
				n.reload("file") //nolint:contextcheck // as above
			}
			seen = now
		}
	}
}

func (r *reloads) lastTried() loadedSettings {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tried
}

// reload reads the settings anew, and applies all of them or none. It logs what it did and why.
func (n *node) reload(trigger string) admin.ReloadResult {
	n.reloads.mu.Lock()
	defer n.reloads.mu.Unlock()
	if n.reloads.load == nil {
		return admin.ReloadResult{Outcome: admin.ReloadRefused, Problems: []admin.ReloadProblem{{Message: "this node has no settings file"}}}
	}
	n.notifier.Reloading()
	changed, err := n.tryReload()
	status := n.status()
	result := admin.ReloadResult{Outcome: admin.ReloadApplied, Changed: changed}
	switch {
	case err != nil:
		result = admin.ReloadResult{Outcome: admin.ReloadRefused, Problems: reloadProblems(err)}
		for _, p := range result.Problems {
			n.logger.Error("settings refused, keeping previous", slog.String("trigger", trigger), slog.String("setting", p.Setting),
				slog.String("at", p.At), slog.String("problem", p.Message))
		}
		status += fmt.Sprintf(", settings refused, keeping previous: %v", err)
	case len(changed) == 0:
		result.Outcome = admin.ReloadUnchanged
		n.logger.Info("settings unchanged", slog.String("trigger", trigger))
	default:
		n.logger.Info("settings reloaded", slog.String("trigger", trigger), slog.Any("changed", changed))
	}
	n.notifier.Ready(status)
	n.recorder.Reloaded(result.Outcome, time.Now())
	return result
}

// reloadProblems returns what an error says, a problem for each setting.
func reloadProblems(err error) []admin.ReloadProblem {
	problems, ok := errors.AsType[config.Problems](err)
	if !ok {
		return []admin.ReloadProblem{{Message: err.Error()}}
	}
	var all []admin.ReloadProblem
	for _, p := range problems {
		all = append(all, admin.ReloadProblem{Setting: p.Path, At: p.Position(), Message: p.Message})
	}
	return all
}

// tryReload applies the settings, and returns the paths of those that have changed. After an error nothing has changed.
func (n *node) tryReload() (changed []string, err error) {
	n.reloads.tried = n.reloads.read()
	s, source := n.reloads.tried.settings, n.reloads.tried.source
	if err := n.reloads.tried.problem; err != nil {
		return nil, err
	}
	old := n.current.Load()
	changes := config.Changes(old.settings, s)
	next, err := n.remake(s, old)
	if err := errors.Join(needRestart(changes), s.Gateway.RenamedRoutes(old.settings.Gateway), s.checkCertificates(), err); err != nil {
		next.closeBeside(old)
		return nil, source.Explain(err)
	}
	if len(changes) == 0 {
		next.closeBeside(old)
		return nil, nil
	}
	logRisks(n.logger, source)
	n.logLostTickets(old.settings.Gateway, s.Gateway)
	n.replace(old, next)
	for _, c := range changes {
		changed = append(changed, c.Path)
	}
	return changed, nil
}

// logLostTickets warns of each key that the settings lack from now on, or have with another secret, and with which sessions of this node were
// opened. A session keeps one ticket for life, so that no time ends them.
func (n *node) logLostTickets(before, now gateway.Config) {
	for id, count := range n.reloads.countLost(before.Tickets.Keys, now.Tickets.Keys, before.HoldsTickets, n.registry.Each) {
		n.logger.Warn("sessions hold tickets of a key that tickets.keys lacks or has with another secret, their viewers get 403 until they "+
			"open the channel again; put the key back if they shall play on", slog.String("key", id), slog.Int("sessions", count))
	}
}

// countLost returns, by its id, with how many sessions' tickets each key goes that is lost from now on. A session knows the id of its key
// and not the secret, which is that of its opening. A viewer who has opened the channel again since then may hold a ticket of a later one.
// holds says of which routes viewers hold tickets.
func (r *reloads) countLost(
	before, now []setting.Key, holds func(route string) bool, each func(visit func(session.Handle) bool),
) map[string]int {
	known := len(r.lost)
	for _, k := range before {
		if !slices.Contains(now, k) {
			r.lost = append(r.lost, lostKey{k, time.Now()})
		}
	}
	if len(r.lost) == known {
		return nil
	}
	lost := map[string]int{}
	each(func(s session.Handle) bool {
		d, t := s.Decision(), s.Ticket()
		if d == nil || d.Verdict != backends.Allowed { // it may have a ticket before its first decision
			return true
		}
		i := slices.IndexFunc(r.lost, func(k lostKey) bool { return k.ID == t.KeyID && t.Opened.Before(k.at) })
		if i >= 0 && slices.Contains(before, r.lost[i].Key) && !slices.Contains(now, r.lost[i].Key) && holds(s.Request().Route) {
			lost[t.KeyID]++
		}
		return true
	})
	return lost
}

// remake makes the generation of other settings. It is to be closed after an error too.
func (n *node) remake(s *settings, old *generation) (*generation, error) {
	g := newGeneration(s)
	err := errors.Join(n.makeBackends(g, old), n.makeOrigins(g, old))
	if err == nil {
		err = n.makeGateway(g, old)
	}
	if err == nil {
		n.makeAdmin(g, old)
	}
	return g, err
}

// replace serves by the next generation from now on, and has the old one end.
func (n *node) replace(old, next *generation) {
	n.beginMetrics(next)
	n.forceAgain(next)
	n.start(next)
	finish := n.registry.Reload(next.settings.Sessions, next.sessionBackends(), replacedBackends(old.settings, next.settings))
	n.memory.Follow(next.settings.Gateway.Limits.Memory)
	n.viewers.setTrusted(next.settings.Gateway.TrustedProxies)
	n.server.SetTrustedProxies(next.settings.Gateway.TrustedProxies)
	if n.logLevel != nil {
		n.logLevel.Set(slog.Level(next.settings.Log.Level))
	}
	next.previous = old.ended
	n.current.Store(next)
	n.forceAgain(next) // an order that came meanwhile went to the old one
	old.replaced()
	if next.admin != old.admin {
		old.endPages()
	}
	select {
	case n.reloads.applied <- struct{}{}:
	default:
	}
	n.work.Go(func() error {
		n.endReplaced(old, next, finish)
		return nil
	})
}

// endReplaced ends the generation that another one has replaced: its backends with its last request, or when a request has had its time to
// finish, because what is still sent then may have no end, and asks no backend. The rest serves until the last request. Both wait for
// the generation before, which may use what is ended here.
func (n *node) endReplaced(old, next *generation, finish func()) {
	timeout := time.NewTimer(next.settings.Gateway.Drain.Timeout)
	defer timeout.Stop()
	select {
	case <-old.idle:
	case <-n.life.Done():
	case <-timeout.C:
		n.logger.Info("responses of before the reload are still sent, backends that it removed or changed end now",
			slog.String("setting", "drain.timeout"), slog.Duration("after", next.settings.Gateway.Drain.Timeout))
	}
	if before := old.previous.backends; before != nil {
		<-before
	}
	finish()
	old.endBackends(next)
	close(old.ended.backends)
	select {
	case <-old.idle:
	case <-n.life.Done():
	}
	if before := old.previous.all; before != nil {
		<-before
	}
	old.endServing(next)
	close(old.ended.all)
}

// replacedBackends returns which backend a route has in place of one that it had.
func replacedBackends(old, now *settings) func(route, backend string) string {
	type of struct{ route, backend string }
	replaced := map[of]string{}
	before, after := old.Gateway.Backends(), now.Gateway.Backends()
	for route, had := range before {
		has, isRouted := after[route]
		if !isRouted {
			continue
		}
		for i, name := range had {
			if name != "" && has[i] != "" && !slices.Contains(has[:], name) {
				replaced[of{route, name}] = has[i]
			}
		}
	}
	return func(route, backend string) string { return replaced[of{route, backend}] }
}
