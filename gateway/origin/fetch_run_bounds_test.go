package origin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
)

// bodyOf returns the bytes of a body with an error at the end.
type bodyOf struct {
	io.Reader
	err error
}

func (b bodyOf) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = b.err
	}
	return n, err
}

func (bodyOf) Close() error { return nil }

func TestResponse_Drain_ShortBodies(t *testing.T) {
	t.Parallel()
	const short = 64 << 10
	for length, wantsDrained := range map[int64]bool{-1: false, 0: true, 1: true, short: true, short + 1: false} {
		body := bytes.NewReader(make([]byte, short))
		a := &response{Response: &http.Response{ContentLength: length, Body: io.NopCloser(body)}, ctx: t.Context()}
		a.drain()
		if got := body.Len() < short; got != wantsDrained {
			t.Errorf("length %d: %d bytes are left, want it drained: %v", length, body.Len(), wantsDrained)
		}
	}
}

func TestResponse_Read_NamesTheTimeout(t *testing.T) {
	t.Parallel()
	timeout := &timeoutError{setting: "fetch.idle_timeout"}
	ended, end := context.WithCancelCause(t.Context())
	end(timeout)
	for name, test := range map[string]struct {
		ctx       context.Context
		err, want error
	}{
		"the end":                       {t.Context(), io.EOF, io.EOF},
		"the end, in time at last":      {ended, io.EOF, io.EOF},
		"bytes, in time at last":        {ended, nil, nil},
		"a broken body":                 {t.Context(), io.ErrUnexpectedEOF, io.ErrUnexpectedEOF},
		"a broken body, by the timeout": {ended, io.ErrUnexpectedEOF, timeout},
	} {
		a := &response{Response: &http.Response{Body: bodyOf{bytes.NewReader(nil), test.err}}, ctx: test.ctx}
		if _, err := a.Read(make([]byte, 10)); err != test.want { //nolint:errorlint // the very error
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}

func TestFetch_StoreKey_WholeObject(t *testing.T) {
	t.Parallel()
	k := cacheKey{path: "/x", variant: "bytes=0-1", media: true}
	for name, test := range map[string]struct {
		entry *entry
		want  string
	}{
		"the whole":     {&entry{object: &Object{Status: http.StatusOK}}, ""},
		"the range":     {&entry{object: &Object{Status: http.StatusPartialContent}}, "bytes=0-1"},
		"there is none": {&entry{negative: ErrPath}, "bytes=0-1"},
	} {
		if got := (&fetch{key: k}).storeKey(test.entry).variant; got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestOrigin_StatusError_UsableResponses(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a"})
	known := &entry{object: &Object{}, etag: `"v"`}
	for name, test := range map[string]struct {
		status  int
		isRange bool
		stored  *entry
		want    bool
	}{
		"200":                           {200, false, nil, true},
		"203":                           {203, false, nil, true},
		"204":                           {204, false, nil, false},
		"206 to a range":                {206, true, nil, true},
		"206":                           {206, false, nil, false},
		"416 to a range":                {416, true, nil, true},
		"416":                           {416, false, nil, false},
		"304 to a validator":            {304, false, known, true},
		"304 to none":                   {304, false, &entry{object: &Object{}}, false},
		"304 to a range without a copy": {304, true, nil, false},
		"404":                           {404, true, known, false},
	} {
		f := &fetch{wantedRange: byteRange{isSet: test.isRange}, stored: test.stored}
		err := o.statusError(f, test.status)
		if (err == nil) != test.want || err != nil && (err.Status != test.status || err.Origin != "test") {
			t.Errorf("%s: got %v, want it usable: %v", name, err, test.want)
		}
	}
}

func TestOrigin_OnErrorStatus_FinalOrNot(t *testing.T) {
	t.Parallel()
	for status, test := range map[int]struct{ final, finalWithFallback, stored bool }{
		http.StatusForbidden: {true, true, false}, http.StatusNotFound: {true, false, true}, http.StatusGone: {true, false, true},
		499: {true, true, false}, 500: {false, false, false}, 503: {false, false, false},
	} {
		for fallback, want := range map[bool]bool{false: test.final, true: test.finalWithFallback} {
			o := newFixture(t, nil, []string{"http://a"})
			o.upstream.FallbackOn404 = fallback
			e, isFinal, err := o.onErrorStatus(&fetch{started: 3}, &response{received: 5}, &StatusError{Status: status})
			if isFinal != want || (e != nil) != test.stored || err == nil {
				t.Errorf("%d, fallback_on_404 %v: got final %v, entry %v, %v", status, fallback, isFinal, e, err)
			}
			until := 5 + int64(o.config.Cache.NegativeTTL)
			if e != nil && (e.freshUntil.Load() != until || e.freshLimit != until || e.started != 3) {
				t.Errorf("%d: fresh until %d, %d at most, fetched at %d", status, e.freshUntil.Load(), e.freshLimit, e.started)
			}
		}
	}
}

func TestOrigin_NewRequest_Header(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a"})
	object := &Object{}
	for name, test := range map[string]struct {
		fetch *fetch
		want  http.Header
	}{
		"a playlist": {&fetch{}, http.Header{"Accept-Encoding": {"gzip"}}},
		"media":      {&fetch{key: cacheKey{media: true}}, http.Header{"Accept-Encoding": {"identity"}}},
		"a range": {
			&fetch{key: cacheKey{media: true, variant: "bytes=0-1"}, wantedRange: byteRange{isSet: true}},
			http.Header{"Accept-Encoding": {"identity"}, "Range": {"bytes=0-1"}},
		},
		"by its ETag": {&fetch{stored: &entry{object: object, etag: `"v"`}}, http.Header{"Accept-Encoding": {"gzip"}, "If-None-Match": {`"v"`}}},
		"by its time": {&fetch{stored: &entry{object: object, lastModified: "x"}}, http.Header{"Accept-Encoding": {"gzip"}, "If-Modified-Since": {"x"}}},
		"by both": {
			&fetch{stored: &entry{object: object, etag: `"v"`, lastModified: "x"}},
			http.Header{"Accept-Encoding": {"gzip"}, "If-None-Match": {`"v"`}, "If-Modified-Since": {"x"}},
		},
		"without a copy of it": {&fetch{stored: &entry{etag: `"v"`}}, http.Header{"Accept-Encoding": {"gzip"}}},
	} {
		test.want.Set("User-Agent", "usher")
		got := o.newRequest(t.Context(), test.fetch, o.addresses[0]).Header
		if len(got) != len(test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
		for field := range test.want {
			if got.Get(field) != test.want.Get(field) {
				t.Errorf("%s: %s: got %q, want %q", name, field, got.Get(field), test.want.Get(field))
			}
		}
	}
}

func TestOrigin_BodyError_Causes(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a"})
	for name, test := range map[string]struct {
		ended, err, want error
		isUnreachable    bool
	}{
		"it broke off":           {nil, io.ErrUnexpectedEOF, io.ErrUnexpectedEOF, true},
		"it is too large":        {nil, tooLarge("x", 1), ErrTooLarge, false},
		"the fetch is abandoned": {errAbandoned, io.ErrUnexpectedEOF, errAbandoned, false},
		"abandoned as too large": {errAbandoned, tooLarge("x", 1), errAbandoned, false},
	} {
		f := newTestFetch(t, o, cacheKey{})
		if test.ended != nil {
			f.cancel(test.ended)
		}
		err := o.bodyError(f, &response{hop: &hop{url: mustURL(t, "http://a/x?q")}}, test.err)
		unreachable, ok := errors.AsType[*UnreachableError](err)
		if !errors.Is(err, test.want) || ok != test.isUnreachable || ok && unreachable.URL != "http://a/x" {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}
