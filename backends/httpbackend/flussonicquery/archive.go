package flussonicquery

import (
	"net/url"
	"strings"
)

// isArchive reports whether a path, escaped as the viewer sent it, addresses a Flussonic archive, in the forms that
// its manual lists (flussonic.com/doc, "Accessing DVR Archives via Various Protocols") or that players build:
//
//	archive-1350274200-4200.m3u8, archive-1350274200-now.m3u8    from a Unix time in seconds, for a duration
//	timeshift_abs-1350274200.m3u8, timeshift_rel-3600.m3u8       delayed
//	rewind-7200.m3u8                                             live, with a window to seek back
//
// index, video, mono and tracks-v1a1 can replace archive, and all five can precede a timeshift or rewind, as in
// video-rewind-7200. The folder is ignored. The extension is m3u8, ts, or none. A file named like the channel is not an
// archive: on a route such as /{channel}.m3u8 a channel can be named rewind-24.
func isArchive(path, channel string) bool {
	if plain, err := url.PathUnescape(path); err == nil {
		path = plain
	}
	name, isPlaylist := strings.CutSuffix(lastSegment(path), ".m3u8")
	if !isPlaylist {
		name = strings.TrimSuffix(name, ".ts")
	}
	return name != lastSegment(channel) && isArchiveName(name)
}

func isArchiveName(name string) bool {
	head, rest, _ := strings.Cut(name, "-")
	if isTimeshift(head, rest) {
		return true
	}
	switch head {
	case "archive", "index", "video", "mono":
	case "tracks":
		_, rest, _ = strings.Cut(rest, "-") // the track list
	default:
		return false
	}
	from, length, _ := strings.Cut(rest, "-")
	return isTimeshift(from, length) || isNumber(from) && (length == "now" || isNumber(length))
}

func isTimeshift(kind, by string) bool {
	return (kind == "timeshift_abs" || kind == "timeshift_rel" || kind == "rewind") && isNumber(by)
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// lastSegment returns the part after the last slash.
func lastSegment(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
