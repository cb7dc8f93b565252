package origin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"usher/backends"
)

func TestAddress_IsEjected_IsFailing_UntilThen(t *testing.T) {
	t.Parallel()
	addr := newAddress(mustURL(t, "http://a"), 1, true)
	addr.ejectedUntil.Store(10)
	addr.setFailing("c", channelFailure{until: 10}, 0)
	for at, want := range map[int64]bool{9: true, 10: false, 11: false} {
		if addr.isEjected(at) != want || addr.isFailing("c", at) != want || addr.isFailing("d", at) {
			t.Errorf("at %d: ejected %v, failing %v; want %v", at, addr.isEjected(at), addr.isFailing("c", at), want)
		}
	}
}

// TestAddress_SetFailing_CountsUnanswered counts the channels that failed since the address last responded, and checks which
// failures are kept.
func TestAddress_SetFailing_CountsUnanswered(t *testing.T) {
	t.Parallel()
	const now, responded = 100, 50
	for name, test := range map[string]struct {
		old       channelFailure
		want      int
		wantsKept bool
	}{
		"began after the response":              {channelFailure{started: responded + 1, until: now + 1}, 2, true},
		"began with the response":               {channelFailure{started: responded, until: now + 1}, 2, true},
		"began before, and counts yet":          {channelFailure{started: responded - 1, until: now + 1}, 1, true},
		"began before, and ends now":            {channelFailure{started: responded - 1, until: now}, 1, false},
		"began before, and ended":               {channelFailure{started: responded - 1, until: now - 1}, 1, false},
		"began after the response, and ended":   {channelFailure{started: responded + 1, until: now - 1}, 2, true},
		"a 404 that counts yet, without a time": {channelFailure{until: now + 1}, 1, true},
	} {
		addr := newAddress(mustURL(t, "http://a"), 1, true)
		addr.lastResponse.Store(responded)
		addr.failing["old"] = test.old
		got := addr.setFailing("new", channelFailure{started: responded + 10, until: now + 10}, now)
		if _, isKept := addr.failing["old"]; got != test.want || isKept != test.wantsKept {
			t.Errorf("%s: got %d channels, kept %v; want %d, %v", name, got, isKept, test.want, test.wantsKept)
		}
	}
}

func TestAddress_SetFailing_BoundedNumberOfChannels(t *testing.T) {
	t.Parallel()
	addr := newAddress(mustURL(t, "http://a"), 1, true)
	for i := range maxFailingChannels {
		addr.setFailing(strconv.Itoa(i), channelFailure{until: 10}, 0)
	}
	if got := len(addr.failing); got != maxFailingChannels {
		t.Errorf("%d channels are kept, want %d", got, maxFailingChannels)
	}
	addr.setFailing("one more", channelFailure{until: 10}, 0)
	if got := len(addr.failing); got != 0 {
		t.Errorf("%d channels are kept beyond the bound, want none", got)
	}
}

// TestOrigin_Eject_UnlessItResponded also checks that the beginning and the end of an ejection are each logged once.
func TestOrigin_Eject_UnlessItResponded(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a", "http://b"})
	log := logTo(o)
	addr := o.addresses[0]
	logged := func(step string, want int, text string) {
		t.Helper()
		if got := log.String(); strings.Count(got, "\n") != want || !strings.Contains(got, text) {
			t.Errorf("%s: got the log %q, want %d lines with %q", step, got, want, text)
		}
		log.Reset()
	}
	o.recordResponse(addr, 50)
	logged("a response", 0, "")
	o.eject(addr, 49, 100, errors.New("x"))
	if addr.ejectedUntil.Load() != 0 {
		t.Error("ejected, although it has responded since the request began")
	}
	logged("no ejection", 0, "")
	o.eject(addr, 50, 100, errors.New("x"))
	if got, want := addr.ejectedUntil.Load(), 100+int64(o.config.Fetch.EjectFor); got != want {
		t.Errorf("ejected until %d, want %d", got, want)
	}
	logged("an ejection", 1, "unavailable")
	o.eject(addr, 50, 200, errors.New("x"))
	logged("an ejection again", 0, "")
	o.recordResponse(addr, 300)
	if addr.ejectedUntil.Load() != 0 || addr.lastResponse.Load() != 300 {
		t.Errorf("after a response: ejected until %d, responded at %d", addr.ejectedUntil.Load(), addr.lastResponse.Load())
	}
	logged("a recovery", 1, "recovered")
}

func TestOrigin_FailChannel_ThirdChannelEjects(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a"})
	addr := o.addresses[0]
	for i := range ejectingChannels {
		o.failChannel(addr, strconv.Itoa(i), 10, 20, errors.New("x"))
		if got, want := addr.ejectedUntil.Load() != 0, i == ejectingChannels-1; got != want {
			t.Errorf("after %d channels: ejected %v, want %v", i+1, got, want)
		}
	}
	if got, want := addr.failing["0"].until, 20+int64(o.config.Fetch.EjectFor); got != want {
		t.Errorf("the channel is avoided until %d, want %d", got, want)
	}
}

// TestOrigin_Candidates_Order checks which addresses are tried, and whether one of them is available. E is an ejected address,
// F one that failed the channel, and U one that is up.
func TestOrigin_Candidates_Order(t *testing.T) {
	t.Parallel()
	for states, test := range map[string]struct {
		want        string
		unavailable bool
	}{
		"U": {"0", false}, "E": {"0", true}, "F": {"0", true},
		"UU": {"01", false}, "EU": {"1", false}, "FU": {"10", false}, "UF": {"01", false}, "UE": {"0", false},
		"FE": {"0", true}, "EF": {"1", true}, "FF": {"01", true}, "EE": {"10", true},
		"FUEU": {"130", false}, "EEE": {"210", true}, "EFE": {"1", true},
	} {
		var urls []string
		for i := range states {
			urls = append(urls, fmt.Sprint("http://", i))
		}
		o := newFixture(t, nil, urls)
		future := o.cache.now() + int64(1e15)
		for i, state := range states {
			switch state {
			case 'E':
				o.addresses[i].ejectedUntil.Store(future - int64(i))
			case 'F':
				o.addresses[i].setFailing("c", channelFailure{until: future}, 0)
			}
		}
		got := ""
		for _, addr := range o.addressesOf(cacheKey{}, "c") {
			got += addr.url.Host
		}
		if got != test.want {
			t.Errorf("%s: got %s, want %s", states, got, test.want)
		}
		if got := o.isUnavailable(&fetch{channel: "c"}, o.cache.now()); got != test.unavailable {
			t.Errorf("%s: unavailable %v, want %v", states, got, test.unavailable)
		}
	}
}

func TestOrigin_AcquireConn_Bounds(t *testing.T) {
	t.Parallel()
	timeout := &timeoutError{setting: "fetch.response_timeout"}
	for name, test := range map[string]struct {
		waiting int64
		cause   error
		want    string // the setting of the overload
	}{
		"the last that may wait, cancelled":      {1, errAbandoned, ""},
		"the last that may wait, for too long":   {1, timeout, "fetch.max_conns"},
		"one more than may wait":                 {2, errAbandoned, "fetch.max_waiting"},
		"one more than may wait, until too late": {2, timeout, "fetch.max_waiting"},
	} {
		o := newFixture(t, func(c *Config) { c.Fetch.MaxConns, c.Fetch.MaxWaiting = 1, 2 }, []string{"http://a"})
		addr := o.addresses[0]
		conn, err := o.acquireConn(t.Context(), addr, classMedia)
		if err != nil {
			t.Fatalf("%s: the first: %v", name, err)
		}
		o.waitingForConn.Store(test.waiting)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(test.cause)
		_, err = o.acquireConn(ctx, addr, classMedia)
		overload, _ := errors.AsType[*backends.Overload](err)
		switch {
		case test.want == "" && !errors.Is(err, test.cause):
			t.Errorf("%s: got %v, want the cause", name, err)
		case test.want != "" && (overload == nil || overload.Setting != test.want):
			t.Errorf("%s: got %v, want an overload of %s", name, err, test.want)
		}
		if got := o.waitingForConn.Load(); got != test.waiting {
			t.Errorf("%s: %d wait afterwards, want %d", name, got, test.waiting)
		}
		conn.release()
		if conn, err = o.acquireConn(ctx, addr, classMedia); err != nil {
			t.Fatalf("%s: after the release: %v", name, err)
		}
		conn.release()
	}
}

func TestOrigin_ResponseTimeout_OfClass(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a"})
	const response, blocking = "no response within fetch.response_timeout=10s", "no response within fetch.blocking_timeout=20s"
	reload := cacheKey{variant: "_HLS_msn=1"}
	for name, test := range map[string]struct {
		fetch *fetch
		want  string
	}{
		"a playlist":    {&fetch{}, response},
		"media":         {&fetch{key: cacheKey{media: true}}, response},
		"a reload":      {&fetch{key: reload}, blocking},
		"a late reload": {&fetch{key: reload, isLate: true}, response},
	} {
		if got := o.responseTimeout(test.fetch).Error(); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// TestOrigin_RequestError_BlamesTheCause checks what each failure of a request does to its address.
func TestOrigin_RequestError_BlamesTheCause(t *testing.T) {
	t.Parallel()
	reset := errors.New("reset")
	for name, test := range map[string]struct {
		at                            hop
		err, ended, abandoned         error // of the request, of its context, of its fetch
		want                          error
		wantsEjected, wantsFailing    bool
		wantsResponse, wantsConnected bool
	}{
		"no connection":           {err: reset, want: reset, wantsEjected: true},
		"a connection breaks off": {at: hop{isConnected: true}, err: reset, want: reset, wantsFailing: true, wantsConnected: true},
		"after a redirect":        {at: hop{isRedirected: true}, err: reset, want: reset, wantsResponse: true},
		"a redirect is refused":   {at: hop{isConnected: true}, err: errRedirect, want: errRedirect, wantsResponse: true, wantsConnected: true},
		"a hold times out": {
			at: hop{isConnected: true}, err: reset, ended: &timeoutError{setting: "fetch.blocking_timeout"}, want: &timeoutError{setting: "fetch.blocking_timeout"},
			wantsConnected: true,
		},
		"a response times out": {
			at: hop{isConnected: true}, err: reset, ended: &timeoutError{setting: "fetch.response_timeout"}, want: &timeoutError{setting: "fetch.response_timeout"},
			wantsFailing: true, wantsConnected: true,
		},
		"the fetch is abandoned": {err: reset, abandoned: errAbandoned, want: errAbandoned},
	} {
		o := newFixture(t, nil, []string{"http://a"})
		addr := o.addresses[0]
		f := &fetch{channel: "c"}
		f.ctx, f.cancel = context.WithCancelCause(t.Context())
		ctx, cancel := context.WithCancelCause(t.Context())
		if test.ended != nil {
			cancel(test.ended)
		}
		if test.abandoned != nil {
			f.cancel(test.abandoned)
		}
		test.at.url = mustURL(t, "http://me:5ecret@a/x?q")
		err := o.requestError(ctx, f, addr, &test.at, o.cache.now(), test.err)
		unreachable, isUnreachable := errors.AsType[*UnreachableError](err)
		if !errors.Is(err, test.want) && !strings.Contains(err.Error(), test.want.Error()) || isUnreachable == (test.abandoned != nil) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		if isUnreachable && (unreachable.isUnconnected == test.wantsConnected || unreachable.URL != "http://a/x") {
			t.Errorf("%s: got %+v", name, unreachable)
		}
		now := o.cache.now()
		if addr.isEjected(now) != test.wantsEjected || addr.isFailing("c", now) != test.wantsFailing || (addr.lastResponse.Load() > 0) != test.wantsResponse {
			t.Errorf("%s: ejected %v, failing %v, responded at %d", name, addr.isEjected(now), addr.isFailing("c", now), addr.lastResponse.Load())
		}
		cancel(nil)
		f.cancel(nil)
	}
}
