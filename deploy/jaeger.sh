#!/usr/bin/env bash
# Builds the pinned Jaeger v2 from its Go module and prints the path of the program. With "path" as the argument it only prints
# the path. The folder is outside the tree and named by the versions, so that later runs reuse it. Needs Go and a network.
set -euo pipefail

readonly JAEGER=v1.76.0 # of the module; its cmd/jaeger is Jaeger v2
readonly MODULE=github.com/jaegertracing/jaeger

export PATH="$PATH:/usr/local/go/bin"

folder=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/usher-ci/jaeger-$JAEGER-$(go env GOVERSION)
program=$folder/jaeger

# build builds in a module of its own: go install refuses Jaeger, whose go.mod replaces modules. Jaeger's go.sum spares asking
# the checksum database, which does not know some old modules that Jaeger needs.
build() {
	local work=$folder/build sums
	rm -rf "$work"
	mkdir -p "$work"
	cd "$work"
	export GOFLAGS='' GOWORK=off CGO_ENABLED=0
	go mod init usher.test/jaeger
	sums=$(go mod download -json "$MODULE@$JAEGER" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')/go.sum
	install -m 0644 "$sums" go.sum
	go get -tool "$MODULE/cmd/jaeger@$JAEGER"
	go build -trimpath -ldflags='-s -w' -o jaeger "$MODULE/cmd/jaeger"
	mv jaeger "$program"
	rm -rf "$work"
}

if [[ ${1:-} != path && ! -x $program ]]; then
	mkdir -p "$folder"
	(
		flock 9 # another run may be building it
		[[ -x $program ]] || build >&2
	) 9>"$folder/lock"
fi
printf '%s\n' "$program"
