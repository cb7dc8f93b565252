#!/usr/bin/env bash
# Signs the checksums in dist/ as deploy/README.md says, verifies them, and sees a changed file refused.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp dist/* "$work/"
cd "$work"
ssh-keygen -q -t ed25519 -N '' -C releases@example.com -f key
printf 'releases@example.com namespaces="usher" %s\n' "$(cut -d' ' -f1-2 key.pub)" >allowed_signers
sums=$(echo usher_*.sha256)

ssh-keygen -q -Y sign -f key -n usher "$sums"
verify() { ssh-keygen -q -Y verify -f allowed_signers -I releases@example.com -n usher -s "$sums.sig" <"$sums" && sha256sum --quiet -c "$sums"; }
verify
printf x >>"$(echo usher_*.deb)"
if verify >/dev/null 2>&1; then
	echo 'a changed package is accepted' >&2
	exit 1
fi
sha256sum usher_*.deb >"$sums"
if verify >/dev/null 2>&1; then
	echo 'changed checksums are accepted' >&2
	exit 1
fi
