#!/usr/bin/env bash
# Runs the program of an image's folder as a container would: in namespaces of its own, with nothing but the folder,
# read-only, as the image's user. deploy/check-packages.sh gives it the namespaces.
set -euo pipefail

root=$1
ip link set lo up
mount --make-rprivate /
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
inside() { chroot --userspec=65532:65532 --groups=65532 "$root" "$@"; }

inside /usr/bin/usher version | grep -qF 'usher 1.2.3 (commit 0123456789ab, '
(exec chroot --userspec=65532:65532 --groups=65532 "$root" /usr/bin/usher serve --config /etc/usher/usher.yaml) &
node=$!
for _ in {1..100}; do
	if inside /usr/bin/usher health >/dev/null 2>&1; then
		kill "$node"
		wait "$node" # 0: it drained
		exit
	fi
	sleep 0.1
done
echo 'the node is not alive after 10 s' >&2
exit 1
