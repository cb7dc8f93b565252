package cluster

import (
	"context"
	"crypto/sha1" //nolint:gosec // it is how Redis names scripts
	"embed"
	"encoding/hex"
)

// Scripts run in Redis whole: nothing comes between their lines. Each file opens with what its keys, arguments and result
// are. All keys of a script lie in one slot.
//
//go:embed lua/*.lua
var luaFiles embed.FS

// script is one of ours.
type script struct{ name, source, sha string }

// loadScript reads the script of that name. That it is there is known when this is built.
func loadScript(name string) *script {
	source, err := luaFiles.ReadFile("lua/" + name + ".lua")
	if err != nil {
		panic("BUG: " + err.Error())
	}
	sum := sha1.Sum(source) //nolint:gosec // as above
	return &script{name: name, source: string(source), sha: hex.EncodeToString(sum[:])}
}

// runner runs scripts. A call is one round trip, which may be shared with others that came at the same time. An error is
// ErrAway or ctx's, or says what is wrong with the script.
type runner interface {
	run(ctx context.Context, s *script, keys []string, args ...any) (any, error)
}
