package rig

import (
	"context"
	"fmt"

	"usher/backends/backendtest"
)

// startCollector starts a collector of traces if the options ask for one. The nodes send it all of theirs by OTLP, and it keeps
// none of them.
func (g *Rig) startCollector() error {
	if !g.options.Collector {
		return nil
	}
	anyone := func(string) (backendtest.User, bool) { return backendtest.User{}, true }
	g.collector = backendtest.New(backendtest.Config{Address: "127.0.0.1:0", Lookup: anyone})
	return g.collector.Start()
}

// tracing returns the nodes' settings for the collector.
func (g *Rig) tracing() map[string]any {
	return map[string]any{"tracing": map[string]any{"endpoint": g.collector.URL(), "protocol": "http", "sample": 1}}
}

func (g *Rig) collectorFault(kind, argument string) (begin, error) {
	if argument != "" {
		kind += ":" + argument
	}
	mode, err := backendtest.ParseMode(kind)
	if err != nil {
		return nil, err
	}
	if g.collector == nil {
		return nil, fmt.Errorf("%w: collector of traces", ErrNoServer)
	}
	return func(context.Context) (func(context.Context) error, error) {
		return func(context.Context) error { return g.collector.SetMode(backendtest.Healthy()) }, g.collector.SetMode(mode)
	}, nil
}
