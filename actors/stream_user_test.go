package actors

import (
	"testing"

	"usher/backends"
)

// TestStreamLimits_StreamOf: a user is the backend's id, else the name, else the credentials, and none of them is taken for
// another one.
func TestStreamLimits_StreamOf(t *testing.T) {
	t.Parallel()
	n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, nil)
	defer n.Close()
	r := openRequest(1).Request
	of := func(r *backends.Request, id, name string) string {
		return n.streams.streamOf(r, &backends.Decision{Verdict: backends.Allowed, UserID: id, User: name, MaxSessions: 1}).hash
	}
	other := *r
	other.Query = "token=other"
	elsewhere := *r
	elsewhere.Backend = "elsewhere"
	if of(r, "17", "Ann") != of(&other, "17", "Bob") {
		t.Error("a user with an id has two places for two names")
	}
	if of(r, "", "Ann") != of(&other, "", "Ann") {
		t.Error("a user with a name alone has two places")
	}
	distinct := map[string]string{}
	for what, user := range map[string]string{
		"id 17": of(r, "17", "Ann"), "id Ann": of(r, "Ann", ""), "name 17": of(r, "", "17"), "name Ann": of(r, "", "Ann"),
		"credentials": of(r, "", ""), "other credentials": of(&other, "", ""), "of another backend": of(&elsewhere, "17", "Ann"),
	} {
		if before, found := distinct[user]; found || user == "" {
			t.Errorf("%s and %s are one user: %q", before, what, user)
		}
		distinct[user] = what
	}
	if of(&backends.Request{Backend: "portal"}, "17", "Ann") != "" {
		t.Error("a viewer without credentials has a place")
	}
}
