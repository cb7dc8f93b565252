package main

import (
	"time"

	"usher/backends"
	"usher/backends/httprequest"
)

// kind is one adapter: how its settings begin, and how it is made.
type kind struct {
	// defaults is a pointer to its settings.
	defaults func() any
	// validity is how long an answer holds if the middleware did not say.
	validity time.Duration
	build    func(name string, settings any, parts backends.HTTPParts) (adapter, error)
}

// adapter is what every kind gives.
type adapter struct {
	backends.Backend
	preset backends.Preset
	shown  string // its address, for people
	close  func()
}

// kinds are the adapters that this build has, by the name in the settings file.
func kinds() map[string]kind {
	return map[string]kind{
		"httprequest": {
			defaults: func() any { c := httprequest.DefaultConfig(); return &c },
			validity: 180 * time.Second,
			build: func(name string, settings any, parts backends.HTTPParts) (adapter, error) {
				c := *settings.(*httprequest.Config) //nolint:forcetypeassert // defaults made it
				b, err := httprequest.New(name, c, parts)
				if err != nil {
					return adapter{}, err
				}
				return adapter{Backend: b, preset: c.HTTP.Preset, shown: b.Shown(), close: b.Close}, nil
			},
		},
	}
}
