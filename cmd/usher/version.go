package main

import (
	"cmp"
	"fmt"
	goruntime "runtime"
	"runtime/debug"
)

// release and commit are what deploy/package.sh builds. They are empty in a build by go build, which stamps a checkout's commit.
var release, commit string //nolint:gochecknoglobals // the linker sets them

type versionCommand struct{}

// Run prints the version and the commit, and by what and for what the program was built.
func (versionCommand) Run(r runtime) error {
	_, err := fmt.Fprintf(r.out, "usher %s (commit %s, %s %s/%s)\n",
		version(), cmp.Or(commit, stampedCommit(), "unknown"), goruntime.Version(), goruntime.GOOS, goruntime.GOARCH)
	return err
}

// version returns the release, the module's version, or the commit of a build from a checkout.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return cmp.Or(stampedCommit(), info.Main.Version)
}

// stampedCommit returns the commit that go build stamped, with "+changes" if the checkout had any, or nothing.
func stampedCommit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "+changes"
		}
	}
	if revision == "" {
		return ""
	}
	return revision[:min(12, len(revision))] + modified
}
