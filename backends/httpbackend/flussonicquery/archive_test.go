package flussonicquery

import (
	"net/url"
	"regexp"
	"testing"
)

func TestIsArchive(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		path string
		want bool
	}{
		"a period":                          {"/play/a001/archive-1350274200-4200.m3u8", true},
		"a period until now":                {"/play/a001/archive-1350274200-now.m3u8", true},
		"its old name":                      {"/play/a001/index-1409148900-3600.m3u8", true},
		"its old name, until now":           {"/play/a001/index-1409148900-now.m3u8", true},
		"all tracks in one":                 {"/play/a001/video-1350274200-4200.m3u8", true},
		"one sound track":                   {"/play/a001/mono-1350274200-now.m3u8", true},
		"chosen tracks":                     {"/play/a001/tracks-v1a1-1350274200-4200.m3u8", true},
		"chosen tracks in a folder":         {"/play/a001/tracks-v1a1/archive-1350274200-4200.m3u8", true},
		"live but late, to a time":          {"/play/a001/timeshift_abs-1350274200.m3u8", true},
		"live but late, by a time":          {"/play/a001/timeshift_rel-3600.m3u8", true},
		"late, all tracks in one":           {"/play/a001/video-timeshift_abs-1350274200.m3u8", true},
		"late, one sound track":             {"/play/a001/mono-timeshift_rel-7200.m3u8", true},
		"late, chosen tracks":               {"/play/a001/tracks-v1-timeshift_rel-7200.m3u8", true},
		"live with a rewind window":         {"/play/a001/rewind-7200.m3u8", true},
		"live with a rewind window, in one": {"/play/a001/video-rewind-7200.m3u8", true},
		"MPEG-TS":                           {"/play/a001/timeshift_abs-1350274200.ts", true},
		"without an extension":              {"/play/a001/timeshift_rel-3600", true},
		"escaped":                           {"/play/a001/%61rchive%2D1350274200-4200%2Em3u8", true},
		"escaped down to the slash":         {"/play/a001%2Farchive-1350274200-4200.m3u8", true},
		"without a folder":                  {"archive-1-2.m3u8", true},

		"live":                              {"/play/a001/index.m3u8", false},
		"live, all tracks in one":           {"/play/a001/video.m3u8", false},
		"live, chosen tracks":               {"/play/a001/tracks-v1a1/mono.m3u8", false},
		"a folder alone":                    {"/play/archive-1350274200-4200.m3u8/", false},
		"a folder on the way":               {"/play/archive-1350274200-4200/index.m3u8", false},
		"no length":                         {"/play/a001/archive-1350274200.m3u8", false},
		"an empty length":                   {"/play/a001/archive-1350274200-.m3u8", false},
		"no beginning":                      {"/play/a001/archive--4200.m3u8", false},
		"a beginning that is now":           {"/play/a001/archive-now-4200.m3u8", false},
		"too much":                          {"/play/a001/archive-1350274200-4200-1.m3u8", false},
		"letters in a number":               {"/play/a001/archive-1350274200-42x0.m3u8", false},
		"a sign":                            {"/play/a001/timeshift_rel--3600.m3u8", false},
		"another spelling":                  {"/play/a001/Archive-1350274200-4200.m3u8", false},
		"another list":                      {"/play/a001/audio-1350274200-4200.m3u8", false},
		"a list twice":                      {"/play/a001/video-archive-1350274200-4200.m3u8", false},
		"chosen tracks without a beginning": {"/play/a001/tracks-1350274200-4200.m3u8", false},
		"an extension too many":             {"/play/a001/archive-1350274200-4200.m3u8.ts", false},
		"an escape that is broken":          {"/play/a001/archive-1350274200-4200.m3u8%", false},
		"nothing":                           {"", false},
		"a channel named like one":          {"/live/rewind-24.m3u8", false},
		"a channel named like one, MPEG-TS": {"/live/rewind-24.ts", false},
		"an archive of a channel named so":  {"/live/rewind-24/rewind-25.m3u8", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := isArchive(tt.path, "news/rewind-24"); got != tt.want {
				t.Errorf("%s: got %t, want %t", tt.path, got, tt.want)
			}
		})
	}
}

func TestIsArchive_NoAllocation(t *testing.T) {
	if allocs := testing.AllocsPerRun(100, func() {
		_ = isArchive("/play/a001/video-timeshift_abs-1350274200.m3u8", "a001")
	}); allocs != 0 {
		t.Errorf("got %v allocations, want none", allocs)
	}
}

func FuzzIsArchive(f *testing.F) {
	for _, seed := range []string{
		"/a/archive-1350274200-4200.m3u8", "/a/index-1-now.m3u8", "/a/tracks-v1a1-1-2.ts", "timeshift_abs-1",
		"/a/video-timeshift_rel-3600.m3u8", "rewind-7200.m3u8", "/%61rchive%2d1-2.m3u8", "/a/mono-1-2.m3u8%", "--.m3u8",
	} {
		f.Add(seed)
	}
	archive := regexp.MustCompile(`^(?s:.*/)?(` +
		`((archive|index|video|mono|tracks-[^-/]*)-)?(timeshift_abs|timeshift_rel|rewind)-[0-9]+|` +
		`(archive|index|video|mono|tracks-[^-/]*)-[0-9]+-([0-9]+|now))(\.m3u8|\.ts)?$`)
	f.Fuzz(func(t *testing.T, path string) {
		plain, err := url.PathUnescape(path)
		if err != nil {
			plain = path
		}
		if got, want := isArchive(path, "a001"), archive.MatchString(plain); got != want {
			t.Errorf("%q: got %t, want %t", path, got, want)
		}
	})
}
