#!/usr/bin/env bash
# Puts small faults into packages one by one, and prints which of them the package's own tests do not notice. It stands beside
# the fuzzing and is no part of .ci/run: a package takes minutes. Arguments are folders; by default those that decide on viewers.
#
#   ./deploy/mutation.sh                              # all of backends, actors, cluster and gateway: hours
#   ./deploy/mutation.sh ./actors/session ./gateway   # these two
#
# Three things it cannot see. The conditions of a switch's cases count as not covered, whatever tests run them. A fault that does
# not compile, such as a minus between two texts, counts as killed. And a folder is read as it stands while its faults are tried:
# edit a copy meanwhile.
#
# For each package it prints how many faults were killed (a test failed), timed out (it hung), lived (all tests passed) or are
# in code that no test of the package runs, and the share of noticed ones: (killed + timed out) of all that were tried. It exits
# with 1 if a tree's share is below MIN_NOTICED percent.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:/usr/local/go/bin"

# WORKERS is the number of faults that are tried at once. A fault times out after TIMEOUT times the duration of the package's
# tests, which are built anew for each fault; too short a time counts what was not even built as noticed.
readonly WORKERS=${WORKERS:-1} TIMEOUT=${TIMEOUT:-40} MIN_NOTICED=${MIN_NOTICED:-92}

# deciding lists the folders of the four trees that have tests of their own, without test support.
deciding() {
	go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./backends/... ./actors/... ./cluster/... ./gateway/... |
		grep -v -e /backendtest -e /redistest | sed "s|^$PWD|.|"
}

packages=("$@")
if [[ ${#packages[@]} -eq 0 ]]; then
	mapfile -t packages < <(deciding)
fi
tools=$(./deploy/tools.sh 19 gremlins)
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# unleash tries the faults of one package. With more than one processor at once, tests of time would fail on a busy machine
# and count as noticed faults. gremlins' own --test-cpu makes every test run fail, and so count. The packages below a folder are
# left out, as they are folders of their own.
unleash() { # package log
	GOMAXPROCS=1 nice -n 19 "$tools/gremlins" unleash --workers "$WORKERS" --timeout-coefficient "$TIMEOUT" \
		--exclude-files / --invert-logical --invert-loopctrl "$1" >"$2" 2>&1
}

# count counts the faults of a log with that status.
count() { grep -c "^ *$1 [A-Z_]* at " "$2" || true; }

declare -A noticed tried
failed=0
for package in "${packages[@]}"; do
	log=$logs/$(tr / _ <<<"$package")
	if ! unleash "$package" "$log"; then
		printf '%-28s cannot be tried:\n' "$package"
		tail -n 5 "$log"
		failed=1
		continue
	fi
	killed=$(count KILLED "$log") slow=$(count 'TIMED OUT' "$log") lived=$(count LIVED "$log")
	all=$((killed + slow + lived))
	printf '%-28s killed %4d  timed out %3d  lived %4d  not covered %4d  noticed %3d %%\n' "$package" "$killed" "$slow" "$lived" \
		"$(count 'NOT COVERED' "$log")" $((all == 0 ? 100 : 100 * (killed + slow) / all))
	sed -n "s|^ *LIVED \([A-Z_]*\) at |    $package/|p" "$log" | sort -t: -k1,1 -k2n
	tree=${package#./}
	tree=${tree%%/*}
	noticed[$tree]=$((${noticed[$tree]:-0} + killed + slow))
	tried[$tree]=$((${tried[$tree]:-0} + all))
done

printf '\n'
for tree in "${!tried[@]}"; do
	((tried[$tree] > 0)) || continue
	share=$((100 * noticed[$tree] / tried[$tree]))
	printf '%-28s noticed %d of %d, %d %%\n' "$tree" "${noticed[$tree]}" "${tried[$tree]}" "$share"
	if ((share < MIN_NOTICED)); then
		failed=1
	fi
done
exit "$failed"
