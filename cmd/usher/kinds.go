package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"usher/actors"
	"usher/actors/session"
	"usher/backends"
	anyof "usher/backends/any"
	"usher/backends/chain"
	"usher/backends/flussonic"
	"usher/backends/httpbackend"
	"usher/backends/httprequest"
	"usher/backends/iprules"
	"usher/backends/iptvportal"
	"usher/backends/jwt"
	"usher/backends/ministra"
	"usher/backends/rules"
	"usher/backends/securetoken"
	"usher/backends/setting"
	"usher/backends/signedlink"
	"usher/backends/smarty"
	"usher/backends/users"
)

// kind is one sort of backend: its default settings and its constructor.
type kind struct {
	defaults func(name, preset string) kindSettings
	build    func(name string, settings kindSettings, parts kindDeps) (adapter, error)
}

// kindDeps is what adapters are made of besides their settings.
type kindDeps struct {
	http    httpbackend.Deps
	members []backends.Member
	log     *slog.Logger
}

// adapter is a backend with what the node needs of it.
type adapter struct {
	backends.Backend
	preset httpbackend.Preset
	url    string                      // without secrets; empty if it calls no middleware
	alarms *httpbackend.Alarms         // nil if it calls no middleware
	run    func(context.Context) error // nil without background work
	close  func()
	// overloads are the bounds by which it turns viewers away, beside those of its chain.
	overloads []string
}

// kinds returns all kinds by the name that the settings use.
func kinds() map[string]kind {
	client := func(parts kindDeps) httpbackend.Deps { return parts.http }
	members := func(parts kindDeps) []backends.Member { return parts.members }
	logger := func(parts kindDeps) *slog.Logger { return parts.log }
	return map[string]kind{
		"httprequest": newKind(defaultRemote(180*time.Second, 0), httprequest.DefaultConfig, httprequest.New, client),
		"flussonic":   newKind(defaultRemote(180*time.Second, 0), flussonic.DefaultConfig, flussonic.New, client),
		"iptvportal":  newKind(defaultRemote(180*time.Second, 0), iptvportal.DefaultConfig, iptvportal.New, client),
		"ministra":    newKind(defaultRemote(36_000*time.Second, 5*time.Second), ministra.DefaultConfig, ministra.New, client),
		"smarty":      newKind(defaultRemote(3000*time.Second, 3600*time.Second), smarty.DefaultConfig, smarty.New, client),

		"iprules":     newKind(defaultLocal(time.Hour), iprules.DefaultConfig, iprules.New, logger),
		"jwt":         newKind(fetchingSettings{chain.DefaultLocalConfig(), defaultLocal(time.Hour)}, jwt.DefaultConfig, jwt.New, logger),
		"securetoken": newKind(defaultLocal(time.Hour), securetoken.DefaultConfig, securetoken.New, logger),
		"signedlink":  newKind(defaultLocal(time.Hour), signedlink.DefaultConfig, signedlink.New, logger),
		"users":       newKind(defaultLocal(time.Minute), users.DefaultConfig, users.New, logger),

		"any":   newKind(compositeSettings{RecheckRate: 200}, anyof.DefaultConfig, anyof.New, members),
		"rules": newKind(compositeSettings{RecheckRate: 200}, rules.DefaultConfig, rules.New, members),
	}
}

// newKind returns the kind with the settings that it has in common with others, its own, and its constructor, which wants a
// part of what there is.
func newKind[S commonSettings, C ownSettings, P any, B backends.Backend](
	common S, own func() C, build func(string, C, P) (B, error), part func(kindDeps) P,
) kind {
	return kind{
		defaults: func(name, preset string) kindSettings {
			s := &settingsOf[S, C]{name, common, own()}
			var p httpbackend.Preset
			known := p.UnmarshalText([]byte(preset)) == nil // another one is reported elsewhere
			for _, section := range []any{&s.Common, &s.Own} {
				if presetted, ok := section.(interface{ SetPreset(p httpbackend.Preset) }); ok && known {
					presetted.SetPreset(p)
				}
			}
			return s
		},
		build: func(name string, settings kindSettings, parts kindDeps) (adapter, error) {
			b, err := build(name, settings.(*settingsOf[S, C]).Own, part(parts)) //nolint:forcetypeassert // defaults made it
			if err != nil {
				return adapter{}, err
			}
			return newAdapter(b), nil
		},
	}
}

// newAdapter finds what a backend has besides Check.
func newAdapter(b backends.Backend) adapter {
	a := adapter{Backend: b, close: func() {}}
	if remote, ok := b.(interface {
		Preset() httpbackend.Preset
		DisplayAddress() string
		ContractAlarms() *httpbackend.Alarms
	}); ok {
		a.preset, a.url, a.alarms = remote.Preset(), remote.DisplayAddress(), remote.ContractAlarms()
	}
	if bounded, ok := b.(interface{ Overloads() []string }); ok {
		a.overloads = bounded.Overloads()
	}
	if c, ok := b.(interface{ Close() }); ok {
		a.close = c.Close
	}
	if r, ok := b.(interface{ Run(context.Context) error }); ok {
		a.run = r.Run
	}
	return a
}

// takeOver gives the backend what the one that it replaces has learned. The zero adapter has learned nothing.
func (a adapter) takeOver(replaced adapter) {
	if heir, learns := a.Backend.(interface{ TakeOver(backends.Backend) }); learns {
		heir.TakeOver(replaced.Backend)
	}
}

// backendSettings are the settings of one backend.
type backendSettings struct {
	// Settings are nil while the kind is unknown.
	Settings kindSettings `yaml:",inline"`
}

// Kinds returns the names of all kinds.
func (b *backendSettings) Kinds() []string { return slices.Collect(maps.Keys(kinds())) }

// SetKind sets the defaults of a kind and of a preset.
func (b *backendSettings) SetKind(name, preset string) {
	b.Settings = kinds()[name].defaults(name, preset)
}

// MarshalYAML returns the settings of the kind.
func (b *backendSettings) MarshalYAML() (any, error) { return b.Settings, nil }

// rules returns what the sessions of the backend follow.
func (b *backendSettings) rules() actors.BackendRules {
	if b.Settings == nil {
		return actors.BackendRules{}
	}
	return b.Settings.common().rules()
}

// members returns the names of the backends that a composite backend calls; nil for others.
func (b *backendSettings) members() []string {
	switch s := b.Settings.(type) {
	case *settingsOf[compositeSettings, anyof.Config]:
		return anyof.Members(s.Own)
	case *settingsOf[compositeSettings, rules.Config]:
		return rules.Members(s.Own)
	default:
		return nil
	}
}

// takesTime reports whether the backend decides in this process and yet makes viewers wait: for a fetch, or for a slot.
func (b *backendSettings) takesTime() bool {
	switch b.Settings.(type) {
	case *settingsOf[fetchingSettings, jwt.Config], *settingsOf[localSettings, users.Config]:
		return true
	default:
		return false
	}
}

// kindSettings are the settings of a kind, a settingsOf.
type kindSettings interface {
	kind() string
	common() commonSettings
	viewerFields() []setting.ViewerField
}

// settingsOf are the settings of a kind: those that it has in common with others, and its own.
type settingsOf[S commonSettings, C ownSettings] struct {
	Kind   string `yaml:"kind"`
	Common S      `yaml:",inline"`
	Own    C      `yaml:",inline"`
}

func (s *settingsOf[S, C]) kind() string           { return s.Kind }
func (s *settingsOf[S, C]) common() commonSettings { return s.Common }

func (s *settingsOf[S, C]) viewerFields() []setting.ViewerField { return s.Own.ViewerFields() }

// ownSettings are those of one kind.
type ownSettings interface {
	// ViewerFields returns what the kind reads of a viewer's request, and must reach it.
	ViewerFields() []setting.ViewerField
}

// commonSettings are those that kinds have in common.
type commonSettings interface {
	// rules returns what the sessions of the backend follow.
	rules() actors.BackendRules
	// onFailure returns the outage policy; empty: the preset's.
	onFailure() backends.Policy
}

// remoteSettings are for a backend that is called over a network.
type remoteSettings struct {
	Chain chain.Config `yaml:",inline"`
	// TokenLife is how long the backend accepts a viewer's token. Zero: for ever.
	TokenLife time.Duration `yaml:"token_life"`
	// OnExpiredToken is what holds for a session after that.
	OnExpiredToken session.ExpiredTokenPolicy `yaml:"on_expired_token"`
	Base           localSettings              `yaml:",inline"`
}

const (
	// authProxyTimeout holds auth-proxy's own times, 5 s to connect, 3 s for TLS and 2 s for the answer's header. It has no
	// bound of the whole call.
	authProxyTimeout = 10 * time.Second
	// authProxyBreakerInterval is the shortest that such a timeout permits, and a margin.
	authProxyBreakerInterval = time.Minute
)

func defaultRemote(validity, tokenLife time.Duration) remoteSettings {
	return remoteSettings{Chain: chain.DefaultConfig(), TokenLife: tokenLife, Base: localSettings{validity, 200}}
}

// SetPreset sets the defaults that depend on the preset: an answer of the product is one for as long as it is there.
func (s *remoteSettings) SetPreset(p httpbackend.Preset) {
	if p == httpbackend.PresetAuthProxy {
		s.Chain.Timeout, s.Chain.Bulkhead.AnswerDeadline = authProxyTimeout, authProxyTimeout
		s.Chain.Breaker.Interval = authProxyBreakerInterval
	}
}

// Validate names every setting that cannot work.
func (s remoteSettings) Validate() error {
	if s.TokenLife < 0 {
		return fmt.Errorf("token_life: %s must be 0 (no end) or above", s.TokenLife)
	}
	return nil
}

func (s remoteSettings) rules() actors.BackendRules {
	return actors.BackendRules{
		Validity: s.Base.Validity, TokenLife: s.TokenLife, ExpiredToken: s.OnExpiredToken, RecheckRate: s.Base.RecheckRate,
		AnswerDeadline: s.Chain.Bulkhead.AnswerDeadline, Timeout: s.Chain.Timeout,
	}
}

func (s remoteSettings) onFailure() backends.Policy { return s.Chain.OnFailure }

// compositeSettings are for a backend that calls other backends. Those bound their calls themselves.
type compositeSettings struct {
	// OnFailure is the outage policy. Empty: as under the preset astra.
	OnFailure backends.Policy `yaml:"on_failure"`
	// AnswerDeadline is the longest time that a viewer's opening waits for its first decision. Zero: the longest of the
	// members'.
	AnswerDeadline time.Duration `yaml:"answer_deadline"`
	// OnExpiredToken is what holds for sessions older than the shortest token_life of the members.
	OnExpiredToken session.ExpiredTokenPolicy `yaml:"on_expired_token"`
	RecheckRate    int                        `yaml:"recheck_rate"`
}

const (
	// compositeValidity is how long a decision holds that has no validity of its own. Members set one, so this is for
	// decisions of the outage policy.
	compositeValidity = 180 * time.Second
	// compositeTimeout ends a check whose members fail to end theirs by their own timeouts.
	compositeTimeout = time.Minute
)

// Validate names every setting that cannot work.
func (s compositeSettings) Validate() error {
	err := validateRecheckRate(s.RecheckRate)
	if s.AnswerDeadline < 0 {
		err = errors.Join(err, fmt.Errorf("answer_deadline: %s must be 0 (the longest of the members') or above", s.AnswerDeadline))
	}
	return err
}

func (s compositeSettings) rules() actors.BackendRules {
	return actors.BackendRules{
		Validity: compositeValidity, ExpiredToken: s.OnExpiredToken, RecheckRate: s.RecheckRate,
		AnswerDeadline: s.AnswerDeadline, Timeout: compositeTimeout,
	}
}

func (s compositeSettings) onFailure() backends.Policy { return s.OnFailure }

// localSettings are for a backend that decides locally and cannot fail.
type localSettings struct {
	// Validity is how long a decision holds if the backend does not say.
	Validity time.Duration `yaml:"validity"`
	// RecheckRate is the most re-checks a second, however many are due.
	RecheckRate int `yaml:"recheck_rate"`
}

func defaultLocal(validity time.Duration) localSettings {
	return localSettings{Validity: validity, RecheckRate: 10_000}
}

// Validate names every setting that cannot work.
func (s localSettings) Validate() error {
	var validity error
	if s.Validity < time.Second {
		validity = fmt.Errorf("validity: %v is too short; want at least 1s", s.Validity)
	}
	return errors.Join(validity, validateRecheckRate(s.RecheckRate))
}

func (s localSettings) rules() actors.BackendRules {
	deadline := chain.DefaultLocalConfig().AnswerDeadline
	return actors.BackendRules{Validity: s.Validity, RecheckRate: s.RecheckRate, AnswerDeadline: deadline, Timeout: deadline}
}

// onFailure matters only for a check that takes too long, which admits no new viewer.
func (s localSettings) onFailure() backends.Policy { return backends.PolicyKeep }

// fetchingSettings are for a backend that decides locally by what it has to fetch, such as keys.
type fetchingSettings struct {
	Local chain.LocalConfig `yaml:",inline"`
	Base  localSettings     `yaml:",inline"`
}

// minLocalDeadline is more than jwt takes for a token with an unknown key, and users for a password. With a shorter deadline, their
// own or that of a composite that calls them, such a check would look like an outage, and a wrong password be admitted.
const minLocalDeadline = time.Second

// Validate names every setting that cannot work.
func (s fetchingSettings) Validate() error {
	if s.Local.AnswerDeadline < minLocalDeadline {
		return fmt.Errorf("answer_deadline: %v is too short; want at least %v", s.Local.AnswerDeadline, minLocalDeadline)
	}
	return nil
}

func (s fetchingSettings) rules() actors.BackendRules {
	r := s.Base.rules()
	r.AnswerDeadline, r.Timeout = s.Local.AnswerDeadline, compositeTimeout
	return r
}

func (s fetchingSettings) onFailure() backends.Policy { return s.Local.OnFailure }

// maxQuietValidity is how long a decision may hold without a warning.
const maxQuietValidity = 24 * time.Hour

// Warnings says what allowed settings cost.
func (s localSettings) Warnings() error {
	if s.Validity <= maxQuietValidity {
		return nil
	}
	return fmt.Errorf("validity: %v: a viewer whose account has ended watches on for so long; want hours", s.Validity)
}

func validateRecheckRate(n int) error {
	if n < 1 {
		return fmt.Errorf("recheck_rate: %d is too small; want at least 1", n)
	}
	return nil
}
