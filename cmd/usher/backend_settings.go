package main

import (
	"errors"
	"fmt"
	"time"

	"usher/actors"
	"usher/backends"
	"usher/backends/chain"
)

// around is the settings of what stands around an adapter: what a file may say of every backend of that sort.
type around interface {
	// rules are what its sessions keep to.
	rules() actors.BackendRules
	// chain puts it around the adapter; members are the chains of those that the adapter joins.
	chain(name string, a adapter, members []*chain.Chain, parts chain.Deps) *chain.Chain
	// timeout bounds one check.
	timeout() time.Duration
}

// askedSettings stand around a backend that is asked over a network.
type askedSettings struct {
	Chain chain.Config `yaml:",inline"`
	// Validity is how long an answer holds if the backend did not say.
	Validity time.Duration `yaml:"validity"`
	// RecheckRate is how many re-checks a second the backend sees at most, however many wait.
	RecheckRate int `yaml:"recheck_rate"`
}

// Validate names every setting that cannot work.
func (s askedSettings) Validate() error {
	return errors.Join(checkValidity(s.Validity), checkRate(s.RecheckRate))
}

func (s *askedSettings) rules() actors.BackendRules {
	return actors.BackendRules{
		Validity: s.Validity, TokenLife: s.Chain.TokenTTL, ExpiredToken: s.Chain.OnExpiredToken,
		RecheckRate: s.RecheckRate, AnswerDeadline: s.Chain.Bulkhead.AnswerDeadline,
	}
}

func (s *askedSettings) chain(
	name string, a adapter, _ []*chain.Chain, parts chain.Deps,
) *chain.Chain {
	return chain.New(name, s.Chain, a, parts)
}

func (s *askedSettings) timeout() time.Duration { return s.Chain.Timeout }

// joinedSettings stand around a backend that joins others, which bound their calls themselves.
type joinedSettings struct {
	Local chain.LocalConfig `yaml:",inline"`
	// OnExpiredToken is what holds for sessions older than the shortest token_ttl among those that it joins.
	OnExpiredToken backends.ExpiredTokenPolicy `yaml:"on_expired_token"`
	RecheckRate    int                         `yaml:"recheck_rate"`
}

// Validate names every setting that cannot work.
func (s joinedSettings) Validate() error { return checkRate(s.RecheckRate) }

// joinedValidity is how long a decision holds that has no validity of its own. Whoever answered gave one, so that is a
// stopgap in an outage.
const joinedValidity = 180 * time.Second

func (s *joinedSettings) rules() actors.BackendRules {
	return actors.BackendRules{
		Validity: joinedValidity, ExpiredToken: s.OnExpiredToken,
		RecheckRate: s.RecheckRate, AnswerDeadline: s.Local.AnswerDeadline,
	}
}

func (s *joinedSettings) chain(
	name string, a adapter, members []*chain.Chain, parts chain.Deps,
) *chain.Chain {
	return chain.NewLocal(name, s.Local.OnFailure, a, members, parts)
}

// joinedTimeout ends a check whose members do not end theirs; each has a timeout of its own.
const joinedTimeout = time.Minute

func (s *joinedSettings) timeout() time.Duration { return joinedTimeout }

// decidedSettings stand around a backend that decides by itself and cannot fail.
type decidedSettings struct {
	Validity    time.Duration `yaml:"validity"`
	RecheckRate int           `yaml:"recheck_rate"`
}

// decidedFor is around a backend whose decisions hold so long.
func decidedFor(validity time.Duration) func() around {
	return func() around { return &decidedSettings{Validity: validity, RecheckRate: 10_000} }
}

// Validate names every setting that cannot work.
func (s decidedSettings) Validate() error {
	return errors.Join(checkValidity(s.Validity), checkRate(s.RecheckRate))
}

func (s *decidedSettings) rules() actors.BackendRules {
	return actors.BackendRules{
		Validity: s.Validity, RecheckRate: s.RecheckRate,
		AnswerDeadline: chain.DefaultLocalConfig().AnswerDeadline,
	}
}

func (s *decidedSettings) chain(
	name string, a adapter, _ []*chain.Chain, parts chain.Deps,
) *chain.Chain {
	// It cannot fail. Should it ever take too long, that lets nobody in.
	return chain.NewLocal(name, backends.PolicyKeep, a, nil, parts)
}

func (s *decidedSettings) timeout() time.Duration {
	return chain.DefaultLocalConfig().AnswerDeadline
}

// fallibleSettings stand around a backend that decides by itself, but may lack what it needs for that.
type fallibleSettings struct {
	Local   chain.LocalConfig `yaml:",inline"`
	Decided decidedSettings   `yaml:",inline"`
}

// fallible is around a backend that may have to fetch what it decides by.
func fallible() around {
	return &fallibleSettings{
		Local: chain.DefaultLocalConfig(), Decided: decidedSettings{Validity: time.Hour, RecheckRate: 10_000},
	}
}

// leastDeadline is how long such a backend may take for a viewer who names a key that nobody knows, and more. At a
// shorter deadline he would look like an outage, and be let in.
const leastDeadline = time.Second

// Validate names every setting that cannot work.
func (s fallibleSettings) Validate() error {
	if s.Local.AnswerDeadline < leastDeadline {
		return fmt.Errorf("answer_deadline: %v is too short; want at least %v", s.Local.AnswerDeadline, leastDeadline)
	}
	return nil
}

func (s *fallibleSettings) rules() actors.BackendRules {
	r := s.Decided.rules()
	r.AnswerDeadline = s.Local.AnswerDeadline
	return r
}

func (s *fallibleSettings) chain(
	name string, a adapter, _ []*chain.Chain, parts chain.Deps,
) *chain.Chain {
	return chain.NewLocal(name, s.Local.OnFailure, a, nil, parts)
}

func (s *fallibleSettings) timeout() time.Duration { return joinedTimeout }

func checkValidity(d time.Duration) error {
	if d < time.Second {
		return fmt.Errorf("validity: %v is too short; want at least 1s", d)
	}
	return nil
}

func checkRate(n int) error {
	if n < 1 {
		return fmt.Errorf("recheck_rate: %d is too small; want at least 1", n)
	}
	return nil
}
