package setting_test

import (
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
	})
}

func TestValidatePort(t *testing.T) {
	t.Parallel()
	checkMessages(t, setting.ValidatePort, map[string]string{
		"": "", "1": "", "65535": "",
		"0":     "port 0 does not exist; want 1 to 65535",
		"65536": "port 65536 does not exist; want 1 to 65535",
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
