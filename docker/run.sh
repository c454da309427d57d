#!/bin/sh
# docker/run.sh BUILD: serves on 127.0.0.1:8080 (admin on 127.0.0.1:8081) with a private Redis, until Ctrl-C; `make run` calls it.
# A provider whose key is set (GEMINI_API_KEY, OPENAI_API_KEY, ANTHROPIC_API_KEY) is live; with none set, the simulator stands in for all.
# The keys stay in the environment: the configuration that is written here only names them.
# SLUICE_LISTEN and SLUICE_ADMIN change the addresses.
# Both programs have sessions of their own: a terminal's Ctrl-C goes to this script alone, which ends them in order, and ends with 0 where that went well.
set -eu
build=$1
listen=${SLUICE_LISTEN:-127.0.0.1:8080}
admin=${SLUICE_ADMIN:-127.0.0.1:8081}
hint='SLUICE_LISTEN and SLUICE_ADMIN change the addresses'
# Another instance there would be taken for ours when it says that it is ready.
if curl -s -m 5 -o /dev/null "http://$admin/readyz"; then
	echo "sluice: somebody serves on http://$admin already ($hint)" >&2
	exit 1
fi
folder=$(mktemp -d "${TMPDIR:-/tmp}/sluice-run-XXXXXX")
simulator='' gateway='' ready='' live='' interrupted='' again='' status=0

# end SIGNAL PID: its exit code is in `status`. A signal that comes to us meanwhile interrupts one wait, not the end.
end() {
	[ -n "$2" ] || return 0
	kill -s "$1" "$2" 2>/dev/null || true
	while kill -0 "$2" 2>/dev/null; do wait "$2" 2>/dev/null && status=0 || status=$?; done
}

# The simulator leaves last, so that streams can end. A second Ctrl-C is the gateway's second signal: it cuts them.
clean_up() {
	trap 'again=yes; kill -s INT "$gateway" 2>/dev/null || true' INT TERM HUP
	if [ -n "$ready" ]; then end INT "$gateway"; else end TERM "$gateway"; fi # a shell's background begins with INT ignored
	ended=$status
	end TERM "$simulator"
	rm -rf "$folder"
	[ -z "$interrupted" ] || [ "$ended$again" = 0 ] || exit 130 # a shell whose wait is interrupted may miss what it waited for
}
trap clean_up EXIT
trap 'interrupted=yes; exit 0' INT
trap 'exit 143' TERM HUP

# upstream NAME URL HEADER VALUE
upstream() {
	cat >>"$folder/sluice.yaml" <<-END
	  $1:
	    dialect: $1
	    default: true
	    endpoints: [{url: "$2"}]
	    credential: {header: $3, value: "$4"}
	    pool: {min: 1, start: 2, max: 100}
	END
}

printf '%s\n' "listen: $listen" "admin: $admin" "redis: {url: embedded}" "upstreams:" >"$folder/sluice.yaml"
# shellcheck disable=SC2016
{
	[ -z "${GEMINI_API_KEY:-}" ] || { upstream gemini https://generativelanguage.googleapis.com x-goog-api-key '${GEMINI_API_KEY}'; live="$live gemini"; }
	[ -z "${OPENAI_API_KEY:-}" ] || { upstream openai https://api.openai.com Authorization 'Bearer ${OPENAI_API_KEY}'; live="$live openai"; }
	[ -z "${ANTHROPIC_API_KEY:-}" ] || { upstream anthropic https://api.anthropic.com x-api-key '${ANTHROPIC_API_KEY}'; live="$live anthropic"; }
}

if [ -z "$live" ]; then
	mkfifo "$folder/said"
	setsid "$build/sluice-sim" --listen 127.0.0.1:0 --set 'latency=100ms rate=100/s' --die-with-parent >"$folder/said" &
	simulator=$!
	exec 3<"$folder/said" # held open: who writes to a pipe that nobody reads dies
	read -r line <&3 || { echo "sluice: the simulator did not start" >&2; exit 1; }
	url=${line#*\"url\":\"} url=${url%%\"*}
	upstream gemini "$url" x-goog-api-key simulated
	upstream openai "$url" Authorization 'Bearer simulated'
	upstream anthropic "$url" x-api-key simulated
fi

setsid setpriv --pdeathsig TERM "$build/sluice" serve -c "$folder/sluice.yaml" &
gateway=$!
until curl -fs -o "$folder/ready" "http://$admin/readyz"; do
	if ! kill -0 "$gateway" 2>/dev/null; then
		echo "sluice: it did not start ($hint)" >&2
		wait "$gateway" || exit $?
		exit 1
	fi
	sleep 0.1
done
ready=yes

if [ -n "$live" ]; then echo "Sluice serves on http://$listen, live:$live; admin on http://$admin"
else echo "Sluice serves on http://$listen with simulated providers (set GEMINI_API_KEY, OPENAI_API_KEY or ANTHROPIC_API_KEY for live ones); admin on http://$admin"
fi
serves() { [ -z "$live" ] || case "$live " in *" $1 "*) ;; *) return 1 ;; esac; }
echo "Try, in another terminal:"
json="-H 'Content-Type: application/json'"
if serves openai; then
	echo "  curl http://$listen/v1/chat/completions $json -d '{\"model\":\"gpt-4o-mini\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'"
	echo "  curl -N http://$listen/v1/chat/completions $json -d '{\"model\":\"gpt-4o-mini\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'"
fi
if serves anthropic; then
	version="-H 'anthropic-version: 2023-06-01'"
	echo "  curl http://$listen/v1/messages $version $json -d '{\"model\":\"claude-haiku-4-5\",\"max_tokens\":100,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'"
	echo "  curl -N http://$listen/v1/messages $version $json -d '{\"model\":\"claude-haiku-4-5\",\"max_tokens\":100,\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'"
fi
if serves gemini; then
	body='{"contents":[{"parts":[{"text":"Hello"}]}]}'
	echo "  curl http://$listen/v1beta/models/gemini-2.5-flash:generateContent $json -d '$body'"
	echo "  curl -N 'http://$listen/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse' $json -d '$body'"
fi
echo "  curl http://$admin/status"
wait "$gateway"
