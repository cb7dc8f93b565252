package redisclient

import (
	"crypto/sha1" //nolint:gosec // Redis names scripts by it
	"embed"
	"encoding/hex"
)

// Script is a Lua script that Redis runs atomically. Its file begins with a description of its keys, arguments and
// result. All keys of a script lie in one hash slot.
type Script struct {
	name, source, sha string
	// delaysSessions: sessions wait for the script, so its round trips are counted.
	delaysSessions bool
}

// LoadScript reads lua/<name>.lua of an embedded folder. A missing file is a bug, so it panics.
func LoadScript(files embed.FS, name string) *Script {
	source, err := files.ReadFile("lua/" + name + ".lua")
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return newScript(name, string(source))
}

func newScript(name, source string) *Script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // as above
	return &Script{name: name, source: source, sha: hex.EncodeToString(sum[:])}
}

// LoadSessionScript is LoadScript for a script that sessions wait for: its round trips count in [Client.RoundTrips].
func LoadSessionScript(files embed.FS, name string) *Script {
	s := LoadScript(files, name)
	s.delaysSessions = true
	return s
}
