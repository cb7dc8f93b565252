package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls"
	"usher/gateway/hls/hlscorpus"
	"usher/gateway/origin"
	"usher/gateway/upstream"
)

// corpusHosts are the hosts of the corpus that a player reaches through the gateway, and the server that is asked for each.
var corpusHosts = map[string]string{
	"http://origin.example":      "http://origin.example",
	"http://public.example":      "http://origin.example",
	"https://public.example":     "http://origin.example",
	"https://origin.example":     "https://origin.example",
	"http://origin.example:8081": "http://origin.example:8081",
	"http://[2001:db8::5]":       "http://[2001:db8::5]",
	"http://[2001:db8::5]:8080":  "http://[2001:db8::5]:8080",
	"http://192.0.2.7:8000":      "http://192.0.2.7:8000",
}

// corpusOrigin is every server of the corpus. What it answers names the URL that it was asked for.
type corpusOrigin struct {
	mu    sync.Mutex
	files map[string]string         // by URL
	roles map[string]hlscorpus.Role // by URL
}

// set replaces what the servers have.
func (o *corpusOrigin) set(files map[string]string, roles map[string]hlscorpus.Role) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.files, o.roles = files, roles
}

func (o *corpusOrigin) answer(address string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if body, isFile := o.files[address]; isFile {
		return body
	}
	switch o.roles[address] {
	case hlscorpus.List:
		return "#EXTM3U\n# " + address + "\n"
	case hlscorpus.Object:
		return fmt.Sprintf(`{"AT":%q}`, address)
	default:
		return "bytes of " + address
	}
}

// transport returns a transport that reaches the origin by any name. TLS is left out.
func (o *corpusOrigin) transport(t *testing.T) http.RoundTripper {
	t.Helper()
	dial := func(scheme string) func(context.Context, string, string) (net.Conn, error) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			_, _ = io.WriteString(w, o.answer(scheme+"://"+r.Host+r.RequestURI))
		}))
		t.Cleanup(server.Close)
		address := server.Listener.Addr().String()
		return func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	}
	tr := &http.Transport{DialContext: dial("http"), DialTLSContext: dial("https"), DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// corpusNode starts a node that serves the corpus, and returns its host.
func corpusNode(t *testing.T, rt http.RoundTripper, ticketIn hls.TicketTransport) string {
	t.Helper()
	c := testConfig("http://" + hlscorpus.OwnHost)
	c.CORS.AllowedOrigins = []string{"https://tv.example.com"}
	c.Routes[0].TicketIn = ticketIn
	c.Origins["o"].Upstream = upstream.Config{
		PublicNames:   []string{hlscorpus.PublicHost},
		RedirectHosts: []upstream.RedirectHost{{Host: "origin.example:*"}, {Host: "[2001:db8::5]:*"}},
	}
	c.Origins["second"] = &OriginConfig{URL: "http://192.0.2.7:8000"}
	g, _ := newBareGateway(t, c, origin.WithTransport(rt))
	front := httptest.NewServer(&testHandler{g})
	t.Cleanup(front.Close)
	return front.Listener.Addr().String()
}

// corpusForm is how a playlist of the corpus is fetched.
type corpusForm struct {
	// list is the playlist that lists it; empty: it is an entry.
	list string
	// query is that of its own URI, and imported are the variables of the list.
	query    string
	imported map[string]string
}

// reader returns a reader of the playlist that was fetched with that query.
func (f corpusForm) reader(query string) hlscorpus.Reader {
	values, _ := url.ParseQuery(query) // the forms have valid ones
	return hlscorpus.Reader{Query: values, Imported: f.imported}
}

func corpusForms(isDocument bool) map[string]corpusForm {
	if isDocument {
		return map[string]corpusForm{
			"a document": {list: "#EXTM3U\n#EXT-X-CONTENT-STEERING:SERVER-URI=\"%s\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n"},
		}
	}
	return map[string]corpusForm{
		"an entry": {},
		"a child":  {list: "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n%s\n"},
		"a child with variables": {
			list:  "#EXTM3U\n#EXT-X-DEFINE:NAME=\"token\",VALUE=\"imported\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n%s\n",
			query: "q=a%2Fb&x", imported: map[string]string{"token": "imported"},
		},
	}
}

// TestServe_Corpus_SameAsDirect follows each URI of the corpus through the gateway, as a player does that resolves it by
// net/url. The gateway asks for what the player would have asked for directly, also on a node that never saw the playlist.
func TestServe_Corpus_SameAsDirect(t *testing.T) {
	t.Parallel()
	for _, ticketIn := range allTransports() {
		t.Run(ticketIn.String(), func(t *testing.T) {
			t.Parallel()
			o := &corpusOrigin{}
			rt := o.transport(t)
			c := corpusCheck{
				corpusOrigin: o, player: newPlayer(t, ""),
				nodes: [2]string{corpusNode(t, rt, ticketIn), corpusNode(t, rt, ticketIn)},
			}
			for i, p := range hlscorpus.Playlists() {
				for name, form := range corpusForms(p.IsDocument) {
					c.where = fmt.Sprintf("%s, as %s", p.Name, name)
					c.follow(t, i, p, form)
				}
			}
			if c.served < 3000 {
				t.Errorf("%d URIs were served, want thousands", c.served)
			}
		})
	}
}

// corpusCheck follows playlists in one mode.
type corpusCheck struct {
	*corpusOrigin
	*player
	nodes  [2]string // hosts
	where  string
	served int
}

// follow checks one playlist in one form. The number makes its name unique.
func (c *corpusCheck) follow(t *testing.T, number int, p hlscorpus.Playlist, form corpusForm) {
	t.Helper()
	name := fmt.Sprintf("list-%d.m3u8", number)
	if p.IsDocument {
		name = fmt.Sprintf("steer-%d", number)
	}
	if form.query != "" {
		name += "?" + form.query
	}
	direct := resolve(t, resolve(t, &url.URL{}, hlscorpus.Address), name)
	from := form.reader(direct.RawQuery).URIs(p.Body)
	wants, roles := make([]string, len(from)), map[string]hlscorpus.Role{}
	for i, u := range from {
		wants[i] = corpusWant(direct, u)
		roles[wants[i]] = u.Role
	}
	entry := fmt.Sprintf("entry-%d-%d.m3u8", number, len(form.query))
	list := strings.Replace(form.list, "%s", name, 1)
	c.set(map[string]string{direct.String(): p.Body, resolve(t, direct, entry).String(): list}, roles)

	at := c.at(t, form, name, entry)
	got := c.get(t, at)
	if again := c.get(t, at); again != got {
		t.Errorf("%s: fetched again, the playlist is\n%s\nnot\n%s", c.where, again, got)
	}
	if diff := cmp.Diff(hlscorpus.Outside(p.Body), hlscorpus.Outside(got)); diff != "" {
		t.Errorf("%s: outside of URIs (-origin +viewer):\n%s", c.where, diff)
	}
	to := form.reader(at.RawQuery).URIs(got)
	if len(from) != len(to) {
		t.Fatalf("%s: %d URIs became %d", c.where, len(from), len(to))
	}
	for i := range from {
		c.check(t, at, from[i], to[i], wants[i])
	}
	if form.list != "" { // only now does the other node see the playlist
		if other := strings.ReplaceAll(c.get(t, c.elsewhere(at)), c.nodes[1], c.nodes[0]); other != got {
			t.Errorf("%s: another node wrote\n%s\nnot\n%s", c.where, other, got)
		}
	}
}

// at returns the viewer's URL of a playlist.
func (c *corpusCheck) at(t *testing.T, form corpusForm, name, entry string) *url.URL {
	t.Helper()
	root := &url.URL{Scheme: "http", Host: c.nodes[0], Path: hlscorpus.Folder}
	if form.list == "" {
		return resolve(t, root, name+"?viewer=1")
	}
	from := resolve(t, root, entry+"?viewer=1")
	return resolve(t, from, hlscorpus.URIs(c.get(t, from))[0].Text)
}

// elsewhere returns the same URL on the second node.
func (c *corpusCheck) elsewhere(at *url.URL) *url.URL {
	moved := *at
	moved.Host = c.nodes[1]
	return &moved
}

// unplayable is what corpusWant returns for a URI with which a player fails: no URL, or with a variable of unknown value.
const unplayable = "unplayable"

// corpusWant returns the URL that is fetched for a URI, resolved as players do. It is empty for what stays as it is. An empty
// query is left out, and the query is spelled as browsers send it.
func corpusWant(base *url.URL, u hlscorpus.URI) string {
	text, _, _ := strings.Cut(u.Text, "#")
	if text == "" || strings.HasPrefix(text, `\`) || strings.HasPrefix(text, `/\`) {
		return ""
	}
	at, err := base.Parse(text)
	if err != nil || strings.Contains(text, "{$") {
		return unplayable
	}
	host := strings.TrimSuffix(strings.ToLower(at.Host), ":")
	if at.Scheme == "http" {
		host = strings.TrimSuffix(host, ":80")
	} else {
		host = strings.TrimSuffix(host, ":443")
	}
	server := corpusHosts[at.Scheme+"://"+host]
	if server == "" {
		return ""
	}
	at.ForceQuery = false
	return server + browserSpelling(at.RequestURI())
}

// browserSpelling escapes what net/url leaves in queries and browsers do not.
func browserSpelling(text string) string {
	var out strings.Builder
	for _, c := range []byte(text) {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '<' || c == '>' {
			_, _ = fmt.Fprintf(&out, "%%%02X", c)
		} else {
			out.WriteByte(c)
		}
	}
	return out.String()
}

// check checks where a URI leads. at is the viewer's URL of the playlist. What a child lists is fetched from the second node.
func (c *corpusCheck) check(t *testing.T, at *url.URL, from, to hlscorpus.URI, want string) {
	t.Helper()
	if want == "" {
		if to.Written != from.Written {
			t.Errorf("%s: %q, which leads elsewhere, became %q", c.where, from.Written, to.Written)
		}
		return
	}
	text, fragment, _ := strings.Cut(to.Text, "#")
	if _, kept, _ := strings.Cut(from.Text, "#"); kept != fragment {
		t.Errorf("%s: %q became %q: the fragment changed", c.where, from.Written, to.Written)
	}
	u, err := at.Parse(text)
	switch {
	case want == unplayable && (to.Written == from.Written || err == nil && u.Host == at.Host):
		return
	case err != nil || u.Scheme != "http" || u.Host != at.Host:
		t.Errorf("%s: %q became %q, which leads past the gateway: %v", c.where, from.Written, to.Written, err)
		return
	}
	if size := len(u.RequestURI()); size > 2000 {
		t.Errorf("%s: %q became a URI of %d bytes", c.where, from.Written, size)
	}
	wantStatus, wantBody := http.StatusOK, c.answer(want)
	if !isAnyPath(want) {
		wantStatus, wantBody = http.StatusNotFound, "the origin cannot be asked for this path\n"
	}
	if isChild := at.Query().Get("viewer") == ""; isChild {
		u = c.elsewhere(u)
	}
	if status, body := c.fetch(t, u); status != wantStatus || body != wantBody {
		t.Errorf("%s: %q became %q: got %d %.200q, want %d %q", c.where, from.Written, to.Written, status, body, wantStatus, wantBody)
	}
	c.served++
}

// isAnyPath reports whether the path of a URL has no dot segment, backslash or null, plain or escaped. An origin could read
// these as another folder, so it is never asked for them.
func isAnyPath(address string) bool {
	u, err := url.Parse(address)
	hasDots := func() bool { return strings.Contains(u.Path+"/", "/../") || strings.Contains(u.Path+"/", "/./") }
	return err == nil && !strings.ContainsAny(u.Path, "\\\x00") && !hasDots()
}

// TestServe_IPv6Origin_OwnPort has an origin at an IPv6 address, with and without the scheme's own port, and playlists that
// spell it otherwise. All that it lists is plain.
func TestServe_IPv6Origin_OwnPort(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"http://[2001:db8::5]", "http://[2001:db8::5]:80", "http://[2001:0DB8:0::5]:80"} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			o := &corpusOrigin{}
			c := testConfig(address)
			g, _ := newBareGateway(t, c, origin.WithTransport(o.transport(t)))
			front := httptest.NewServer(&testHandler{g})
			t.Cleanup(front.Close)
			p := newPlayer(t, "")
			host := strings.TrimPrefix(address, "http://")
			var list strings.Builder
			_, _ = list.WriteString("#EXTM3U\n#EXT-X-TARGETDURATION:6\n")
			spellings := []string{"http://[2001:db8::5]", "http://[2001:DB8::5]:80", "//[2001:db8:0:0::5]", "http://[2001:db8::5]:"}
			for i, server := range spellings {
				_, _ = fmt.Fprintf(&list, "#EXTINF:6,\n%s/play/a001/%d.ts\n", server, i)
			}
			o.set(map[string]string{"http://" + host + "/play/a001/index.m3u8": list.String()}, nil)
			entry := resolve(t, &url.URL{}, front.URL+"/play/a001/index.m3u8?token=1")
			for i, uri := range uris(p.get(t, entry)) {
				name := fmt.Sprintf("/play/a001/%d.ts", i)
				if _, plain, _ := ticketInPath(uri); plain != name {
					t.Errorf("segment %d became %q", i, uri)
				}
				if got, want := p.get(t, resolve(t, entry, uri)), "bytes of http://"+host+name; got != want {
					t.Errorf("segment %d: got %q, want %q", i, got, want)
				}
			}
		})
	}
}

// TestServe_Steering_ParametersOfAPathway has a pathway at a host of the base's port. Its parameters replace a listed one, reach
// that host and are nobody's credentials.
func TestServe_Steering_ParametersOfAPathway(t *testing.T) {
	t.Parallel()
	for _, variant := range []string{"low.m3u8", "low.m3u8?p=0&x=y"} {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			o := &corpusOrigin{}
			c := testConfig("http://origin.example:8081")
			c.Origins["o"].Upstream.RedirectHosts = []upstream.RedirectHost{{Host: "edge.example:8081"}}
			g, table := newBareGateway(t, c, origin.WithTransport(o.transport(t)))
			front := httptest.NewServer(&testHandler{g})
			t.Cleanup(front.Close)
			edgeVariant := "http://edge.example:8081/play/a001/low.m3u8?p=1+2"
			if strings.Contains(variant, "x=y") {
				edgeVariant = "http://edge.example:8081/play/a001/low.m3u8?x=y&p=1+2"
			}
			o.set(map[string]string{
				"http://origin.example:8081/play/a001/index.m3u8": "#EXTM3U\n#EXT-X-CONTENT-STEERING:SERVER-URI=\"steer\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n" + variant + "\n",
				"http://origin.example:8081/play/a001/steer":      `{"PATHWAY-CLONES":[{"URI-REPLACEMENT":{"HOST":"Edge.example","PARAMS":{"p":"1 2"}}}]}`,
				edgeVariant: mediaPlaylist,
			}, nil)
			p := newPlayer(t, "")
			entry := resolve(t, &url.URL{}, front.URL+"/play/a001/index.m3u8?token=1")
			master := p.get(t, entry)
			steer := hlscorpus.URIs(master)[0].Text
			_, rest, _ := strings.Cut(p.get(t, resolve(t, entry, steer)), hls.HostParameter+`":"`)
			value, _, _ := strings.Cut(rest, `"`)
			clone := resolve(t, entry, uris(master)[0])
			query := clone.Query()
			query.Set("p", "1 2")
			query.Set(hls.HostParameter, value)
			clone.RawQuery = query.Encode()
			media := resolve(t, clone, uris(p.get(t, clone))[0])
			if got, want := p.get(t, media), "bytes of http://edge.example:8081/play/a001/seg-17.ts"; got != want {
				t.Errorf("the segment: got %q, want %q", got, want)
			}
			if opened := table.openRequests(); len(opened) != 1 {
				t.Errorf("opened %+v, want the entry's session alone", opened)
			}
		})
	}
}

// TestServe_Steering_PlaylistsBesideAHost has a clone name a host, and playlists of some variants that are elsewhere. A player adds the clone's
// parameters to all of them.
func TestServe_Steering_PlaylistsBesideAHost(t *testing.T) {
	t.Parallel()
	for listed, want := range map[string]string{
		"http://third.example:8081/play/a001/own.m3u8": "third.example:8081",
		"own.m3u8": "origin.example:8081",
	} {
		o := &corpusOrigin{}
		c := testConfig("http://origin.example:8081")
		c.Origins["o"].Upstream.RedirectHosts = []upstream.RedirectHost{{Host: "edge.example:8081"}, {Host: "third.example:8081"}}
		g, _ := newBareGateway(t, c, origin.WithTransport(o.transport(t)))
		front := httptest.NewServer(&testHandler{g})
		t.Cleanup(front.Close)
		o.set(map[string]string{
			"http://origin.example:8081/play/a001/index.m3u8": "#EXTM3U\n#EXT-X-CONTENT-STEERING:SERVER-URI=\"steer\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n",
			"http://origin.example:8081/play/a001/steer": `{"PATHWAY-CLONES":[{"URI-REPLACEMENT":{"PER-VARIANT-URIS":{"v":"` + listed + `"},` +
				`"HOST":"edge.example","PARAMS":{"p":"1"}}}]}`,
			"http://" + want + "/play/a001/own.m3u8?p=1": mediaPlaylist,
		}, nil)
		p := newPlayer(t, "")
		entry := resolve(t, &url.URL{}, front.URL+"/play/a001/index.m3u8?token=1")
		steer := resolve(t, entry, hlscorpus.URIs(p.get(t, entry))[0].Text)
		manifest := p.get(t, steer)
		_, rest, _ := strings.Cut(manifest, hls.HostParameter+`":"`)
		host, _, _ := strings.Cut(rest, `"`)
		playlist := resolve(t, steer, hlscorpus.URIs(manifest)[0].Text)
		query := playlist.Query()
		query.Set("p", "1")
		query.Set(hls.HostParameter, host)
		playlist.RawQuery = query.Encode()
		media := resolve(t, playlist, uris(p.get(t, playlist))[0])
		if got, want := p.get(t, media), "bytes of http://"+want+"/play/a001/seg-17.ts"; got != want {
			t.Errorf("%s: the segment: got %q, want %q", listed, got, want)
		}
	}
}
