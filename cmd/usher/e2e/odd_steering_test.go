package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestNode_SteeringAndAssets_SameAsDirect follows content steering, prefetched segments and an asset list by a scripted player,
// because ffmpeg does not know them. Origin and edge are asked for the same as by a player without a gateway: at first, by a
// node that never saw the playlists, and by one that has restarted since.
func TestNode_SteeringAndAssets_SameAsDirect(t *testing.T) {
	t.Parallel()
	c := oddCase{folder: "steered", put: putSteered}
	o := startOddOrigin(t, &c, []string{"one", "two", "three", "four"})
	s := setup{
		origin: "http://127.0.0.1:9", middleware: startMiddleware(t).URL(),
		origins: fmt.Sprintf("  steered: { url: %q, redirect_hosts: [ %q ], allowed_networks: [ 127.0.0.0/8 ] }\n",
			o.url, host(o.edge)),
		routes: "  - { path: \"/steered/{channel}/*\", origin: steered, backend: portal }\n",
	}
	first, second := startNode(t, s), startNode(t, s)
	play := func(channel, entry string, then func(*steeredPlayer)) []string {
		t.Helper()
		c.put(o, channel)
		p := &steeredPlayer{viewer: &viewer{client: newClient(t, "")}, begin: then}
		p.play(t, entry)
		return o.askedOf(channel)
	}
	want := play("direct", o.url+c.entry("direct"), nil)
	if len(want) < 12 {
		t.Fatalf("a direct player asked for %d files: %q", len(want), want)
	}
	got := map[string][]string{}
	got["at first"] = play("first", first.public+c.entry("first")+"?token=good", nil)
	got["by a node that never saw the playlists"] = play("second", first.public+c.entry("second")+"?token=good", func(p *steeredPlayer) {
		p.nodes = strings.NewReplacer(first.public, second.public)
	})
	got["after a restart"] = play("third", first.public+c.entry("third")+"?token=good", func(*steeredPlayer) {
		first.signal(syscall.SIGKILL)
		first.wait(t)
		first.start(t)
	})
	for name, asked := range got {
		if !slices.Equal(asked, want) {
			t.Errorf("%s: the origin was asked for\n%s\nwant\n%s", name, strings.Join(asked, "\n"), strings.Join(want, "\n"))
		}
	}
}

// putSteered puts a channel with two pathways on the origin. The second one is a copy of the first at the edge.
func putSteered(o *oddOrigin, channel string) {
	folder := "/steered/" + channel + "/"
	files := map[string]string{
		o.url + folder + "index.m3u8": "#EXTM3U\n#EXT-X-CONTENT-STEERING:SERVER-URI=\"steer?s=it's\",PATHWAY-ID=\"A\"\n" +
			"#EXT-X-STREAM-INF:BANDWIDTH=1,PATHWAY-ID=\"A\"\nhd/v?q=1\n",
		o.url + folder + "steer?s=it's&_HLS_pathway=A&_HLS_throughput=5000000": fmt.Sprintf(
			`{"VERSION":1,"TTL":10,"RELOAD-URI":"../%s/again?n=2","PATHWAY-PRIORITY":["B","A"],"PATHWAY-CLONES":[`+
				`{"BASE-ID":"A","ID":"B","URI-REPLACEMENT":{"HOST":%q,"PARAMS":{"p":"1 2","q":"9"}}}]}`, channel, hostname(o.edge)),
		o.url + folder + "again?n=2&_HLS_pathway=B&_HLS_throughput=5000000": `{"VERSION":1,"TTL":10,"PATHWAY-PRIORITY":["A"]}`,
		o.url + folder + "list?id=1":                                        `{"ASSETS":[{"URI":"` + o.url + folder + `ads/1?x=y","DURATION":1}]}`,
		o.url + folder + "ads/1?x=y":                                        media(0, true, "ad.ts"),
	}
	for server, query := range map[string]string{o.url: "?q=1", o.edge: "?q=9&p=1+2"} {
		files[server+folder+"hd/v"+query] = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n1.ts?t=1\n#EXTINF:1,\n../2.ts\n" +
			"#EXT-X-DATERANGE:ID=\"a\",START-DATE=\"2026-11-14T00:00:00Z\",CLASS=\"com.apple.hls.interstitial\",X-ASSET-LIST=\"" + o.url + folder + "list?id=1\"\n" +
			"#EXT-X-PREFETCH:3.ts\n"
		for i, name := range []string{"hd/1.ts?t=1", "2.ts", "hd/3.ts"} {
			o.put(server+folder+name, &oddFile{versions: []string{o.media[i]}, isMedia: true})
		}
	}
	for address, body := range files {
		o.put(address, &oddFile{versions: []string{body}})
	}
	o.put(o.url+folder+"ads/ad.ts", &oddFile{versions: []string{o.media[3]}, isMedia: true})
}

// steeredPlayer plays a channel on each pathway that it is told of.
type steeredPlayer struct {
	*viewer
	// begin is called once the playlists of the first pathway are known, unless it is nil.
	begin func(*steeredPlayer)
	// nodes, if not nil, moves requests to another node.
	nodes *strings.Replacer
}

func (p *steeredPlayer) fetch(t *testing.T, address string) string {
	t.Helper()
	if p.nodes != nil {
		address = p.nodes.Replace(address)
	}
	body, err := p.get(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// play plays the first pathway, and the one that the steering server tells of, then reloads from that server.
func (p *steeredPlayer) play(t *testing.T, entry string) {
	t.Helper()
	list := p.fetch(t, entry)
	variant := joinURL(entry, lines(list)[0])
	p.playVariant(t, variant)
	if p.begin != nil {
		p.begin(p)
	}
	server := joinURL(entry, attributeOf(t, list, "SERVER-URI"))
	var steering struct {
		Reload string `json:"RELOAD-URI"`
		Clones []struct {
			Replacement struct {
				Host   string            `json:"HOST"`
				Params map[string]string `json:"PARAMS"`
			} `json:"URI-REPLACEMENT"`
		} `json:"PATHWAY-CLONES"`
	}
	server = withQuery(t, server, map[string]string{"_HLS_pathway": "A", "_HLS_throughput": "5000000"}, "")
	if err := json.Unmarshal([]byte(p.fetch(t, server)), &steering); err != nil || len(steering.Clones) != 1 {
		t.Fatalf("steering manifest: %+v, %v", steering, err)
	}
	clone := steering.Clones[0].Replacement
	p.playVariant(t, withQuery(t, variant, clone.Params, clone.Host))
	p.fetch(t, withQuery(t, joinURL(server, steering.Reload), map[string]string{"_HLS_pathway": "B", "_HLS_throughput": "5000000"}, ""))
}

// playVariant fetches a media playlist, what it lists and prefetches, and the first asset of its interstitial.
func (p *steeredPlayer) playVariant(t *testing.T, address string) {
	t.Helper()
	list := p.fetch(t, address)
	for _, uri := range lines(list) {
		p.fetch(t, joinURL(address, uri))
	}
	_, prefetched, _ := strings.Cut(list, "#EXT-X-PREFETCH:")
	p.fetch(t, joinURL(address, strings.TrimSpace(prefetched)))
	assets := attributeOf(t, list, "X-ASSET-LIST") // the origin lists it and the asset by absolute URIs, which players resolve against nothing
	var found struct {
		Assets []struct {
			URI string `json:"URI"`
		} `json:"ASSETS"`
	}
	if err := json.Unmarshal([]byte(p.fetch(t, assets)), &found); err != nil || len(found.Assets) != 1 {
		t.Fatalf("asset list: %+v, %v", found, err)
	}
	asset := found.Assets[0].URI
	p.fetch(t, joinURL(asset, lines(p.fetch(t, asset))[0]))
}

// lines returns the URIs of a playlist that stand on lines.
func lines(list string) []string {
	var all []string
	for line := range strings.Lines(list) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			all = append(all, line)
		}
	}
	return all
}

// attributeOf returns the first attribute of that name.
func attributeOf(t *testing.T, list, name string) string {
	t.Helper()
	found := regexp.MustCompile(name + `="([^"]*)"`).FindStringSubmatch(list)
	if found == nil {
		t.Fatalf("no %s in %s", name, list)
	}
	return found[1]
}

// withQuery sets parameters of a URL, and its host unless that is empty, as players clone a pathway.
func withQuery(t *testing.T, address string, parameters map[string]string, host string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	for name, value := range parameters {
		query.Set(name, value)
	}
	u.RawQuery = query.Encode()
	if host != "" {
		u.Host = host + ":" + u.Port()
	}
	return u.String()
}

// hostname returns the host of an address without its port.
func hostname(address string) string {
	return strings.TrimSuffix(host(address), ":"+port(host(address)))
}
