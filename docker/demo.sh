#!/bin/sh
# docker/demo.sh BUILD: three instances, HAProxy, one Redis and the simulated provider on free ports of 127.0.0.1. First 300 clients ask the same while its
# answer streams: one call. Then ten times a tenant's quota is offered through all three, one is killed half-way, and each second says what went where,
# beside what the quota allows. Last, with three again, the provider fails: all stop calling it, and go on when it is well. `make demo` calls it.
#
#   clients ──300 streams──► HAProxy ──► three instances ──► the simulated provider, which counts
#   load ──────────100/s──►                    └── one Redis: the flight, the quota of 10/s, the breaker
#
# The same configurations as docker/compose.yml. DEMO_SECONDS (30) is how long, DEMO_ANSWERS (tokens=5) how the provider answers
# (`status=503 chance=20%`: calls fail, and their codes are shown). Every command is printed as it is run, and ends with the script.
set -eu
build=$1
seconds=${DEMO_SECONDS:-30}
answers=${DEMO_ANSWERS:-tokens=5}
here=$(dirname "$0")
folder=$(mktemp -d "${TMPDIR:-/tmp}/sluice-demo-XXXXXX")
pids=''
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

# A command's words as a shell would have to be told them.
quoted() {
	for word; do
		case $word in
		'' | *[!A-Za-z0-9_./:=@,+-]*) printf " '%s'" "$(printf '%s' "$word" | sed "s/'/'\\\\''/g")" ;;
		*) printf ' %s' "$word" ;;
		esac
	done
}
# start NAME COMMAND...: prints it and runs it in the background, its output in a file of its own; `last` is its process.
start() {
	name=$1
	shift
	printf ' %s\n' "$(quoted "$@")"
	"$@" >"$folder/$name.out" 2>&1 &
	last=$!
	pids="$pids $last"
}
# set_variable NAME VALUE: for all that is started from now on.
set_variable() {
	printf '  export %s=%s\n' "$1" "$(quoted "$2" | cut -c 2-)"
	export "$1=$2"
}
# wait_for URL: until it answers 200.
wait_for() {
	tries=0
	until curl -fs -o "$folder/answer" "$1"; do
		tries=$((tries + 1))
		[ $tries -lt 400 ] || fail "$1 does not answer: $(tail -n 3 "$folder"/*.out)"
		sleep 0.05
	done
}
now() { date +%s%3N; }
# How many requests the provider has received.
received() { curl -fs "http://$provider/__sim/stats" | sed 's/.*"received":\([0-9]*\).*/\1/'; }
# What HAProxy answered its clients, without the readiness that was asked: requests, 2xx, refused by the quota, failed otherwise.
answered() {
	curl -fs "http://$statistics/;csv" | awk -F, -v ready="$ready" -v failed="$1" -v other="$2" '
		NR == 1 { sub(/^# /, ""); for (i = 1; i <= NF; i++) column[$i] = i }
		$1 == "door" && $2 == "FRONTEND" { print $column["req_tot"] - ready, $column["hrsp_2xx"] - ready, $column["hrsp_4xx"] - other, failed }'
}
# failures FROM: HAProxy's lines of the calls that failed for another reason than a quota, behind the first FROM.
failures() { sed -n 's/^failed //p' "$folder/haproxy.out" | tail -n "+$(($1 + 1))"; }
# Their codes as "503 from sluice1 2x, 502 by HAProxy (SH, sluice3) 1x": it says why where it answered itself.
codes() {
	sort | uniq -c | awk '{
		printf "%s%s %s %dx", comma, $2, $3 == "--" ? "from " $4 : "by HAProxy (" $3 ", " $4 ")", $1
		comma = ", "
	}'
}

command -v haproxy >/dev/null || PATH=$PATH:/usr/sbin
# Nine ports that were free a moment ago, all at once, so that they differ.
# shellcheck disable=SC2046
set -- $(/usr/bin/python3 -c '
import socket
free = [socket.create_server(("127.0.0.1", 0)) for _ in range(9)]
print(*(s.getsockname()[1] for s in free))')
provider=127.0.0.1:$1 door=127.0.0.1:$2 statistics=127.0.0.1:$3

echo "One Redis, the simulated provider, three instances, HAProxy in front:"
start redis redis-server --port 0 --unixsocket "$folder/redis.sock" --save '' --appendonly no --maxmemory-policy noeviction
start simulator "$build/sluice-sim" --listen "$provider" --set "$answers"
set_variable SLUICE_REDIS "unix://$folder/redis.sock"
set_variable SLUICE_UPSTREAM "http://$provider"
set_variable SLUICE_UPSTREAM_KEY simulated
set_variable SLUICE_ADMIN_TOKEN demo-admin-token
set_variable DEMO_KEY demo-key-of-the-fleet
start sluice1 env "SLUICE_LISTEN=127.0.0.1:$4" "SLUICE_ADMIN=127.0.0.1:$5" "$build/sluice" serve -c "$here/fleet.yaml"
start sluice2 env "SLUICE_LISTEN=127.0.0.1:$6" "SLUICE_ADMIN=127.0.0.1:$7" "$build/sluice" serve -c "$here/fleet.yaml"
start_third() { start sluice3 env "SLUICE_LISTEN=127.0.0.1:$1" "SLUICE_ADMIN=127.0.0.1:$2" "$build/sluice" serve -c "$here/fleet.yaml"; }
start_third "$8" "$9"
victim=$last
for port in "$4" "$6" "$8"; do wait_for "http://127.0.0.1:$port/readyz"; done
start haproxy env "HAPROXY_BIND=$door" "HAPROXY_STATISTICS=$statistics" "SLUICE_1=127.0.0.1:$4" "SLUICE_2=127.0.0.1:$6" "SLUICE_3=127.0.0.1:$8" \
	haproxy -db -f "$here/haproxy.cfg"
wait_for "http://$door/readyz"

echo
echo "300 clients ask the same at temperature 0, the first at once, the others within a second; its stream takes three:"
/usr/bin/python3 "$here/demo_flight.py" "http://$door/v1/chat/completions" "http://$provider" "$DEMO_KEY"
curl -fs -o "$folder/answer" -d '' "http://$provider/__sim/reset" # from here on it counts for the quota
ready=0
read -r _ ready _ <<-END
	$(answered 0 0)
END
early=$(failures 0 | wc -l)

echo
echo "The tenant may make 600 requests a minute, 60 at once. Offered through all three: 100 a second."
began=$(now)
start load "$build/sluice-load" -r 100 -c 50 -d "$seconds" -H 'Content-Type: application/json' -H "Authorization: Bearer $DEMO_KEY" \
	-b '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello"}]}' "http://$door/v1/chat/completions"
load=$last
echo
echo " second   offered   admitted   denied   failed   the provider received   the quota allows     used"
i=0 over='' failed=0
while [ $i -lt "$seconds" ]; do
	i=$((i + 1))
	left=$((began + i * 1000 - $(now)))
	[ $left -le 0 ] || sleep "$((left / 1000)).$(printf %03d $((left % 1000)))"
	got=$(received)
	most=$((60 + ($(now) - began) / 100)) # after the count, so that it is a bound
	[ "$got" -le "$most" ] || over="$over $i"
	failures "$early" >"$folder/failed"
	before=$failed failed=$(wc -l <"$folder/failed")
	# shellcheck disable=SC2046
	printf '%7d %9d %10d %8d %8d %23d %18d %6d %%\n' $i $(answered "$failed" "$(grep -c '^4' "$folder/failed")") "$got" $most $((100 * got / most))
	[ "$failed" = "$before" ] || echo "  failed: $(tail -n "+$((before + 1))" "$folder/failed" | codes)"
	if [ $i = $((seconds / 2)) ]; then
		echo "  kill -9 $victim    (one instance of three: the quota is in Redis, the others go on)"
		kill -9 "$victim"
	fi
done
wait "$load" || fail "the load generator failed: $(cat "$folder/load.out")"
got=$(received)
most=$((60 + 10 * seconds))
echo
# As the clients saw it: HAProxy closes a connection that has had an answer, and says nothing, where the instance of its next call dies.
/usr/bin/python3 -c '
import json, sys
told = json.load(open(sys.argv[1]))
failed = {status: times for status, times in told["by_status"].items() if status not in ("200", "429")}
failed.update((f"without an answer ({error})", times) for error, times in told["errors"].items())
calls = sum(failed.values())
print(f"failed for another reason than the quota: {calls} call" + ("" if calls == 1 else "s") + "".join(f", {what} {times}x" for what, times in failed.items()))
' "$folder/load.out"
# A request that was admitted as its instance died never reached the provider, and the next is due only a tenth of a second later.
if [ -z "$over" ] && [ "$got" -le "$((60 + ($(now) - began) / 100))" ] && [ "$got" -ge $((most * 99 / 100 - 2)) ]; then
	echo "held: $got requests reached the provider; burst + rate x time is $most; one quota over three instances, one of them killed"
else
	echo "NOT held: $got requests reached the provider; burst + rate x time is $most${over:+; it was passed in second$over}"
	exit 1
fi

echo
echo "The killed instance is started again. A tenant without limits makes 60 calls a second to an API that fails for three seconds:"
start_third "$8" "$9"
wait_for "http://127.0.0.1:$9/readyz"
# shellcheck disable=SC2016
until [ "$(curl -fs "http://$statistics/;csv" | awk -F, '$1 == "fleet" && $2 ~ /^sluice/ && $18 ~ /^UP/' | wc -l)" = 3 ]; do sleep 0.05; done
/usr/bin/python3 "$here/demo_breaker.py" "http://$door/v1/messages" "http://$provider" "$DEMO_KEY-without-limits" "$SLUICE_ADMIN_TOKEN" \
	"http://127.0.0.1:$5" "http://127.0.0.1:$7" "http://127.0.0.1:$9"
