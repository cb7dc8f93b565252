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
		"a relative file":            {func(c *Config) { c.File = "records" }, `file: "records": want an absolute path`},
		"a small file":               {func(c *Config) { c.MaxFileSize = 1023 }, "max_file_size: 1023"},
		"a size between":             {func(c *Config) { c.MaxFileSize = 3 << 19 }, "max_file_size: 1536KiB: want whole MiB"},
		"no files":                   {func(c *Config) { c.MaxFiles = 0 }, "max_files: 0 is too small"},
		"no host":                    {func(c *Config) { c.Webhook.URL = "http:///x" }, "url: want http://host/path"},
		"another scheme":             {func(c *Config) { c.Webhook.URL = "ftp://a/x" }, "url: want http://host/path"},
		"a port that does not exist": {func(c *Config) { c.Webhook.URL = "http://a:70000/x" }, "url: port 70000 does not exist"},
		"no spool":                   {func(c *Config) { c.Webhook.Spool = "" }, "spool: missing"},
		"a relative spool":           {func(c *Config) { c.Webhook.Spool = "a.db" }, `spool: "a.db": want an absolute path`},
		"no secret":                  {func(c *Config) { c.Webhook.Secret = "" }, "secret: missing"},
		"a broken secret":            {func(c *Config) { c.Webhook.Secret = "whsec_!" }, "secret: what follows whsec_ is not base64"},
		"no timeout":                 {func(c *Config) { c.Webhook.Timeout = 0 }, "timeout: 0s is too short"},
		"none may wait":              {func(c *Config) { c.Webhook.MaxWaiting = 0 }, "max_waiting: 0 is too small"},
	} {
		c := testConfig(t, "127.0.0.1:9")
		test.change(&c)
		err := errors.Join(c.Validate(), c.Webhook.Validate())
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.HasPrefix(err.Error(), test.says)) {
			t.Errorf("%s: got %v, want %q", name, err, test.says)
		}
	}
	c := DefaultConfig()
	if err := errors.Join(c.Validate(), c.Webhook.Validate()); err != nil {
		t.Errorf("the defaults: %v", err)
	}
}
