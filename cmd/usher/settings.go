package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"usher/actors"
	"usher/backends"
	"usher/cluster"
	"usher/cmd/usher/config"
	"usher/gateway"
	"usher/gateway/admin"
	"usher/gateway/edge"
	"usher/gateway/edge/extauthz"
	"usher/gateway/origin"
)

// settings are a node's settings file: every package's own, side by side.
type settings struct {
	Gateway  gateway.Config              `yaml:",inline"`
	ExtAuthz extauthz.Config             `yaml:"ext_authz"`
	Backends map[string]*backendSettings `yaml:"backends"`
	Sessions actors.Config               `yaml:"sessions"`
	Cache    origin.CacheConfig          `yaml:"cache"`
	Fetch    origin.FetchConfig          `yaml:"fetch"`
	Cluster  cluster.Config              `yaml:"cluster"`
	Admin    admin.Config                `yaml:"admin"`
	Tracing  tracingSettings             `yaml:"tracing"`
	Log      logSettings                 `yaml:"log"`
}

func defaultSettings() *settings {
	media := origin.DefaultConfig()
	return &settings{
		Gateway:  gateway.DefaultConfig(),
		Sessions: actors.DefaultConfig(),
		Cache:    media.Cache,
		Fetch:    media.Fetch,
		Cluster:  cluster.DefaultConfig(),
		Admin:    admin.DefaultConfig(),
		Tracing:  tracingSettings{Protocol: "grpc", SampleRatio: 1},
		Log:      logSettings{Level: logLevel(slog.LevelInfo), Format: "json"},
	}
}

// Validate checks what no section can check alone.
func (s *settings) Validate() error {
	errs := []error{
		s.Gateway.Validate(func(name string) bool { return s.Backends[name] != nil }),
		s.origin().Validate(),
	}
	if len(s.Backends) == 0 {
		errs = append(errs, errors.New(`backends: none; want at least one, such as portal: { kind: httprequest, url: "https://auth.example.com/check" }`))
	}
	return errors.Join(append(errs, s.validateMembers(), s.validateEnvoy(), s.validateCluster())...)
}

// beatsBeforeIdle is how often the other nodes hear of a viewer at least before he counts as gone.
const beatsBeforeIdle = 3

// validateCluster finds times at which nodes would take one another's viewers for gone, or viewers wait in vain.
func (s *settings) validateCluster() error {
	if !s.Cluster.Enabled() {
		return nil
	}
	var errs []error
	if idle, beat := s.Sessions.IdleTimeout, s.Cluster.HeartbeatInterval; idle < beatsBeforeIdle*beat {
		errs = append(errs, fmt.Errorf(
			"cluster.heartbeat_interval: %v is too long for sessions.idle_timeout: %v; want a third of that at most", beat, idle))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Backends)) {
		answer, within := s.Backends[name].Around.rules().AnswerDeadline, ".answer_deadline"
		if _, fixed := s.Backends[name].Around.(*decidedSettings); fixed {
			within = ", whose viewers have an answer within" // a setting that this kind has not
		}
		if s.Cluster.RedisTimeout > answer/2 {
			errs = append(errs, fmt.Errorf("cluster.redis_timeout: %v is too long for backends.%s%s: %v, which is for more than Redis; want half of that at most",
				s.Cluster.RedisTimeout, name, within, answer))
		}
	}
	return errors.Join(errs...)
}

// validateEnvoy finds routes that nobody could ask at.
func (s *settings) validateEnvoy() error {
	for i, r := range s.Gateway.Routes {
		if r.Edge != nil && r.Edge.Dialect == edge.Envoy && s.ExtAuthz.Listen == "" {
			return fmt.Errorf("routes[%d].edge.dialect: envoy needs ext_authz.listen to say where it asks", i)
		}
	}
	return nil
}

// validateMembers finds backends that join what is not there, or themselves.
func (s *settings) validateMembers() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.Backends)) {
		for _, member := range s.Backends[name].members() {
			switch {
			case s.Backends[member] == nil:
				errs = append(errs, fmt.Errorf("backends.%s: joins %q, which is not among backends", name, member))
			case s.joins(member, name, len(s.Backends)):
				errs = append(errs, fmt.Errorf("backends.%s: joins %q, which joins it", name, member))
			}
		}
	}
	return errors.Join(errs...)
}

// TokenTTL is for how long all that a backend asks can be asked about a token: as long as the first of them.
func (s *settings) tokenLife(name string) time.Duration {
	b := s.Backends[name]
	life := b.Around.rules().TokenLife
	for _, member := range b.members() {
		if of := s.tokenLife(member); of > 0 && (life == 0 || of < life) {
			life = of
		}
	}
	return life
}

// joins reports whether one backend is the other, or joins it, with at most so many between them.
func (s *settings) joins(name, other string, between int) bool {
	if name == other {
		return true
	}
	b := s.Backends[name]
	return b != nil && between > 0 && slices.ContainsFunc(b.members(), func(member string) bool {
		return s.joins(member, other, between-1)
	})
}

func (s *settings) origin() origin.Config { return origin.Config{Cache: s.Cache, Fetch: s.Fetch} }

// backendSettings are one backend's: its kind's own, and those of what stands around a backend of that sort.
type backendSettings struct {
	Kind    string `yaml:"kind"`
	Around  around `yaml:",inline"`
	Adapter any    `yaml:",inline"`
}

// Kinds are the adapters that this build has.
func (b *backendSettings) Kinds() []string { return slices.Sorted(maps.Keys(kinds())) }

// SetKind puts the adapter's own settings in place.
func (b *backendSettings) SetKind(name string) {
	k := kinds()[name]
	b.Kind, b.Around, b.Adapter = name, k.around(), k.settings()
}

// members are the names of the backends that this one joins.
func (b *backendSettings) members() []string {
	if of := kinds()[b.Kind].members; of != nil {
		return of(b.Adapter)
	}
	return nil
}

// logSettings are what is logged and how.
type logSettings struct {
	// Level is debug, info, warn or error.
	Level logLevel `yaml:"level"`
	// Format is json or text.
	Format string `yaml:"format"`
}

// logLevel is the lowest level that is logged.
type logLevel slog.Level

// MarshalText returns the level in lower case.
func (l logLevel) MarshalText() ([]byte, error) {
	return []byte(strings.ToLower(slog.Level(l).String())), nil
}

// UnmarshalText reads one of the four levels, in lower or upper case.
func (l *logLevel) UnmarshalText(text []byte) error {
	var level slog.Level
	if err := level.UnmarshalText(text); err != nil || strings.ContainsAny(string(text), "+-") {
		return fmt.Errorf("level: %q is unknown; want debug, info, warn or error", text)
	}
	*l = logLevel(level)
	return nil
}

// Validate names every setting that cannot work.
func (l logSettings) Validate() error {
	if l.Format != "json" && l.Format != "text" {
		return fmt.Errorf("format: %q is unknown; want json or text", l.Format)
	}
	return nil
}

func (l logSettings) logger(w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: slog.Level(l.Level), ReplaceAttr: spellDuration}
	if l.Format == "text" {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}

// spellDuration writes "5s" where slog's JSON would write 5000000000.
func spellDuration(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.String(a.Key, a.Value.Duration().String())
	}
	return a
}

// defaultFile is where serve, check and validate look if not told.
const defaultFile = "/etc/usher/usher.yaml"

// fileFlag is the flag that names the settings file.
type fileFlag struct {
	Config string `help:"The settings file." default:"/etc/usher/usher.yaml" type:"path" short:"c" env:"USHER_CONFIG"`
}

// load reads the settings; warnings go to w.
func (f fileFlag) load(w io.Writer) (*settings, error) {
	s := defaultSettings()
	source, err := config.Load(cmp.Or(f.Config, defaultFile), s, config.Environment{
		Variables: os.Environ(), Reserved: []string{"USHER_CONFIG"},
	})
	if err != nil {
		return nil, err
	}
	for _, warning := range source.Warnings() {
		_, _ = fmt.Fprintln(w, "warning:", warning)
	}
	return s, nil
}

type validateCommand struct {
	fileFlag
	Print bool `help:"Print the settings as they take effect, secrets hidden."`
}

// Run reports every problem of the file.
func (v validateCommand) Run(r runtime) error {
	s, err := v.load(r.err)
	if err != nil {
		return err
	}
	if v.Print {
		var text bytes.Buffer
		if err := config.Print(&text, s); err != nil {
			return err
		}
		_, err := r.out.Write(withoutPasswords(text.Bytes()))
		return err
	}
	_, err = fmt.Fprintf(r.out, "%s: ok\n", v.Config)
	return err
}

// withoutPasswords hides what the addresses in a text hold of users, passwords and parameters.
func withoutPasswords(text []byte) []byte {
	address := regexp.MustCompile(`https?://[^\s"']+`)
	user, value := regexp.MustCompile(`//[^/@]*@`), regexp.MustCompile(`([?&][^=&]*)=[^&]*`)
	return address.ReplaceAllFunc(text, func(a []byte) []byte {
		a = user.ReplaceAll(a, []byte("//"+backends.Hidden+"@"))
		return value.ReplaceAll(a, []byte("${1}="+backends.Hidden))
	})
}
