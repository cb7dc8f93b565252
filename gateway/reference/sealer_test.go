package reference

import (
	"testing"

	"usher/backends/setting"
)

func newTestSealer(keys ...string) *Sealer {
	var all []setting.Key
	for _, id := range keys {
		all = append(all, setting.Key{ID: id, Secret: setting.Secret("the secret of key " + id)})
	}
	return NewSealer(all)
}

// someTarget has a path of 100 bytes and a query of 60, as CDNs list them.
func someTarget() Target {
	return Target{
		Role: Media, Origin: "cdn", Base: "https://edge-3.example.com:8443",
		Path:    "/live/news_720/2026/11/27/chunklist_b3128000/0f8e7d6c5b4a39281706f5e4d3c2b1a0/part%2F1/media_17.ts",
		Query:   "token=dGhlIG9yaWdpbidzIG93bg&expires=1790000000&sig=a%2Fb%3D",
		Version: 4711,
	}
}

func someScope() Scope {
	return Scope{Route: "/play/{channel}/*", Channel: "a001", Folder: "hd", Name: "media_17.ts"}
}

func TestSealer_OpensWhatItSealed(t *testing.T) {
	t.Parallel()
	s := newTestSealer("a")
	target, scope := someTarget(), someScope()
	text := string(s.AppendSealed(nil, "", &target, &scope))
	var buf Buffer
	got, ok := s.Open(&buf, "a", text, &scope)
	if !ok || got != target {
		t.Errorf("open(%s): got %+v %v, want %+v", text, got, ok, target)
	}
}
