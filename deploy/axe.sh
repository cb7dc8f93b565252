#!/usr/bin/env bash
# Fetches the pinned axe-core, which looks for what keeps people from using a page, and prints the path of its script.
# It is for tests alone. The folder is outside the tree and named by the version, so that later runs reuse it.
set -euo pipefail

readonly VERSION=4.14.1
readonly SHA256=29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c # of axe.min.js

folder=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/usher-ci/axe-core-$VERSION
script=$folder/axe.min.js

is_whole() { printf '%s  %s\n' "$SHA256" "$1" | sha256sum --check --status 2>/dev/null; }

if ! is_whole "$script"; then
	command -v npm >/dev/null || {
		echo 'deploy/axe.sh: npm is missing: apt-get install -y --no-install-recommends npm' >&2
		exit 2
	}
	mkdir -p "$folder"
	work=$(mktemp -d "$folder/fetch.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	(cd "$work" && npm pack --silent "axe-core@$VERSION" >&2 && tar -xzf ./*.tgz package/axe.min.js)
	is_whole "$work/package/axe.min.js" || {
		echo "deploy/axe.sh: axe-core $VERSION is not the one that is pinned" >&2
		exit 1
	}
	mv "$work/package/axe.min.js" "$script" # at once, so that two runs may fetch
fi
printf '%s\n' "$script"
