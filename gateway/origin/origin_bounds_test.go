package origin

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/gateway/upstream"
)

func TestNew_URLs(t *testing.T) {
	t.Parallel()
	c := DefaultConfig()
	log := slog.New(slog.DiscardHandler)
	cache, err := NewCache(c.Cache, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cache.Close)
	for name, test := range map[string]struct {
		urls     []*url.URL
		upstream upstream.Config
		want     string // part of the error
	}{
		"http":                {urls: []*url.URL{{Scheme: "http", Host: "a"}}},
		"https":               {urls: []*url.URL{{Scheme: "https", Host: "a"}}},
		"both":                {urls: []*url.URL{{Scheme: "https", Host: "a"}, {Scheme: "http", Host: "b"}}},
		"none":                {want: `origin "test": no url`},
		"another scheme":      {urls: []*url.URL{{Scheme: "ftp", Host: "a"}}, want: `url "ftp://a": want http://host or https://host`},
		"no scheme":           {urls: []*url.URL{{Host: "a"}}, want: "want http"},
		"no host":             {urls: []*url.URL{{Scheme: "http", Path: "/x"}}, want: `origin "test": url "http:///x"`},
		"no host, https":      {urls: []*url.URL{{Scheme: "https"}}, want: `origin "test": url "https:"`},
		"a second one as bad": {urls: []*url.URL{{Scheme: "http", Host: "a"}, {Scheme: "x", Host: "b"}}, want: `"x://b"`},
		"a bad public name":   {urls: []*url.URL{{Scheme: "http", Host: "a"}}, upstream: upstream.Config{PublicNames: []string{"/"}}, want: "public_names[0]"},
	} {
		o, err := New("test", test.urls, cache, c, log, WithUpstream(test.upstream))
		if o != nil {
			o.Close()
		}
		if (err != nil) != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

// TestOrigin_FindOrStartFetch_JoinsOrStarts checks which fetches and copies another viewer shares.
func TestOrigin_FindOrStartFetch_JoinsOrStarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const since = 100
		for name, test := range map[string]struct {
			active      *fetch
			stored      *entry
			freshFor    time.Duration
			wantsStored bool
			wantsActive bool
		}{
			"nothing is there":                     {},
			"a fetch since then":                   {active: &fetch{started: since}, wantsActive: true},
			"a fetch after that":                   {active: &fetch{started: since + 1}, wantsActive: true},
			"a fetch before":                       {active: &fetch{started: since - 1}},
			"a fetch that cannot be joined":        {active: &fetch{started: since, isAbandoned: true}},
			"a copy since then":                    {stored: &entry{freshLimit: 1, started: since}, freshFor: 1, wantsStored: true},
			"a copy before":                        {stored: &entry{freshLimit: 1, started: since - 1}, freshFor: 1},
			"a copy before, of a stated freshness": {stored: &entry{started: since - 1}, freshFor: 1, wantsStored: true},
			"a copy that expires now":              {stored: &entry{started: since}},
			"an expired copy, and a fetch":         {stored: &entry{started: since}, active: &fetch{started: since}, freshFor: -1, wantsActive: true},
			"a fresh copy, and a fetch":            {stored: &entry{started: since}, active: &fetch{started: since}, freshFor: 1, wantsStored: true},
		} {
			o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{}), nil, "a")
			sleep(time.Second)
			now := o.cache.now()
			k := cacheKey{origin: o.id, path: "/x.ts", media: true}
			e := test.stored
			if e == nil {
				e = &entry{}
			}
			e.retention = time.Hour
			e.freshUntil.Store(now + int64(test.freshFor))
			e.listed.Store(&listedState{since: since, until: now + int64(time.Hour)})
			o.cache.entries.Set(k, e)
			if test.active != nil {
				o.active[k] = test.active
			}
			f, got, err := o.findOrStartFetch(k, byteRange{}, &Request{})
			if err != nil || (got == e) != test.wantsStored || (f == nil) != test.wantsStored {
				t.Errorf("%s: got %v, %v, %v; want the copy: %v", name, f, got, err, test.wantsStored)
			}
			if isActive := f != nil && f == test.active; isActive != test.wantsActive || isActive && f.joined != 1 {
				t.Errorf("%s: joined the fetch: %v, want %v", name, isActive, test.wantsActive)
			}
			if isCounted := o.Stats().Coalesced == 1; isCounted != test.wantsActive {
				t.Errorf("%s: counted %v, want %v", name, isCounted, test.wantsActive)
			}
			o.Close()
		}
	})
}

func TestOrigin_FindOrStartFetch_BadPathOrClosed(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a"})
	if _, _, err := o.findOrStartFetch(cacheKey{path: "/../x"}, byteRange{}, &Request{}); !errors.Is(err, ErrPath) {
		t.Errorf("a bad path: got %v", err)
	}
	o.Close()
	if _, _, err := o.findOrStartFetch(cacheKey{path: "/x"}, byteRange{}, &Request{}); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: got %v", err)
	}
}

func TestOrigin_RemoveFetch_OnlyItself(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a"})
	k := cacheKey{path: "/x"}
	first, second := &fetch{key: k}, &fetch{key: k}
	o.active[k] = second
	o.removeFetch(first)
	if o.active[k] != second {
		t.Error("a fetch removed its successor")
	}
	o.removeFetch(second)
	if len(o.active) != 0 {
		t.Error("a fetch did not remove itself")
	}
}

func TestOrigin_FreshTimeout_SinceTheFetchBegan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newNetworkFixture(t, newNetwork(t, nil), nil, "a")
		sleep(time.Minute)
		f := &fetch{started: o.cache.now()}
		for _, want := range []time.Duration{time.Second, 700 * time.Millisecond} {
			if got := o.freshTimeout(f); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
			sleep(300 * time.Millisecond)
		}
		o.addresses[0].ejectedUntil.Store(o.cache.now() + 1)
		if got := o.freshTimeout(f); got != 0 {
			t.Errorf("while no address is available: got %v, want none", got)
		}
	})
}

func TestOrigin_StaleIfError_Counts(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a"})
	stale, expired := &entry{object: &Object{}}, &entry{object: &Object{}}
	stale.staleUntil.Store(o.cache.now() + int64(time.Hour))
	for i, test := range []struct {
		err  error
		old  *entry
		want bool
	}{
		{errMalformed, stale, true},
		{errMalformed, expired, false},
		{errMalformed, nil, false},
		{ErrPath, stale, false},
		{ErrPath, expired, false},
	} {
		before := o.Stats().Stale
		if got := o.staleIfError(cacheKey{}, test.old, test.err); got != test.want || (o.Stats().Stale == before+1) != test.want {
			t.Errorf("case %d: got %v, counted %d; want %v", i, got, o.Stats().Stale-before, test.want)
		}
	}
}

// TestOrigin_Addresses_States checks the counted and the listed states of addresses.
func TestOrigin_Addresses_States(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://me:5ecret@a?key=5ecret", "http://b/v1", "http://c"})
	for i := range 3 {
		ejected := 0
		for k, state := range o.Addresses() {
			if want := []string{"http://a/", "http://b/v1", "http://c/"}[k]; state.URL != want || state.IsEjected != (k < i) {
				t.Errorf("address %d: got %+v, want %s, ejected %v", k, state, want, k < i)
			}
			if state.IsEjected {
				ejected++
			}
		}
		if got := o.Stats().EjectedAddresses; got != i || ejected != i {
			t.Errorf("%d ejected addresses are counted, %d listed; want %d", got, ejected, i)
		}
		o.addresses[i].ejectedUntil.Store(o.cache.now() + int64(time.Hour))
	}
}
