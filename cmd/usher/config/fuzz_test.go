package config

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// FuzzParse holds two promises: what is refused is refused with Problems, and what is read prints as what is read.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("Glob = %d files, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "USHER_LISTEN=x")
	}
	f.Add([]byte(overridden), "USHER_CACHE_KEEP_FOR=2d")
	f.Add([]byte(" "), "USHER_LISTEN=\x80")
	f.Fuzz(func(t *testing.T, data []byte, variable string) {
		if len(data) > 4<<10 { // the parser's time grows with the square
			return
		}
		s := defaults()
		_, err := Parse("f", data, s, Environment{Variables: []string{variable}})
		if err != nil {
			problems, ok := errors.AsType[Problems](err)
			if !ok || len(problems) == 0 {
				t.Fatalf("Parse = %T, want Problems", err)
			}
			return
		}
		first := printOf(t, s)
		again := &settings{}
		if _, err := Parse("printed", []byte(first), again, Environment{}); err != nil {
			t.Fatalf("Parse: %v\nof what was printed:\n%s", err, first)
		}
		if second := printOf(t, again); second != first {
			t.Fatalf("printed\n%s\nread back as\n%s", first, second)
		}
	})
}

func printOf(t *testing.T, s *settings) string {
	t.Helper()
	var text bytes.Buffer
	if err := Print(&text, s); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// FuzzPrint puts any text where a file can hold one: a value, a list's item and a map's key.
func FuzzPrint(f *testing.F) {
	for _, text := range []string{"", "a", "null", "<<", "~", "${A}$$", " x ", "a: b # c", "\x85\u2028\ufeff", "'\"\\", "-1", "|", "é\n\t"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) || len(text) > 1<<10 { // a file of other bytes is no YAML
			return
		}
		s := edited(func(s *settings) {
			s.Listen, s.Labels = "x"+text, map[string]string{text: text}
			s.Cluster.Redis = &redisSettings{Addresses: []string{text}}
		})
		printed, got := printOf(t, s), &settings{}
		if _, err := Parse("printed", []byte(printed), got, Environment{}); err != nil {
			t.Fatalf("Parse: %v\nof what was printed:\n%s", err, printed)
		}
		s.Listen, s.Labels[text], s.Cluster.Redis.Addresses[0] = redactURLs(s.Listen), redactURLs(text), redactURLs(text)
		if diff := cmp.Diff(s, got, compare()); diff != "" {
			t.Errorf("Parse of the print differs (-want +got):\n%s\nof\n%s", diff, printed)
		}
	})
}

// FuzzRedactURLs puts a secret among any text into the parts of a URL that may hold one: no URL that a client would use shows it.
func FuzzRedactURLs(f *testing.F) {
	const secret = "S3CRET"
	for _, text := range []string{secret, "me:" + secret, secret + "@", "'" + secret, `"` + secret, secret + "%41", ":" + secret + ";", "=" + secret + "=" + secret} {
		f.Add("http", text, "key="+text, text)
	}
	f.Fuzz(func(t *testing.T, scheme, user, query, fragment string) {
		text := scheme + "://" + user + "@h/path?" + query + "#" + fragment
		u, err := url.Parse(text)
		if err != nil || u.Scheme == "" || u.Opaque != "" || !utf8.ValidString(text) || len(text) > 1<<10 {
			return
		}
		hidden := fmt.Sprint(u.User, u.Fragment)
		for piece := range strings.SplitSeq(u.RawQuery, "&") {
			name, value, _ := strings.Cut(piece, "=")
			if hidden += value; strings.Contains(name, secret) && strings.Contains(piece, "=") {
				return // names are shown
			}
		}
		if !strings.Contains(hidden, secret) || strings.Contains(u.Host+u.Path+u.Scheme, secret) {
			return
		}
		var printed bytes.Buffer
		if err := Print(&printed, &settings{Listen: text}); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(printed.String(), secret) {
			t.Errorf("the print of %q shows it:\n%s", text, printed.String())
		}
	})
}
