package hls_test

import (
	"errors"
	"strings"
	"testing"

	"usher/gateway/hls"
)

func TestParse_UnwritableLocation_Unchanged(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]string{
		"a relative one": "seg.ts", "nothing": "", "a quote": `/a".ts`, "a line end": "/a\n#EXT-X-ENDLIST", "a fragment": "/a#b",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const body = "#EXTM3U\n#EXT-X-MAP:URI=\"seg.mp4\""
			o := mode{}.options()
			o.Locate = onOrigin(func(string) (string, bool) { return target, true })
			if got := viewerCopy(t, body, o); got != body {
				t.Errorf("got %q, want %q", got, body)
			}
		})
	}
}

func TestParse_NoPlaylist_Refused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body string
		want error
	}{
		"nothing":                      {"", hls.ErrNotPlaylist},
		"an error page":                {"<html>", hls.ErrNotPlaylist},
		"a segment":                    {"G@\x11\x10", hls.ErrNotPlaylist},
		"a longer first tag":           {"#EXTM3U8\n", hls.ErrNotPlaylist},
		"a first tag that comes late":  {"#EXT-X-VERSION:3\n#EXTM3U\n", hls.ErrNotPlaylist},
		"the tag alone":                {"#EXTM3U", nil},
		"the tag after a mark":         {"\ufeff#EXTM3U\r\n", nil},
		"the tag after a mark, a line": {"\ufeff\r\n#EXTM3U\r\n", nil},
		"the tag with attributes":      {"#EXTM3U x-tvg-url=\"a\"\n", nil},
		"more than MaxBytes":           {"#EXTM3U\n" + strings.Repeat("#", hls.MaxBytes), hls.ErrTooLarge},
		"more than MaxLines":           {"#EXTM3U\n" + strings.Repeat("\n", hls.MaxLines), hls.ErrTooLarge},
		"as many as MaxLines":          {"#EXTM3U\n" + strings.Repeat("\n", hls.MaxLines-1), nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := hls.Scan([]byte(test.body)); !errors.Is(err, test.want) {
				t.Errorf("Scan: got error %v, want %v", err, test.want)
			}
			template, err := hls.Parse([]byte(test.body), mode{}.options())
			if !errors.Is(err, test.want) {
				t.Fatalf("Parse: got error %v, want %v", err, test.want)
			}
			if err == nil && string(template.Body()) != test.body {
				t.Errorf("got another body than was given")
			}
		})
	}
}

func TestParse_TemplateTooLarge_Refused(t *testing.T) {
	t.Parallel()
	o := mode{}.options()
	folder := strings.Repeat("x", 8<<10)
	o.Locate = onOrigin(func(ref string) (string, bool) { return "/" + folder + ref, true })
	_, err := hls.Parse([]byte("#EXTM3U\n"+strings.Repeat("a\n", 3*hls.MaxBytes/len(folder))), o)
	if !errors.Is(err, hls.ErrTooLarge) {
		t.Errorf("got error %v, want %v", err, hls.ErrTooLarge)
	}
}

func TestParse_InvalidOptions_Refused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*hls.Options)
		want   string
	}{
		"no origin":           {func(o *hls.Options) { o.Origin = "" }, "Options.Origin"},
		"a relative origin":   {func(o *hls.Options) { o.Origin = "/play/a.m3u8?token=secret" }, "Options.Origin"},
		"an origin of a file": {func(o *hls.Options) { o.Origin = "file:///a.m3u8" }, "Options.Origin"},
		"no parameter":        {func(o *hls.Options) { o.TicketIn, o.QueryParameter = hls.TicketInQuery, "" }, "Options.QueryParameter"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := mode{}.options()
			test.change(&o)
			_, err := hls.Parse([]byte("#EXTM3U"), o)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got error %v, want one that names %s and no secret", err, test.want)
			}
		})
	}
}

func TestParse_DefaultOptions(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*hls.Options)
		want   string
	}{
		"nothing is located without Locate":     {func(o *hls.Options) { o.Locate = nil }, "http://10.0.0.5:8000/play/a001/seg.ts"},
		"a path without slash is rooted":        {func(o *hls.Options) { o.Path = "play/index.m3u8" }, "a001/seg.ts"},
		"no path is the root":                   {func(o *hls.Options) { o.Path = "" }, "play/a001/seg.ts"},
		"a query of the path is not part of it": {func(o *hls.Options) { o.Path += "?a=/b/c" }, "seg.ts"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := modes()["path-ticketed"].options()
			test.change(&o)
			if got := rewriteURI(t, "http://10.0.0.5:8000/play/a001/seg.ts", o); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
