package hls_test

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls"
	"usher/gateway/hls/hlscorpus"
)

// parseAny parses a playlist or a document and returns the copy of a viewer with the ticket T.
func parseAny(t *testing.T, p hlscorpus.Playlist, o hls.Options) string {
	t.Helper()
	parse := hls.Parse
	if p.IsDocument {
		parse = hls.ParseDocument
	}
	template, err := parse([]byte(p.Body), o)
	if err != nil {
		t.Fatalf("%s: %v", p.Name, err)
	}
	return string(template.Append(nil, []byte("T"), nil))
}

// corpusOptions returns the options of a viewer who requested a playlist of the corpus under its origin's path.
func corpusOptions(m mode) hls.Options {
	o := m.options()
	o.Origin, o.Path = hlscorpus.Address, hlscorpus.Folder+"index.m3u8"
	o.Query, o.Variables = "q=a%2Fb&x", "token=imported"
	return o
}

// corpusReader knows the values of corpusOptions.
func corpusReader() hlscorpus.Reader {
	return hlscorpus.Reader{Query: url.Values{"q": {"a/b"}, "x": {""}}, Imported: map[string]string{"token": "imported"}}
}

// said is what a playlist says of a URI, without its version and variables.
type said struct {
	Role hlscorpus.Role
	At   hlscorpus.Location
}

// expectation resolves a URI of the corpus. It is false for one that is not to be located.
func expectation(u hlscorpus.URI) (said, bool) {
	text, _, _ := strings.Cut(u.Text, "#")
	at := hlscorpus.Resolve(hlscorpus.Address, text)
	isOpaque := text == "" || strings.HasPrefix(text, "{$") || strings.HasPrefix(text, `\`) || strings.HasPrefix(text, `/\`) ||
		at.Host == "" || strings.Contains(at.Host, "{$") || (at.Scheme != "http" && at.Scheme != "https")
	return said{u.Role, at}, !isOpaque
}

// roleOf returns the name of a role.
func roleOf(r hls.Role) hlscorpus.Role {
	return map[hls.Role]hlscorpus.Role{
		hls.Media: hlscorpus.Media, hls.Playlist: hlscorpus.List, hls.Key: hlscorpus.Key, hls.Document: hlscorpus.Object,
	}[r]
}

func TestParse_Playlists_ListedIsWhatTheySay(t *testing.T) {
	t.Parallel()
	for _, p := range hlscorpus.Playlists() {
		checkListed(t, p)
	}
}

// checkListed compares what a playlist lists with what the reader of the corpus says.
func checkListed(t *testing.T, p hlscorpus.Playlist) {
	t.Helper()
	var want, got []said
	for _, u := range corpusReader().URIs(p.Body) {
		if s, isLocated := expectation(u); isLocated {
			want = append(want, s)
		}
	}
	o := corpusOptions(mode{})
	o.Locate = func(l hls.Listed) (string, bool) {
		got = append(got, said{roleOf(l.Role), hlscorpus.Location{Scheme: l.Scheme, Host: l.Host, Ref: l.Ref}})
		return "", false
	}
	if text := parseAny(t, p, o); hlscorpus.Steered(text) != hlscorpus.Steered(p.Body) && !p.IsDocument {
		t.Errorf("%s: nothing is located, yet the text changed", p.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", p.Name, diff)
	}
}

var (
	// attributeTag and the others are the lines of a well-formed playlist.
	attributeTag = regexp.MustCompile(`^#EXT-X-[A-Z-]+:[A-Z-]+=("[^"]*"|[A-Z0-9.@-]+)(,[A-Z-]+=("[^"]*"|[A-Z0-9.@-]+))*$`)
	otherTag     = regexp.MustCompile(`^#EXT(M3U|INF:[0-9.]+,|-X-[A-Z-]+(:[0-9A-Z.@-]+)?)$`)
	uriLine      = regexp.MustCompile(`^([A-Za-z0-9/._~:?=&%-]|\{\$[A-Za-z0-9_-]+\})*$`)
	attribute    = regexp.MustCompile(`([A-Z-]+)=("[^"]*"|[^,]*)`)
)

// isWellFormed reports whether the standard says how to read a playlist: known forms of lines, no attribute twice in a tag,
// URIs without odd characters.
func isWellFormed(body string) bool {
	for line := range strings.Lines(body) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case attributeTag.MatchString(line):
			seen := map[string]bool{}
			for _, found := range attribute.FindAllStringSubmatch(line[strings.IndexByte(line, ':'):], -1) {
				value := strings.Trim(found[2], `"`)
				if seen[found[1]] || value == "" || !uriLine.MatchString(value) {
					return false
				}
				seen[found[1]] = true
			}
		case !otherTag.MatchString(line) && !uriLine.MatchString(line):
			return false
		}
	}
	return true
}

// FuzzParse_Listed compares the two readers on any well-formed playlist.
func FuzzParse_Listed(f *testing.F) {
	for _, p := range hlscorpus.Playlists() {
		if !p.IsDocument {
			f.Add(p.Body)
		}
	}
	f.Add("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttps://{$unknown}/1.ts")
	f.Fuzz(func(t *testing.T, body string) {
		if _, err := hls.Scan([]byte(body)); err != nil {
			return
		}
		if !isWellFormed(body) {
			return // players differ, too
		}
		checkListed(t, hlscorpus.Playlist{Name: strconv.Quote(body), Body: body})
	})
}

// TestParse_Playlists_LeadToPlaces gives each URI a place of its own, and checks that the viewer's URI leads there, and that
// nothing else changed.
func TestParse_Playlists_LeadToPlaces(t *testing.T) {
	t.Parallel()
	for _, p := range hlscorpus.Playlists() {
		for name, m := range modes() {
			o := corpusOptions(m)
			o.Locate = func(l hls.Listed) (string, bool) {
				if l.Host == hlscorpus.OwnHost {
					return l.Ref, true
				}
				return "/~/" + l.Scheme + "/" + l.Host + l.Ref, l.Host != hlscorpus.ForeignHost
			}
			got := parseAny(t, p, o)
			if diff := cmp.Diff(hlscorpus.Outside(p.Body), hlscorpus.Outside(got)); diff != "" {
				t.Errorf("%s, %s: outside of URIs (-origin +viewer):\n%s", p.Name, name, diff)
			}
			from, to := corpusReader().URIs(p.Body), corpusReader().URIs(got)
			if len(from) != len(to) {
				t.Errorf("%s, %s: %d URIs became %d", p.Name, name, len(from), len(to))
				continue
			}
			for i := range from {
				checkPlace(t, p.Name+", "+name, m, from[i], to[i])
			}
		}
	}
}

// checkPlace checks where a viewer's URI leads.
func checkPlace(t *testing.T, where string, m mode, from, to hlscorpus.URI) {
	t.Helper()
	s, isLocated := expectation(from)
	if !isLocated || s.At.Host == hlscorpus.ForeignHost {
		if from != to {
			t.Errorf("%s: %q, which has no place, became %q", where, from.Written, to.Written)
		}
		return
	}
	want := s.At.Ref
	if s.At.Host != hlscorpus.OwnHost {
		want = "/~/" + s.At.Scheme + "/" + s.At.Host + want
	}
	address := "http://edge.example"
	if m.ticket {
		address += "/~T"
	}
	got := hlscorpus.Resolve(address+hlscorpus.Folder+"index.m3u8", to.Text)
	_, fragment, _ := strings.Cut(from.Text, "#")
	if _, kept, _ := strings.Cut(to.Text, "#"); kept != fragment {
		t.Errorf("%s: %q became %q: the fragment changed", where, from.Written, to.Written)
	}
	needsTicket := from.Role == hlscorpus.List || from.Role == hlscorpus.Object
	switch {
	case m.carry == hls.TicketInPath, m.carry == hls.TicketInNone && needsTicket:
		want = "/~T" + want
	case m.carry == hls.TicketInQuery:
		if _, query, _ := strings.Cut(got.Ref, "?"); !strings.Contains("&"+query+"&", "&ticket=T&") {
			t.Errorf("%s: %q became %q, without a ticket", where, from.Written, to.Written)
		}
		want, got.Ref = withoutTicket(want), withoutTicket(got.Ref)
	}
	if got.Host != "edge.example" || got.Ref != want {
		t.Errorf("%s: %q became %q, which leads to %s %q, want %q", where, from.Written, to.Written, got.Host, got.Ref, want)
	}
}

// withoutTicket removes the ticket's parameter, and parameters that are empty, from a query.
func withoutTicket(ref string) string {
	path, query, _ := strings.Cut(ref, "?")
	for pair := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(pair, "="); name != "" && name != "ticket" {
			path += "&" + pair
		}
	}
	return path
}
