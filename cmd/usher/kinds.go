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

// kind is one adapter: how its settings begin, and how it is made.
type kind struct {
	// settings are the adapter's own, and around those of what stands around it; pointers that hold the defaults.
	settings func() any
	around   func() around
	// members names the backends that it joins, by its settings; nil: it joins none.
	members func(settings any) []string
	build   func(name string, settings any, parts kindParts) (adapter, error)
}

// kindParts is what an adapter may need of the program.
type kindParts struct {
	http    httpbackend.Deps
	members []backends.Member
	log     *slog.Logger
}

// adapter is what every kind gives.
type adapter struct {
	backends.Backend
	preset httpbackend.Preset
	shown  string                      // its address, for people; empty: it asks nobody
	watch  *httpbackend.Alarms         // nil: it asks nobody
	run    func(context.Context) error // nil: nothing of it runs in the background
	close  func()
}

// kinds are the adapters that this build has, by the name in the settings file.
func kinds() map[string]kind {
	return map[string]kind{
		"httprequest": asked(httprequest.DefaultConfig, httprequest.New, func(a *askedSettings) { a.Validity = 180 * time.Second }),
		"flussonic":   asked(flussonic.DefaultConfig, flussonic.New, func(a *askedSettings) { a.Validity = 180 * time.Second }),
		"iptvportal":  asked(iptvportal.DefaultConfig, iptvportal.New, func(a *askedSettings) { a.Validity = 180 * time.Second }),
		"ministra": asked(ministra.DefaultConfig, ministra.New, func(a *askedSettings) {
			a.Chain.TokenTTL, a.Validity = 5*time.Second, 36_000*time.Second
		}),
		"smarty": asked(smarty.DefaultConfig, smarty.New, func(a *askedSettings) {
			a.Chain.TokenTTL, a.Validity = 3600*time.Second, 3000*time.Second
		}),

		"iprules":     decided(iprules.DefaultConfig, iprules.New, decidedFor(time.Hour)),
		"jwt":         decided(jwt.DefaultConfig, jwt.New, fallible),
		"securetoken": decided(securetoken.DefaultConfig, securetoken.New, decidedFor(time.Hour)),
		"users":       decided(users.DefaultConfig, users.New, decidedFor(time.Minute)),
		"signedlink":  decided(signedlink.DefaultConfig, signedlink.New, decidedFor(time.Hour)),

		"any":   joined(anyof.DefaultConfig, anyof.New, anyof.Members),
		"rules": joined(rules.DefaultConfig, rules.New, rules.Members),
	}
}

// httpBackend is a backend that asks over HTTP.
type httpBackend interface {
	backends.Backend
	Preset() httpbackend.Preset
	DisplayAddress() string
	ContractAlarms() *httpbackend.Alarms
	Close()
}

// asked is a kind that asks over HTTP. tune sets the defaults of what stands around it.
func asked[C any, B httpBackend](
	defaults func() C, build func(string, C, httpbackend.Deps) (B, error), tune func(*askedSettings),
) kind {
	return kind{
		settings: func() any { return new(defaults()) },
		around: func() around {
			a := &askedSettings{Chain: chain.DefaultConfig(), RecheckRate: 200}
			tune(a)
			return a
		},
		build: func(name string, settings any, parts kindParts) (adapter, error) {
			b, err := build(name, *settings.(*C), parts.http) //nolint:forcetypeassert // settings made it
			if err != nil {
				return adapter{}, err
			}
			return adapter{Backend: b, preset: b.Preset(), shown: b.DisplayAddress(), watch: b.ContractAlarms(), close: b.Close}, nil
		},
	}
}

// joined is a kind that joins other backends; members names them.
func joined[C any, B backends.Backend](
	defaults func() C, build func(string, C, []backends.Member) (B, error), members func(C) []string,
) kind {
	return kind{
		settings: func() any { return new(defaults()) },
		around: func() around {
			return &joinedSettings{Local: chain.DefaultLocalConfig(), RecheckRate: 200}
		},
		members: func(settings any) []string { return members(*settings.(*C)) }, //nolint:forcetypeassert // as above
		build: func(name string, settings any, parts kindParts) (adapter, error) {
			b, err := build(name, *settings.(*C), parts.members) //nolint:forcetypeassert // as above
			if err != nil {
				return adapter{}, err
			}
			return adapter{Backend: b, close: func() {}}, nil
		},
	}
}

// decided is a kind that decides by itself.
func decided[C any, B backends.Backend](
	defaults func() C, build func(string, C, *slog.Logger) (B, error), around func() around,
) kind {
	return kind{
		settings: func() any { return new(defaults()) },
		around:   around,
		build: func(name string, settings any, parts kindParts) (adapter, error) {
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
