#!/bin/sh
# docker/demo.sh BUILD: three instances, HAProxy, one Redis and the simulated provider on free ports of 127.0.0.1; offers ten times a tenant's quota
# through all of them, kills one instance half-way, and prints each second what the provider received beside what the quota allows. `make demo` calls it.
# The same configuration as docker/compose.yml. DEMO_SECONDS (30) is how long; every process ends with the script.
set -eu
build=$1
seconds=${DEMO_SECONDS:-30}
here=$(dirname "$0")
folder=$(mktemp -d "${TMPDIR:-/tmp}/sluice-demo-XXXXXX")
pids=
clean_up() {
	trap '' INT TERM HUP
	# shellcheck disable=SC2086
	[ -z "$pids" ] || { kill $pids 2>/dev/null || true; wait 2>/dev/null || true; }
	rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
fail() { echo "demo: $*" >&2; exit 1; }
free_port() { /usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
# say COMMAND...: prints it, and runs it in the background, its output in a file of its own.
say() { name=$1; shift; echo "  $*"; "$@" >"$folder/$name.out" 2>&1 & pids="$pids $!"; last=$!; }
# wait_for URL: until it answers 200.
wait_for() { tries=0; until curl -fs -o "$folder/answer" "$1"; do tries=$((tries + 1)); [ $tries -lt 200 ] || fail "$1 does not answer: $(tail -n 3 "$folder"/*.out)"; sleep 0.05; done; }

command -v haproxy >/dev/null || PATH=$PATH:/usr/sbin
simulator=$(free_port) door=$(free_port)
echo "One Redis, the simulated provider, three instances, HAProxy in front:"
say redis redis-server --port 0 --unixsocket "$folder/redis.sock" --save '' --appendonly no --maxmemory-policy noeviction
say simulator "$build/sluice-sim" --listen "127.0.0.1:$simulator" --set tokens=5 --die-with-parent
export SLUICE_REDIS="unix://$folder/redis.sock" SLUICE_UPSTREAM="http://127.0.0.1:$simulator" SLUICE_UPSTREAM_KEY=simulated
export DEMO_KEY=demo-key-of-the-fleet SLUICE_ADMIN_TOKEN=demo-admin-token HAPROXY_BIND="127.0.0.1:$door"
for i in 1 2 3; do
	port=$(free_port)
	export SLUICE_LISTEN="127.0.0.1:$port"
	SLUICE_ADMIN="127.0.0.1:$(free_port)"
	export SLUICE_ADMIN
	export "SLUICE_$i=127.0.0.1:$port"
	say "sluice$i" "$build/sluice" serve -c "$here/fleet.yaml"
	[ $i = 3 ] && victim=$last
	wait_for "http://127.0.0.1:$port/readyz"
done
say haproxy haproxy -db -f "$here/haproxy.cfg"
wait_for "http://127.0.0.1:$door/readyz"

echo
echo "The tenant may make 600 requests a minute, 60 at once. Offered through all three: 100 a second."
body='{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello"}]}'
echo "  $build/sluice-load -r 100 -c 50 -d $seconds … http://127.0.0.1:$door/v1/chat/completions"
"$build/sluice-load" -r 100 -c 50 -d "$seconds" -H 'Content-Type: application/json' -H "Authorization: Bearer $DEMO_KEY" -b "$body" \
	"http://127.0.0.1:$door/v1/chat/completions" >"$folder/load.out" 2>&1 &
load=$!
pids="$pids $load"
echo
echo " second   the provider received   the quota allows   of it used"
received() { curl -fs "http://127.0.0.1:$simulator/__sim/stats" | sed 's/.*"received":\([0-9]*\).*/\1/'; }
i=0
while [ $i -lt "$seconds" ]; do
	sleep 1
	i=$((i + 1))
	got=$(received) most=$((60 + 10 * i))
	printf '%7d %23d %18d %10d %%\n' "$i" "$got" "$most" $((100 * got / most))
	if [ $i = $((seconds / 2)) ]; then
		echo "          kill -9 of one instance (pid $victim): the quota is in Redis, the others go on"
		kill -9 "$victim"
	fi
done
wait "$load" || true
got=$(received)
echo
grep -q '"requests"' "$folder/load.out" || fail "the load generator failed: $(cat "$folder/load.out")"
allowed=$((60 + 10 * seconds + 10))
least=$(((60 + 10 * seconds) * 97 / 100))
if [ "$got" -le "$allowed" ] && [ "$got" -ge "$least" ]; then
	echo "held: $got requests reached the provider; burst + rate x time is $((60 + 10 * seconds)); one quota over three instances, one of them killed"
else
	echo "NOT held: $got requests reached the provider; allowed were $least to $allowed"
	exit 1
fi
