package gateway

import (
	"net/http"
	"reflect"
	"slices"
	"testing"
)

// TestResponse_Reset answers requests of all kinds. Nothing of one is left for the next, but for memory that is used again.
func TestResponse_Reset(t *testing.T) {
	t.Parallel()
	segments, segment := newCachedSegment(t, 1000)
	references, reference := newCachedReference(t, 1000)
	playlists := newPlaylistGateway(t)
	for uri, test := range map[string]struct {
		gateway *testGateway
		status  int
	}{
		segment:                             {segments, http.StatusOK},
		reference:                           {references, http.StatusOK},
		"/play/a001/index.m3u8?token=123":   {playlists, http.StatusOK},
		"/~a.AAAA/play/a001/index.m3u8":     {playlists, http.StatusForbidden},
		"/elsewhere":                        {playlists, http.StatusNotFound},
		"/play/a001/missing.m3u8?token=123": {playlists, http.StatusNotFound},
	} {
		v := newDirectViewer(test.gateway.Gateway, uri)
		if status := v.do(t); status != test.status {
			t.Errorf("%s: status %d, want %d", uri, status, test.status)
		}
		for field, value := range reflect.ValueOf(&v.resp).Elem().Fields() {
			if survives := []string{"buffer", "text"}; !value.IsZero() && !slices.Contains(survives, field.Name) {
				t.Errorf("%s: %s is left", uri, field.Name)
			}
		}
	}
}
