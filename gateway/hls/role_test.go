package hls_test

import (
	"testing"

	"usher/gateway/hls"
)

func TestRole_String(t *testing.T) {
	t.Parallel()
	for role, want := range map[hls.Role]string{
		hls.Media: "media", hls.Playlist: "playlist", hls.Key: "key", hls.Document: "document", 4: "role 4",
	} {
		if got := role.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
