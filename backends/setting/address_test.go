package setting_test

import (
	"strings"
	"testing"

	"usher/backends/setting"
)

func TestValidateListen(t *testing.T) {
	t.Parallel()
	checkMessages(t, setting.ValidateListen, map[string]string{
		":8080": "", "127.0.0.1:0": "", "[::1]:65535": "", "localhost:http": "",
		"":           `"" is no address; want "host:port" or ":port"`,
		"8080":       `"8080" is no address; want "host:port" or ":port"`,
		"127.0.0.1:": `"127.0.0.1:" is no address; want "host:port" or ":port"`,
		"::1":        `"::1" is no address; want "host:port" or ":port"`,
		":65536":     `":65536" has no such port; want 0 to 65535`,
		":-1":        `":-1" has no such port; want 0 to 65535`,
		":nosuch":    `":nosuch" has no such port; want 0 to 65535`,
		"a b:80":     `"a b:80": "a b" is no host; want a name or an IP address`,
	})
}

func TestValidateServer(t *testing.T) {
	t.Parallel()
	checkMessages(t, setting.ValidateServer, map[string]string{
		"10.0.0.9:6379": "", "redis.example.com:1": "", "[::1]:65535": "",
		"10.0.0.9:":      `"10.0.0.9:" is no address; want "host:port"`,
		"10.0.0.9":       `"10.0.0.9" is no address; want "host:port"`,
		"10.0.0.9:0":     `"10.0.0.9:0" has no such port; want 1 to 65535`,
		"10.0.0.9:65536": `"10.0.0.9:65536" has no such port; want 1 to 65535`,
		"999.0.0.9:6379": `"999.0.0.9:6379": "999.0.0.9" is no host; want a name or an IP address`,
	})
}

func TestValidateServer_Host(t *testing.T) {
	t.Parallel()
	label := strings.Repeat("a", 63)
	long := strings.Repeat(label+".", 3)
	for host, isValid := range map[string]bool{
		"": true, "redis": true, "redis-1.example.com": true, "redis_1": true, "example.com.": true, "1.example": true, "1a": true,
		"[fe80::1%eth0]": true, "[::ffff:10.0.0.9]": true, label: true, long + label[2:]: true, long + label[2:] + ".": true,
		long + label[1:]: false, label + "a": false, "a b": false, "a\x00b": false, "a..b": false, ".": false, ".a": false, "*": false, "127.1": false,
		"10.0.0.9.": false, "[::1%]": false, "[]": true, "redis://a": false, "b\u00fccher.example": false,
	} {
		if err := setting.ValidateServer(host + ":6379"); (err == nil) != isValid {
			t.Errorf("%q: error %v, want valid: %t", host, err, isValid)
		}
	}
}

func TestValidatePort(t *testing.T) {
	t.Parallel()
	checkMessages(t, setting.ValidatePort, map[string]string{
		"": "", "1": "", "65535": "",
		"0":     "port 0 does not exist; want 1 to 65535",
		"65536": "port 65536 does not exist; want 1 to 65535",
		"+80":   "port +80 does not exist; want 1 to 65535",
		"http":  "port http does not exist; want 1 to 65535",
	})
}

// checkMessages checks the message for each text; none for a valid one.
func checkMessages(t *testing.T, validate func(string) error, messages map[string]string) {
	t.Helper()
	for text, want := range messages {
		got := ""
		if err := validate(text); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
