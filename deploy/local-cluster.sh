#!/usr/bin/env bash
# Runs two nodes, Redis, Jaeger, Prometheus, and the demo's origin and middleware as processes on free ports of 127.0.0.1, for
# people without containers and for tests. It prints the URLs. Ctrl-C, SIGTERM or the end of any of them ends all.
# Needs Go, redis-server and prometheus; the first run builds Jaeger, which takes minutes.
#
#	deploy/local-cluster.sh                   builds usher from this tree
#	deploy/local-cluster.sh /usr/bin/usher    runs that program
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:/usr/local/go/bin:/usr/sbin:/sbin"

fail() {
	printf 'deploy/local-cluster.sh: %s\n' "$*" >&2
	exit 1
}

for program in go redis-server prometheus; do
	command -v "$program" >/dev/null || fail "$program is missing: see https://go.dev/doc/install, or install the Debian package"
done

folder=$(mktemp -d)
declare -A names=() # by process id
declare -a started=()

# cleanup ends the processes, last started first.
cleanup() {
	trap '' INT TERM
	local i
	for ((i = ${#started[@]} - 1; i >= 0; i--)); do
		kill "${started[i]}" 2>/dev/null || continue
		await_end "${started[i]}"
	done
	rm -rf "$folder"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# await_end waits ten seconds, then kills.
await_end() {
	local _
	for _ in {1..100}; do
		kill -0 "$1" 2>/dev/null || return 0
		sleep 0.1
	done
	kill -KILL "$1" 2>/dev/null || true
}

# run starts a program in the background, with its output in a log.
run() { # name program argument...
	local name=$1
	shift
	"$@" >"$folder/$name.log" 2>&1 </dev/null &
	started+=("$!")
	names[$!]=$name
}

# await waits until a URL answers 200, and prints what people use.
await() { # name url printed
	local _
	for _ in {1..300}; do
		if answers "$2"; then
			printf '%-12s %s\n' "$1" "$3"
			return
		fi
		check_running
		sleep 0.1
	done
	fail "$1 does not answer on $2"
}

# answers requests a URL of 127.0.0.1 without a tool that may be missing.
answers() {
	local rest=${1#http://127.0.0.1:} status
	{ exec 3<>"/dev/tcp/127.0.0.1/${rest%%/*}"; } 2>/dev/null || return 1
	printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "/${rest#*/}" >&3
	read -r -t 5 _ status _ <&3 || status=
	exec 3>&-
	[[ $status == 200 ]]
}

# check_running ends the script, with the log, if a process has ended.
check_running() {
	local id
	for id in "${started[@]}"; do
		kill -0 "$id" 2>/dev/null && continue
		tail -n 20 "$folder/${names[$id]}.log" >&2
		fail "${names[$id]} ended by itself"
	done
}

declare -A port=() secret=() is_given=()

# find_port sets a free port, below the range of outgoing connections, and of none that the tests of cmd/usher/e2e draw from.
find_port() { # name
	local number
	while :; do
		number=$((23000 + RANDOM % 5000))
		[[ -z ${is_given[$number]:-} ]] || continue
		is_given[$number]=1
		port[$1]=$number
		{ exec 3<>"/dev/tcp/127.0.0.1/$number"; } 2>/dev/null || return 0 # refused: nothing listens
		exec 3>&-
	done
}

# node_settings prints a node's settings file.
node_settings() { # number
	cat <<-END
		listen: "127.0.0.1:${port[node$1]}"
		identity: { secret: "${secret[identity]}" }
		tickets: { keys: [ { id: a, secret: "${secret[ticket_key]}" } ] }
		origins: { stage: { url: "http://127.0.0.1:${port[origin]}" } }
		backends: { middleware: { kind: httprequest, address: "http://127.0.0.1:${port[middleware]}/check", validity: 30s } }
		routes:
		  - { path: "/play/{channel}/*", origin: stage, backend: middleware }
		  - { path: "/single/{channel}/*", origin: stage, backend: middleware }
		  - { path: "/ll/{channel}/*", origin: stage, backend: middleware }
		admin: { listen: "127.0.0.1:${port[admin$1]}", token: "${secret[admin_token]}" }
		cluster:
		  node_name: node$1
		  redis: { addresses: [ "127.0.0.1:${port[redis]}" ] }
		  encryption_keys: [ { id: a, secret: "${secret[encryption_key]}" } ]
		tracing: { endpoint: "http://127.0.0.1:${port[otlp]}" }
		drain: { readiness_delay: 0s, timeout: 5s }
	END
}

jaeger=$(./deploy/jaeger.sh)
usher=${1:-}
if [[ -z $usher ]]; then
	usher=$folder/usher
	go build -o "$usher" ./cmd/usher
fi
go build -o "$folder/stage" ./deploy/stage

for name in origin middleware redis otlp otlp_http query query_grpc prometheus node1 admin1 node2 admin2; do
	find_port "$name"
done
for name in identity ticket_key admin_token encryption_key; do
	secret[$name]=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
done

umask 077
mkdir "$folder/redis"
run redis redis-server --port "${port[redis]}" --bind 127.0.0.1 --save '' --appendonly no --dir "$folder/redis"
run jaeger "$jaeger" --config deploy/jaeger.yaml \
	--set "extensions.jaeger_query.http.endpoint=127.0.0.1:${port[query]}" \
	--set "extensions.jaeger_query.grpc.endpoint=127.0.0.1:${port[query_grpc]}" \
	--set "receivers.otlp.protocols.grpc.endpoint=127.0.0.1:${port[otlp]}" \
	--set "receivers.otlp.protocols.http.endpoint=127.0.0.1:${port[otlp_http]}"
cat >"$folder/prometheus.yml" <<-END
	global: { scrape_interval: 5s, evaluation_interval: 5s }
	rule_files: [ "$PWD/deploy/prometheus/rules.yaml" ]
	scrape_configs:
	  - { job_name: usher, static_configs: [ { targets: [ "127.0.0.1:${port[admin1]}", "127.0.0.1:${port[admin2]}" ] } ] }
END
run prometheus prometheus --config.file "$folder/prometheus.yml" --storage.tsdb.path "$folder/prometheus" \
	--web.listen-address "127.0.0.1:${port[prometheus]}"
run stage "$folder/stage" --origin "127.0.0.1:${port[origin]}" --middleware "127.0.0.1:${port[middleware]}"
await origin "http://127.0.0.1:${port[origin]}/play/a001/index.m3u8" "http://127.0.0.1:${port[origin]}"
await jaeger "http://127.0.0.1:${port[query]}/api/services" "http://127.0.0.1:${port[query]}"
await prometheus "http://127.0.0.1:${port[prometheus]}/-/ready" "http://127.0.0.1:${port[prometheus]}"
for i in 1 2; do
	node_settings "$i" >"$folder/node$i.yaml"
	run "node$i" "$usher" serve --config "$folder/node$i.yaml"
	await "node$i" "http://127.0.0.1:${port[admin$i]}/readyz" "http://127.0.0.1:${port[node$i]}"
	printf '%-12s %s\n' "admin$i" "http://127.0.0.1:${port[admin$i]}"
done

cat <<END

Play:      http://127.0.0.1:${port[node1]}/play/a001/index.m3u8?token=alice, of either node; bob and carol may watch too
Sessions:  usher sessions list --admin http://127.0.0.1:${port[admin1]} --token ${secret[admin_token]}
Traces:    http://127.0.0.1:${port[query]}/api/traces?service=usher
Settings and logs: $folder
Ctrl-C ends all and removes the folder.
END

wait -n "${started[@]}" || true
check_running
