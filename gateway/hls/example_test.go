package hls_test

import (
	"fmt"
	"log"
	"strings"

	"usher/gateway/hls"
)

// ExampleParse parses an origin's playlist once and writes it for two viewers. The third URI is on a foreign host and
// stays unchanged.
func ExampleParse() {
	const playlist = `#EXTM3U
#EXT-X-TARGETDURATION:6
#EXT-X-MAP:URI="init.mp4"
#EXTINF:6,
segment-17.m4s
#EXTINF:6,
https://ads.example.com/segment-18.m4s
`
	template, err := hls.Parse([]byte(playlist), hls.Options{
		Origin:   "http://origin.internal/live/a001/index.m3u8",
		Path:     "/play/a001/index.m3u8",
		TicketIn: hls.TicketInPath,
		Locate: func(listed hls.Listed) (viewerRef string, ok bool) {
			rest, ok := strings.CutPrefix(listed.Ref, "/live/")
			return "/play/" + rest, ok && listed.Host == "origin.internal"
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, ticket := range []string{"ticket-of-alice", "ticket-of-bob"} {
		fmt.Print(string(template.Append(nil, []byte(ticket), nil)))
	}
	fmt.Println(template.Info().TargetDuration)
	// Output:
	// #EXTM3U
	// #EXT-X-TARGETDURATION:6
	// #EXT-X-MAP:URI="/~ticket-of-alice/play/a001/init.mp4"
	// #EXTINF:6,
	// /~ticket-of-alice/play/a001/segment-17.m4s
	// #EXTINF:6,
	// https://ads.example.com/segment-18.m4s
	// #EXTM3U
	// #EXT-X-TARGETDURATION:6
	// #EXT-X-MAP:URI="/~ticket-of-bob/play/a001/init.mp4"
	// #EXTINF:6,
	// /~ticket-of-bob/play/a001/segment-17.m4s
	// #EXTINF:6,
	// https://ads.example.com/segment-18.m4s
	// 6s
}
