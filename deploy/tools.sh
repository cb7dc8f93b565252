#!/usr/bin/env bash
# Builds the pinned formatter and linter, each from its own module, and prints their folder.
# The folder is outside the tree and named by the versions, so that later runs reuse it.
# The first argument is the build's nice value: with 19 it runs at the lowest priority. Further arguments name tools that are
# built only when asked for: gremlins, for deploy/mutation.sh.
set -euo pipefail

readonly GOFUMPT=v0.12.0
readonly GOLANGCI_LINT=v2.15.0
readonly GREMLINS=v0.6.0

export PATH="$PATH:/usr/local/go/bin"

tools=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/usher-ci/gofumpt-$GOFUMPT-golangci-lint-$GOLANGCI_LINT-$(go env GOVERSION)
mkdir -p "$tools"

install_tool() { # command module@version
	[[ -x $tools/$1 ]] && return
	# outside this module, so that its go.mod does not apply
	(cd "$tools" && GOFLAGS='' GOBIN=$tools nice -n "${priority:-0}" go install "$2" >&2)
}

priority=${1:-0}
install_tool gofumpt "mvdan.cc/gofumpt@$GOFUMPT"
install_tool golangci-lint "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$GOLANGCI_LINT"
for tool in "${@:2}"; do
	case $tool in
	gremlins) install_tool gremlins "github.com/go-gremlins/gremlins/cmd/gremlins@$GREMLINS" ;;
	*)
		printf 'no such tool: %s\n' "$tool" >&2
		exit 2
		;;
	esac
done
printf '%s\n' "$tools"
