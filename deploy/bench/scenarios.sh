#!/bin/bash
# Runs each scenario on three nodes and Redis, 30 s each, and writes one page of all: scenarios.html beside this script. Exits 1 if an
# expectation does not hold. The scenarios million and mass-recovery take 12 to 15 minutes each and are run by themselves.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
go build -o "$out/usher" ./cmd/usher && go build -o "$out/usher-bench" ./cmd/usher-bench || exit 2
code=0
runs=()
for scenario in $("$out/usher-bench" list | cut -d' ' -f1); do
  case $scenario in million | mass-recovery) continue ;; esac
  "$out/usher-bench" run "$scenario" --usher "$out/usher" --set nodes=3 --set redis=true --for 30s --out "$out" > "$out/text" 2>&1 || code=1
  grep -E 'holds|FAILS|usher-bench:' "$out/text" | sed "s/^ */$scenario: /"
  runs+=("$out/$scenario.json")
done
"$out/usher-bench" page --html deploy/bench/scenarios.html "${runs[@]}" || exit 2
exit $code
