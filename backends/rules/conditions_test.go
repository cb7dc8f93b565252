package rules

import (
	"net/netip"
	"testing"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/setting"
)

func TestRule_Matches(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		rule   Rule
		change func(*backends.Request)
		want   bool
	}{
		"none":                             {Rule{}, nil, true},
		"the address":                      {Rule{Addresses: []string{"198.51.100.1", "192.0.2.7"}}, nil, true},
		"the network":                      {Rule{Addresses: []string{"192.0.2.0/24"}}, nil, true},
		"a network with bits too many":     {Rule{Addresses: []string{"192.0.2.99/24"}}, nil, true},
		"another network":                  {Rule{Addresses: []string{"192.0.3.0/24", "2001:db8::/32"}}, nil, false},
		"the network of all":               {Rule{Addresses: []string{"0.0.0.0/0"}}, nil, true},
		"an IPv4 network as IPv6":          {Rule{Addresses: []string{"::ffff:192.0.2.0/120"}}, nil, true},
		"an IPv4 address as IPv6":          {Rule{Addresses: []string{"::ffff:192.0.2.7"}}, nil, true},
		"an IPv4 viewer as IPv6":           {Rule{Addresses: []string{"192.0.2.7"}}, at("::ffff:192.0.2.7"), true},
		"an IPv6 viewer":                   {Rule{Addresses: []string{"2001:db8::/32"}}, at("2001:db8::7"), true},
		"an IPv6 viewer with a zone":       {Rule{Addresses: []string{"fe80::/10"}}, at("fe80::1%eth0"), true},
		"a viewer without address":         {Rule{Addresses: []string{"0.0.0.0/0", "::/0"}}, func(r *backends.Request) { r.Address = netip.Addr{} }, false},
		"the channel":                      {Rule{Channels: []string{"b*", "*00*"}}, nil, true},
		"another channel":                  {Rule{Channels: []string{"b*", "A001"}}, nil, false},
		"a folder of channels":             {Rule{Channels: []string{"hd/*"}}, func(r *backends.Request) { r.Channel = "hd/one" }, true},
		"a folder below it":                {Rule{Channels: []string{"hd/*"}}, func(r *backends.Request) { r.Channel = "hd/one/two" }, true},
		"a folder by its beginning":        {Rule{Channels: []string{"hd*"}}, func(r *backends.Request) { r.Channel = "hd/one" }, true},
		"the agent":                        {Rule{UserAgents: []string{"mag*", "vlc/*"}}, nil, true},
		"the agent, somewhere":             {Rule{UserAgents: []string{"*libVLC*"}}, nil, true},
		"another agent":                    {Rule{UserAgents: []string{"vlc"}}, nil, false},
		"no agent":                         {Rule{UserAgents: []string{"?*"}}, func(r *backends.Request) { r.UserAgent = "" }, false},
		"the host":                         {Rule{Hosts: []string{"live.example.com"}}, nil, true},
		"the host with port, in capitals":  {Rule{Hosts: []string{"live.example.com"}}, host("LIVE.example.com.:8080"), true},
		"a host below":                     {Rule{Hosts: []string{"*.example.com"}}, nil, true},
		"not the host itself":              {Rule{Hosts: []string{"*.live.example.com"}}, nil, false},
		"a host that ends alike":           {Rule{Hosts: []string{"example.com"}}, host("evilexample.com"), false},
		"nothing before the dot":           {Rule{Hosts: []string{"*.example.com"}}, host(".example.com"), false},
		"an IPv6 host":                     {Rule{Hosts: []string{"2001:db8::1"}}, host("[2001:db8::1]:8080"), true},
		"an IPv6 host without port":        {Rule{Hosts: []string{"2001:db8::1"}}, host("2001:db8::1"), true},
		"no host":                          {Rule{Hosts: []string{"*.example.com"}}, host(""), false},
		"a Kelvin sign is no k":            {Rule{Hosts: []string{"k.example.com"}}, host("\u212a.example.com"), false},
		"a host of other letters":          {Rule{Hosts: []string{"ТВ.рф"}}, host("xn--b1a5a.XN--P1AI:8080"), true},
		"a host below other letters":       {Rule{Hosts: []string{"*.тв.рф"}}, host("hd.xn--b1a5a.xn--p1ai"), true},
		"not the host of other letters":    {Rule{Hosts: []string{"*.тв.рф"}}, host("xn--b1a5a.xn--p1ai"), false},
		"other letters as they are typed":  {Rule{Hosts: []string{"тв.рф"}}, host("тв.рф"), true},
		"a page of other letters":          {Rule{Referers: []string{"Пример.рф"}}, referer("https://xn--e1afmkfd.xn--p1ai/watch"), true},
		"the page":                         {Rule{Referers: []string{"tv.example.com"}}, referer("https://tv.example.com/watch?x=1"), true},
		"the page with port":               {Rule{Referers: []string{"tv.example.com"}}, referer("https://tv.example.com:8443"), true},
		"the page without scheme":          {Rule{Referers: []string{"hey.com"}}, referer("hey.com"), true},
		"a page below":                     {Rule{Referers: []string{"*.example.com"}}, referer("https://a.b.example.com/"), true},
		"a page hidden behind userinfo":    {Rule{Referers: []string{"tv.example.com"}}, referer("https://tv.example.com@evil.example/"), false},
		"a page hidden behind a backslash": {Rule{Referers: []string{"tv.example.com"}}, referer(`https://evil.example\@tv.example.com/`), false},
		"a page named in the query":        {Rule{Referers: []string{"tv.example.com"}}, referer("https://evil.example?https://tv.example.com"), false},
		"no page":                          {Rule{Referers: []string{"tv.example.com"}}, nil, false},
		"the token":                        {Rule{Tokens: []setting.Secret{"456", "123"}}, nil, true},
		"another token":                    {Rule{Tokens: []setting.Secret{"1234", "12"}}, nil, false},
		"the token, escaped":               {Rule{Tokens: []setting.Secret{"1+/3"}}, query("a=1&token=1%2b%2F3"), true},
		"the token, as it stands":          {Rule{Tokens: []setting.Secret{"1+3%zz"}}, query("token=1+3%zz"), true},
		"the name escaped":                 {Rule{Tokens: []setting.Secret{"123"}}, query("%74oken=123"), true},
		"a name that PHP reads as it":      {Rule{Tokens: []setting.Secret{"123"}}, query("+token%5b]=123"), true},
		"a name that ends at a NUL":        {Rule{Tokens: []setting.Secret{"123"}}, query("token%00x=123"), true},
		"another name":                     {Rule{Tokens: []setting.Secret{"123"}}, query("tokens=123&xtoken=123&Token=123"), false},
		"the second of two":                {Rule{Tokens: []setting.Secret{"123"}}, query("token=x&token=123"), true},
		"the first of two":                 {Rule{Tokens: []setting.Secret{"123"}}, query("token=123;token=x"), true},
		"no token":                         {Rule{Tokens: []setting.Secret{"123"}}, query(""), false},
		"an empty token":                   {Rule{Tokens: []setting.Secret{"123"}}, query("token&token="), false},
		"all conditions": {
			Rule{
				Addresses: []string{"192.0.2.7"}, Channels: []string{"a001"}, UserAgents: []string{"VLC*"},
				Hosts: []string{"live.example.com"}, Tokens: []setting.Secret{"123"}, Referers: []string{"a.example"},
			}, referer("http://a.example/"), true,
		},
		"all but one": {
			Rule{
				Addresses: []string{"192.0.2.7"}, Channels: []string{"a001"}, UserAgents: []string{"VLC*"},
				Hosts: []string{"live.example.com"}, Tokens: []setting.Secret{"1"}, Referers: []string{"a.example"},
			}, referer("http://a.example/"), false,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.rule.Action = Pass
			if err := (Config{Rules: []Rule{tt.rule}, Default: Deny}).Validate(); err != nil {
				t.Fatalf("the rule is invalid: %v", err)
			}
			compiled, err := newRule("rules[0]", tt.rule, nil)
			if err != nil {
				t.Fatalf("make the rule: %v", err)
			}
			r := backendtest.NewRequest("123")
			if tt.change != nil {
				tt.change(r)
			}
			if got := compiled.matches(r); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}

func at(address string) func(*backends.Request) {
	return func(r *backends.Request) { r.Address = netip.MustParseAddr(address) }
}

func host(name string) func(*backends.Request) { return func(r *backends.Request) { r.Host = name } }

func referer(page string) func(*backends.Request) {
	return func(r *backends.Request) { r.Referer = page }
}

func query(raw string) func(*backends.Request) { return func(r *backends.Request) { r.Query = raw } }
