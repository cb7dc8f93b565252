package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls"
	"usher/gateway/hls/hlscorpus"
)

// corpusModes returns the ways in which a viewer requests a playlist: each transport, and below a ticket.
func corpusModes() map[string]struct {
	ticketIn    hls.TicketTransport
	underTicket bool
} {
	return map[string]struct {
		ticketIn    hls.TicketTransport
		underTicket bool
	}{
		"path": {hls.TicketInPath, false}, "path, below a ticket": {hls.TicketInPath, true}, "query": {hls.TicketInQuery, false},
		"cookie": {hls.TicketInCookie, false}, "none": {hls.TicketInNone, false}, "none, below a ticket": {hls.TicketInNone, true},
	}
}

// TestServe_Corpus_SameAsDirect requests every playlist of the corpus, and everything that it lists. Bytes outside of URIs are
// the origin's, every URI of the origin leads through the gateway to the same place, and all others are unchanged.
func TestServe_Corpus_SameAsDirect(t *testing.T) {
	t.Parallel()
	for name, m := range corpusModes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, func(c *Config) {
				c.CORS.AllowedOrigins, c.Routes[0].TicketIn = []string{"https://tv.example.com"}, m.ticketIn
				c.Origins["o"].Upstream.PublicNames = []string{hlscorpus.OwnHost + ":*", hlscorpus.PublicHost + ":*"}
			})
			v := &corpusViewer{g: g, p: newPlayer(t, "")}
			if m.underTicket {
				v.ticket = "/~" + g.ticket(t, "a001")
			}
			g.upstream.answer = v.answer
			for i, p := range hlscorpus.Playlists() {
				v.play(t, i, p)
			}
			if v.fetched < 1000 {
				t.Errorf("%d URIs were fetched", v.fetched)
			}
		})
	}
}

// corpusViewer plays the corpus through a gateway.
type corpusViewer struct {
	g       *testGateway
	p       *player
	ticket  string   // before the path, for requests below it
	answers sync.Map // of the origin, by path and query
	fetched int
}

func (v *corpusViewer) answer(w http.ResponseWriter, r *http.Request) {
	if body, found := v.answers.Load(canonical(r.RequestURI)); found {
		_, _ = io.WriteString(w, body.(string))
		return
	}
	http.Error(w, "the origin does not have "+r.RequestURI, http.StatusNotFound)
}

// play requests a playlist, and then all that it lists.
func (v *corpusViewer) play(t *testing.T, number int, p hlscorpus.Playlist) {
	t.Helper()
	v.answers.Clear()
	ref := fmt.Sprintf("%sp%d.m3u8", hlscorpus.Folder, number)
	at := v.g.url + v.ticket + ref + "?token=1"
	v.answers.Store(ref, p.Body)
	if p.IsDocument {
		document := fmt.Sprintf("d%d.json", number)
		v.answers.Store(ref, "#EXTM3U\n#EXT-X-DATERANGE:ID=\"a\",X-ASSET-LIST=\""+document+"\"\n")
		v.answers.Store(hlscorpus.Folder+document, p.Body)
		list, ok := v.get(t, p.Name, at)
		if !ok {
			return
		}
		at, ref = absolute(at, hlscorpus.URIs(list)[0].Text), hlscorpus.Folder+document
	}
	got, ok := v.get(t, p.Name, at)
	if !ok {
		return
	}
	if diff := cmp.Diff(hlscorpus.Outside(p.Body), hlscorpus.Outside(got)); diff != "" {
		t.Errorf("%s: outside of URIs (-origin +viewer):\n%s", p.Name, diff)
	}
	from, to := hlscorpus.URIs(p.Body), hlscorpus.URIs(got)
	if len(from) != len(to) {
		t.Errorf("%s: %d URIs became %d", p.Name, len(from), len(to))
		return
	}
	for i := range from {
		v.follow(t, p.Name, v.g.upstream.url+ref, at, from[i], to[i])
	}
}

// follow checks one URI of a playlist. origin and viewer are the addresses of the playlist.
func (v *corpusViewer) follow(t *testing.T, name, origin, viewer string, from, to hlscorpus.URI) {
	t.Helper()
	what := fmt.Sprintf("%s: %q became %q", name, from.Written, to.Written)
	text, _, _ := strings.Cut(from.Text, "#")
	source := hlscorpus.Resolve(origin, text)
	if !v.isOurs(source) || isOpaque(text) {
		if from.Written != to.Written {
			t.Errorf("%s, though it is not the origin's", what)
		}
		return
	}
	if strings.Contains(text, "{$") || !isRequestable(text) {
		return
	}
	at := absolute(viewer, to.Text)
	if !strings.HasPrefix(at, v.g.url+"/") {
		t.Errorf("%s, which leads past the gateway", what)
		return
	}
	ref := canonical(strings.TrimSuffix(source.Ref, "?")) // an empty query is none
	want := ref
	switch from.Role {
	case hlscorpus.List:
		want = "#EXTM3U\n# " + ref
	case hlscorpus.Object:
		want = fmt.Sprintf("{\"at\":%q}", ref)
	}
	saved, hadAnswer := v.answers.Swap(ref, want)
	if got, ok := v.get(t, what, at); ok && got != want {
		t.Errorf("%s, which has %q, want %q", what, got, want)
	}
	if hadAnswer {
		v.answers.Store(ref, saved)
	}
	v.fetched++
}

// isOurs reports whether a URI leads to the origin, by its address or a public name.
func (v *corpusViewer) isOurs(at hlscorpus.Location) bool {
	host, _, _ := strings.Cut(at.Host, ":")
	return (at.Scheme == "http" || at.Scheme == "https") &&
		(host == hlscorpus.OwnHost || host == hlscorpus.PublicHost || "http://"+at.Host == v.g.upstream.url)
}

// isOpaque reports whether a URI names the playlist itself, or leads where only the player knows.
func isOpaque(text string) bool {
	return text == "" || strings.HasPrefix(text, "{$") || strings.HasPrefix(text, `\`) || strings.HasPrefix(text, `/\`)
}

// isRequestable reports whether a URI is sent to the origin: its escapes are whole, and it has no dot segments in disguise.
func isRequestable(text string) bool {
	path, _, _ := strings.Cut(text, "?")
	plain, err := url.PathUnescape(path)
	return err == nil && !strings.ContainsAny(plain, "\\\x00") &&
		(path == plain || !slices.Contains(strings.Split(plain, "/"), ".."))
}

// get requests a URI as browsers write it.
func (v *corpusViewer) get(t *testing.T, what, at string) (body string, ok bool) {
	t.Helper()
	host := strings.TrimPrefix(v.g.url, "http://")
	ref := canonical(strings.TrimPrefix(at, v.g.url))
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, v.g.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	path, query, _ := strings.Cut(ref, "?")
	r.URL = &url.URL{Scheme: "http", Host: host, Opaque: path, RawQuery: query}
	asWritten := &url.URL{Scheme: "http", Host: host, Path: path}
	for _, c := range v.p.jar.Cookies(asWritten) {
		r.AddCookie(c)
	}
	resp, err := v.p.client.Do(r)
	if err != nil {
		t.Errorf("%s: GET %s: %v", what, ref, err)
		return "", false
	}
	defer resp.Body.Close()
	v.p.jar.SetCookies(asWritten, resp.Cookies())
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s: GET %s: %d %q, %v", what, ref, resp.StatusCode, text, err)
		return "", false
	}
	return string(text), true
}

// absolute resolves a viewer's URI.
func absolute(base, text string) string {
	text, _, _ = strings.Cut(text, "#")
	to := hlscorpus.Resolve(base, text)
	return to.Scheme + "://" + to.Host + to.Ref
}

// canonical escapes what no request line may have, as browsers do, and leaves the escapes that are there.
func canonical(ref string) string {
	const usual = "-._~:/?#[]@!$&'()*+,;=%"
	var b strings.Builder
	for _, c := range []byte(ref) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || slices.Contains([]byte(usual), c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
