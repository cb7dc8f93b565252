package signedlink

import (
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"usher/backends"
)

// paths returns requested paths with nginx's $uri of each.
func paths() [][2]string {
	return [][2]string{
		{"/live/ch1", "/live/ch1"},
		{"/live/ch11", "/live/ch11"},
		{"/live/ch", "/live/ch"},
		{"/live/ch1/playlist.m3u8", "/live/ch1/playlist.m3u8"},
		{"/playlist.m3u8", "/playlist.m3u8"},
		{"/live//ch1", "/live/ch1"},
		{"//live/ch1", "/live/ch1"},
		{"/live/ch1//", "/live/ch1/"},
		{"/live/", "/live/"},
		{"/", "/"},
		{"/live/a%20b", "/live/a b"},
		{"/live/a+b", "/live/a+b"},
		{"/live/a%2Bb", "/live/a+b"},
		{"/live/%D0%9C", "/live/М"},
		{"/live/\xd0\x9c", "/live/М"},
		{"/live/%ff", "/live/\xff"},
		{"/live/a%3Fb", "/live/a?b"},
		{"/live/a%23b", "/live/a#b"},
		{"/live/a%25b", "/live/a%b"},
		{"/live/a%2541", "/live/a%41"},
		{"/live/a%2Fb", "/live/a/b"},
		{"/live/a%2F%2Fb", "/live/a/b"},
		{"/live/.well", "/live/.well"},
		{"/live/a..b", "/live/a..b"},
		{"/live/...", "/live/..."},
		{"/live/a;b=c", "/live/a;b=c"},
		{"/live/a&b", "/live/a&b"},
	}
}

// statusOf returns a backend's verdict as the status that nginx would send.
func statusOf(t *testing.T, b *Backend, path, query, address string) int {
	t.Helper()
	d := mustCheck(t, b, &backends.Request{Path: path, Query: query, Address: netip.MustParseAddr(address)})
	switch {
	case d.Verdict == backends.Allowed:
		return http.StatusNoContent
	case d.Reason == expired:
		return http.StatusGone
	default:
		return http.StatusForbidden
	}
}

func TestNginxURI_MatchesNginx(t *testing.T) {
	t.Parallel()
	server := startNginx(t)
	at := strconv.FormatInt(time.Now().Unix()+3600, 10)
	for _, c := range checkers() {
		if c.host == "ministra" {
			continue // has its own test below
		}
		b := backendOf(t, c)
		for _, p := range paths() {
			query := c.md5 + "=" + hashOf(c.input(p[1], at, "192.0.2.7")) + "&" + c.expires + "=" + at
			theirs, got := server.request(t, c.host, p[0], query, "192.0.2.7"), statusOf(t, b, p[0], query, "192.0.2.7")
			if theirs != http.StatusNoContent || got != theirs {
				t.Errorf("%s %s signed as %q: nginx says %d, we say %d, want 204", c.host, p[0], p[1], theirs, got)
			}
		}
	}
}

func TestCheck_TrimmedPaths(t *testing.T) {
	t.Parallel()
	server, b := startNginx(t), backendOf(t, checkers()[1])
	at := strconv.FormatInt(time.Now().Unix()+3600, 10)
	query := "st=" + hashOf("supersecret/live/ch1"+at) + "&e=" + at
	for path, want := range map[string]int{
		"/live/ch1/playlist.m3u8":               http.StatusNoContent,
		"/live/ch1":                             http.StatusNoContent,
		"/live/ch1/":                            http.StatusForbidden,
		"/live/ch1/index.m3u8":                  http.StatusForbidden,
		"/live/ch1/playlist.m3u8/playlist.m3u8": http.StatusForbidden,
	} {
		theirs, got := server.request(t, "ministra", path, query, "192.0.2.7"), statusOf(t, b, path, query, "192.0.2.7")
		if theirs != want || got != want {
			t.Errorf("%s: nginx says %d, we say %d, want %d", path, theirs, got, want)
		}
	}
}

func TestCheck_AddressesMatchNginx(t *testing.T) {
	t.Parallel()
	server := startNginx(t)
	at := strconv.FormatInt(time.Now().Unix()+3600, 10)
	for _, c := range checkers()[2:] {
		b := backendOf(t, c)
		for address, signed := range map[string]string{
			"192.0.2.7": "192.0.2.7", "10.0.0.10": "10.0.0.10",
			"2001:db8:0:0:0:0:0:1": "2001:db8::1", "2001:DB8::A:0:0:B": "2001:db8::a:0:0:b", "::1": "::1",
			"1:0:0:2:0:0:0:3": "1:0:0:2::3", "1:2:3:4:5:6:7:8": "1:2:3:4:5:6:7:8", "fe80::": "fe80::",
		} {
			query := c.md5 + "=" + hashOf(c.input("/live/ch1", at, signed)) + "&" + c.expires + "=" + at
			theirs, got := server.request(t, c.host, "/live/ch1", query, address), statusOf(t, b, "/live/ch1", query, address)
			if theirs != http.StatusNoContent || got != theirs {
				t.Errorf("%s from %s: nginx says %d, we say %d, want 204", c.host, address, theirs, got)
			}
		}
	}
}

// Thousands of links, most of them invalid in some way, get the same verdicts as from nginx.
func TestCheck_VerdictsMatchNginx(t *testing.T) {
	t.Parallel()
	const links = 5000
	server := startNginx(t)
	random := rand.New(rand.NewPCG(1, 2)) // the same links every run, but for the clock
	made := make([]*Backend, 0, len(checkers()))
	for _, c := range checkers() {
		made = append(made, backendOf(t, c))
	}
	seen := map[int]int{}
	for range links {
		i := random.IntN(len(made))
		link := randomLink(random, checkers()[i])
		theirs := server.request(t, checkers()[i].host, link.path, link.query, link.address)
		if got := statusOf(t, made[i], link.path, link.query, link.address); got != theirs {
			t.Errorf("%s %s?%s from %s: nginx says %d, we say %d",
				checkers()[i].host, link.path, link.query, link.address, theirs, got)
		}
		seen[theirs]++
	}
	for _, status := range []int{http.StatusNoContent, http.StatusForbidden, http.StatusGone} {
		if seen[status] < links/20 {
			t.Errorf("%d of %d links got %d; too few to tell", seen[status], links, status)
		}
	}
}

type link struct{ path, query, address string }

// randomLink returns a valid link in half of all cases, and one with a flaw in the others.
func randomLink(random *rand.Rand, c checker) link {
	all, addresses := paths(), []string{"192.0.2.7", "192.0.2.77", "2001:db8::1"}
	path, address := all[random.IntN(len(all))], addresses[random.IntN(len(addresses))]
	expires := strconv.FormatInt(time.Now().Unix()-1000+int64(random.IntN(2))*3000, 10)
	uri := path[1]
	if c.host == "ministra" {
		if stem, found := strings.CutSuffix(uri, "/playlist.m3u8"); found && stem != "" {
			uri = stem
		}
	}
	hash := hashOf(c.input(uri, expires, address))
	md5Name, expiresName := c.md5, c.expires
	before, after := "", ""
	switch random.IntN(20) {
	case 0:
		path = all[random.IntN(len(all))]
	case 1:
		address = addresses[random.IntN(len(addresses))]
	case 2: // lasts longer
		expires = strconv.FormatInt(time.Now().Unix()+9000, 10)
	case 3: // the last character has bits to spare
		hash = replaced(random, hash, hashLength-1, "0aZ-_+/%=.")
	case 4:
		expires = replaced(random, expires, len(expires), "0123456789ax-.%,")
	case 5:
		hash = hash[:random.IntN(len(hash))]
	case 6:
		expires = expires[:random.IntN(8)]
	case 7:
		hash += []string{"==", "=", "===", "A", "AAAA", ",1"}[random.IntN(6)]
		if strings.HasSuffix(hash, "=") && !strings.HasSuffix(hash, "==") || strings.HasSuffix(hash, "===") {
			hash = hash[:hashLength] // see TestCheck_StricterThanNginx
		}
	case 8:
		md5Name, expiresName = strings.ToUpper(md5Name), strings.ToUpper(expiresName)
	case 9:
		before = []string{
			"token=1&", "&&", md5Name + "&", md5Name + "x=1&", "x" + md5Name + "=1&", expiresName + "&",
		}[random.IntN(6)]
	case 10:
		before = []string{md5Name + "=&", expiresName + "=1&", md5Name + "=x&"}[random.IntN(3)]
	case 11:
		after = []string{"&" + md5Name + "=x", "&" + expiresName + "=1", "&a=b", ";a=b", "&"}[random.IntN(5)]
	case 12:
		md5Name = "%73t"
	}
	query := md5Name + "=" + hash + "&" + expiresName + "=" + expires
	if random.IntN(4) == 0 {
		query = expiresName + "=" + expires + "&" + md5Name + "=" + hash
	}
	return link{path[0], before + query + after, address}
}

// replaced replaces one character before end.
func replaced(random *rand.Rand, s string, end int, by string) string {
	at := random.IntN(end)
	return s[:at] + string(by[random.IntN(len(by))]) + s[at+1:]
}

// Links that nginx allows and this backend deliberately does not.
func TestCheck_StricterThanNginx(t *testing.T) {
	t.Parallel()
	server, c := startNginx(t), checkers()[0]
	b := backendOf(t, c)
	at := strconv.FormatInt(time.Now().Unix()+3600, 10)
	hash := hashOf(c.input("/live/ch1", at, ""))
	last := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	spare := hash[:21] + string(last[strings.IndexByte(last, hash[21])|1])
	for name, l := range map[string]link{
		"a digit moved from the path to the expiry": {"/live/ch", "st=" + hash + "&e=1" + at, ""},
		"a leading zero":               {"/live/ch1", "st=" + hashOf("supersecret/live/ch10"+at) + "&e=0" + at, ""},
		"bits to spare in the hash":    {"/live/ch1", "st=" + spare + "&e=" + at, ""},
		"half a padding":               {"/live/ch1", "st=" + hash + "=&e=" + at, ""},
		"what stands behind a padding": {"/live/ch1", "st=" + hash + "=x&e=" + at, ""},
		"a dot segment":                {"/live/x/../ch1", "st=" + hash + "&e=" + at, ""},
		"another dot segment":          {"/live/./ch1", "st=" + hash + "&e=" + at, ""},
	} {
		theirs := server.request(t, c.host, l.path, l.query, "192.0.2.7")
		got := statusOf(t, b, l.path, l.query, "192.0.2.7")
		if theirs != http.StatusNoContent || got != http.StatusForbidden {
			t.Errorf("%s: nginx says %d, we say %d, want 204 and 403", name, theirs, got)
		}
	}
}
