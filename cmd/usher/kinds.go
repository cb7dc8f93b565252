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
	name     string
	defaults func() kindSettings
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
	all := map[string]kind{}
	for _, k := range []kind{
		remoteKind("httprequest", httprequest.DefaultConfig, httprequest.New, 180*time.Second, 0),
		remoteKind("flussonic", flussonic.DefaultConfig, flussonic.New, 180*time.Second, 0),
		remoteKind("iptvportal", iptvportal.DefaultConfig, iptvportal.New, 180*time.Second, 0),
		remoteKind("ministra", ministra.DefaultConfig, ministra.New, 36_000*time.Second, 5*time.Second),
		remoteKind("smarty", smarty.DefaultConfig, smarty.New, 3000*time.Second, 3600*time.Second),

		localKind("iprules", iprules.DefaultConfig, iprules.New, defaultLocal(time.Hour)),
		localKind("jwt", jwt.DefaultConfig, jwt.New, fetchingSettings{chain.DefaultLocalConfig(), defaultLocal(time.Hour)}),
		localKind("securetoken", securetoken.DefaultConfig, securetoken.New, defaultLocal(time.Hour)),
		localKind("signedlink", signedlink.DefaultConfig, signedlink.New, defaultLocal(time.Hour)),
		localKind("users", users.DefaultConfig, users.New, defaultLocal(time.Minute)),

		compositeKind("any", anyof.DefaultConfig, anyof.New),
		compositeKind("rules", rules.DefaultConfig, rules.New),
	} {
		all[k.name] = k
	}
	return all
}

// remoteKind returns the kind of an adapter that calls a middleware over HTTP.
func remoteKind[C any, B backends.Backend](
	name string, own func() C, build func(string, C, httpbackend.Deps) (B, error), validity, tokenLife time.Duration,
) kind {
	common := remoteSettings{Chain: chain.DefaultConfig(), TokenLife: tokenLife, Base: localSettings{validity, 200}}
	return newKind(name, common, own, func(name string, c C, parts kindDeps) (B, error) { return build(name, c, parts.http) })
}

// localKind returns the kind of an adapter that decides locally.
func localKind[S commonSettings, C any, B backends.Backend](
	name string, own func() C, build func(string, C, *slog.Logger) (B, error), common S,
) kind {
	return newKind(name, common, own, func(name string, c C, parts kindDeps) (B, error) { return build(name, c, parts.log) })
}

// compositeKind returns the kind of an adapter that calls other backends.
func compositeKind[C any, B backends.Backend](
	name string, own func() C, build func(string, C, []backends.Member) (B, error),
) kind {
	common := compositeSettings{RecheckRate: 200}
	return newKind(name, common, own, func(name string, c C, parts kindDeps) (B, error) { return build(name, c, parts.members) })
}

func newKind[S commonSettings, C any, B backends.Backend](
	name string, common S, own func() C, build func(string, C, kindDeps) (B, error),
) kind {
	return kind{
		name:     name,
		defaults: func() kindSettings { return &settingsOf[S, C]{common, own()} },
		build: func(name string, settings kindSettings, parts kindDeps) (adapter, error) {
			b, err := build(name, settings.(*settingsOf[S, C]).Own, parts) //nolint:forcetypeassert // defaults made it
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
