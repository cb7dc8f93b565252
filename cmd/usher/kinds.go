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

// kind is one adapter: its default settings and its constructor.
type kind struct {
	// settings returns a pointer to the adapter's default settings, chain those of the chain around it.
	settings func() any
	chain    func() chainSettings
	// members returns the names of the backends that a composite adapter calls; nil for other adapters.
	members func(settings any) []string
	build   func(name string, settings any, parts kindDeps) (adapter, error)
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

// kinds returns all adapters by the name that the settings use.
func kinds() map[string]kind {
	return map[string]kind{
		"httprequest": remoteKind(httprequest.DefaultConfig, httprequest.New, func(a *remoteSettings) { a.Validity = 180 * time.Second }),
		"flussonic":   remoteKind(flussonic.DefaultConfig, flussonic.New, func(a *remoteSettings) { a.Validity = 180 * time.Second }),
		"iptvportal":  remoteKind(iptvportal.DefaultConfig, iptvportal.New, func(a *remoteSettings) { a.Validity = 180 * time.Second }),
		"ministra": remoteKind(ministra.DefaultConfig, ministra.New, func(a *remoteSettings) {
			a.TokenLife, a.Validity = 5*time.Second, 36_000*time.Second
		}),
		"smarty": remoteKind(smarty.DefaultConfig, smarty.New, func(a *remoteSettings) {
			a.TokenLife, a.Validity = 3600*time.Second, 3000*time.Second
		}),

		"iprules":     localKind(iprules.DefaultConfig, iprules.New, newLocalSettings(time.Hour)),
		"jwt":         localKind(jwt.DefaultConfig, jwt.New, newFetchingSettings),
		"securetoken": localKind(securetoken.DefaultConfig, securetoken.New, newLocalSettings(time.Hour)),
		"users":       localKind(users.DefaultConfig, users.New, newLocalSettings(time.Minute)),
		"signedlink":  localKind(signedlink.DefaultConfig, signedlink.New, newLocalSettings(time.Hour)),

		"any":   compositeKind(anyof.DefaultConfig, anyof.New, anyof.Members),
		"rules": compositeKind(rules.DefaultConfig, rules.New, rules.Members),
	}
}

// remoteBackend is a backend that calls a middleware over HTTP.
type remoteBackend interface {
	backends.Backend
	Preset() httpbackend.Preset
	DisplayAddress() string
	ContractAlarms() *httpbackend.Alarms
	Close()
}

// remoteKind returns the kind of an adapter that calls a middleware over HTTP. tune sets the defaults of its chain.
func remoteKind[C any, B remoteBackend](
	defaults func() C, build func(string, C, httpbackend.Deps) (B, error), tune func(*remoteSettings),
) kind {
	return kind{
		settings: func() any { return new(defaults()) },
		chain: func() chainSettings {
			a := &remoteSettings{Chain: chain.DefaultConfig(), RecheckRate: 200}
			tune(a)
			return a
		},
		build: func(name string, settings any, parts kindDeps) (adapter, error) {
			b, err := build(name, *settings.(*C), parts.http) //nolint:forcetypeassert // settings made it
			if err != nil {
				return adapter{}, err
			}
			return adapter{Backend: b, preset: b.Preset(), url: b.DisplayAddress(), alarms: b.ContractAlarms(), close: b.Close}, nil
		},
	}
}

// compositeKind returns the kind of an adapter that calls other backends, whose names members returns.
func compositeKind[C any, B backends.Backend](
	defaults func() C, build func(string, C, []backends.Member) (B, error), members func(C) []string,
) kind {
	return kind{
		settings: func() any { return new(defaults()) },
		chain: func() chainSettings {
			return &compositeSettings{Local: chain.DefaultLocalConfig(), RecheckRate: 200}
		},
		members: func(settings any) []string { return members(*settings.(*C)) }, //nolint:forcetypeassert // as above
		build: func(name string, settings any, parts kindDeps) (adapter, error) {
			b, err := build(name, *settings.(*C), parts.members) //nolint:forcetypeassert // as above
			if err != nil {
				return adapter{}, err
			}
			return adapter{Backend: b, close: func() {}}, nil
		},
	}
}

// localKind returns the kind of an adapter that decides locally.
func localKind[C any, B backends.Backend](
	defaults func() C, build func(string, C, *slog.Logger) (B, error), around func() chainSettings,
) kind {
	return kind{
		settings: func() any { return new(defaults()) },
		chain:    around,
		build: func(name string, settings any, parts kindDeps) (adapter, error) {
			b, err := build(name, *settings.(*C), parts.log) //nolint:forcetypeassert // as above
			if err != nil {
				return adapter{}, err
			}
			a := adapter{Backend: b, close: func() {}}
			if c, ok := any(b).(interface{ Close() }); ok {
				a.close = c.Close
			}
			if r, ok := any(b).(interface{ Run(context.Context) error }); ok {
				a.run = r.Run
			}
			return a, nil
		},
	}
}
