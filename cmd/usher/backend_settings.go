package main

import (
	"errors"
	"fmt"
	"time"

	"usher/actors"
	"usher/backends"
	"usher/backends/chain"
)

// chainSettings is the settings of what stands around an adapter: what a file may say of every backend of that sort.
type chainSettings interface {
	// policy are what its sessions keep to.
	policy() actors.Rules
	// wrap puts it around the adapter; members are the chains of those that the adapter joins.
	wrap(name string, a adapter, members []*chain.Chain, parts chain.Deps) *chain.Chain
	// timeout bounds one check.
	timeout() time.Duration
}

// remoteSettings stand around a backend that is asked over a network.
type remoteSettings struct {
	Chain chain.Config `yaml:",inline"`
	// Validity is how long an answer holds if the backend did not say.
	Validity time.Duration `yaml:"validity"`
	// RecheckRate is how many re-checks a second the backend sees at most, however many wait.
	RecheckRate int `yaml:"recheck_rate"`
}

// Validate names every setting that cannot work.
func (s remoteSettings) Validate() error {
	return errors.Join(validateValidity(s.Validity), validateRecheckRate(s.RecheckRate))
}

func (s *remoteSettings) policy() actors.Rules {
	return actors.Rules{
		Validity: s.Validity, TokenLife: s.Chain.TokenTTL, ExpiredToken: s.Chain.OnExpiredToken,
		RecheckRate: s.RecheckRate, AnswerDeadline: s.Chain.Bulkhead.AnswerDeadline,
	}
}

func (s *remoteSettings) wrap(
	name string, a adapter, _ []*chain.Chain, parts chain.Deps,
) *chain.Chain {
	return chain.New(name, s.Chain, a, parts)
}

func (s *remoteSettings) timeout() time.Duration { return s.Chain.Timeout }

// compositeSettings stand around a backend that joins others, which bound their calls themselves.
type compositeSettings struct {
	Local chain.LocalConfig `yaml:",inline"`
	// OnExpiredToken is what holds for sessions older than the shortest token_ttl among those that it joins.
	OnExpiredToken backends.ExpiredTokenPolicy `yaml:"on_expired_token"`
	RecheckRate    int                         `yaml:"recheck_rate"`
}

// Validate names every setting that cannot work.
func (s compositeSettings) Validate() error { return validateRecheckRate(s.RecheckRate) }

// compositeValidity is how long a decision holds that has no validity of its own. Whoever answered gave one, so that is a
// stopgap in an outage.
const compositeValidity = 180 * time.Second

func (s *compositeSettings) policy() actors.Rules {
	return actors.Rules{
		Validity: compositeValidity, ExpiredToken: s.OnExpiredToken,
		RecheckRate: s.RecheckRate, AnswerDeadline: s.Local.AnswerDeadline,
	}
}

func (s *compositeSettings) wrap(
	name string, a adapter, members []*chain.Chain, parts chain.Deps,
) *chain.Chain {
	return chain.NewLocal(name, s.Local.OnFailure, a, members, parts)
}

// compositeTimeout ends a check whose members do not end theirs; each has a timeout of its own.
const compositeTimeout = time.Minute

func (s *compositeSettings) timeout() time.Duration { return compositeTimeout }

// localSettings stand around a backend that decides by itself and cannot fail.
type localSettings struct {
	Validity    time.Duration `yaml:"validity"`
	RecheckRate int           `yaml:"recheck_rate"`
}

// newLocalSettings is around a backend whose decisions hold so long.
func newLocalSettings(validity time.Duration) func() chainSettings {
	return func() chainSettings { return &localSettings{Validity: validity, RecheckRate: 10_000} }
}

// Validate names every setting that cannot work.
func (s localSettings) Validate() error {
	return errors.Join(validateValidity(s.Validity), validateRecheckRate(s.RecheckRate))
}

func (s *localSettings) policy() actors.Rules {
	return actors.Rules{
		Validity: s.Validity, RecheckRate: s.RecheckRate,
		AnswerDeadline: chain.DefaultLocalConfig().AnswerDeadline,
	}
}

func (s *localSettings) wrap(
	name string, a adapter, _ []*chain.Chain, parts chain.Deps,
) *chain.Chain {
	// It cannot fail. Should it ever take too long, that lets nobody in.
	return chain.NewLocal(name, backends.PolicyKeep, a, nil, parts)
}

func (s *localSettings) timeout() time.Duration {
	return chain.DefaultLocalConfig().AnswerDeadline
}

// fetchingSettings stand around a backend that decides by itself, but may lack what it needs for that.
type fetchingSettings struct {
	Local chain.LocalConfig `yaml:",inline"`
	Base  localSettings     `yaml:",inline"`
}

// newFetchingSettings is around a backend that may have to fetch what it decides by.
func newFetchingSettings() chainSettings {
	return &fetchingSettings{
		Local: chain.DefaultLocalConfig(), Base: localSettings{Validity: time.Hour, RecheckRate: 10_000},
	}
}

// minFetchDeadline is how long such a backend may take for a viewer who names a key that nobody knows, and more. At a
// shorter deadline he would look like an outage, and be let in.
const minFetchDeadline = time.Second

// Validate names every setting that cannot work.
func (s fetchingSettings) Validate() error {
	if s.Local.AnswerDeadline < minFetchDeadline {
		return fmt.Errorf("answer_deadline: %v is too short; want at least %v", s.Local.AnswerDeadline, minFetchDeadline)
	}
	return nil
}

func (s *fetchingSettings) policy() actors.Rules {
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
