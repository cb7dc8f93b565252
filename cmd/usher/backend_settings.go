package main

import (
	"errors"
	"fmt"
	"time"

	"usher/actors"
	"usher/actors/session"
	"usher/backends"
	"usher/backends/chain"
)

// chainSettings are the settings of the chain around an adapter. Each sort of backend has its own.
type chainSettings interface {
	// policy returns what the sessions of the backend follow.
	policy() actors.BackendRules
	// wrap returns the chain around the adapter. members are the chains that a composite adapter calls.
	wrap(name string, a adapter, members []*chain.Chain, parts chain.Deps) *chain.Chain
	// timeout returns the bound of one check.
	timeout() time.Duration
}

// remoteSettings are for a backend that is called over a network.
type remoteSettings struct {
	Chain chain.Config `yaml:",inline"`
	// TokenLife is how long the backend accepts a viewer's token. Zero: for ever.
	TokenLife time.Duration `yaml:"token_life"`
	// OnExpiredToken is what holds for a session after that.
	OnExpiredToken session.ExpiredTokenPolicy `yaml:"on_expired_token"`
	// Validity is how long a decision holds if the backend does not say.
	Validity time.Duration `yaml:"validity"`
	// RecheckRate is the most re-checks a second, however many are due.
	RecheckRate int `yaml:"recheck_rate"`
}

// Validate names every setting that cannot work.
func (s remoteSettings) Validate() error {
	var life error
	if s.TokenLife < 0 {
		life = fmt.Errorf("token_life: %s must be 0 (no end) or above", s.TokenLife)
	}
	return errors.Join(life, validateValidity(s.Validity), validateRecheckRate(s.RecheckRate))
}

func (s *remoteSettings) policy() actors.BackendRules {
	return actors.BackendRules{
		Validity: s.Validity, TokenLife: s.TokenLife, ExpiredToken: s.OnExpiredToken,
		RecheckRate: s.RecheckRate, AnswerDeadline: s.Chain.Bulkhead.AnswerDeadline,
	}
}

func (s *remoteSettings) wrap(
	name string, a adapter, _ []*chain.Chain, parts chain.Deps,
) *chain.Chain {
	return chain.New(name, s.Chain, a, parts)
}

func (s *remoteSettings) timeout() time.Duration { return s.Chain.Timeout }

// compositeSettings are for a backend that calls other backends. Those bound their calls themselves.
type compositeSettings struct {
	Local chain.LocalConfig `yaml:",inline"`
	// OnExpiredToken is what holds for sessions older than the shortest token_life of the members.
	OnExpiredToken session.ExpiredTokenPolicy `yaml:"on_expired_token"`
	RecheckRate    int                        `yaml:"recheck_rate"`
}

// Validate names every setting that cannot work.
func (s compositeSettings) Validate() error { return validateRecheckRate(s.RecheckRate) }

// compositeValidity is how long a decision holds that has no validity of its own. Members set one, so this is for
// decisions of the outage policy.
const compositeValidity = 180 * time.Second

func (s *compositeSettings) policy() actors.BackendRules {
	return actors.BackendRules{
		Validity: compositeValidity, ExpiredToken: s.OnExpiredToken,
		RecheckRate: s.RecheckRate, AnswerDeadline: s.Local.AnswerDeadline,
	}
}

func (s *compositeSettings) wrap(
	name string, a adapter, members []*chain.Chain, parts chain.Deps,
) *chain.Chain {
	return chain.NewLocal(name, s.Local.OnFailure, a, members, parts)
}

// compositeTimeout ends a check whose members fail to end theirs by their own timeouts.
const compositeTimeout = time.Minute

func (s *compositeSettings) timeout() time.Duration { return compositeTimeout }

// localSettings are for a backend that decides locally and cannot fail.
type localSettings struct {
	Validity    time.Duration `yaml:"validity"`
	RecheckRate int           `yaml:"recheck_rate"`
}

// newLocalSettings returns a constructor of the settings of a backend with that validity.
func newLocalSettings(validity time.Duration) func() chainSettings {
	return func() chainSettings { return &localSettings{Validity: validity, RecheckRate: 10_000} }
}

// Validate names every setting that cannot work.
func (s localSettings) Validate() error {
	return errors.Join(validateValidity(s.Validity), validateRecheckRate(s.RecheckRate))
}

func (s *localSettings) policy() actors.BackendRules {
	return actors.BackendRules{
		Validity: s.Validity, RecheckRate: s.RecheckRate,
		AnswerDeadline: chain.DefaultLocalConfig().AnswerDeadline,
	}
}

func (s *localSettings) wrap(
	name string, a adapter, _ []*chain.Chain, parts chain.Deps,
) *chain.Chain {
	// It cannot fail. A check that takes too long admits no new viewer.
	return chain.NewLocal(name, backends.PolicyKeep, a, nil, parts)
}

func (s *localSettings) timeout() time.Duration {
	return chain.DefaultLocalConfig().AnswerDeadline
}

// fetchingSettings are for a backend that decides locally by what it has to fetch, such as keys.
type fetchingSettings struct {
	Local chain.LocalConfig `yaml:",inline"`
	Base  localSettings     `yaml:",inline"`
}

// newFetchingSettings returns the defaults of a backend that fetches what it decides by.
func newFetchingSettings() chainSettings {
	return &fetchingSettings{
		Local: chain.DefaultLocalConfig(), Base: localSettings{Validity: time.Hour, RecheckRate: 10_000},
	}
}

// minFetchDeadline is more than such a backend takes for a token with an unknown key. With a shorter deadline that token
// would look like an outage, and be admitted.
const minFetchDeadline = time.Second

// Validate names every setting that cannot work.
func (s fetchingSettings) Validate() error {
	if s.Local.AnswerDeadline < minFetchDeadline {
		return fmt.Errorf("answer_deadline: %v is too short; want at least %v", s.Local.AnswerDeadline, minFetchDeadline)
	}
	return nil
}

func (s *fetchingSettings) policy() actors.BackendRules {
	r := s.Base.policy()
	r.AnswerDeadline = s.Local.AnswerDeadline
	return r
}

func (s *fetchingSettings) wrap(
	name string, a adapter, _ []*chain.Chain, parts chain.Deps,
) *chain.Chain {
	return chain.NewLocal(name, s.Local.OnFailure, a, nil, parts)
}

func (s *fetchingSettings) timeout() time.Duration { return compositeTimeout }

func validateValidity(d time.Duration) error {
	if d < time.Second {
		return fmt.Errorf("validity: %v is too short; want at least 1s", d)
	}
	return nil
}

func validateRecheckRate(n int) error {
	if n < 1 {
		return fmt.Errorf("recheck_rate: %d is too small; want at least 1", n)
	}
	return nil
}
