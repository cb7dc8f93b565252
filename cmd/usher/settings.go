package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"usher/actors"
	"usher/actors/records"
	"usher/backends/chain"
	"usher/backends/setting"
	"usher/cluster"
	"usher/cmd/usher/config"
	"usher/gateway"
	"usher/gateway/admin"
	"usher/gateway/admin/audit"
	"usher/gateway/edge"
	"usher/gateway/edge/extauthz"
	"usher/gateway/origin"
)

// settings is a node's settings file, made of the settings of each package.
type settings struct {
	Gateway  gateway.Config              `yaml:",inline"`
	ExtAuthz extauthz.Config             `yaml:"ext_authz"`
	Backends map[string]*backendSettings `yaml:"backends"`
	Sessions actors.Config               `yaml:"sessions"`
	Cache    origin.CacheConfig          `yaml:"cache"`
	Fetch    origin.FetchConfig          `yaml:"fetch"`
	Cluster  cluster.Config              `yaml:"cluster"`
	Admin    admin.Config                `yaml:"admin"`
	// Retention is how long files and reports of outages keep what holds addresses and names of users.
	Retention time.Duration   `yaml:"retention"`
	Tracing   tracingSettings `yaml:"tracing"`
	Records   records.Config  `yaml:"records"`
	Log       logSettings     `yaml:"log"`
	Reload    reloadSettings  `yaml:"reload"`
}

func defaultSettings() *settings {
	media := origin.DefaultConfig()
	return &settings{
		Gateway:   gateway.DefaultConfig(),
		Sessions:  actors.DefaultConfig(),
		Cache:     media.Cache,
		Fetch:     media.Fetch,
		Cluster:   cluster.DefaultConfig(),
		Admin:     admin.DefaultConfig(),
		Retention: 30 * 24 * time.Hour,
		Tracing:   tracingSettings{Protocol: "grpc", Sample: 1, Slow: time.Second},
		Records:   records.DefaultConfig(),
		Log:       logSettings{Level: logLevel(slog.LevelInfo), Format: "json"},
	}
}

// Validate checks what involves more than one section.
func (s *settings) Validate() error {
	errs := []error{
		s.Gateway.Validate(s.backendNames()),
		s.origin().Validate(),
	}
	if len(s.Backends) == 0 {
		errs = append(errs, errors.New(`backends: none; want at least one, such as portal: { kind: httprequest, address: "https://auth.example.com/check" }`))
	}
	if s.Retention < audit.MinRetention {
		errs = append(errs, fmt.Errorf("retention: %v is too short; want at least %v", s.Retention, audit.MinRetention))
	}
	return errors.Join(append(errs, s.validateMembers(), s.validateViewerFields(), s.validateListeners(), s.validateFiles(), s.validateEnvoy(), s.validateCluster())...)
}

// validateFiles finds two settings that write one file: each would rotate or damage what the other keeps.
func (s *settings) validateFiles() error {
	var errs []error
	all := []struct{ key, path string }{
		{"admin.audit.file", s.Admin.Audit.File}, {"records.file.path", s.Records.File.Path}, {"records.spool.path", s.Records.Spool.Path},
	}
	for i, f := range all {
		for _, other := range all[:i] {
			if f.path != "" && filepath.Clean(f.path) == filepath.Clean(other.path) {
				errs = append(errs, fmt.Errorf("%s: %q is taken by %s: %q; want a file of its own", f.key, f.path, other.key, other.path))
			}
		}
	}
	return errors.Join(errs...)
}

// minHeartbeatsPerIdle is how many heartbeats fit into the idle timeout, so that a lost one does not end sessions.
const minHeartbeatsPerIdle = 3

// lastRecordMargin is how much longer a session must be remembered than until it is found to be idle: for the look that finds it, and
// for looks that fail.
const lastRecordMargin = time.Minute

// validateCluster finds times at which nodes would end sessions that play elsewhere, or leave no time for backends.
func (s *settings) validateCluster() error {
	if !s.Cluster.Enabled() {
		return nil
	}
	var errs []error
	if idle, interval := s.Sessions.IdleTimeout, s.Cluster.HeartbeatInterval; idle < minHeartbeatsPerIdle*interval {
		errs = append(errs, fmt.Errorf(
			"cluster.heartbeat_interval: %v is too long for sessions.idle_timeout: %v; want a third of that at most", interval, idle))
	}
	if least := s.Sessions.IdleTimeout + s.Cluster.HeartbeatInterval + lastRecordMargin; s.Cluster.SessionTTL < least {
		errs = append(errs, fmt.Errorf(
			"cluster.session_ttl: %v is too short for sessions.idle_timeout: %v and cluster.heartbeat_interval: %v; want at least %v, "+
				"or Redis forgets a session before it is recorded", s.Cluster.SessionTTL, s.Sessions.IdleTimeout, s.Cluster.HeartbeatInterval, least))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Backends)) {
		b := s.Backends[name]
		if b.Settings == nil { // its kind was reported
			continue
		}
		deadline, setting := s.answerDeadline(name, len(s.Backends)), ".answer_deadline"
		if _, isLocal := b.Settings.common().(localSettings); isLocal {
			setting = ", which answers within" // this kind has no answer_deadline
		}
		if s.Cluster.RedisTimeout > deadline/2 {
			errs = append(errs, fmt.Errorf("cluster.redis_timeout: %v is too long for backends.%s%s: %v; want half of that at most, so that time is left for the backend",
				s.Cluster.RedisTimeout, name, setting, deadline))
		}
	}
	return errors.Join(errs...)
}

// validateEnvoy finds routes for Envoy without a listener.
func (s *settings) validateEnvoy() error {
	for i, r := range s.Gateway.Routes {
		if r.Edge != nil && r.Edge.Dialect == edge.Envoy && s.ExtAuthz.Listen == "" {
			return fmt.Errorf("routes[%d].edge.dialect: envoy needs ext_authz.listen, where Envoy sends its checks", i)
		}
	}
	return nil
}

// validateMembers finds composite backends with an unknown member, that are members of themselves, or that wait too briefly for
// a member.
func (s *settings) validateMembers() error {
	var errs []error
	for _, name := range s.backendNames() {
		errs = append(errs, s.validateCompositeDeadline(name))
		for _, member := range s.Backends[name].members() {
			switch {
			case s.Backends[member] == nil:
				errs = append(errs, fmt.Errorf("backends.%s: member %q is not among backends%s", name, member,
					setting.Hint(member, slices.DeleteFunc(s.backendNames(), func(n string) bool { return n == name }))))
			case s.reaches(member, name, len(s.Backends)):
				errs = append(errs, fmt.Errorf("backends.%s: member %q has it as a member", name, member))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return s.validateTokenPolicies()
}

// validateTokenPolicies finds what holds for expired tokens where none expires. No backend has itself as a member.
func (s *settings) validateTokenPolicies() error {
	var errs []error
	for _, name := range s.backendNames() {
		b, whose, wanted := s.Backends[name], "", "a token_life, or no on_expired_token"
		policy := b.rules().ExpiredToken
		if policy == 0 || s.tokenTTL(name) > 0 || s.hasMember(name, func(m *backendSettings) bool { return m.Settings == nil }) {
			continue // of an unknown kind nothing is known
		}
		if b.members() != nil {
			whose = " of its members"
			if !s.hasMember(name, (*backendSettings).isRemote) {
				wanted = "no on_expired_token, as none of them has that setting"
			}
		}
		errs = append(errs, fmt.Errorf("backends.%s.on_expired_token: %s has no effect, as token_life%s is 0s, for ever; "+
			"want %s", name, policy, whose, wanted))
	}
	return errors.Join(errs...)
}

// isRemote reports whether the backend has the settings of one that is called over a network.
func (b *backendSettings) isRemote() bool {
	_, isRemote := b.Settings.common().(remoteSettings)
	return isRemote
}

// hasMember reports whether a member of the backend, at any depth, is one.
func (s *settings) hasMember(name string, isOne func(*backendSettings) bool) bool {
	return slices.ContainsFunc(s.backendNames(), func(other string) bool {
		return other != name && s.reaches(name, other, len(s.Backends)) && isOne(s.Backends[other])
	})
}

// validateCompositeDeadline finds an answer_deadline that ends while a member still decides by itself.
func (s *settings) validateCompositeDeadline(name string) error {
	deadline := s.Backends[name].rules().AnswerDeadline
	if deadline == 0 || deadline >= minLocalDeadline || s.Backends[name].members() == nil {
		return nil
	}
	for _, other := range s.backendNames() {
		if s.Backends[other].takesTime() && s.reaches(name, other, len(s.Backends)) {
			return fmt.Errorf("backends.%s.answer_deadline: %v is too short for %q, which it calls; want at least %v, or 0s for the longest of the members'",
				name, deadline, other, minLocalDeadline)
		}
	}
	return nil
}

// answerDeadline returns how long a viewer's opening waits: as the backend's settings say, or as long as for its slowest
// member, at most depth levels down.
func (s *settings) answerDeadline(name string, depth int) time.Duration {
	b := s.Backends[name]
	if b == nil || b.Settings == nil {
		return 0
	}
	longest := b.rules().AnswerDeadline
	if longest > 0 {
		return longest
	}
	for _, member := range b.members() {
		if depth > 0 {
			longest = max(longest, s.answerDeadline(member, depth-1))
		}
	}
	return cmp.Or(longest, chain.DefaultLocalConfig().AnswerDeadline)
}

// tokenTTL returns how long a token can be checked: the shortest token_life of the backend and its members, or 0.
func (s *settings) tokenTTL(name string) time.Duration {
	b := s.Backends[name]
	ttl := b.rules().TokenLife
	for _, member := range b.members() {
		if m := s.tokenTTL(member); m > 0 && (ttl == 0 || m < ttl) {
			ttl = m
		}
	}
	return ttl
}

// backendNames returns the names of the backends, sorted.
func (s *settings) backendNames() []string { return slices.Sorted(maps.Keys(s.Backends)) }

// reaches reports whether a backend is the other, or has it as a member at most depth levels down.
func (s *settings) reaches(name, other string, depth int) bool {
	if name == other {
		return true
	}
	b := s.Backends[name]
	return b != nil && depth > 0 && slices.ContainsFunc(b.members(), func(member string) bool {
		return s.reaches(member, other, depth-1)
	})
}

func (s *settings) origin() origin.Config { return origin.Config{Cache: s.Cache, Fetch: s.Fetch} }

// fileFlag is the flag that names the settings file.
type fileFlag struct {
	Config string `help:"The settings file." default:"/etc/usher/usher.yaml" type:"path" short:"c" env:"USHER_CONFIG"`
}

// load reads the settings. The source has the warnings, and positions what is found wrong later.
func (f fileFlag) load() (*settings, *config.Source, error) {
	s := defaultSettings()
	source, err := config.Load(f.Config, s, config.Environment{
		Variables: os.Environ(), Reserved: []string{"USHER_CONFIG", "USHER_TOKEN"},
	})
	if err != nil {
		return nil, nil, err
	}
	return s, source, nil
}
