package upstream

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/backends/setting"
)

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	hosts := func(names ...string) Config {
		var c Config
		for _, name := range names {
			c.RedirectHosts = append(c.RedirectHosts, RedirectHost{Host: name})
		}
		return c
	}
	for name, test := range map[string]struct {
		config Config
		want   string
	}{
		"nothing":                    {Config{}, ""},
		"all forms":                  {hosts("a", "a.example.com:80", "a.example.com:*", "*.example.com", "*.example.com:*", "10.0.0.1", "[::1]:80"), ""},
		"a URL":                      {hosts("ok.example.com", "http://a"), `redirect_hosts[1]: "http://a": want a host, without scheme, path and user`},
		"a path":                     {hosts("a/b"), `redirect_hosts[0]: "a/b": want a host, without scheme, path and user`},
		"all hosts":                  {hosts("*"), `redirect_hosts[0]: "*": a * stands for the first label alone, before a name of at least two, such as "*.example.com"`},
		"all hosts of a top level":   {hosts("*.com"), `redirect_hosts[0]: "*.com": a * stands for the first label alone, before a name of at least two, such as "*.example.com"`},
		"a * within":                 {hosts("a.*.com"), `redirect_hosts[0]: "a.*.com": a * stands for the first label alone, before a name of at least two, such as "*.example.com"`},
		"a * before an address":      {hosts("*.0.0.1"), ""},
		"a name beyond ASCII":        {hosts("täst.de"), `redirect_hosts[0]: "täst.de": write the name as DNS has it, "xn--…"`},
		"no host":                    {hosts(""), `redirect_hosts[0]: "": want a host such as "edge.example.com", "edge.example.com:8080", "edge.example.com:*" or "*.cdn.example.com"`},
		"a port that is none":        {hosts("a:http"), `redirect_hosts[0]: "a:http": want a host such as "edge.example.com", "edge.example.com:8080", "edge.example.com:*" or "*.cdn.example.com"`},
		"an IPv6 without brackets":   {hosts("2001:db8::1"), `redirect_hosts[0]: "2001:db8::1": want a host such as "edge.example.com", "edge.example.com:8080", "edge.example.com:*" or "*.cdn.example.com"`},
		"a public name that is none": {Config{PublicNames: []string{"a", "b c"}}, `public_names[1]: "b c": want a host such as "edge.example.com", "edge.example.com:8080", "edge.example.com:*" or "*.cdn.example.com"`},
		"headers":                    {Config{Headers: map[string]setting.Secret{"User-Agent": "Lavf/60", "referer": "https://tv.example.com/", "X-Key": ""}}, ""},
		"a header that is none":      {Config{Headers: map[string]setting.Secret{"User Agent": "x"}}, `headers.User Agent: is not a header field that can be set`},
		"the connection's header":    {Config{Headers: map[string]setting.Secret{"Host": "x"}}, `headers.Host: is not a header field that can be set`},
		"the gateway's header":       {Config{Headers: map[string]setting.Secret{"Range": "x"}}, `headers.Range: is not a header field that can be set`},
		"a header in two spellings":  {Config{Headers: map[string]setting.Secret{"X-Key": "a", "x-key": "b"}}, `headers.x-key: is headers.X-Key in another spelling; keep one of them`},
		"a value of two lines":       {Config{Headers: map[string]setting.Secret{"X-Key": "5ecret\r\nX: y"}}, `headers.X-Key: the value has control characters`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ""
			if err := test.config.Validate(); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfig_Warnings(t *testing.T) {
	t.Parallel()
	c := Config{AllowedNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("0.0.0.0/0")}}
	want := "allowed_networks[1]: 0.0.0.0/0 lets redirect_hosts lead to any address, those of this node and its network too; list the networks of the edges alone"
	if err := c.Warnings(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
