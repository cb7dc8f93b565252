package config

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends/setting"
)

func full() *settings {
	no := false
	s := defaults()
	s.Admin = adminSettings{Listen: netip.MustParseAddrPort("[::1]:80"), Token: "hunter2", Debug: &no}
	s.Origins = map[string]originSettings{"b.c": {"http://x/$1", 36 * time.Hour}, "null": {"", 0}}
	s.Backends = map[string]*backendSettings{
		"p": {"portal", time.Minute, &portalSettings{Address: "a", Headers: map[string]setting.Secret{"X": "hunter2"}}},
		"l": {"list", 0, &listSettings{Users: []string{"true", "1", "", "a, b", "\"'\\\n\x00\u2028é", "${A}", "-", "# x"}}},
	}
	s.Routes = []routeSettings{{"/a/{channel}/*", "query"}, {"/b", "none"}}
	s.Cluster.Redis = &redisSettings{Addresses: []string{"10.0.0.9:6379"}}
	s.Trusted = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::/0")}
	s.Statuses = map[carry]int8{"none": -1}
	s.Matrix = [][]int8{{1, 2}, {3}}
	s.Hosts = []hostSettings{{"a", 0}, {"b", 81}}
	return s
}

// hidden are the settings as they come back from a print.
func hidden(s *settings) *settings {
	s.Admin.Token = setting.Hidden
	s.Backends["p"].Adapter.(*portalSettings).Headers["X"] = setting.Hidden
	return s
}

func TestPrint_RoundTrip(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ printed, want *settings }{
		"the defaults":      {defaults(), defaults()},
		"nothing":           {&settings{Listen: "x"}, &settings{Listen: "x"}},
		"one of everything": {full(), hidden(full())},
		"durations of any size": {
			edited(func(s *settings) { s.Cache.KeepFor = -90 * time.Millisecond }),
			edited(func(s *settings) { s.Cache.KeepFor = -90 * time.Millisecond }),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var text bytes.Buffer
			if err := Print(&text, test.printed); err != nil {
				t.Fatal(err)
			}
			got := &settings{}
			if _, err := Parse("printed.yaml", text.Bytes(), got, Environment{}); err != nil {
				t.Fatalf("Parse: %v\nof\n%s", err, text.String())
			}
			if diff := cmp.Diff(test.want, got, compare()); diff != "" {
				t.Errorf("Parse of the print differs (-want +got):\n%s\nof\n%s", diff, text.String())
			}
		})
	}
}

func TestPrint_Output(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	if err := Print(&text, *full()); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/printed.yaml", text.String())
	if strings.Contains(text.String(), "hunter2") {
		t.Error("the print shows a secret")
	}
}

func TestPrint_Errors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken pipe")
	tests := map[string]struct {
		settings any
		writer   io.Writer
		want     string
	}{
		"on a type that no file holds": {struct {
			A chan int `yaml:"a"`
		}{}, io.Discard, "print the config: go-yaml dump error in representer: cannot represent type: chan int"},
		"as the writer does": {*defaults(), writerFunc(func([]byte) (int, error) { return 0, broken }), "print the config: broken pipe"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := Print(test.writer, test.settings); err == nil || err.Error() != test.want {
				t.Errorf("Print = %v, want %s", err, test.want)
			}
		})
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestRedactURLs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                       "",
		"a value":                                "a value",
		"127.0.0.1:8080":                         "127.0.0.1:8080",
		"http://h:80/a/b":                        "http://h:80/a/b",
		"http://me:s3cret@h/a":                   "http://[hidden]@h/a",
		"http://s3cret@h":                        "http://[hidden]@h",
		"http://me:s3'cret@h/a":                  "http://[hidden]@h/a",
		`http://me:s3"cret@h/a`:                  "http://[hidden]@h/a",
		"http://me:s3@cret@h/a":                  "http://[hidden]@h/a",
		"HTTPS://me:s3cret@h/a":                  "HTTPS://[hidden]@h/a",
		"redis://me:s3cret@h/a":                  "redis://[hidden]@h/a",
		"http://h/a?key=s3cret":                  "http://h/a?key=[hidden]",
		"http://h/a?key=s3'cret":                 "http://h/a?key=[hidden]",
		"http://h/a?key=s3=cret&b=s3cret&c=&d":   "http://h/a?key=[hidden]&b=[hidden]&c=[hidden]&[hidden]",
		"http://h/a?s3cret":                      "http://h/a?[hidden]",
		"http://h/a?":                            "http://h/a?",
		"http://h/a?x=s3 cret#s3 cret":           "http://h/a?x=[hidden]#[hidden]",
		"see http://s3cret@h/a":                  "see http://[hidden]@h/a",
		"http://h/a?x=s3cret#s3cret":             "http://h/a?x=[hidden]#[hidden]",
		"http://h/a?x=s3cret http://s3cret@h2/b": "http://h/a?x=[hidden]",
	} {
		type section struct {
			URL  string   `yaml:"url"`
			List []string `yaml:"list"`
		}
		var printed bytes.Buffer
		if err := Print(&printed, section{text, []string{text, "next", text}}); err != nil {
			t.Fatal(err)
		}
		var got section
		if _, err := Parse("printed.yaml", printed.Bytes(), &got, Environment{}); err != nil {
			t.Fatalf("Parse: %v\nof\n%s", err, printed.String())
		}
		if diff := cmp.Diff(section{want, []string{want, "next", want}}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}
