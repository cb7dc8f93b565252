package actors

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"

	"usher/actors/admission"
	"usher/actors/session"
	"usher/backends"
)

// Config bounds the sessions of a node and sets their times. Every field must be positive.
type Config struct {
	// Max is the highest number of sessions on the node. Further viewers get 503.
	Max int `yaml:"max"`
	// MaxPending is the highest number of requests that wait for a first decision at once.
	MaxPending int `yaml:"max_pending"`
	// OpenRatePerAddress is how many sessions per second one address (IPv4, or IPv6 /64) may open in the long run, so that a
	// flood of random tokens costs neither actors nor checks.
	OpenRatePerAddress int `yaml:"open_rate_per_address"`
	// OpenBurstPerAddress is how many sessions an address may open at once.
	OpenBurstPerAddress int `yaml:"open_burst_per_address"`
	// OpenRatePerNetwork and OpenBurstPerNetwork are the same for a network (IPv4 /24, IPv6 /48), and OpenRate and OpenBurst for
	// the node. Sessions that a ticket opens do not count.
	OpenRatePerNetwork  int `yaml:"open_rate_per_network"`
	OpenBurstPerNetwork int `yaml:"open_burst_per_network"`
	OpenRate            int `yaml:"open_rate"`
	OpenBurst           int `yaml:"open_burst"`
	// DeniedRatePerNetwork and DeniedRate are how many strangers a second a backend is asked about who are not allowed in the
	// end, of one network and on the node; ten seconds of them are saved up. A stranger has no ticket and was not allowed before.
	DeniedRatePerNetwork int `yaml:"denied_rate_per_network"`
	DeniedRate           int `yaml:"denied_rate"`
	// StrangerShare is the part of MaxPending and of the bursts of the network and of the node that strangers may use, in percent.
	StrangerShare int `yaml:"stranger_share_percent"`
	// MaxAddresses is how many addresses may use one ticket within IdleTimeout, over all nodes, the one for which it was
	// issued included. An IPv4 and an IPv6 address of a viewer count as one. Further ones get 503.
	MaxAddresses int `yaml:"max_addresses"`
	// MaxVariants is how many sessions, within IdleTimeout, one player may open whose credentials differ in one parameter;
	// zero: any number. Further ones get 503.
	MaxVariants int `yaml:"max_variants"`
	// IdleTimeout is the time without a request after which a session closes.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// DenialTTL is how long a denial is kept, so that a player's retries do not reach the backend. An eviction is kept for a few seconds,
	// and while the backend is down its denials are kept for longer.
	DenialTTL time.Duration `yaml:"denial_ttl"`
	// RetryAfter is how long a pending viewer has to wait before the next request.
	RetryAfter time.Duration `yaml:"retry_after"`
	Recheck    RecheckConfig `yaml:"recheck"`
	// KickDuration is how long a kick refuses its viewer, if the operator does not say.
	KickDuration time.Duration `yaml:"kick_duration"`
	PerUser      PerUserConfig `yaml:"per_user"`
}

// PerUserConfig bounds the streams that one user watches at once, over all nodes. The backend names the user (X-UserId,
// X-Session-Name); otherwise viewers with the same credentials are one user.
type PerUserConfig struct {
	// MaxStreams is the limit if the backend names none (X-Max-Sessions); zero: no limit.
	MaxStreams int `yaml:"max_streams"`
	// MaxSessionsOverridesUnique lets X-Max-Sessions above 1 override X-Unique, which some middlewares always send.
	MaxSessionsOverridesUnique bool `yaml:"max_sessions_overrides_unique"`
	// Policy says which stream is evicted: evict-oldest or reject-new.
	Policy session.LimitPolicy `yaml:"policy"`
	// GracePeriod is how long the limit may be exceeded, so that zapping or a change of network evicts no stream. It is at
	// least twice the user's longest zap timeout and 2 s.
	GracePeriod time.Duration `yaml:"grace_period"`
	// ZapTimeout is the time without a request after which a stream does not count. Zero: 1.5 target durations of what it
	// plays, at least 6 s, or a minute if the playlist is complete. At an edge Usher sees no playlist: there it is 10 s, and at
	// one with sessions of its own, which asks only when a decision expires, for how long the session outlives its last request.
	ZapTimeout time.Duration `yaml:"zap_timeout"`
	// EvictionTTL is the time without a request after which an evicted session may open as a new one.
	EvictionTTL time.Duration `yaml:"eviction_ttl"`
}

// openLimits returns the bounds of openings.
func (c *Config) openLimits() admission.Limits {
	return admission.Limits{
		Rate: c.OpenRate, Burst: c.OpenBurst, RatePerAddress: c.OpenRatePerAddress, BurstPerAddress: c.OpenBurstPerAddress,
		RatePerNetwork: c.OpenRatePerNetwork, BurstPerNetwork: c.OpenBurstPerNetwork,
		DeniedRate: c.DeniedRate, DeniedRatePerNetwork: c.DeniedRatePerNetwork, StrangerShare: c.StrangerShare,
	}
}

// LimitRules returns what holds for the limits of all users.
func (c Config) LimitRules() session.LimitRules {
	return session.LimitRules{
		Policy: c.PerUser.Policy, GracePeriod: c.PerUser.GracePeriod,
		EvictionTTL: c.PerUser.EvictionTTL, IdleTimeout: c.IdleTimeout,
	}
}

// limit returns how many streams the decision's user may watch at once; zero: any number.
func (c PerUserConfig) limit(d *backends.Decision) int {
	switch {
	case d.Unique && (d.MaxSessions <= 1 || !c.MaxSessionsOverridesUnique):
		return 1
	case d.MaxSessions > 0:
		return int(d.MaxSessions)
	default:
		return c.MaxStreams
	}
}

// RecheckConfig sets when decisions are checked again.
type RecheckConfig struct {
	// Min and Max bound the validity that a backend may ask for (X-AuthDuration).
	Min time.Duration `yaml:"min"`
	Max time.Duration `yaml:"max"`
	// Jitter is how much earlier than the validity's end a re-check may be, in percent of the validity.
	Jitter int `yaml:"jitter_percent"`
}

// maxMaxAddresses bounds what the store keeps of a ticket.
const maxMaxAddresses = 50

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Max:                 1_200_000,
		MaxPending:          20_000,
		OpenRatePerAddress:  200,
		OpenBurstPerAddress: 2_000,                              // a carrier's NAT at kick-off
		OpenRatePerNetwork:  2_000, OpenBurstPerNetwork: 20_000, // ten such addresses: a carrier's pool
		OpenRate: 5_000, OpenBurst: 20_000, // what two cores open
		DeniedRatePerNetwork: 50, DeniedRate: 500,
		StrangerShare: 50,
		MaxAddresses:  6,
		MaxVariants:   8,
		IdleTimeout:   time.Minute,
		DenialTTL:     15 * time.Second,
		RetryAfter:    time.Second,
		Recheck:       RecheckConfig{Min: 10 * time.Second, Max: 24 * time.Hour, Jitter: 10},
		KickDuration:  5 * time.Minute,
		PerUser: PerUserConfig{
			MaxSessionsOverridesUnique: true, GracePeriod: 10 * time.Second, EvictionTTL: time.Minute,
		},
	}
}

// Validate names every invalid setting.
func (c Config) Validate() error {
	errs := c.validateCounts()
	for _, d := range []struct {
		key   string
		value time.Duration
	}{
		{"idle_timeout", c.IdleTimeout},
		{"denial_ttl", c.DenialTTL},
		{"retry_after", c.RetryAfter},
		{"recheck.min", c.Recheck.Min},
		{"kick_duration", c.KickDuration},
		{"per_user.grace_period", c.PerUser.GracePeriod},
		{"per_user.zap_timeout", cmp.Or(c.PerUser.ZapTimeout, time.Second)},
		{"per_user.eviction_ttl", c.PerUser.EvictionTTL},
	} {
		if d.value < time.Second {
			errs = append(errs, fmt.Errorf("%s: %v is too short; want at least 1s", d.key, d.value))
		}
	}
	errs = append(errs, notNegative("max_variants", c.MaxVariants), notNegative("per_user.max_streams", c.PerUser.MaxStreams))
	if c.Recheck.Max < c.Recheck.Min {
		errs = append(errs, fmt.Errorf("recheck.max: %v is less than recheck.min: %v", c.Recheck.Max, c.Recheck.Min))
	}
	if c.Recheck.Jitter < 0 || c.Recheck.Jitter > 50 {
		errs = append(errs, fmt.Errorf("recheck.jitter_percent: %d is out of range; want 0 to 50", c.Recheck.Jitter))
	}
	return errors.Join(errs...)
}

func (c Config) validateCounts() []error {
	var errs []error
	for _, n := range []struct {
		key   string
		value int
	}{
		{"max", c.Max},
		{"max_pending", c.MaxPending},
		{"open_rate_per_address", c.OpenRatePerAddress},
		{"open_burst_per_address", c.OpenBurstPerAddress},
		{"open_rate_per_network", c.OpenRatePerNetwork},
		{"open_burst_per_network", c.OpenBurstPerNetwork},
		{"open_rate", c.OpenRate},
		{"open_burst", c.OpenBurst},
		{"denied_rate_per_network", c.DeniedRatePerNetwork},
		{"denied_rate", c.DeniedRate},
		{"stranger_share_percent", c.StrangerShare},
		{"max_addresses", c.MaxAddresses},
	} {
		if n.value < 1 {
			errs = append(errs, fmt.Errorf("%s: %d is too small; want at least 1", n.key, n.value))
		}
	}
	if c.StrangerShare > 100 {
		errs = append(errs, fmt.Errorf("stranger_share_percent: %d is too large; want at most 100", c.StrangerShare))
	}
	if c.MaxAddresses > maxMaxAddresses {
		errs = append(errs, fmt.Errorf("max_addresses: %d is too large; want at most %d", c.MaxAddresses, maxMaxAddresses))
	}
	return errs
}

// notNegative returns an error for a negative bound.
func notNegative(key string, value int) error {
	if value < 0 {
		return fmt.Errorf("%s: %d is negative; 0 is no bound", key, value)
	}
	return nil
}

// Backend is a backend behind its breaker and its outage policy.
type Backend interface {
	backends.Backend
	// Fallback returns the decision of the outage policy on a viewer whose check failed with err.
	Fallback(r *backends.Request, err error) (backends.Decision, error)
	// State returns the state of the breaker. It neither blocks nor locks.
	State() backends.BreakerState
	// IsImpaired reports whether the backend, or a part of it, is known to be unavailable. It neither blocks nor locks.
	IsImpaired() bool
	// IsBacklogged reports whether as many re-checks wait for the backend as it may get at once. It does not block.
	IsBacklogged() bool
}

// BackendOptions are a backend and what the config says about its sessions.
type BackendOptions struct {
	Backend Backend
	Rules   BackendRules
}

// BackendRules are what the config says about the sessions of one backend.
type BackendRules struct {
	// Validity is how long a decision holds if the backend does not say.
	Validity time.Duration
	// TokenLife is how long the backend knows a token; zero: for ever. An older session is not checked.
	TokenLife    time.Duration
	ExpiredToken session.ExpiredTokenPolicy
	// RecheckRate is the highest number of re-checks per second that the backend gets from all nodes together.
	RecheckRate int
	// AnswerDeadline is the longest time that a viewer's opening waits for its first decision: for the store, for a slot and
	// for the backend together. Then the outage policy decides, if the backend had the check all that time; otherwise the
	// viewer retries.
	AnswerDeadline time.Duration
	// Timeout bounds one check.
	Timeout time.Duration
	// ReviveDenied refuses a ticket whose session no node remembers, because the outage policy is deny.
	ReviveDenied bool
}

// Options are what a Registry is made of. Fields are required unless their comment says otherwise.
type Options struct {
	Config Config
	// ReviveFor is the age up to which a ticket admits a viewer whose session no node remembers.
	ReviveFor time.Duration
	// Backends are keyed by name.
	Backends map[string]BackendOptions
	Cluster  Cluster
	// StoreTimeout is how long a viewer waits for the store; zero: 100 ms.
	StoreTimeout time.Duration
	// HeartbeatInterval is how often the store learns when a session was last seen; zero: a third of the idle timeout.
	HeartbeatInterval time.Duration
	// SigningKey returns the id of the key that signs new tickets.
	SigningKey func() string
	// OnConstantUser is called, again and again while it holds, when the viewers of one user, whom the backend names, are at
	// more than that many addresses at once on this node; nil: nobody is told. It must not block.
	OnConstantUser func(backend, user string, addresses int)
	// OnClosed keeps the records of sessions that have closed on all nodes, before anything else is done for them. After an
	// error the store returns them again later, if it can. Nil: nobody keeps them.
	OnClosed func([]session.ClosingRecord) error
	// OnOpen keeps what would be recorded of open sessions if the process were killed now: of those that were seen since the
	// last heartbeat. It is called by a node without others alone, whose store ends with the process. Nil: nobody keeps it.
	OnOpen func([]session.ClosingRecord)
	// Shed returns the bound for which no session of a stranger, or of anybody, may be opened now, or nil; nil: there is none. It
	// is called for each opening, and must not block.
	Shed func(isStranger bool) error
	// Observer is told what sessions do; nil: nobody is.
	Observer Observer
	// Tracer records spans; nil: none.
	Tracer trace.Tracer
	// Logger may be nil.
	Logger *slog.Logger
}

// Observer is told what sessions do. Its methods are called by many goroutines, and must not block.
type Observer interface {
	// Decided tells that a session has the decision after in place of before. A nil before: it had none; a nil after: the
	// session has left the node.
	Decided(r *backends.Request, before, after *backends.Decision)
	// Moved tells that a session with the decision d is of r.Backend since a reload, and of the backend from no longer. Nothing was
	// decided.
	Moved(r *backends.Request, from string, d *backends.Decision)
	// Waited tells how long the viewer waited for that first decision.
	Waited(r *backends.Request, d *backends.Decision, waited time.Duration)
	// Verified tells for how long the viewer watched without an answer, until that one came.
	Verified(r *backends.Request, d *backends.Decision, unverified time.Duration)
	// TokenExpired tells that so many more sessions of the backend, or fewer if negative, are allowed without an answer and have a token
	// that has expired: no check can verify them.
	TokenExpired(backend string, sessions int)
	// RecheckDue tells that a session waits for a re-check.
	RecheckDue(backend string)
	// RecheckGranted tells that a re-check may be made, and how long after it was due. That time includes outages of the
	// backend.
	RecheckGranted(backend string, delay time.Duration)
	// Rechecked tells what a re-check brought: the backend's decision, or the outage policy's in its place; nil: none was needed,
	// because another node had made it, or the session had ended.
	Rechecked(backend string, d *backends.Decision)
}

// noObserver is told and does nothing.
type noObserver struct{}

func (noObserver) Decided(*backends.Request, *backends.Decision, *backends.Decision) {}
func (noObserver) Moved(*backends.Request, string, *backends.Decision)               {}
func (noObserver) Waited(*backends.Request, *backends.Decision, time.Duration)       {}
func (noObserver) Verified(*backends.Request, *backends.Decision, time.Duration)     {}
func (noObserver) TokenExpired(string, int)                                          {}
func (noObserver) RecheckDue(string)                                                 {}
func (noObserver) RecheckGranted(string, time.Duration)                              {}
func (noObserver) Rechecked(string, *backends.Decision)                              {}

// setDefaults fills in the fields that may be left out.
func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observer == nil {
		o.Observer = noObserver{}
	}
	if o.OnClosed == nil {
		o.OnClosed = func([]session.ClosingRecord) error { return nil }
	}
	if o.Shed == nil {
		o.Shed = func(bool) error { return nil }
	}
	if o.OnConstantUser == nil {
		o.OnConstantUser = func(string, string, int) {}
	}
	if o.StoreTimeout == 0 {
		o.StoreTimeout = 100 * time.Millisecond
	}
	if o.HeartbeatInterval == 0 {
		o.HeartbeatInterval = o.Config.IdleTimeout / 3
	}
}
