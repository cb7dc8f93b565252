#!/bin/bash
# Runs as a service of a throw-away Debian that deploy/check-packages.sh boots, with the package and a stage in /check. It
# installs, serves, upgrades, removes and purges, and fails at the first thing that is not as it should be.
set -euo pipefail

step() { printf '== %s\n' "$*" >&2; }

fail() {
	printf 'FAILED: %s\n' "$*" >&2
	journalctl --no-pager -u usher.service | tail -n 20 >&2
	exit 1
}

# status prints the status of GET: there is no curl in a minimal Debian.
status() { # port path
	local code=
	{ exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || {
		printf 'nothing listens\n'
		return
	}
	printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$2" >&3
	read -r -t 5 _ code _ <&3 || true
	exec 3>&-
	printf '%s\n' "$code"
}

await() { # port path status
	local _
	for _ in {1..200}; do
		[[ $(status "$1" "$2") == "$3" ]] && return
		sleep 0.1
	done
	fail "GET $2 on port $1: $(status "$1" "$2"), want $3"
}

is_active() { [[ $(systemctl is-active usher.service) == "$1" ]] || fail "usher.service is $(systemctl is-active usher.service), want $1"; }

step install
dpkg -i /check/usher.deb
getent passwd usher >/dev/null || fail 'no user usher'
is_active inactive
for name in identity.key ticket.key admin.token; do
	[[ $(stat -c '%U:%G %a %s' "/etc/usher/$name") == 'root:usher 640 64' ]] || fail "$name: $(stat -c '%U:%G %a %s' "/etc/usher/$name")"
done
[[ $(stat -c '%U:%G %a' /etc/usher) == 'root:usher 750' ]] || fail "/etc/usher: $(stat -c '%U:%G %a' /etc/usher)"
usher validate --config /etc/usher/usher.yaml || fail 'the settings of the package'
before=$(cat /etc/usher/*.key /etc/usher/admin.token)

step 'serve under the sandbox of the unit'
/check/stage --origin 127.0.0.1:18001 --middleware 127.0.0.1:18002 &
stage=$!
trap 'kill "$stage"' EXIT
cat >/etc/usher/usher.yaml <<-'END'
	listen: ":80"
	identity: { secret: "file:identity.key" }
	tickets: { keys: [ { id: a, secret: "file:ticket.key" } ] }
	origins: { stage: { url: "http://127.0.0.1:18001" } }
	backends: { portal: { kind: httprequest, address: "http://127.0.0.1:18002/check" } }
	routes: [ { path: "/play/{channel}/*", origin: stage, backend: portal } ]
	cluster: { state_dir: /var/lib/usher }
	admin: { listen: "127.0.0.1:8081", token: "file:admin.token", audit: { file: /var/lib/usher/audit.jsonl } }
	drain: { readiness_delay: 0s, timeout: 5s }
END
systemctl enable --now usher.service
await 8081 /readyz 200
await 18001 /play/a001/index.m3u8 200
await 80 '/play/a001/index.m3u8?token=alice' 200
await 80 '/play/a001/index.m3u8?token=mallory' 403
usher health >/dev/null || fail 'usher health'
id=$(systemctl show --property=MainPID --value usher.service)
[[ $(stat -c %U "/proc/$id") == usher ]] || fail "the node runs as $(stat -c %U "/proc/$id")"
grep -q '^NoNewPrivs:[[:space:]]*1$' "/proc/$id/status" || fail 'the node may gain privileges'
grep -q '^Seccomp:[[:space:]]*2$' "/proc/$id/status" || fail 'the node has no filter of system calls'
grep -q '^CapEff:[[:space:]]*0000000000000400$' "/proc/$id/status" || fail "capabilities: $(grep CapEff "/proc/$id/status")"
files=$(systemctl show --property=LimitNOFILE --value usher.service)
possible=$(ulimit -H -n) # of this machine, which may be below what the unit asks for
[[ $files == 1048576 ]] || fail "LimitNOFILE=$files"
grep -qE "^Max open files +($files|$possible) " "/proc/$id/limits" || fail "$(grep 'open files' "/proc/$id/limits")"
awk '$5 == "/" { options = $6 } END { exit options !~ /^ro(,|$)/ }' "/proc/$id/mountinfo" || fail 'the node may write outside its folder'
USHER_TOKEN=$(cat /etc/usher/admin.token) usher sessions ban --user alice --duration 1h || fail 'usher sessions ban'
await 80 '/play/a001/index.m3u8?token=alice' 403
[[ -s /var/lib/usher/audit.jsonl ]] || fail 'no audit file in the state folder'
systemd-analyze security --no-pager --threshold=20 usher.service | tail -n 1 || fail 'the exposure is above 2.0'

step 'a secret by LoadCredential='
mkdir /etc/systemd/system/usher.service.d
printf '[Service]\nLoadCredential=ticket.key:/check/ticket.key\n' >/etc/systemd/system/usher.service.d/credential.conf
(umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >/check/ticket.key)
cp /etc/usher/usher.yaml /check/usher.yaml
sed -i 's|file:ticket.key|file:${CREDENTIALS_DIRECTORY}/ticket.key|' /etc/usher/usher.yaml
systemctl daemon-reload
systemctl restart usher.service
await 80 '/play/a001/index.m3u8?token=bob' 200
id=$(systemctl show --property=MainPID --value usher.service)
dpkg -i --force-confold /check/usher.deb
await 80 '/play/a001/index.m3u8?token=bob' 200
[[ $(systemctl show --property=MainPID --value usher.service) != "$id" ]] || fail 'the upgrade did not restart the node'
rm -r /etc/systemd/system/usher.service.d
cp /check/usher.yaml /etc/usher/usher.yaml
systemctl daemon-reload
systemctl restart usher.service
await 8081 /readyz 200
id=$(systemctl show --property=MainPID --value usher.service)

step reload
sed -i 's|"/play/|"/tv/|' /etc/usher/usher.yaml
sed -i 's|origin: stage,|origin: stage, origin_path: "/play/{channel}/*",|' /etc/usher/usher.yaml
systemctl reload usher.service
await 80 '/tv/a001/index.m3u8?token=bob' 200
[[ $(systemctl show --property=MainPID --value usher.service) == "$id" ]] || fail 'the reload restarted the node'
cp /check/usher.yaml /etc/usher/usher.yaml
systemctl reload usher.service
await 80 '/play/a001/index.m3u8?token=bob' 200

step upgrade
dpkg -i --force-confold /check/usher.deb
await 80 '/play/a001/index.m3u8?token=bob' 200
await 80 '/play/a001/index.m3u8?token=alice' 403 # the ban is in the state folder
[[ $(systemctl show --property=MainPID --value usher.service) != "$id" ]] || fail 'the upgrade did not restart the node'
[[ $(cat /etc/usher/*.key /etc/usher/admin.token) == "$before" ]] || fail 'the upgrade changed the secrets'

refused_upgrade() {
	id=$(systemctl show --property=MainPID --value usher.service)
	printf 'renamed_since: 1\n' >>/etc/usher/usher.yaml
	dpkg -i --force-confold /check/usher.deb 2>/check/upgrade.log || { cat /check/upgrade.log >&2; fail 'the upgrade'; }
	cat /check/upgrade.log >&2
	grep -q 'renamed_since' /check/upgrade.log && grep -q 'systemctl restart usher' /check/upgrade.log || fail 'the upgrade says nothing of it'
	await 80 '/play/a001/index.m3u8?token=bob' 200
	[[ $(systemctl show --property=MainPID --value usher.service) == "$id" ]] || fail 'the upgrade restarted the node'
	cp /check/usher.yaml /etc/usher/usher.yaml
}

restarted_upgrade() {
	id=$(systemctl show --property=MainPID --value usher.service)
	dpkg -i --force-confold /check/usher.deb
	await 80 '/play/a001/index.m3u8?token=bob' 200
	[[ $(systemctl show --property=MainPID --value usher.service) != "$id" ]] || fail 'the upgrade did not restart the node'
}

step 'upgrade to a program that refuses the settings'
refused_upgrade

step 'upgrade of a node with a folder of its own, which runs nothing else'
mkdir /etc/systemd/system/usher.service.d
cat >/etc/systemd/system/usher.service.d/folder.conf <<-'END'
	[Service]
	WorkingDirectory=/etc/usher
	ExecStart=
	ExecStart=/usr/bin/usher serve --config usher.yaml
	NoExecPaths=/
	ExecPaths=/usr/bin/usher
END
systemctl daemon-reload
systemctl restart usher.service
await 80 '/play/a001/index.m3u8?token=bob' 200
restarted_upgrade
refused_upgrade
rm -r /etc/systemd/system/usher.service.d
systemctl daemon-reload
systemctl restart usher.service

step 'upgrade where the mounts of the node cannot be entered'
printf '#!/bin/sh\necho "nsenter: cannot open: Permission denied" >&2\nexit 1\n' >/usr/local/bin/nsenter
chmod +x /usr/local/bin/nsenter
await 80 '/play/a001/index.m3u8?token=bob' 200
restarted_upgrade
rm /usr/local/bin/nsenter

step 'restarts with the socket, under load'
sed -i 's/readiness_delay: 0s/readiness_delay: 1s/' /etc/usher/usher.yaml
mkdir /etc/systemd/system/usher.socket.d
printf '[Socket]\nListenStream=\nListenStream=80\n' >/etc/systemd/system/usher.socket.d/port.conf
systemctl daemon-reload
systemctl disable --now usher.service
systemctl enable --now usher.socket
await 80 '/play/a001/index.m3u8?token=bob' 200 # whose connection starts the node
is_active active
/check/clients --url 'http://127.0.0.1:80/play/a001/index.m3u8?token=bob' >/check/clients.log 2>&1 &
clients=$!
for _ in {1..200}; do
	grep -q running /check/clients.log && break
	sleep 0.1
done
for _ in 1 2 3; do
	id=$(systemctl show --property=MainPID --value usher.service)
	systemctl restart usher.service # returns when the next node is ready
	[[ $(systemctl show --property=MainPID --value usher.service) != "$id" ]] || fail 'it is the same process'
	systemctl status --no-pager usher.service | grep -F 'Status: "serving at ' || fail 'no status'
done
dpkg -i --force-confold /check/usher.deb
kill "$clients"
wait "$clients" || fail "restarts failed requests: $(cat /check/clients.log)"
cat /check/clients.log >&2
kill -9 "$(systemctl show --property=MainPID --value usher.service)"
await 80 '/play/a001/index.m3u8?token=bob' 200

step remove
dpkg -r usher
is_active inactive
[[ $(cat /etc/usher/*.key /etc/usher/admin.token) == "$before" ]] || fail 'removing took the secrets away'
[[ ! -e /usr/bin/usher ]] || fail '/usr/bin/usher is left'

step purge
dpkg -P usher
! getent passwd usher || fail 'the user is left'
left=$(find / -xdev -name '*usher*' -not -path '/proc/*' -not -path '/sys/*' -not -path '/check/*' -not -path '/tmp/*' \
	-not -path '/etc/systemd/system/check.service' -not -path '/etc/systemd/system/usher.socket.d*' -not -path '/var/log/journal/*')
[[ -z $left ]] || fail "left behind: $left"
step 'done'
