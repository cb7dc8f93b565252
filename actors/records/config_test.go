package records

import (
	"errors"
	"strings"
	"testing"
)

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*Config)
		says   string // empty: it is valid
	}{
		"all":                        {func(*Config) {}, ""},
		"a secret that is no base64": {func(c *Config) { c.Webhook.Secret = "0123456789abcdef" }, ""},
		"a relative file":            {func(c *Config) { c.File.Path = "records" }, `path: "records": want an absolute path`},
		"a small file":               {func(c *Config) { c.File.MaxSize = 1023 }, "max_size: 1023"},
		"a size between":             {func(c *Config) { c.File.MaxSize = 3 << 19 }, "max_size: 1536KiB: want whole MiB"},
		"no files":                   {func(c *Config) { c.File.MaxFiles = 0 }, "max_files: 0 is too small"},
		"no host":                    {func(c *Config) { c.Webhook.URL = "http:///x" }, "url: want http://host/path"},
		"another scheme":             {func(c *Config) { c.Webhook.URL = "ftp://a/x" }, "url: want http://host/path"},
		"a port that does not exist": {func(c *Config) { c.Webhook.URL = "http://a:70000/x" }, "url: port 70000 does not exist"},
		"no spool":                   {func(c *Config) { c.Spool.Path = "" }, "spool.path: missing"},
		"a relative spool":           {func(c *Config) { c.Spool.Path = "a.db" }, `path: "a.db": want an absolute path`},
		"a small spool":              {func(c *Config) { c.Spool.MaxSize = 1 << 19 }, "max_size: 512KiB is too small; want at least 1MiB"},
		"no secret":                  {func(c *Config) { c.Webhook.Secret = "" }, "secret: missing; the receiver cannot tell who sends; create one with echo \"whsec_$(openssl rand -base64 32)\""},
		"a short secret":             {func(c *Config) { c.Webhook.Secret = "0123456789abcde" }, "secret: has 15 bytes; want at least 16; create one with echo \"whsec_$(openssl rand -base64 32)\""},
		"a short secret in base64":   {func(c *Config) { c.Webhook.Secret = "whsec_MDEyMzQ1Njc4OWFi" }, "secret: has 12 bytes; want at least 16"},
		"nothing in base64":          {func(c *Config) { c.Webhook.Secret = "whsec_" }, "secret: has 0 bytes; want at least 16"},
		"a broken secret":            {func(c *Config) { c.Webhook.Secret = "whsec_!!!!!!!!!!!!" }, "secret: what follows whsec_ is not base64"},
		"no timeout":                 {func(c *Config) { c.Webhook.Timeout = 0 }, "timeout: 0s is too short"},
	} {
		c := testConfig(t, "127.0.0.1:9")
		test.change(&c)
		err := errors.Join(c.Validate(), c.File.Validate(), c.Webhook.Validate(), c.Spool.Validate())
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.HasPrefix(err.Error(), test.says)) {
			t.Errorf("%s: got %v, want %q", name, err, test.says)
		}
	}
	c := DefaultConfig()
	if err := errors.Join(c.Validate(), c.File.Validate(), c.Webhook.Validate(), c.Spool.Validate()); err != nil {
		t.Errorf("the defaults: %v", err)
	}
}
