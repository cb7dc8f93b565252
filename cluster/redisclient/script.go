package redisclient

import (
	"crypto/sha1" //nolint:gosec // Redis names scripts by it
	"embed"
	"encoding/hex"
)

// Script is a Lua script that Redis runs atomically. Its file begins with a description of its keys, arguments and
// result. All keys of a script lie in one hash slot.
type Script struct {
	name, source string
	sha          any // a string, as commands hold it
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

// firstKey is where a command's keys begin.
const firstKey = 3

// command returns the command that runs the script, with room for as many arguments after its keys, of which there must be one.
func (s *Script) command(keys []string, numArgs int) []any {
	command := append(make([]any, 0, firstKey+len(keys)+numArgs), "evalsha", s.sha, len(keys))
	for _, key := range keys {
		command = append(command, key)
	}
	return command
}

// withSource returns the command for a server that does not know the script.
func (s *Script) withSource(command []any) []any {
	return append([]any{"eval", s.source}, command[2:]...)
}

// LoadSessionScript is LoadScript for a script that sessions wait for: its round trips count in [Client.RoundTrips].
func LoadSessionScript(files embed.FS, name string) *Script {
	s := LoadScript(files, name)
	s.delaysSessions = true
	return s
}
