package httpbackend

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"usher/backends"
)

func TestStatusTable_Classify_Challenge(t *testing.T) {
	t.Parallel()
	const basic, bearer = `Basic realm="TV", charset="UTF-8"`, `Bearer realm="tv", error="invalid_token"`
	const www = "WWW-Authenticate"
	badHeader := AlarmSet(0).With(backends.AlarmBadHeader)
	long := "Basic realm=" + strings.Repeat("x", maxChallengeLength)
	longest := long[:maxChallengeLength]
	tests := map[string]struct {
		status int
		fields []string
		want   string
		alarms AlarmSet
	}{
		"none":                        {401, nil, "", 0},
		"one, as sent":                {401, []string{www, basic}, basic, 0},
		"two, in their order":         {401, []string{www, bearer, www, basic}, bearer + "\n" + basic, 0},
		"a scheme alone":              {401, []string{www, "Negotiate"}, "Negotiate", 0},
		"a realm of other letters":    {401, []string{www, `Basic realm="Телевидение"`}, `Basic realm="Телевидение"`, 0},
		"white space around it":       {401, []string{www, " " + basic + "\t"}, basic, 0},
		"of a 403, which has none":    {403, []string{www, basic}, "", 0},
		"of a 200, which has none":    {200, []string{www, basic}, "", 0},
		"an empty one":                {401, []string{www, ""}, "", badHeader},
		"a line break":                {401, []string{www, "Basic realm=x\r\nSet-Cookie: y"}, "", badHeader},
		"no scheme":                   {401, []string{www, `realm="TV"`}, "", badHeader},
		"Latin-1":                     {401, []string{www, "Basic realm=\"caf\xe9\""}, "", badHeader},
		"the longest":                 {401, []string{www, longest}, longest, 0},
		"too long":                    {401, []string{www, long}, "", badHeader},
		"a good one beside a bad one": {401, []string{www, long, www, basic}, basic, badHeader},
		"five": {
			401, []string{www, "A", www, "B", www, "C", www, "D", www, "E"}, "A\nB\nC\nD", badHeader,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for preset := PresetAstra; preset <= PresetAuthProxy; preset++ {
				r := mustTable(t, preset, nil).Classify("portal", ownAddress(), Response{Status: tt.status, Header: header(tt.fields...)})
				if r.Decision.Challenge != tt.want || r.Raised != tt.alarms {
					t.Errorf("%s: got challenge %q and alarms %b, want %q and %b", preset, r.Decision.Challenge, r.Raised, tt.want, tt.alarms)
				}
			}
		})
	}
}

func FuzzClassify_Challenge(f *testing.F) {
	f.Add(401, `Basic realm="TV"`, "Bearer")
	f.Add(401, "\r\n", "Basic\x00")
	f.Add(403, "Basic", "Digest nonce=1, realm=2")
	f.Fuzz(func(t *testing.T, status int, one, other string) {
		r := mustTable(t, PresetAstra, nil).Classify("portal", ownAddress(), Response{
			Status: status, Header: header("WWW-Authenticate", one, "WWW-Authenticate", other),
		})
		challenge := r.Decision.Challenge
		if challenge != "" && (status != 401 || r.Decision.Verdict != backends.Denied) {
			t.Errorf("status %d: got challenge %q", status, challenge)
		}
		for line := range strings.SplitSeq(challenge, "\n") {
			if len(line) > maxChallengeLength || !utf8.ValidString(line) || strings.ContainsFunc(line, unicode.IsControl) ||
				challenge != "" && strings.TrimSpace(line) == "" {
				t.Errorf("got challenge %q", challenge)
			}
		}
	})
}
