package setting_test

import (
	"testing"

	"usher/backends/setting"
)

func TestValidateHeaderNames(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		headers map[string]setting.Secret
		want    string
	}{
		"none":                   {nil, ""},
		"two names":              {map[string]setting.Secret{"X-Api-Key": "a", "x-api-key2": "b"}, ""},
		"one name in spellings":  {map[string]setting.Secret{"X-Api-Key": "a", "x-api-key": "a"}, "headers.x-api-key: is headers.X-Api-Key in another spelling; keep one of them"},
		"one name, three values": {map[string]setting.Secret{"B": "5ecret", "b": "5ecret", "A": "", "a": "5ecret"}, "headers.a: is headers.A in another spelling; keep one of them\nheaders.b: is headers.B in another spelling; keep one of them"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ""
			if err := setting.ValidateHeaderNames("headers", tt.headers); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestHasHeader(t *testing.T) {
	t.Parallel()
	headers := map[string]setting.Secret{"authorization": ""}
	if !setting.HasHeader(headers, "Authorization") || setting.HasHeader(headers, "Proxy-Authorization") {
		t.Errorf("got %t and %t, want the name in any spelling alone", setting.HasHeader(headers, "Authorization"), setting.HasHeader(headers, "Proxy-Authorization"))
	}
}

func TestIsPublicHeader(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"Accept": true, "user-agent": true, "X-Requested-With": true,
		"Authorization": false, "Cookie": false, "X-Api-Key": false, "X-Portal": false, "Referer": false, "": false,
	} {
		if got := setting.IsPublicHeader(name); got != want {
			t.Errorf("%s is public: %t, want %t", name, got, want)
		}
	}
}

func TestIsReservedHeader(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"X-Real-IP": true, "Host": true, "Content-Length": true, "Traceparent": true, "Forwarded": true, "X-Device": false, "Cookie": false,
	} {
		if got := setting.IsReservedHeader(name); got != want {
			t.Errorf("%s is reserved: %t, want %t", name, got, want)
		}
	}
}

func TestIsConnectionHeader(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"Transfer-Encoding": true, "host": true, "X-Real-IP": false} {
		if got := setting.IsConnectionHeader(name); got != want {
			t.Errorf("%s is the connection's: %t, want %t", name, got, want)
		}
	}
}
