#!/usr/bin/env bash
# Checks what deploy/ has for machines, containers and Kubernetes. Each part runs even if one before it failed.
#
#	deploy/check-packages.sh              every part
#	deploy/check-packages.sh unit chart   some
#
#	unit     systemd-analyze finds the unit's exposure at most 2.0; the kernel takes sysctl.conf
#	chart    helm lint, and manifests of several values against the schemas of Kubernetes and the Prometheus Operator
#	compose  Compose's loader takes the file; two nodes with its settings serve behind its HAProxy, and one alone when one is killed
#	image    BuildKit's linter takes the Dockerfile; its last stage, made here without containers, serves read-only as its user
#	release  two builds have the same bytes, and a signature of the checksums is verified
#	debian   boots a Debian, and there installs, serves under the unit's sandbox, upgrades, restarts under load with systemd's
#	         socket without a failed request, removes and purges
#
# Needs Go, root and a network. It installs the Debian packages that are missing. helm and kubectl-validate are built the first
# time, which takes minutes; the folder is outside the tree and named by the versions, so that later runs reuse it.
# shellcheck disable=SC2317,SC2329 # the loop at the end calls check_NAME
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
export PATH="$PATH:/usr/local/go/bin:/usr/sbin:/sbin"

readonly HELM=v4.3.1
readonly KUBECTL_VALIDATE=v0.0.4
readonly PROMETHEUS_OPERATOR=v0.85.0
readonly KUBERNETES=1.29 # the newest whose schemas kubectl-validate v0.0.4 has
readonly DEBIAN=bookworm

cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/usher-ci
tools=$cache/helm-$HELM-kubectl-validate-$KUBECTL_VALIDATE-$(go env GOVERSION)
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

install_missing() { # command package...
	local missing=()
	while [[ $# -gt 0 ]]; do
		command -v "$1" >/dev/null || missing+=("$2")
		shift 2
	done
	[[ ${#missing[@]} -eq 0 ]] && return
	printf '== installing %s\n' "${missing[*]}"
	apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${missing[@]}"
}

install_tool() { # command module@version
	[[ -x $tools/$1 ]] && return
	mkdir -p "$tools"
	(cd "$tools" && GOFLAGS='' GOBIN=$tools CGO_ENABLED=0 nice -n "${NICE:-0}" go install -trimpath -ldflags='-s -w' "$2")
}

check_unit() {
	systemd-analyze security --offline=true --no-pager --threshold=20 deploy/usher.service | tail -n 1 &&
		unshare --net sysctl --quiet --load=deploy/sysctl.conf
}

# operator_schemas prints the folder with the ServiceMonitor's schema.
operator_schemas() {
	local folder
	folder=$(cd "$work" && go mod download -json "github.com/prometheus-operator/prometheus-operator@$PROMETHEUS_OPERATOR" |
		sed -n 's/^\t"Dir": "\(.*\)",$/\1/p') || return
	mkdir -p "$work/crds" && cp "$folder/example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml" "$work/crds/"
	printf '%s\n' "$work/crds"
}

check_chart() {
	local chart=deploy/helm/usher values crds
	install_tool helm "helm.sh/helm/v4/cmd/helm@$HELM" && install_tool kubectl-validate "sigs.k8s.io/kubectl-validate@$KUBECTL_VALIDATE" ||
		return
	crds=$(operator_schemas) || return
	go build -o "$work/usher" ./cmd/usher || return
	for values in "$chart"/ci/*.yaml; do
		check_values "$values" "$crds" || return
	done
	renders_values && refuses_values && keeps_running_nodes
}

# keeps_running_nodes sees what the chart says of the number of nodes if there are some. HAProxy answers what helm asks Kubernetes about
# the one manifest that is left of the chart, for each release with another workload.
keeps_running_nodes() {
	local at=127.0.0.1:28878 chart=$work/chart release more want output failed=0
	local helm='{"manager":"helm","operation":"Apply","fieldsV1":{"f:metadata":{"f:annotations":{"f:meta.helm.sh/release-name":{}}},"f:spec":{"f:replicas":{}}}}'
	local client='{"manager":"helm","operation":"Update","fieldsV1":{"f:metadata":{"f:annotations":{"f:meta.helm.sh/release-name":{}}},"f:spec":{"f:replicas":{}}}}'
	local scale='{"manager":"kube-controller-manager","operation":"Update","subresource":"scale","fieldsV1":{"f:spec":{"f:replicas":{}}}}'
	local status='{"manager":"kube-controller-manager","operation":"Update","subresource":"status","fieldsV1":{"f:status":{"f:replicas":{}}}}'
	cp -r deploy/helm/usher "$chart" && find "$chart/templates" -type f ! -name workload.yaml ! -name _helpers.tpl -delete || return
	cat >"$work/kubernetes.cfg" <<-END
		defaults
			mode http
			timeout connect 5s
			timeout client 5s
			timeout server 5s
		frontend kubernetes
			bind $at
			http-request return content-type application/json string '{"major":"1","minor":"29","gitVersion":"v1.29.0"}' if { path /version }
			http-request return content-type application/json string '{"kind":"APIVersions","versions":["v1"]}' if { path /api }
			http-request return content-type application/json string '{"kind":"APIGroupList","groups":[{"name":"apps","versions":[{"groupVersion":"apps/v1","version":"v1"}]}]}' if { path /apis }
			http-request return content-type application/json string '{"kind":"APIResourceList","groupVersion":"apps/v1","resources":[{"name":"deployments","kind":"Deployment","namespaced":true,"verbs":["get"]},{"name":"statefulsets","kind":"StatefulSet","namespaced":true,"verbs":["get"]}]}' if { path /apis/apps/v1 }
			$(runs Deployment fixed "$client")
			$(runs Deployment client "$client,$scale")
			$(runs Deployment marked "$client" ',"usher/autoscaled":"true"')
			$(runs Deployment applied "$helm,$status")
			$(runs Deployment scaled "$helm,$scale,$status")
			$(runs Deployment foreign "$client,$scale,{\"manager\":\"kubectl\",\"operation\":\"Apply\",\"fieldsV1\":{\"f:spec\":{}}}")
			$(runs StatefulSet other "$helm,$scale" ',"usher/autoscaled":"true"')
			http-request return status 404
	END
	haproxy -D -p "$work/kubernetes.pid" -f "$work/kubernetes.cfg" || return
	while read -r release more want; do
		output=$("$tools/helm" template "$release" "$chart" --values deploy/helm/usher/ci/everything-values.yaml --set "$more" --dry-run=server \
			--disable-openapi-validation --kube-apiserver "http://$at" --namespace default 2>&1)
		if [[ $(grep -E '^  (replicas|annotations): ' <<<"$output") != "  $want" ]]; then
			printf 'release %s, --set %s: want the manifest to have "%s" alone of replicas and annotations\n%s\n' "$release" "$more" "$want" "$output" | head -n 20
			failed=1
		fi
	done <<-'END'
		new autoscaling.enabled=true annotations: { usher/autoscaled: "true" }
		fixed autoscaling.enabled=true replicas: 7
		client autoscaling.enabled=true replicas: 7
		marked autoscaling.enabled=true annotations: { usher/autoscaled: "true" }
		marked autoscaling.enabled=false replicas: 2
		applied autoscaling.enabled=true replicas: 7
		scaled autoscaling.enabled=true annotations: { usher/autoscaled: "true" }
		foreign autoscaling.enabled=true replicas: 7
		other autoscaling.enabled=true replicas: 7
		fixed state.persistent=true replicas: 7
		marked state.persistent=true replicas: 7
	END
	kill "$(cat "$work/kubernetes.pid")"
	return "$failed"
}

# runs prints HAProxy's answer about a workload of seven nodes.
runs() { # kind release managedFields [annotations]
	printf 'http-request return content-type application/json string '\''{"apiVersion":"apps/v1","kind":"%s","metadata":{"name":"%s-usher","labels":{"app.kubernetes.io/managed-by":"Helm"},"annotations":{"meta.helm.sh/release-name":"%s","meta.helm.sh/release-namespace":"default"%s},"managedFields":[%s]},"spec":{"replicas":7}}'\'' if { path /apis/apps/v1/namespaces/default/%ss/%s-usher }' \
		"$1" "$2" "$2" "${4:-}" "$3" "${1,,}" "$2"
}

# renders_values sees that values reach the manifests. Each line has values of ci/, one more, and what a manifest then says.
renders_values() {
	local values setting line output failed=0
	while read -r values setting line; do
		output=$("$tools/helm" template tv deploy/helm/usher --values "deploy/helm/usher/ci/$values-values.yaml" --set "$setting") || return
		if [[ $output != *"$line"* ]]; then
			printf -- 'ci/%s-values.yaml --set %s: no manifest has: %s\n' "$values" "$setting" "$line"
			failed=1
		fi
	done <<-'END'
		state state.persistent=true kind: StatefulSet
		state state.persistent=true scaleTargetRef: { apiVersion: apps/v1, kind: StatefulSet, name: tv-usher }
		state state.persistent=true resources: { requests: { storage: 20Gi } }
		state state.persistent=true state_dir: /var/lib/usher
		state config.ext_authz.listen=:9003 { name: ext-authz, containerPort: 9003 }
		state config.ext_authz.listen=:9003 { name: ext-authz, port: 9003, targetPort: ext-authz, appProtocol: grpc }
		state config.ext_authz.listen=:9003 - ports: [ { port: ext-authz } ]
		one-node state.persistent=false,state.mayBeLost=true,state.size=3Gi emptyDir: { sizeLimit: 3Gi }
		one-node state.persistent=false,state.mayBeLost=true state_dir: /var/lib/usher
		everything state.persistent=false kind: Deployment
		commented state.persistent=false kind: Deployment
		one-node config.cluster.redis=null state_dir: /var/lib/usher
		one-node config.drain.timeout=5m,terminationGracePeriodSeconds=321 terminationGracePeriodSeconds: 321
		one-node config.drain.timeout=1m30.5s,config.drain.readiness_delay=1500ms,terminationGracePeriodSeconds=109 timeout: 1m30.5s
		one-node config.drain.timeout=0s,config.drain.readiness_delay=0s,terminationGracePeriodSeconds=16 terminationGracePeriodSeconds: 16
	END
	return "$failed"
}

# check_values renders the chart, and checks the manifests and the settings in them.
check_values() { # file crds
	local chart=deploy/helm/usher name rendered
	name=$(basename "$1" .yaml)
	rendered=$work/$name
	mkdir -p "$rendered/etc/secrets" "$rendered/etc/tls"
	"$tools/helm" lint --strict --values "$1" "$chart" &&
		"$tools/helm" template tv "$chart" --values "$1" >"$rendered/manifests.yaml" &&
		validate_manifests "$2" "$rendered/manifests.yaml" && refuses_manifests "$2" "$rendered/manifests.yaml" || return
	make_secrets "$rendered/etc" || return
	awk '/^  usher.yaml: \|/ { inside = 1; next } inside && /^---/ { exit } inside { sub(/^    /, ""); print }' \
		"$rendered/manifests.yaml" | sed "s|/etc/usher/|$rendered/etc/|; s|/var/lib/usher|$rendered|" >"$rendered/etc/usher.yaml"
	"$work/usher" validate --config "$rendered/etc/usher.yaml"
}

validate_manifests() { # crds file
	"$tools/kubectl-validate" --version "$KUBERNETES" --local-crds "$1" "$2"
}

# refuses_manifests sees that a misspelt field, and a value of another type, are found.
refuses_manifests() { # crds file
	local mistake
	for mistake in 's/periodSeconds: 2/periodSecond: 2/' 's/containerPort: 8080/containerPort: public/' 's/PeriodSeconds: 60/PeriodSeconds: long/'; do
		sed "$mistake" "$2" >"$2.wrong.yaml"
		if cmp --quiet "$2" "$2.wrong.yaml" || validate_manifests "$1" "$2.wrong.yaml" >/dev/null 2>&1; then
			printf 'accepted: %s\n' "$mistake"
			return 1
		fi
	done
}

make_secrets() ( # folder
	local name
	umask 077
	for name in identity.key ticket.key cluster.key admin.token; do
		od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$1/secrets/$name" || return
	done
	printf 'whsec_%s' "$(openssl rand -base64 32)" >"$1/secrets/webhook.key" || return
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=tv.example.com \
		-keyout "$1/tls/tls.key" -out "$1/tls/tls.crt" 2>/dev/null
)

# refuses_values sets one wrong value after the other. Each must be refused by its name.
refuses_values() {
	local setting name output failed=0
	while read -r setting name; do
		if output=$("$tools/helm" template tv deploy/helm/usher --values deploy/helm/usher/ci/one-node-values.yaml --set "$setting" 2>&1); then
			printf 'helm accepts --set %s\n' "$setting"
			failed=1
		elif [[ $output != *"$name"* ]]; then
			printf -- '--set %s: the error does not name %s: %s\n' "$setting" "$name" "$output"
			failed=1
		fi
	done <<-'END'
		existingSecret= existingSecret
		replicas=0 replicas
		replicas=two replicas
		replicas=2 config.cluster.redis.addresses
		replica=2 replica
		tls=null missing property 'tls'
		autoscaling=null missing property 'autoscaling'
		podDisruptionBudget=null missing property 'podDisruptionBudget'
		serviceMonitor=null missing property 'serviceMonitor'
		networkPolicy=null missing property 'networkPolicy'
		config.origins=null origins
		config.routes=null routes
		config.listen=:80 listen
		config.admin.listen=:9000 admin
		service.type=Public type
		service.port=0 port
		image.pullPolicy=Sometimes pullPolicy
		autoscaling.targetCPUUtilizationPercentage=500 targetCPUUtilizationPercentage
		serviceMonitor.interval=often interval
		resources.limits.memory=much memory
		podDisruptionBudget.maxUnavailable=0 maxUnavailable
		state.persistent=false config.cluster.redis.addresses
		state.size=much size
		state.persistent=false,config.cluster.state_dir=/var/lib/usher config.cluster.state_dir
		state.persistent=false,config.records.spool.path=/var/lib/usher/records.db config.records.spool.path
		state.persistent=false,config.records.file.path=/var/lib/usher/records.jsonl config.records.file.path
		state.persistent=false,config.admin.audit.file=/var/lib/usher/audit.jsonl config.admin.audit.file
		config.ext_authz.listen=:8081 config.ext_authz.listen
		config.ext_authz.listen=envoy listen
		config.drain.timeout=5m config.drain.timeout=5m
		config.drain.readiness_delay=20s terminationGracePeriodSeconds
		config.drain.timeout=5m,terminationGracePeriodSeconds=320 at least 321
		terminationGracePeriodSeconds=50 terminationGracePeriodSeconds
	END
	return "$failed"
}

# lint runs the tests of a module of its own, in which a file is checked and mistakes in it are found.
lint() { # Dockerfile|Compose
	(cd deploy/packages/lint && go vet ./... && go test -count=1 -run "Test$1" ./...)
}

check_compose() {
	local folder=$work/compose
	mkdir -p "$folder" && lint Compose && go build -o "$folder/usher" ./cmd/usher && go build -o "$folder/stage" ./deploy/stage &&
		promtool check config --syntax-only deploy/compose/prometheus.yaml &&
		unshare --mount --net --pid --fork --kill-child --mount-proc deploy/packages/check-compose.sh "$folder"
}

# check_image makes the folder that the Dockerfile's last stage copies together, and runs its commands in it.
check_image() {
	local root=$work/image toolchain
	toolchain=$(sed -n 's/^export GOTOOLCHAIN=go//p' deploy/package.sh)
	grep -q "golang:$toolchain-" deploy/Dockerfile || {
		printf 'deploy/Dockerfile builds with another Go than deploy/package.sh: want %s\n' "$toolchain"
		return 1
	}
	lint Dockerfile || return
	mkdir -p "$root/usr/bin" "$root/etc/usher" "$root/etc/ssl/certs" "$root/proc" &&
		VERSION=1.2.3 COMMIT=0123456789ab ./deploy/package.sh program "$root/usr/bin/usher" || return
	cat >"$root/etc/usher/usher.yaml" <<-'END'
		listen: "127.0.0.1:8080"
		identity: { secret: "b7c14e9d20f3586a" }
		tickets: { keys: [ { id: a, secret: "b7c14e9d20f3586a" } ] }
		origins: { media: { url: "http://127.0.0.1:9" } }
		backends: { any: { kind: httprequest, address: "http://127.0.0.1:9" } }
		routes: [ { path: "/play/{channel}/*", origin: media, backend: any } ]
		admin: { listen: "127.0.0.1:8081", token: "b7c14e9d20f3586a" }
		drain: { readiness_delay: 0s }
	END
	chmod 0755 "$work" && unshare --mount --net --pid --fork --kill-child deploy/packages/check-image.sh "$root"
}

check_release() {
	local both=()
	for i in 1 2; do
		rm -rf dist && VERSION=1.2.3 COMMIT=0123456789ab SOURCE_DATE_EPOCH=1700000000 ./deploy/package.sh >"$work/sums$i" || return
		both+=("$work/sums$i")
	done
	cmp "${both[@]}" && cp dist/usher_1.2.3_*.deb "$work/usher.deb" || return
	precedes_release 1.2.3-rc1 1.2.3 || return
	deploy/packages/check-signature.sh
}

# precedes_release sees that apt upgrades a candidate to the release.
precedes_release() { # candidate release
	local version
	VERSION=$1 COMMIT=0123456789ab SOURCE_DATE_EPOCH=1700000000 ./deploy/package.sh >/dev/null &&
		version=$(dpkg-deb --field "dist/usher_$1_$(go env GOARCH).deb" Version) || return
	dpkg --compare-versions "$version" lt "$2" || {
		printf 'the Debian version %s of %s is not before %s\n' "$version" "$1" "$2"
		return 1
	}
}

# debian_root prints the folder of a minimal Debian with systemd.
debian_root() {
	local root=$cache/debian-$DEBIAN
	if [[ ! -e $root/complete ]]; then
		rm -rf "$root"
		mkdir -p "$cache"
		debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus "$DEBIAN" "$root" >&2 && touch "$root/complete" || return
		rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
	fi
	printf '%s\n' "$root"
}

check_debian() {
	local base root=$work/debian code
	[[ -e $work/usher.deb ]] || { VERSION=1.2.3 ./deploy/package.sh && cp dist/usher_1.2.3_*.deb "$work/usher.deb"; } || return
	base=$(debian_root) && cp -a "$base" "$root" && mkdir "$root/check" && cp "$work/usher.deb" "$root/check/usher.deb" &&
		cp deploy/packages/check-installed.sh "$root/check/" &&
		CGO_ENABLED=0 go build -o "$root/check/stage" ./deploy/stage &&
		CGO_ENABLED=0 go build -o "$root/check/clients" ./deploy/packages/clients &&
		cp deploy/packages/check.service "$root/etc/systemd/system/" || return
	mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
	ln -s /etc/systemd/system/check.service "$root/etc/systemd/system/multi-user.target.wants/" || return
	timeout 600 systemd-nspawn --quiet --register=no --keep-unit --directory "$root" --private-network --boot --link-journal=no \
		--console=pipe </dev/null >"$work/boot.log" 2>&1
	code=$?
	cat "$root/check/log" || cat "$work/boot.log"
	return "$code"
}

[[ $(id -u) -eq 0 ]] || {
	echo 'deploy/check-packages.sh: not root: it makes namespaces and boots a Debian' >&2
	exit 2
}
install_missing systemd-analyze systemd systemd-nspawn systemd-container debootstrap debootstrap openssl openssl ssh-keygen openssh-client \
	haproxy haproxy redis-server redis-server promtool prometheus ip iproute2 ||
	exit 2

failed=0
for part in "${@:-unit chart compose image release debian}"; do
	for name in $part; do
		printf '\n==== %s\n' "$name"
		start=$SECONDS
		if "check_$name"; then
			printf '%s: ok, %d s\n' "$name" "$((SECONDS - start))"
		else
			printf '%s: FAILED\n' "$name"
			failed=1
		fi
	done
done
exit "$failed"
