package config

import (
	"regexp"
	"strconv"
	"strings"
)

// join appends a key to a path. A key with unusual characters is quoted, so that a path is one line.
func join(path, key string) string {
	if !isPlainKey(key) {
		return path + "[" + strconv.Quote(key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// index appends an index of a list.
func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func isPlainKey(key string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	return key != "" && strings.Trim(key, letters) == ""
}

// within reports whether path is section or a setting inside it; every path is within "".
func within(path, section string) bool {
	rest, ok := strings.CutPrefix(path, section)
	return ok && (rest == "" || section == "" || rest[0] == '.' || rest[0] == '[')
}

// splitPath splits "cache.max_bytes: must be …" into path and text; a message without a path has an empty one.
func splitPath(message string) (path, text string) {
	const key = `[A-Za-z_][A-Za-z0-9_-]*`
	leading := regexp.MustCompile(`^` + key + `(\.[A-Za-z0-9_-]+|\[\d+\]|\["[^"\\]*"\])*: `)
	found := leading.FindString(message)
	if found == "" {
		return "", message
	}
	return strings.TrimSuffix(found, ": "), message[len(found):]
}

// firstKey returns the first key of a path.
func firstKey(path string) string {
	key, _, _ := strings.Cut(path, "[")
	key, _, _ = strings.Cut(key, ".")
	return key
}
