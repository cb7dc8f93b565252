package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/bench/peers"
	"usher/bench/result"
	"usher/bench/rig"
)

// target is what is measured in alternation with others.
type target struct {
	name string
	// external is nil if the harness starts Usher or the peer of that name.
	external *rig.External
	// path is where viewers play; empty: the scenario's.
	path string
	// unasked says which of the harness's servers the target asked nothing in its last round, and wasAsking that it asked all of them in
	// one of the rounds.
	unasked   error
	wasAsking bool
}

// word returns what the tokens of a run that began at that time have in them. Only servers that ask the harness's middleware, and outlive
// the run, have one: their decisions of an earlier run may still hold, and so they would ask nothing. A middleware of the operator's may
// know the tokens without it.
func (t *target) word(started time.Time) string {
	if t.external == nil || t.external.Middleware == "" {
		return ""
	}
	return strconv.FormatInt(started.UnixMilli(), 36) + "-"
}

// addUnasked notes which of the harness's servers the target asked nothing.
func (t *target) addUnasked(m *result.Measurement, unasked error) {
	t.unasked, t.wasAsking = unasked, t.wasAsking || unasked == nil
	if unasked != nil {
		m.Notes = append(m.Notes, unasked.Error())
	}
}

// isUsher reports whether the harness starts nodes of Usher.
func (t *target) isUsher() bool { return t.external == nil && t.name == rig.Usher }

func (t *target) isPeer() bool { return t.external == nil && t.name != rig.Usher }

// RunsUsher reports whether the harness starts nodes of Usher, which need the program.
func (o *Options) RunsUsher() bool { return o.External == nil || slices.Contains(o.Against, rig.Usher) }

// targets returns what is measured. The first one is External or Usher.
func (o *Options) targets() ([]target, error) {
	all := []target{{name: rig.Usher}}
	if o.External != nil {
		all[0] = target{name: strings.Join(o.External.URLs, ","), external: o.External}
	}
	for _, text := range o.Against {
		if text == all[0].name {
			continue // it is the first
		}
		t, err := o.parseTarget(text)
		if err == nil && slices.ContainsFunc(all, func(other target) bool { return other.name == t.name }) {
			err = fmt.Errorf("%q is there twice: name it otherwise, as in other=http://127.0.0.1:8080", t.name)
		}
		if err != nil {
			return nil, fmt.Errorf("--against: %w", err)
		}
		all = append(all, t)
	}
	return all, nil
}

var errTargetURL = errors.New("want a URL such as http://127.0.0.1:8080 or https://cdn.example.com/live/{channel}/index.m3u8")

// parseTarget parses usher, the name of a peer, or a URL, which may have a name: "cdn=https://cdn.example.com".
func (o *Options) parseTarget(text string) (t target, err error) {
	name, address, isNamed := strings.Cut(text, "=")
	if !isNamed || strings.Contains(name, "/") {
		name, address = "", text // the = of a query
	}
	if name == "" && !strings.Contains(address, "://") {
		return target{name: text}, checkName(text)
	}
	base, path, err := splitURL(address)
	if err != nil {
		return t, fmt.Errorf("%q: %w", result.HideCredentials(text), err)
	}
	t = target{name: cmp.Or(name, base), external: &rig.External{URLs: []string{base}, AuthPath: cmp.Or(path, "/")}}
	if path != "/" {
		t.path = path
	}
	if o.External != nil {
		t.external.Middleware, t.external.Origin = o.External.Middleware, o.External.Origin
	}
	return t, nil
}

// checkName reports a name of no server that the harness can start.
func checkName(name string) error {
	if name == rig.Usher {
		return nil
	}
	_, err := peers.Find(name)
	if errors.Is(err, peers.ErrUnknown) {
		return fmt.Errorf("%w, usher, or a URL", err)
	}
	return err
}

// splitURL returns a server's URL, and the path and query below it, which may be empty and have placeholders.
func splitURL(address string) (base, path string, err error) {
	scheme, rest, _ := strings.Cut(address, "://")
	end := strings.IndexAny(rest+"/", "/?")
	base, path = scheme+"://"+rest[:end], rest[end:]
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.User != nil || scheme != "http" && scheme != "https" || strings.HasPrefix(path, "?") {
		return "", "", errTargetURL
	}
	return base, path, nil
}

// validate reports what cannot be run before anything is measured.
func (s *Scenario) validate(ctx context.Context, targets []target, o *Options) error {
	validate := s.validateValues
	if o.RunsUsher() {
		validate = s.Validate
	}
	if err := validate(); err != nil {
		return err
	}
	for i := range targets {
		if t := &targets[i]; !t.isUsher() && len(targets) > 1 {
			if err := s.checkTarget(ctx, t, o); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	return nil
}

// checkTarget reports what the target cannot do, and a fault of a server that the harness does not run for it.
func (s *Scenario) checkTarget(ctx context.Context, t *target, o *Options) error {
	if t.isPeer() {
		return s.checkPeer(t.name)
	}
	g, err := s.start(ctx, t, o)
	if err != nil {
		return err
	}
	defer g.Close()
	_, errFaults := s.plannedFaults(g.Fault)
	_, errViewers := s.viewersOf(g, "")
	return errors.Join(errFaults, errViewers)
}

// as returns the scenario as the target plays it. Servers that do not carry a viewer's ticket to what they list are compared by
// playlists alone, with the token, if a peer is among the targets.
func (s *Scenario) as(t *target, all []target) Scenario {
	changed := *s
	if s.Dialect == "" && hasPeers(all) {
		changed.SegmentEvery, changed.Light = 0, true
		if t.external == nil {
			changed.Path = "/single/{channel}/index.m3u8?token={token}"
		}
	}
	if t.path != "" {
		changed.Path = t.path
	}
	return changed
}

const peersNote = "servers that do not carry a viewer's ticket to what playlists list are compared by playlists alone, with the token"

func hasPeers(all []target) bool {
	return slices.ContainsFunc(all, func(t target) bool { return t.isPeer() })
}

// start starts the target's servers.
func (s *Scenario) start(ctx context.Context, t *target, o *Options) (*rig.Rig, error) {
	options := rig.Options{
		Server: t.name, Binary: o.Binary, Nodes: s.Nodes, Redis: s.Redis, Collector: s.breaksCollector(), Balancer: s.Balancer, TLS: s.TLS,
		Latency:  s.Latency,
		Validity: s.Validity.Of(s.For), Segment: s.Segment, SegmentSize: s.SegmentSize, OnFailure: s.OnFailure, RecheckRate: s.RecheckRate,
		Settings: s.Settings, Attacker: o.Attacker,
		// Zaps, roaming and returns open further sessions.
		Sessions: roomFor*s.Viewers + leastRoom,
	}
	if t.external != nil {
		return t.external.Start(ctx, options)
	}
	if t.isPeer() {
		options.Validity = max(time.Second, options.Validity.Round(time.Second)) // as peers have it
	}
	return rig.Start(ctx, options)
}

// breaksCollector reports whether the nodes send their traces somewhere, which only a fault of the collector needs.
func (s *Scenario) breaksCollector() bool {
	return slices.ContainsFunc(s.Faults, func(f Fault) bool { return strings.HasPrefix(f.What, "collector ") })
}

// roomFor is for how many times the viewers there is room.
const (
	roomFor   = 4
	leastRoom = 50_000
)
