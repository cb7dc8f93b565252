package flussonic

import (
	"net/url"
	"strings"
)

// isArchive reports whether a path, escaped as the viewer sent it, is one of Flussonic's addresses of an archive, as
// its manual lists them (flussonic.com/doc, "Accessing DVR Archives via Various Protocols") or as players build them:
//
//	archive-1350274200-4200.m3u8, archive-1350274200-now.m3u8    from a second of Unix time, for so long
//	timeshift_abs-1350274200.m3u8, timeshift_rel-3600.m3u8       late by so much
//	rewind-7200.m3u8                                             live, with so much to go back to
//
// index, video, mono and tracks-v1a1 may stand for archive, and all five before a timeshift or rewind, as in
// video-rewind-7200. The folder does not matter. The ending is m3u8, ts, or none. A file named as the channel is no
// archive: on a route such as /{channel}.m3u8 a channel may well be called rewind-24.
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
		_, rest, _ = strings.Cut(rest, "-") // which ones
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

// lastSegment is what follows the last slash.
func lastSegment(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
