package result_test

import (
	"strings"
	"testing"

	"usher/bench/result"
)

func TestHideCredentials(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                  "",
		"http://node:8080":  "http://node:8080",
		"http://u:p@node/a": "http://[hidden]@node/a",
		"http://node/a@b/c": "http://node/a@b/c",
		"--target=http://a,https://u:p,w@b/m?key=s,t":                 "--target=http://a,https://[hidden]@b/m?key=[hidden]",
		"http://a/?x=1,http://b/?y=2":                                 "http://a/?x=[hidden],http://b/?y=[hidden]",
		"http://a/m?s3cret":                                           "http://a/m?[hidden]",
		"path=/play/{channel}/i.m3u8?token={token}&password=x&empty=": "path=/play/{channel}/i.m3u8?token={token}&password=[hidden]&empty=",
		"no answer of http://u:p@a/b?c=d after 3 s":                   "no answer of http://[hidden]@a/b?c=[hidden] after 3 s",
	} {
		if got := result.HideCredentials(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func TestRun_HideCredentials(t *testing.T) {
	t.Parallel()
	const url, secret = "http://name:s3cret@node/?key=s3cret", "s3cret"
	run := &result.Run{
		Version: result.Version, Settings: map[string]string{"path": url},
		Measurements: []result.Measurement{{Target: url, URL: url, Notes: []string{"not reached: " + url}}},
	}
	run.HideCredentials()
	var written strings.Builder
	if err := run.Write(&written); err != nil || strings.Contains(written.String(), secret) {
		t.Errorf("%v, the document holds a credential: %s", err, &written)
	}
}
