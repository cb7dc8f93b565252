#!/usr/bin/env bash
# Builds the pinned Traefik from its Go module and prints the path of the program, for the end-to-end tests' flag -traefik. That takes ten
# minutes on two cores the first time, so that the tests of each change run without it. The folder is outside the tree and named by the
# versions, so that later runs reuse it. Needs Go and a network.
set -euo pipefail

readonly TRAEFIK=v3.6.12
readonly MODULE=github.com/traefik/traefik/v3

export PATH="$PATH:/usr/local/go/bin"

folder=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/usher-ci/traefik-$TRAEFIK-$(go env GOVERSION)
program=$folder/traefik

# build builds in a copy of the module: go install refuses Traefik, whose go.mod replaces modules.
build() {
	local work=$folder/build module
	rm -rf "$work"
	mkdir -p "$work"
	cd "$work"
	export GOFLAGS='' GOWORK=off CGO_ENABLED=0
	go mod init usher.test/traefik
	module=$(go mod download -json "$MODULE@$TRAEFIK" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
	cp -R "$module" source
	chmod -R u+w source
	(cd source && go build -trimpath -ldflags='-s -w' -o ../traefik ./cmd/traefik)
	mv traefik "$program"
	cd "$folder"
	rm -rf "$work"
}

if [[ ! -x $program ]]; then
	mkdir -p "$folder"
	(
		flock 9 # another run may be building it
		[[ -x $program ]] || build >&2
	) 9>"$folder/lock"
fi
printf '%s\n' "$program"
