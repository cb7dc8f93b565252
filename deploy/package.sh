#!/usr/bin/env bash
# Builds a release into dist/: the program, a Debian package, an SBOM and the checksums. The same commit and version give the
# same bytes. Needs Go and git, and dpkg-deb for the package.
#
#	deploy/package.sh                      the version is that of the commit's tag, or one before all
#	VERSION=1.2.3 GOARCH=arm64 deploy/package.sh
#	deploy/package.sh program /tmp/usher   only the program, as the Dockerfile does
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:/usr/local/go/bin"

# A release has the standard library of this version. go.mod says what the source needs.
export GOTOOLCHAIN=go1.27.3
readonly CYCLONEDX_GOMOD=v1.10.0

export CGO_ENABLED=0 GOOS=linux GOFLAGS='' GOWORK=off LC_ALL=C TZ=UTC
GOARCH=${GOARCH:-$(go env GOARCH)}
export GOARCH

# from_git prints what git says, or the second argument where there is no history.
from_git() { # default git-argument...
	local default=$1
	shift
	git "$@" 2>/dev/null || printf '%s\n' "$default"
}

COMMIT=${COMMIT:-$(from_git unknown describe --always --exclude='*' --abbrev=12 --dirty=+changes)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(from_git 0 log -1 --format=%ct)}
VERSION=${VERSION:-$(from_git '' describe --tags --exact-match --match='v[0-9]*')}
# A version with "~" is before the release in dpkg's order.
VERSION=${VERSION:-0.0.0~$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$COMMIT}
VERSION=${VERSION#v}
# A candidate, 1.2.3-rc1, comes before its release.
debian_version=${VERSION//-/'~'}
export SOURCE_DATE_EPOCH

build_program() { # file
	go build -trimpath -buildvcs=false -ldflags="-s -w -X main.release=$VERSION -X main.commit=$COMMIT" -o "$1" ./cmd/usher
}

# build_deb needs no debhelper: files in their places, three scripts, and a control file.
build_deb() { # program file
	local tree=$work/deb
	install -D -m 0755 "$1" "$tree/usr/bin/usher"
	install -D -m 0644 deploy/usher.service "$tree/usr/lib/systemd/system/usher.service"
	install -D -m 0644 deploy/usher.socket "$tree/usr/lib/systemd/system/usher.socket"
	install -D -m 0644 deploy/usher.yaml "$tree/etc/usher/usher.yaml"
	install -D -m 0644 deploy/README.md "$tree/usr/share/doc/usher/README.md"
	install -D -m 0644 deploy/sysctl.conf "$tree/usr/share/doc/usher/sysctl.conf"
	install -D -m 0644 LICENSE "$tree/usr/share/doc/usher/copyright"
	install -D -m 0755 -t "$tree/DEBIAN" deploy/debian/postinst deploy/debian/prerm deploy/debian/postrm
	printf '/etc/usher/usher.yaml\n' >"$tree/DEBIAN/conffiles"
	cat >"$tree/DEBIAN/control" <<-END
		Package: usher
		Version: $debian_version
		Architecture: $GOARCH
		Maintainer: The Usher authors <usher@localhost>
		Depends: passwd
		Recommends: ca-certificates
		Suggests: redis-server
		Section: net
		Priority: optional
		Installed-Size: $(du -k -s "$tree/usr" "$tree/etc" | awk '{ n += $1 } END { print n }')
		Description: auth gateway for HLS
		 Usher asks a middleware whether each viewer may watch, and keeps them watching while
		 it is down.
	END
	dpkg-deb --root-owner-group --build "$tree" "$2" >/dev/null
}

# build_sbom lists the modules that the program contains, as it says itself.
build_sbom() { # program file
	# The tool runs here, whatever the program is for.
	GOOS='' GOARCH='' go run "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$CYCLONEDX_GOMOD" bin \
		-json -std -noserial -version "$VERSION" -output "$2" "$1"
	# It writes the time of the build, which is the only thing that differs between two.
	sed -i -E "s/(\"timestamp\": \")[^\"]*/\1$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)/" "$2"
}

if [[ ${1:-} == program ]]; then
	build_program "${2:?a file is missing}"
	exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
name=usher_${VERSION}_linux_$GOARCH
mkdir -p dist
build_program "dist/$name"
build_sbom "dist/$name" "dist/$name.cdx.json"
build_deb "dist/$name" "dist/usher_${VERSION}_$GOARCH.deb"
(
	cd dist
	sha256sum "$name" "$name.cdx.json" "usher_${VERSION}_$GOARCH.deb" >"usher_${VERSION}_$GOARCH.sha256"
	cat "usher_${VERSION}_$GOARCH.sha256"
)
