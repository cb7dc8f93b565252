package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
	"usher/cluster/redistest"
)

// startWithKeys runs a node that has these keys.
func startWithKeys(t *testing.T, s *redistest.Server, stateDir string, ids ...string) (p *peer, stop func()) {
	t.Helper()
	c := testConfig(s)
	c.EncryptionKeys, c.StateDir = nil, stateDir
	for _, id := range ids {
		c.EncryptionKeys = append(c.EncryptionKeys, setting.Key{ID: id, Secret: setting.Secret("the secret of key " + id)})
	}
	return startPeer(t, c, "with-"+ids[0], nil)
}

// refusesUser reports whether a node refuses Ann by her name.
func (p *peer) refusesUser() bool {
	_, isBanned := p.Banned(&backends.Request{}, &backends.Decision{User: "Ann"})
	return isBanned
}

func (p *peer) refusesCredentials(r *backends.Request) bool {
	_, isBanned := p.Banned(r, nil)
	return isBanned
}

// wantLogged waits for a line of a node's log that has these parts.
func wantLogged(t *testing.T, p *peer, parts ...string) {
	t.Helper()
	redistest.Eventually(t, fmt.Sprintf("%s logs %q", p.Name(), parts), func() bool {
		for line := range strings.Lines(p.log.String()) {
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
				return true
			}
		}
		return false
	})
}

// TestNode_Bans_KeyRotated replaces the key under which bans were stored. What names a user or a session needs the old key no
// more, what names credentials does.
func TestNode_Bans_KeyRotated(t *testing.T) {
	t.Parallel()
	server, sold := redistest.Start(t), &backends.Request{Query: "token=sold"}
	old, stop := startWithKeys(t, server, "", "a")
	until := banAnn(t, old, idOf(1)).Until
	_, err := old.Ban(t.Context(), session.Ban{Credentials: old.Credentials(sold), Until: until})
	must(t, err)
	redistest.Eventually(t, "redis has both bans and the tombstone", func() bool {
		return server.Client.HLen(t.Context(), "usher:{all}:bans").Val() == 3
	})
	stop()

	both, stop := startWithKeys(t, server, "", "b", "a")
	wantLogged(t, both, "bans encrypted anew")
	wantLogged(t, both, "bans need an old key", "key=a bans=1 until=")
	if !both.refusesUser() || !both.refusesCredentials(sold) {
		t.Error("with both keys a viewer is not banned")
	}
	stop()

	fresh, stop := startWithKeys(t, server, "", "b")
	redistest.Eventually(t, "a node without the old key bans Ann", fresh.refusesUser)
	wantRefused(t, idOf(1), fresh)
	wantLogged(t, fresh, "bans in redis unreadable", "bans=1")
	if fresh.refusesCredentials(sold) {
		t.Error("credentials match without the key that they are hashed with")
	}
	stop()

	again, stop := startWithKeys(t, server, "", "b", "a")
	redistest.Eventually(t, "the credentials are banned with their key", func() bool { return again.refusesCredentials(sold) })
	if again.log.Count("bans encrypted anew") > 0 {
		t.Error("bans are encrypted anew that are under the first key, or need the old one")
	}
	must(t, server.Client.FlushAll(t.Context()).Err())
	redistest.Eventually(t, "redis has all again", func() bool {
		return server.Client.HLen(t.Context(), "usher:{all}:bans").Val() == 3
	})
	stop()
	last, _ := startWithKeys(t, server, "", "b")
	redistest.Eventually(t, "a node without the old key bans Ann after a flush", last.refusesUser)
	wantLogged(t, last, "bans in redis unreadable", "bans=1")
}

// TestNode_StateDir_KeyRotated does the same with bans that the node's folder alone has.
func TestNode_StateDir_KeyRotated(t *testing.T) {
	t.Parallel()
	server, dir, sold := redistest.Start(t), t.TempDir(), &backends.Request{Query: "token=sold"}
	restart := func(keys ...string) (p *peer, stop func()) {
		must(t, server.Client.FlushAll(t.Context()).Err())
		return startWithKeys(t, server, dir, keys...)
	}
	old, stop := restart("a")
	_, err := old.Ban(t.Context(), session.Ban{Credentials: old.Credentials(sold), Until: banAnn(t, old, idOf(1)).Until})
	must(t, err)
	stop()
	_, stop = restart("b", "a")
	stop()
	fresh, stop := restart("b")
	if !fresh.refusesUser() || !fresh.isRefused(idOf(1)) || fresh.refusesCredentials(sold) {
		t.Errorf("without the old key the bans are %+v, want Ann's and its tombstone", fresh.Bans())
	}
	stop()
	again, _ := restart("b", "a")
	if !again.refusesCredentials(sold) {
		t.Error("the credentials are not banned with their key")
	}
}
