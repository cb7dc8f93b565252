package hlscorpus

import (
	"embed"
	"fmt"
	"strings"
)

// The hosts that playlists name.
const (
	// OwnHost is the host that the playlists come from.
	OwnHost = "origin.example"
	// PublicHost is another name of the same origin, by https.
	PublicHost = "public.example"
	// ForeignHost is not known to any test.
	ForeignHost = "cdn.foreign.example"
)

// Folder is the folder of the playlists, and Address the URL from which each came.
const (
	Folder  = "/play/a001/"
	Address = "http://" + OwnHost + Folder + "index.m3u8"
)

// Playlist is a playlist, or a JSON document that a playlist may name.
type Playlist struct {
	Name       string
	Body       string
	IsDocument bool
}

//go:embed playlists
var archives embed.FS

// Playlists returns all playlists: those of the archives, each form of a URI in two playlists, and odd line ends.
func Playlists() []Playlist {
	var all []Playlist
	for _, name := range []string{"packagers", "media", "lowlatency", "keys", "multivariant", "variables", "broken"} {
		all = append(all, readArchive(name)...)
	}
	all = append(all, withOddLineEnds(all)...)
	for _, p := range readArchive("documents") {
		p.IsDocument = true
		all = append(all, p, Playlist{p.Name + ", with a byte order mark", "\ufeff" + p.Body, true})
	}
	return append(all, forms()...)
}

// readArchive returns the playlists of an archive. A line "-- name --" begins each.
func readArchive(name string) []Playlist {
	var all []Playlist
	for line := range strings.Lines(readFile(name)) {
		title, isTitle := strings.CutPrefix(strings.TrimSuffix(line, " --\n"), "-- ")
		if isTitle {
			all = append(all, Playlist{Name: name + ": " + title})
			continue
		}
		all[len(all)-1].Body += line
	}
	return all
}

func readFile(name string) string {
	text, err := archives.ReadFile("playlists/" + name + ".txt")
	if err != nil {
		panic(err) // the file is part of the program
	}
	return string(text)
}

// withOddLineEnds returns some of the playlists with other line ends and surroundings.
func withOddLineEnds(all []Playlist) []Playlist {
	changes := map[string]func(string) string{
		"CRLF":            func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
		"CR":              func(s string) string { return strings.ReplaceAll(s, "\n", "\r") },
		"LF, CR":          func(s string) string { return strings.ReplaceAll(s, "\n", "\n\r") },
		"a mark":          func(s string) string { return "\ufeff" + s },
		"a mark and CRLF": func(s string) string { return "\ufeff" + strings.ReplaceAll(s, "\n", "\r\n") },
		"no last newline": func(s string) string { return strings.TrimSuffix(s, "\n") },
		"trailing blanks": func(s string) string { return strings.ReplaceAll(s, "\n", " \t \n") },
		"leading blanks":  func(s string) string { return strings.ReplaceAll(s, "\n", "\n \t") },
		"blank lines":     func(s string) string { return "\n \n" + strings.ReplaceAll(s, "\n", "\n\n") },
		"bytes that are no text": func(s string) string {
			return strings.ReplaceAll(s, "\n", "\n# \xff\xfe\x00\x01\n")
		},
	}
	var odd []Playlist
	for _, p := range all {
		switch p.Name {
		case "packagers: ffmpeg-live", "keys: multi-drm", "lowlatency: ll-full", "multivariant: master-every-attribute", "variables: define-value":
			for change, apply := range changes {
				odd = append(odd, Playlist{Name: p.Name + ", with " + change, Body: apply(p.Body)})
			}
		}
	}
	return odd
}

// forms returns two playlists for each form of a URI: a media playlist and a multivariant one. A form that has quotes
// stands on a line only.
func forms() []Playlist {
	var all []Playlist
	for form := range strings.Lines(readFile("forms")) {
		form = strings.TrimSuffix(form, "\n")
		uri := func(name string) any { return strings.ReplaceAll(form, "NAME", name) }
		all = append(all, Playlist{Name: fmt.Sprintf("media, %q", form), Body: fmt.Sprintf(`#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:4
#EXT-X-PART-INF:PART-TARGET=1
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-KEY:METHOD=AES-128,URI="%s",IV=0x1
#EXT-X-MAP:URI="%s"
#EXTINF:4,
%s
#EXT-X-PART:DURATION=1,URI="%s"
#EXT-X-RENDITION-REPORT:URI="%s",LAST-MSN=7
`, uri("k1"), uri("init.mp4"), uri("seg-7.m4s"), uri("part-8.0.m4s"), uri("audio.m3u8"))},
			Playlist{Name: fmt.Sprintf("multivariant, %q", form), Body: fmt.Sprintf(`#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",URI="%s"
#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"
%s
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="%s"
`, uri("audio.m3u8"), uri("video"), uri("iframes.m3u8"))})
	}
	return all
}
