package main

import (
	"context"
	"log/slog"
	"time"

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
func newKind[S commonSettings, C, P any, B backends.Backend](
	common S, own func() C, build func(string, C, P) (B, error), part func(kindDeps) P,
) kind {
	return kind{
		defaults: func(name, preset string) kindSettings {
			s := &settingsOf[S, C]{name, common, own()}
			var p httpbackend.Preset
			for _, section := range []any{&s.Common, &s.Own} {
				presetted, ok := section.(interface{ SetPreset(p httpbackend.Preset) })
				if ok && p.UnmarshalText([]byte(preset)) == nil { // an unknown one is reported elsewhere
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
	if c, ok := b.(interface{ Close() }); ok {
		a.close = c.Close
	}
	if r, ok := b.(interface{ Run(context.Context) error }); ok {
		a.run = r.Run
	}
	return a
}
