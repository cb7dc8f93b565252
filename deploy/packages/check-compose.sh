#!/usr/bin/env bash
# Runs what deploy/compose describes without containers: two nodes with the settings there, Redis, and HAProxy before them.
# deploy/check-packages.sh gives it namespaces of its own, and a folder with usher and stage.
set -euo pipefail
umask 077

folder=$1
ip link set lo up
for i in 2 3 4; do ip address add "172.30.17.$i/24" dev lo; done
mount --make-rprivate /
mkdir -p "$folder/secrets" /run/secrets
for name in identity.key ticket.key cluster.key admin.token; do
	od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$folder/secrets/$name"
done
mount --bind "$folder/secrets" /run/secrets
printf '127.0.0.1 localhost\n172.30.17.2 redis\n172.30.17.3 node1\n172.30.17.4 node2\n' >"$folder/hosts"
chmod 0644 "$folder/hosts"
mount --bind "$folder/hosts" /etc/hosts

fail() {
	printf 'FAILED: %s\n' "$*" >&2
	tail -n 20 "$folder"/*.log >&2
	exit 1
}

# status prints the status of GET.
status() { # address port path
	local code=
	{ exec 3<>"/dev/tcp/$1/$2"; } 2>/dev/null || return 0
	printf 'GET %s HTTP/1.0\r\nHost: tv.example.com\r\n\r\n' "$3" >&3
	read -r -t 5 _ code _ <&3 || true
	exec 3>&-
	printf '%s\n' "$code"
}

await() { # address port path status
	local _
	for _ in {1..200}; do
		[[ $(status "$1" "$2" "$3") == "$4" ]] && return
		sleep 0.1
	done
	fail "GET $3 of $1:$2: $(status "$1" "$2" "$3"), want $4"
}

redis-server --bind 172.30.17.2 --protected-mode no --save '' --dir "$folder" >"$folder/redis.log" &
"$folder/stage" --origin 127.0.0.1:18001 --middleware 127.0.0.1:18002 >"$folder/stage.log" 2>&1 &
await 127.0.0.1 18001 /play/a001/index.m3u8 200
export USHER_ORIGINS_ASTRA_URL=http://127.0.0.1:18001 USHER_BACKENDS_PORTAL_ADDRESS=http://127.0.0.1:18002/check
"$folder/usher" validate --config deploy/compose/usher.yaml
nodes=()
for i in 1 2; do
	address=172.30.17.$((i + 2))
	USHER_LISTEN=$address:8080 USHER_ADMIN_LISTEN=$address:8081 USHER_CLUSTER_NODE_NAME=node$i \
		"$folder/usher" serve --config deploy/compose/usher.yaml >"$folder/node$i.log" 2>&1 &
	nodes+=("$!")
	await "$address" 8081 /readyz 200
done
# The nodes have port 8080 on addresses of this machine, and not on machines of their own. Its files are fewer.
sed 's/bind :8080/bind 127.0.0.1:8080/; s/maxconn 100000/maxconn 1000/' deploy/compose/haproxy.cfg >"$folder/haproxy.cfg"
haproxy -W -db -f "$folder/haproxy.cfg" >"$folder/haproxy.log" 2>&1 &

await 127.0.0.1 8080 '/play/a001/index.m3u8?token=alice' 200
await 127.0.0.1 8080 '/play/a001/index.m3u8?token=mallory' 403
USHER_TOKEN=$(cat /run/secrets/admin.token)
export USHER_TOKEN
sessions=$("$folder/usher" sessions list --admin http://node2:8081 --json)
[[ $sessions == *127.0.0.1* ]] || fail "no session has the viewer's address: $sessions"
[[ $sessions != *172.30.17.* ]] || fail "a session has the balancer's address: $sessions"
kill -KILL "${nodes[0]}"
await 127.0.0.1 8080 '/play/a001/index.m3u8?token=bob' 200
await 127.0.0.1 8080 '/play/a001/index.m3u8?token=alice' 200
