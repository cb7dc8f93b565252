package hls_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls"
)

// infoCase is a playlist without its first line, and its Info.
type infoCase struct {
	body     string
	want     hls.Info
	sequence uint64
	part     int
}

func infoCases() map[string]infoCase {
	return map[string]infoCase{
		"a live playlist": {
			body: "#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:17\n#EXTINF:6,\na.ts\n#EXTINF:6,\nb.ts\n",
			want: hls.Info{TargetDuration: 6 * time.Second, MediaSequence: 17, Segments: 2}, sequence: 19,
		},
		"a finished one in CRLF": {
			body: "#EXT-X-TARGETDURATION:6\r\n#EXTINF:6,\r\na.ts\r\n#EXT-X-ENDLIST\r\n",
			want: hls.Info{TargetDuration: 6 * time.Second, Segments: 1, HasEndList: true}, sequence: 1,
		},
		"a low-latency one": {
			body: `#EXT-X-TARGETDURATION:4
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.0,HOLD-BACK=12.5,CAN-SKIP-UNTIL=24.0
#EXT-X-PART-INF:PART-TARGET=0.33334
#EXT-X-MEDIA-SEQUENCE:266
#EXT-X-PART:DURATION=0.3,URI="a.0.mp4"
a.mp4
#EXT-X-PART:DURATION=0.3,URI="b.0.mp4"
#EXT-X-PART:DURATION=0.3,URI="b.1.mp4"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="b.2.mp4"`,
			want: hls.Info{
				TargetDuration: 4 * time.Second, PartTarget: 333_340 * time.Microsecond, HoldBack: 12_500 * time.Millisecond,
				PartHoldBack: time.Second, CanSkipUntil: 24 * time.Second, CanBlockReload: true,
				MediaSequence: 266, Segments: 1, Parts: 2,
			}, sequence: 267, part: 2,
		},
		"a delta update": {
			body: "#EXT-X-MEDIA-SEQUENCE:100\n#EXT-X-SKIP:SKIPPED-SEGMENTS=20\na.ts\n",
			want: hls.Info{MediaSequence: 100, Segments: 1, Skipped: 20}, sequence: 121,
		},
		"a multivariant one": {
			body: "#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nb.m3u8\n",
			want: hls.Info{IsMultivariant: true},
		},
		"nonsense": {
			body: "#EXT-X-TARGETDURATION:-6\n#EXT-X-MEDIA-SEQUENCE:x\n#EXT-X-PART-INF:PART-TARGET=NaN\n#EXT-X-SERVER-CONTROL:HOLD-BACK=1e99,CAN-BLOCK-RELOAD=NO\n",
			want: hls.Info{HoldBack: 24 * time.Hour},
		},
	}
}

func TestScan_Info(t *testing.T) {
	t.Parallel()
	for name, test := range infoCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := []byte("#EXTM3U\n" + test.body)
			got, err := hls.Scan(body)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Scan (-want +got):\n%s", diff)
			}
			if sequence, part := got.Next(); sequence != test.sequence || part != test.part {
				t.Errorf("Next() = %d, %d, want %d, %d", sequence, part, test.sequence, test.part)
			}
			template, err := hls.Parse(body, mode{}.options())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, template.Info()); diff != "" {
				t.Errorf("Parse reads it otherwise than Scan (-scan +parse):\n%s", diff)
			}
		})
	}
}

func TestInfoIsLive(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		info hls.Info
		want bool
	}{
		"a media playlist": {hls.Info{}, true},
		"a finished one":   {hls.Info{HasEndList: true}, false},
		"a multivariant":   {hls.Info{IsMultivariant: true}, false},
	} {
		if got := test.info.IsLive(); got != test.want {
			t.Errorf("%s: Live() = %t, want %t", name, got, test.want)
		}
	}
}
