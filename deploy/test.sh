#!/usr/bin/env bash
# Runs every test, after installing the Debian packages that the tests need. Debian may start nginx, redis-server and
# prometheus as services; the tests do not use those, but start their own on free ports.
# Needs Go and git.
#
#	deploy/test.sh                                      every test, with the race detector; whole nodes last
#	deploy/test.sh --quick                              unit tests without it, and the linter: for use while writing
#	deploy/test.sh -run TestSession ./actors/...        arguments go to go test
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# nginx is in a folder of root's PATH, and Go where its instructions install it.
export PATH="$PATH:/usr/local/go/bin:/usr/sbin:/sbin"

fail() {
	printf 'deploy/test.sh: %s\n' "$*" >&2
	exit 2
}

# missing_packages prints the missing packages, one a line. The table has a command or a file, its package, and its use in
# the tests.
missing_packages() {
	local what package why
	while read -r what package why; do
		if ! command -v "$what" >/dev/null && ! [[ -e $what ]]; then
			printf '%-16s %s\n' "$package" "$why" >&2
			printf '%s\n' "$package"
		fi
	done <<-'END'
		gcc                                 gcc              links the race detector
		/usr/include/stdlib.h               libc6-dev        links the race detector
		/etc/ssl/certs/ca-certificates.crt  ca-certificates  fetches the modules
		ffmpeg                              ffmpeg           plays and checks the streams
		nginx                               nginx            asks Usher as an edge does
		caddy                               caddy            asks Usher as an edge does
		haproxy                             haproxy          asks Usher as an edge does, and balances nodes
		redis-server                        redis-server     is what nodes share
		/usr/bin/redis-cli                  redis-tools      sets up a Redis Cluster
		/usr/sbin/ip                        iproute2         makes networks and disconnects them, which needs root
		chromium                            chromium         is a browser's player
		php                                 php-cli          runs the scripts of middlewares
		prometheus                          prometheus       scrapes nodes, and promtool tests its rules
		npm                                 npm              fetches axe-core, which tests the live page
	END
}

# as_root runs a command as root. Without a terminal it never waits for a password.
as_root() {
	if [[ $(id -u) -eq 0 ]]; then
		env DEBIAN_FRONTEND=noninteractive "$@"
	elif [[ -t 0 ]]; then
		sudo env DEBIAN_FRONTEND=noninteractive "$@"
	else
		sudo -n env DEBIAN_FRONTEND=noninteractive "$@"
	fi
}

install_packages() {
	printf '== The tests need these Debian packages, which are missing here; installing them: %s\n' "$*"
	command -v apt-get >/dev/null || fail "apt-get is missing: install the equivalents of: $*"
	if [[ $(id -u) -ne 0 ]] && ! command -v sudo >/dev/null; then
		fail "not root and no sudo: as root, run: apt-get update && apt-get install --no-install-recommends $*"
	fi
	as_root apt-get update || {
		printf '== apt-get update failed; once more\n'
		as_root apt-get update
	} || fail "apt-get update failed twice; is there a network?"
	as_root apt-get install --yes --no-install-recommends "$@" || fail "could not install: $*"
}

command -v go >/dev/null || fail "go is missing: see https://go.dev/doc/install"

packages=()
while read -r package; do
	packages+=("$package")
done < <(missing_packages)
if [[ ${#packages[@]} -gt 0 ]]; then
	install_packages "${packages[@]}"
fi

# At most four packages at once: each starts servers, and some a browser.
at_once=$(nproc 2>/dev/null || printf 2)
if [[ $at_once -gt 4 ]]; then
	at_once=4
fi

run_tests() {
	(
		set -x
		go test -race -shuffle=on -timeout 25m "$@"
	)
}

# quick runs the tests without whole nodes and players, and the linter. Both parts run even if the first one fails.
quick() {
	local tools failed=0
	go test -shuffle=on $(go list ./... | grep -vE '^usher/cmd/usher(/e2e)?$') || failed=1
	tools=$(./deploy/tools.sh) || exit
	"$tools/golangci-lint" run --allow-serial-runners ./... || failed=1
	exit "$failed"
}

if [[ ${1:-} == --quick ]]; then
	quick
fi

export CGO_ENABLED=1 # for the race detector

for argument in "$@"; do
	case $argument in
	./* | usher | usher/*)
		case $* in *e2e* | *...*) ./deploy/jaeger.sh >/dev/null ;; esac # of the whole nodes' tests
		run_tests -p "$at_once" "$@"
		exit
		;;
	-args | --args) break ;;
	esac
done

# No argument names packages, so all are tested. The tests of players and of whole nodes under load come last and alone, because
# they measure time.
alone=(usher/bench/stage usher/bench/scenario usher/bench/soak usher/cmd/usher/e2e)
listed=$(go list ./... | grep -vxF "$(printf '%s\n' "${alone[@]}")")
others=()
while read -r package; do
	others+=("$package")
done <<<"$listed"

# The race detector waits a second for leaked goroutines at the end of each test binary. goleak finds them here. The nodes of
# the end-to-end tests are separate processes and keep that second.
failed=0
GORACE=${GORACE:-atexit_sleep_ms=0} run_tests -p "$at_once" "${others[@]}" "$@" || failed=1
go test -shuffle=on usher/gateway/front/... "$@" || failed=1 # reads and writes sockets by other calls without the detector
./deploy/jaeger.sh >/dev/null || failed=1 # takes minutes the first time
run_tests -p 1 "${alone[@]}" "$@" || failed=1
exit "$failed"
