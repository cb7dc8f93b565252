package hls_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls"
	"usher/gateway/hls/hlscorpus"
)

// documentOptions returns the options of a viewer of a document that the tests' playlist names.
func documentOptions(m mode) hls.Options {
	o := m.options()
	o.Origin, o.Path = "http://10.0.0.5:8000/play/a001/list.json", "/play/a001/list.json"
	o.Pathway = func(host, query string) string {
		switch {
		case host == "10.0.0.5:8000":
			return ""
		case query == "":
			return "to-" + host
		default:
			return "to-" + host + "?" + query
		}
	}
	return o
}

// viewerDocument parses a document and returns the copy of a viewer with the ticket T.
func viewerDocument(t *testing.T, body string, o hls.Options) string {
	t.Helper()
	template, err := hls.ParseDocument([]byte(body), o)
	if err != nil {
		t.Fatalf("ParseDocument(%q): %v", body, err)
	}
	if info := template.Info(); info != (hls.Info{}) {
		t.Errorf("a document says %+v of itself", info)
	}
	return string(template.Append(nil, []byte("T"), nil))
}

func TestParseDocument(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ body, want string }{
		"an asset list": {
			`{"ASSETS":[{"URI":"a.m3u8","DURATION":15.0},{"URI":"/play/b/c.m3u8?x=1#t"}]}`,
			`{"ASSETS":[{"URI":"/~T/play/a001/a.m3u8","DURATION":15.0},{"URI":"/~T/play/b/c.m3u8?x=1#t"}]}`,
		},
		"one with white space and other members": {
			"\r\n{ \"X\" : [ 1 , { \"URI\" : \"x\" } ] ,\n\t\"ASSETS\" : [\n{ \"D\" : 1.50 ,\t\"URI\" : \"a\" } ] }\n\n",
			"\r\n{ \"X\" : [ 1 , { \"URI\" : \"x\" } ] ,\n\t\"ASSETS\" : [\n{ \"D\" : 1.50 ,\t\"URI\" : \"/~T/play/a001/a\" } ] }\n\n",
		},
		"escapes in URIs and in names": {
			`{"\u0041SSETS":[{"U\u0052I":"http:\/\/10.0.0.5:8000\/play\/\u0061\u00e9\ud83d\ude00"}],"X":"a\/b\u0000"}`,
			`{"\u0041SSETS":[{"U\u0052I":"/~T/play/aé😀"}],"X":"a\/b\u0000"}`,
		},
		"a byte order mark": {"\ufeff {\"RELOAD-URI\":\"a\"}", "\ufeff {\"RELOAD-URI\":\"/~T/play/a001/a\"}"},
		"names given twice": {
			`{"RELOAD-URI":"a","RELOAD-URI":"b","ASSETS":[],"ASSETS":[{"URI":"c","URI":"d"}]}`,
			`{"RELOAD-URI":"/~T/play/a001/a","RELOAD-URI":"/~T/play/a001/b","ASSETS":[],"ASSETS":[{"URI":"/~T/play/a001/c","URI":"/~T/play/a001/d"}]}`,
		},
		"a steering manifest": {
			`{"VERSION":1,"TTL":300,"RELOAD-URI":"?session=1","PATHWAY-PRIORITY":["A","B"]}`,
			`{"VERSION":1,"TTL":300,"RELOAD-URI":"/~T/play/a001/list.json?session=1","PATHWAY-PRIORITY":["A","B"]}`,
		},
		"URIs of a clone": {
			`{"PATHWAY-CLONES":[{"URI-REPLACEMENT":{"PER-VARIANT-URIS":{"a":"v","":"w"},"PER-RENDITION-URIS":{"URI":"r"},"OTHER":{"x":"o"}}}]}`,
			`{"PATHWAY-CLONES":[{"URI-REPLACEMENT":{"PER-VARIANT-URIS":{"a":"/~T/play/a001/v","":"/~T/play/a001/w"},` +
				`"PER-RENDITION-URIS":{"URI":"/~T/play/a001/r"},"OTHER":{"x":"o"}}}]}`,
		},
		"a schedule of date ranges": {
			`{"DATERANGES":[{"ID":"1","CLASS":"com.apple.hls.interstitial","X-ASSET-URI":"a","X-URI":"own"},{"X-ASSET-LIST":"l","X-URI":"p","CLASS":"com.apple.hls.preload"},` +
				`{"CLASS":"com.apple.hls.daterange-schedule","X-URI":"s"},"X-URI",null,{"CLASS":7,"X-URI":"own"}]}`,
			`{"DATERANGES":[{"ID":"1","CLASS":"com.apple.hls.interstitial","X-ASSET-URI":"/~T/play/a001/a","X-URI":"own"},` +
				`{"X-ASSET-LIST":"/~T/play/a001/l","X-URI":"/~T/play/a001/p","CLASS":"com.apple.hls.preload"},` +
				`{"CLASS":"com.apple.hls.daterange-schedule","X-URI":"/~T/play/a001/s"},"X-URI",null,{"CLASS":7,"X-URI":"own"}]}`,
		},
		"a URI that leads elsewhere":        {`{"TTL":1,"RELOAD-URI":"https://cdn.example.com/a"}`, `{"TTL":1,"X-RELOAD-URI":"https://cdn.example.com/a"}`},
		"a URI of another scheme":           {`{"RELOAD-URI":"data:,a","ASSETS":[{"URI":"data:,a"}]}`, `{"X-RELOAD-URI":"data:,a","ASSETS":[{"URI":"data:,a"}]}`},
		"a URI with a quote or a backslash": {`{"RELOAD-URI":"a\"b","ASSETS":[{"URI":"a\\b"}]}`, `{"RELOAD-URI":"a\"b","ASSETS":[{"URI":"a\\b"}]}`},
		"a URI with control characters":     {`{"RELOAD-URI":"a\nb"}`, `{"RELOAD-URI":"a\nb"}`},
		"a URI that is no text":             {`{"RELOAD-URI":"a\ud800"}`, `{"RELOAD-URI":"a\ud800"}`},
		"bytes that are no text":            {"{\"RELOAD-URI\":\"a\xff\",\"x\":\"\xff\"}", "{\"RELOAD-URI\":\"a\xff\",\"x\":\"\xff\"}"},
		"values that are no strings": {
			`{"RELOAD-URI":null,"ASSETS":[{"URI":1},{"URI":["a"]},{"URI":{"URI":"a"}},[{"URI":"a"}],"URI",null,true,-1.5e3]}`,
			`{"RELOAD-URI":null,"ASSETS":[{"URI":1},{"URI":["a"]},{"URI":{"URI":"a"}},[{"URI":"a"}],"URI",null,true,-1.5e3]}`,
		},
		"other shapes": {
			`{"ASSETS":{"URI":"a"},"PATHWAY-CLONES":{"URI-REPLACEMENT":{"HOST":"h"}},"URI":"a","HOST":"h","x":{"RELOAD-URI":"a"}}`,
			`{"ASSETS":{"URI":"a"},"PATHWAY-CLONES":{"URI-REPLACEMENT":{"HOST":"h"}},"URI":"a","HOST":"h","x":{"RELOAD-URI":"a"}}`,
		},
		"nothing":           {`{}`, `{}`},
		"empty objects":     {`{"ASSETS":[{}],"PATHWAY-CLONES":[{},{"URI-REPLACEMENT":{}}]}`, `{"ASSETS":[{}],"PATHWAY-CLONES":[{},{"URI-REPLACEMENT":{}}]}`},
		"an empty URI":      {`{"RELOAD-URI":""}`, `{"RELOAD-URI":""}`},
		"a brace in a text": {`{"x":"}]","RELOAD-URI":"a"}`, `{"x":"}]","RELOAD-URI":"/~T/play/a001/a"}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, viewerDocument(t, test.body, documentOptions(mode{}))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestParseDocument_Host_IsParameter is about the object URI-REPLACEMENT.
func TestParseDocument_Host_IsParameter(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ object, want string }{
		"no host":                 {`{"PARAMS":{"a":"b"}}`, `{"PARAMS":{"a":"b","_HLS_host":"to-?a=b"}}`},
		"a host alone":            {`{"HOST":"h"}`, `{"PARAMS":{"_HLS_host":"to-h"},"X-HOST":"h"}`},
		"a host with a port":      {`{"HOST":"h:8443"}`, `{"PARAMS":{"_HLS_host":"to-h:8443"},"X-HOST":"h:8443"}`},
		"our host":                {`{"HOST":"10.0.0.5:8000"}`, `{"X-HOST":"10.0.0.5:8000"}`},
		"a name with escapes":     {`{"\u0048OST":"\u0068"}`, `{"PARAMS":{"_HLS_host":"to-h"},"X-HOST":"\u0068"}`},
		"an empty host":           {`{"HOST":"","PARAMS":{}}`, `{"X-HOST":"","PARAMS":{}}`},
		"a host that is none":     {`{"HOST":["h"]}`, `{"X-HOST":["h"]}`},
		"two hosts, the last":     {`{"HOST":"g","HOST":"h"}`, `{"PARAMS":{"_HLS_host":"to-h"},"X-HOST":"g","X-HOST":"h"}`},
		"two hosts, none in last": {`{"HOST":"g","HOST":null}`, `{"X-HOST":"g","X-HOST":null}`},
		"empty parameters":        {`{"PARAMS":{},"HOST":"h"}`, `{"PARAMS":{"_HLS_host":"to-h"},"X-HOST":"h"}`},
		"empty ones with blanks":  {"{ \"HOST\" : \"h\" , \"PARAMS\" : { \n } }", "{ \"X-HOST\" : \"h\" , \"PARAMS\" : { \n \"_HLS_host\":\"to-h\"} }"},
		"parameters before":       {`{"PARAMS":{"a":"b","c d":"&"},"HOST":"h"}`, `{"PARAMS":{"a":"b","c d":"&","_HLS_host":"to-h?a=b\u0026c+d=%26"},"X-HOST":"h"}`},
		"parameters behind":       {`{"HOST":"h","PARAMS":{"a":{"b":1}}}`, `{"X-HOST":"h","PARAMS":{"a":{"b":1},"_HLS_host":"to-h"}}`},
		"our parameter, taken":    {`{"HOST":"h","PARAMS":{"_HLS_host":"x"}}`, `{"X-HOST":"h","PARAMS":{"_HLS_host":"x","_HLS_host":"to-h"}}`},
		"parameters that are no object": {
			`{"HOST":"h","PARAMS":[1,{"a":2}],"X":1}`, `{"X-HOST":"h","PARAMS":{"_HLS_host":"to-h"},"X":1}`,
		},
		"parameters twice, the last": {
			`{"PARAMS":{"a":"b"},"PARAMS":null,"HOST":"h"}`, `{"PARAMS":{"a":"b"},"PARAMS":{"_HLS_host":"to-h"},"X-HOST":"h"}`,
		},
		"URIs between": {
			`{"HOST":"h","PER-VARIANT-URIS":{"v":"a"},"PARAMS":{}}`,
			`{"X-HOST":"h","PER-VARIANT-URIS":{"v":"/~T/play/a001/a"},"PARAMS":{"_HLS_host":"to-h"}}`,
		},
		"a host below": {`{"PARAMS":{"HOST":"h"},"PER-VARIANT-URIS":{"HOST":"a"}}`, `{"PARAMS":{"HOST":"h","_HLS_host":"to-?HOST=h"},"PER-VARIANT-URIS":{"HOST":"/~T/play/a001/a"}}`},
		"no object":    {`"HOST"`, `"HOST"`},
		"a quote":      {`{"HOST":"a\"b"}`, `{"PARAMS":{"_HLS_host":"to-a\"b"},"X-HOST":"a\"b"}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			frame := func(object string) string {
				return `{"PATHWAY-CLONES":[{"ID":"B","URI-REPLACEMENT":` + object + `,"HOST":"x"},{"URI-REPLACEMENT":` + object + `}]}`
			}
			got := viewerDocument(t, frame(test.object), documentOptions(mode{}))
			if diff := cmp.Diff(frame(test.want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !json.Valid([]byte(got)) {
				t.Errorf("no JSON: %s", got)
			}
		})
	}
}

func TestParseDocument_WithoutPathway_HostIsRenamed(t *testing.T) {
	t.Parallel()
	o := documentOptions(mode{})
	o.Pathway, o.Locate = nil, nil
	const body = `{"RELOAD-URI":"a","PATHWAY-CLONES":[{"URI-REPLACEMENT":{"HOST":"h","PARAMS":{}}}]}`
	if got, want := viewerDocument(t, body, o), strings.Replace(body, "HOST", "X-HOST", 1); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseDocument_NoObject_Refused(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"nothing": "", "a mark": "\ufeff", "blanks": " \n", "an array": `[{"URI":"a"}]`, "a string": `"a"`, "a number": "1", "null": "null",
		"a playlist": "#EXTM3U\n", "an error page": "<html>", "an open object": `{"a":1`, "an open string": `{"a":"b`, "a trailing comma": `{"a":1,}`,
		"a comment": `{"a":1/*x*/}`, "two objects": `{}{}`, "text behind it": `{} x`, "a brace behind it": `{}}`, "single quotes": `{'a':1}`,
		"an escape that is none": `{"a":"\x"}`, "a newline in a string": "{\"a\":\"\n\"}", "a backslash at the end": `{"a":"\`, "a mark inside": "{\ufeff}",
		"deeper than anyone reads": strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000),
	} {
		if _, err := hls.ParseDocument([]byte(body), documentOptions(mode{})); !errors.Is(err, hls.ErrNotDocument) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
}

func TestParseDocument_Bounds(t *testing.T) {
	t.Parallel()
	if _, err := hls.ParseDocument([]byte(`{"a":"`+strings.Repeat("x", hls.MaxBytes)+`"}`), documentOptions(mode{})); !errors.Is(err, hls.ErrTooLarge) {
		t.Errorf("a large document: got error %v", err)
	}
	if _, err := hls.ParseDocument([]byte(`{"a":"`+strings.Repeat("x", hls.MaxBytes-8)+`"}`), documentOptions(mode{})); err != nil {
		t.Errorf("the largest document: got error %v", err)
	}
	o, folder := documentOptions(mode{}), strings.Repeat("x", 8<<10)
	o.Locate = onOrigin(func(ref string) (string, bool) { return "/" + folder + ref, true })
	many := `{"ASSETS":[{"URI":"a"}` + strings.Repeat(`,{"URI":"a"}`, 3*hls.MaxBytes/len(folder)) + `]}`
	if _, err := hls.ParseDocument([]byte(many), o); !errors.Is(err, hls.ErrTooLarge) {
		t.Errorf("many URIs: got error %v", err)
	}
	o.Origin = ""
	if _, err := hls.ParseDocument([]byte(`{}`), o); err == nil || !strings.Contains(err.Error(), "Options.Origin") {
		t.Errorf("no origin: got error %v", err)
	}
	deep := strings.Repeat(`{"ASSETS":[`, 900) + `{"URI":"a"}` + strings.Repeat("]}", 900)
	if got := viewerDocument(t, deep, documentOptions(mode{})); got != deep {
		t.Errorf("a URI far below is that of another kind of document, yet it changed")
	}
}

func TestParseDocument_EveryTransport(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"path": "/~T/play/a001/a", "path-ticketed": "a", "query": "a?ticket=T", "cookie": "a", "none": "/~T/play/a001/a", "none-ticketed": "a",
	}
	got := map[string]string{}
	for name, m := range modes() {
		text := viewerDocument(t, `{"RELOAD-URI":"a"}`, documentOptions(m))
		got[name] = strings.TrimSuffix(strings.TrimPrefix(text, `{"RELOAD-URI":"`), `"}`)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseDocument_Listed(t *testing.T) {
	t.Parallel()
	const body = `{"ASSETS":[{"URI":"asset"}],"RELOAD-URI":"reload","PATHWAY-CLONES":[{"URI-REPLACEMENT":{"PER-VARIANT-URIS":{"v":"variant"},"PER-RENDITION-URIS":{"r":"rendition"}}}]}`
	want := map[string]hls.Listed{
		"/play/a001/asset":     {Role: hls.Playlist},
		"/play/a001/reload":    {Role: hls.Document, Variables: "a=1"},
		"/play/a001/variant":   {Role: hls.Playlist, Variables: "a=1"},
		"/play/a001/rendition": {Role: hls.Playlist, Variables: "a=1"},
	}
	got := map[string]hls.Listed{}
	o := documentOptions(mode{})
	o.Variables = "a=1"
	o.Locate = func(l hls.Listed) (string, bool) {
		got[l.Ref] = hls.Listed{Role: l.Role, Variables: l.Variables, Version: l.Version}
		return "", false
	}
	viewerDocument(t, body, o)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzParseDocument checks that any JSON object stays one, with the same values outside of what is rewritten, and that no
// pathway keeps a host.
func FuzzParseDocument(f *testing.F) {
	for _, p := range hlscorpus.Playlists() {
		if p.IsDocument {
			f.Add(p.Body)
		}
	}
	f.Add(`{"PATHWAY-CLONES":[{"URI-REPLACEMENT":{"PARAMS":{ },"HOST":"h","PARAMS":7 ,"HOST":"\ud800"}}],"ASSETS":[{"URI":"\\"}]}`)
	f.Add(`{"DATERANGES":[{"CLASS":"com.apple.hls.preload","X-URI":"http://10.0.0.5:8000/a","X-ASSET-URI":"b"},{"X-ASSET-LIST":"c","X-URI":"d"}]}`)
	f.Add(`{"PATHWAY-CLONEs":[{"URI-REPLACEMENT":{"HOST":""}}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		text := strings.TrimPrefix(body, "\ufeff")
		isObject := json.Valid([]byte(text)) && strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{")
		for name, m := range modes() {
			o := documentOptions(m)
			o.Locate = func(l hls.Listed) (string, bool) { return "/v/" + l.Host + l.Ref, len(l.Ref)%3 != 0 }
			template, err := hls.ParseDocument([]byte(body), o)
			if (err == nil) != isObject {
				t.Fatalf("a JSON object: %t, yet got error %v", isObject, err)
			}
			if err != nil {
				return
			}
			got := string(template.Append(nil, []byte("T"), nil))
			if !json.Valid([]byte(strings.TrimPrefix(got, "\ufeff"))) {
				t.Fatalf("%s: %q became %q, which is no JSON", name, body, got)
			}
			if diff := cmp.Diff(hlscorpus.Outside(body), hlscorpus.Outside(got)); diff != "" {
				t.Errorf("%s: outside of URIs (-origin +viewer):\n%s", name, diff)
			}
			checkNoHost(t, got)
			checkReloadURI(t, body, got, o)
		}
	})
}

// checkNoHost checks that no pathway has a host.
func checkNoHost(t *testing.T, text string) {
	t.Helper()
	manifest := map[string]any{} // a struct's fields would match keys of another case
	d := json.NewDecoder(strings.NewReader(strings.TrimPrefix(text, "\ufeff")))
	d.UseNumber()
	if err := d.Decode(&manifest); err != nil {
		t.Fatal(err)
	}
	clones, _ := manifest["PATHWAY-CLONES"].([]any)
	for _, clone := range clones {
		object, _ := clone.(map[string]any)
		replacement, _ := object["URI-REPLACEMENT"].(map[string]any)
		if host, isThere := replacement["HOST"]; isThere {
			t.Errorf("a pathway has the host %v: %q", host, text)
		}
	}
}

// checkReloadURI checks that a changed RELOAD-URI leads to its place, or is unchanged.
func checkReloadURI(t *testing.T, body, text string, o hls.Options) {
	t.Helper()
	from, to := hlscorpus.URIs(body), hlscorpus.URIs(text)
	if len(from) != len(to) {
		t.Fatalf("%d URIs became %d: %q", len(from), len(to), text)
	}
	for i := range from {
		if from[i] == to[i] {
			continue
		}
		at, _, _ := strings.Cut(from[i].Written, "#")
		source := hlscorpus.Resolve(o.Origin, at)
		address := "http://edge.example"
		if o.UnderTicket {
			address += "/~T"
		}
		want := "/v/" + source.Host + source.Ref
		got := hlscorpus.Resolve(address+o.Path, to[i].Written)
		ref := strings.TrimPrefix(got.Ref, "/~T")
		if o.TicketIn == hls.TicketInQuery {
			ref, want = withoutTicket(ref), withoutTicket(want)
		}
		if got.Host != "edge.example" || ref != want {
			t.Errorf("%q became %q, which leads to %+v, want %q", from[i].Written, to[i].Written, got, want)
		}
	}
}
