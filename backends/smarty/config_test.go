package smarty

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/backends/httpbackend"
	"usher/cmd/usher/config"
)

func TestEndpoint(t *testing.T) {
	t.Parallel()
	const check, streaming = "/tvmiddleware/api/streamservice/token/check/", "/streaming/api/streamservice/token/check/"
	tests := map[string]struct{ address, want string }{
		"a host":                  {"http://host", "http://host" + check},
		"a slash at the end":      {"http://host/", "http://host" + check},
		"a path in front":         {"http://host/smarty", "http://host/smarty" + check},
		"a query stays behind it": {"http://host?site=1", "http://host" + check + "?site=1"},
		"in full":                 {"http://host" + check, "http://host" + check},
		"the Streaming API's":     {"http://host" + streaming, "http://host" + streaming},
		"in full with a query":    {"http://host" + streaming + "?a=/", "http://host" + streaming + "?a=/"},
		"in full without a slash": {"http://host/token/check", "http://host/token/check"},
		"one that looks alike":    {"http://host/mytoken/check/", "http://host/mytoken/check" + check},
		"none stays none":         {"", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := endpoint(tt.address); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestConfig_UnmarshalYAML(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatalf("read the example: %v", err)
	}
	got := DefaultConfig()
	if err := config.Decode(text, &got); err != nil {
		t.Fatalf("read the config: %v", err)
	}
	want := DefaultConfig()
	want.HTTP.Address, want.HTTP.Preset, want.HTTP.MaxBodySize = "http://smarty.example.com", httpbackend.PresetFlussonic, 4096
	want.Send = []string{"name", "ip"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the example is invalid: %v", err)
	}
}

func TestNew_InvalidCAFile(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.HTTP.Address, cfg.HTTP.TLS.CAFile = "https://smarty.example.com", "testdata/full.yaml"
	_, err := New("middleware", cfg, httpbackend.Deps{})
	if err == nil || err.Error() != `make backend "middleware": tls.ca_file: no certificate in testdata/full.yaml` {
		t.Errorf("got %v", err)
	}
}

func TestNew_InvalidConfig(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		address string
		send    []string
		want    string
	}{
		"no address":        {"", nil, "address: must be set"},
		"no host":           {"http://", nil, "address: has no host; want a URL such as http://10.0.0.5:8080/check"},
		"an unknown fact":   {"http://host", []string{"name", "referer"}, `send: "referer": want name or ip`},
		"in capitals":       {"http://host", []string{"IP"}, `send: "IP": want name or ip`},
		"a fact twice":      {"http://host", []string{"ip", "name", "ip"}, `send: "ip" is listed twice`},
		"several mistakes":  {"", []string{"x"}, "address: must be set\n" + `send: "x": want name or ip`},
		"the end of a page": {"http://host/#a", nil, "address: has a '#', which is never sent; write %23"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			cfg.HTTP.Address, cfg.Send = tt.address, tt.send
			if err := cfg.Validate(); err == nil || err.Error() != tt.want {
				t.Errorf("validate: got %v, want %s", err, tt.want)
			}
			_, err := New("middleware", cfg, httpbackend.Deps{})
			if err == nil || err.Error() != `make backend "middleware": `+tt.want {
				t.Errorf("new: got %v, want %s", err, tt.want)
			}
		})
	}
}

// Each page is a failure, unless it is the JSON of the contract.
func TestConfig_Validate_BrokenPage(t *testing.T) {
	t.Parallel()
	for meaning, want := range map[httpbackend.BrokenPage]string{
		httpbackend.BrokenPageAlarm:   "",
		httpbackend.BrokenPageFailure: "broken_page: failure has no effect, since the JSON in the body decides; leave it out",
		httpbackend.BrokenPageIgnore:  "broken_page: ignore has no effect, since the JSON in the body decides; leave it out",
	} {
		cfg := DefaultConfig()
		cfg.HTTP.Address, cfg.HTTP.BrokenPage = "http://host", meaning
		got := ""
		if err := cfg.Validate(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", meaning, got, want)
		}
	}
}
