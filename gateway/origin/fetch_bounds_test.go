package origin

import (
	"context"
	"errors"
	"net/http"
	"testing"
)

// newTestFetch returns a fetch that no goroutine runs.
func newTestFetch(t *testing.T, o fixture, k cacheKey) *fetch {
	t.Helper()
	f := &fetch{cache: o.cache, key: k, done: make(chan struct{}), joined: 1}
	f.ctx, f.cancel = context.WithCancelCause(t.Context())
	t.Cleanup(func() { f.cancel(nil) })
	return f
}

func TestFetch_ShouldFinish_HalfOfAStorableBody(t *testing.T) {
	t.Parallel()
	head := func(isStorable bool, length int64) *responseHead {
		return &responseHead{length: length, caching: lifetime{isStorable: isStorable}}
	}
	media := cacheKey{media: true}
	for name, test := range map[string]struct {
		key  cacheKey
		head *responseHead
		body buffer
		want bool
	}{
		"a playlist":               {cacheKey{}, nil, buffer{}, true},
		"a held playlist":          {cacheKey{variant: "_HLS_msn=1"}, head(true, 0), buffer{}, false},
		"no response yet":          {media, nil, buffer{size: 10}, false},
		"less than half":           {media, head(true, 10), buffer{size: 4}, false},
		"half":                     {media, head(true, 10), buffer{size: 5}, true},
		"more than half":           {media, head(true, 10), buffer{size: 6}, true},
		"all":                      {media, head(true, 10), buffer{size: 10}, true},
		"half of an odd number":    {media, head(true, 11), buffer{size: 5}, false},
		"an empty body":            {media, head(true, 0), buffer{}, true},
		"half, not storable":       {media, head(false, 10), buffer{size: 5}, false},
		"half, passed through":     {media, head(true, 10), buffer{size: 5, isPassThrough: true}, false},
		"a body of unknown length": {media, head(true, -1), buffer{size: 5}, false},
		"none of such a body":      {media, head(true, -1), buffer{}, false},
	} {
		f := &fetch{key: test.key, head: test.head, body: test.body}
		if got := f.shouldFinish(); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

func TestFetch_Join_WhileItsStartIsKept(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		isAbandoned bool
		base        int64
		want        bool
	}{
		"from the start":         {false, 0, true},
		"after its first byte":   {false, 1, false},
		"abandoned":              {true, 0, false},
		"abandoned and advanced": {true, 1, false},
	} {
		f := &fetch{joined: 1, isAbandoned: test.isAbandoned, body: buffer{base: test.base}}
		if got := f.join(); got != test.want || (f.joined == 2) != test.want {
			t.Errorf("%s: got %v with %d viewers, want %v", name, got, f.joined, test.want)
		}
	}
}

func TestFetch_Leave_LastViewer(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a"})
	for name, test := range map[string]struct {
		key             cacheKey
		joined          int
		isDone          bool
		wantsAbandoned  bool
		wantsDiscarding bool
	}{
		"not the last":                {cacheKey{media: true}, 2, false, false, false},
		"not the last, at the end":    {cacheKey{media: true}, 2, true, false, false},
		"the last":                    {cacheKey{media: true}, 1, false, true, false},
		"the last of a playlist":      {cacheKey{}, 1, false, false, false},
		"the last of a held playlist": {cacheKey{variant: "_HLS_msn=1"}, 1, false, true, false},
		"the last, at the end":        {cacheKey{media: true}, 1, true, false, true},
	} {
		f := newTestFetch(t, o, test.key)
		f.joined, f.isDone = test.joined, test.isDone
		f.body = buffer{flat: []byte("body"), size: 4}
		f.leave(nil)
		if f.joined != test.joined-1 || f.isAbandoned != test.wantsAbandoned || errors.Is(context.Cause(f.ctx), errAbandoned) != test.wantsAbandoned {
			t.Errorf("%s: %d viewers, abandoned %v, %v; want it abandoned: %v", name, f.joined, f.isAbandoned, context.Cause(f.ctx), test.wantsAbandoned)
		}
		if got := f.body.flat == nil; got != test.wantsDiscarding {
			t.Errorf("%s: body discarded %v, want %v", name, got, test.wantsDiscarding)
		}
	}
}

func TestFetch_Finish_Body(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a"})
	whole := &entry{object: &Object{Body: []byte("whole body")}}
	for name, test := range map[string]struct {
		entry  *entry
		err    error
		joined int
		want   string
	}{
		"stored":                   {whole, nil, 1, "whole body"},
		"stored, without a viewer": {whole, nil, 0, ""},
		"not stored":               {nil, nil, 1, "so far"},
		"a 404":                    {&entry{negative: ErrPath}, nil, 1, "so far"},
		"failed":                   {nil, errMalformed, 1, ""},
		"failed, with a viewer":    {whole, errMalformed, 1, ""},
	} {
		f := newTestFetch(t, o, cacheKey{media: true})
		f.joined, f.body = test.joined, buffer{flat: []byte("so far"), size: 6}
		f.changed = make(chan struct{})
		woken := f.changed
		f.finish(test.entry, test.err)
		if string(f.body.flat) != test.want || f.entry != test.entry || f.err != test.err || !f.isDone { //nolint:errorlint // the very error
			t.Errorf("%s: got the body %q, %v; want %q", name, f.body.flat, f.err, test.want)
		}
		for _, c := range []chan struct{}{woken, f.done} {
			select {
			case <-c:
			default:
				t.Errorf("%s: who waits is not woken", name)
			}
		}
	}
}

func TestFetch_WaitForHead_EndOfTheWait(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a"})
	ended, end := context.WithCancel(t.Context())
	end()
	for name, test := range map[string]struct {
		head   *responseHead
		isDone bool
		err    error
		want   error
	}{
		"the head is there":         {&responseHead{}, false, nil, nil},
		"the head and the end":      {&responseHead{}, true, nil, nil},
		"the end, without a head":   {nil, true, errMalformed, errMalformed},
		"neither, until it is late": {nil, false, nil, context.Canceled},
	} {
		f := newTestFetch(t, o, cacheKey{media: true})
		f.head, f.isDone, f.err = test.head, test.isDone, test.err
		if err := f.waitForHead(ended); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}

func TestResponseHead_ContentRange_OfAPart(t *testing.T) {
	t.Parallel()
	part := contentRange{lo: 2, hi: 5, total: 10}
	for status, want := range map[int]string{http.StatusPartialContent: part.String(), http.StatusOK: "", http.StatusRequestedRangeNotSatisfiable: ""} {
		if got := (&responseHead{status: status, partRange: part}).contentRange(); got != want {
			t.Errorf("%d: got %q, want %q", status, got, want)
		}
	}
}
