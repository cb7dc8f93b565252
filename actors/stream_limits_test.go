package actors

import (
	"strings"
	"testing"

	"usher/backends"
)

// TestStreamLimits_StreamOf_User shows which decisions are of one user: the middleware's id tells users apart, else the name,
// else the credentials, and an id is never taken for a name.
func TestStreamLimits_StreamOf_User(t *testing.T) {
	t.Parallel()
	l := newStreamLimits(core{cluster: &clusterClient{Cluster: &fakeCluster{}}}, PerUserConfig{MaxStreams: 2})
	userOf := func(backend, query, id, name string) string {
		t.Helper()
		s := l.streamOf(&backends.Request{Backend: backend, Query: query}, &backends.Decision{UserID: id, User: name})
		if s.maxStreams == 0 {
			t.Fatalf("no stream of backend %s, query %q, id %q, name %q", backend, query, id, name)
		}
		if !strings.HasPrefix(s.hash, hashPrefix) || s.maxStreams != 2 {
			t.Errorf("got %+v, want the user's hash and the configured limit", s)
		}
		return s.hash
	}
	ann := userOf("portal", "token=1", "17", "Ann")
	for name, test := range map[string]struct {
		user   string
		isSame bool
	}{
		"the same id, another token":    {userOf("portal", "token=2", "17", "Ann"), true},
		"the same id under a new name":  {userOf("portal", "token=1", "17", "Anna"), true},
		"another id with the same name": {userOf("portal", "token=1", "18", "Ann"), false},
		"a name that is the id's text":  {userOf("portal", "token=1", "", "17"), false},
		"another backend":               {userOf("other", "token=1", "17", "Ann"), false},
		"credentials that are the id":   {userOf("portal", "17", "", ""), false},
	} {
		if (test.user == ann) != test.isSame {
			t.Errorf("%s: got %q beside %q, want the same user: %t", name, test.user, ann, test.isSame)
		}
	}
	if a, b := userOf("portal", "token=1", "", "Ann"), userOf("portal", "token=2", "", "Ann"); a != b {
		t.Errorf("one name with two tokens: got %q and %q, want one user", a, b)
	}
	if a, b := userOf("portal", "token=1", "", ""), userOf("portal", "token=2", "", ""); a == b {
		t.Errorf("two tokens without a name: got one user %q", a)
	}
	if s := l.streamOf(&backends.Request{Backend: "portal"}, &backends.Decision{UserID: "17"}); s != (streamFacts{}) {
		t.Errorf("a viewer without credentials has the stream %+v, want none", s)
	}
}

// TestStreamLimits_Entry_Hashes gives the store hashes in place of the user and of the device, which differ from user to user.
func TestStreamLimits_Entry_Hashes(t *testing.T) {
	t.Parallel()
	n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, nil)
	defer n.Close()
	r := *openRequest(1).Request
	r.Device = "00:1a:79"
	s, devices := bareSession(idOf(1)), map[string]bool{}
	s.request.Store(&r)
	for _, user := range []string{"Ann", "Bob"} {
		u := n.streams.streamOf(&r, &backends.Decision{UserID: user, MaxSessions: 1})
		e := n.streams.entry(u, s, t0())
		if !strings.HasPrefix(e.User, hashPrefix) || !strings.HasPrefix(e.Device, hashPrefix) || devices[e.Device] {
			t.Errorf("%s: user %q, device %q, beside %v", user, e.User, e.Device, devices)
		}
		devices[e.Device] = true
	}
}
