#!/bin/sh
# Installs the Debian packages that a task needs and that are missing, through apt, as root or through sudo.
#   tests/check/packages.sh TASK...      installs; says nothing when nothing is missing
#   tests/check/packages.sh --list TASK...   prints the packages of these tasks, one a line
# Tasks: build run test demo bench check ci. This table is the only place where packages are named.
# Services that come with packages (redis-server, nginx, haproxy) are not started: Sluice runs its own.
set -eu

# task | Debian 12 | Debian 13 (empty: the same)
table() {
	cat <<-END
	build|gcc libc6-dev make pkgconf python3 libevent-dev libcurl4-openssl-dev libhiredis-dev libjansson-dev libjemalloc-dev libyaml-dev libssl-dev zlib1g-dev libzstd-dev node-llhttp|gcc libc6-dev make pkgconf python3 libevent-dev libcurl4-openssl-dev libhiredis-dev libjansson-dev libjemalloc-dev libyaml-dev libssl-dev zlib1g-dev libzstd-dev libllhttp-dev
	run|redis-server ca-certificates curl|
	test|redis-server ca-certificates curl libcmocka-dev python3-pytest openssl nginx nghttp2-proxy haproxy slowhttptest docker-compose groff-base|
	demo|redis-server haproxy curl|
	bench|redis-server nginx haproxy openssl libcmocka-dev|
	check|git python3 python3-pytest clang-format shellcheck|git python3 python3-pytest shellcheck
	ci|git clang clang-tidy llvm libclang-rt-14-dev nodejs npm|git clang clang-tidy llvm libclang-rt-19-dev nodejs npm
	END
}

why() {
	case $1 in
	build) echo "the compiler and the libraries that Sluice is built with" ;;
	run) echo "the Redis that Sluice runs for itself, and curl" ;;
	test) echo "what the tests run Sluice against" ;;
	demo) echo "the load balancer and the Redis of the demo" ;;
	bench) echo "the peers that Sluice is measured against" ;;
	check) echo "the checks of the sources" ;;
	ci) echo "a second compiler, the sanitizers, and npm for the official SDKs" ;;
	*) echo "$0: no task '$1'" >&2 && exit 2 ;;
	esac
}

release() {
	# shellcheck disable=SC1091
	(. /etc/os-release && echo "${VERSION_ID:-13}")
}

packages_of() {
	column=3
	[ "$(release)" = 12 ] && column=2
	for task; do
		table | awk -F'|' -v task="$task" -v column="$column" '$1 == task { print ($column == "" ? $2 : $column) }'
	done | tr ' ' '\n' | sort -u
}

# Node.js and npm often come from elsewhere than Debian, and exclude its packages: there the command counts.
is_installed() {
	case $1 in nodejs) command -v node >/dev/null && return ;; npm) command -v npm >/dev/null && return ;; esac
	dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed
}

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# A policy that forbids starting services exists only while apt runs, and only if the machine has none of its own.
# The shell that apt's user becomes gets the list as arguments; its output is shown only when it fails.
install_quietly() {
	# shellcheck disable=SC2016
	as_root sh -eu -c '
		policy=/usr/sbin/policy-rc.d log=$(mktemp)
		clean_up() { rm -f "$log"; [ -z "${ours:-}" ] || rm -f "$policy"; }
		trap clean_up EXIT
		trap "exit 1" INT TERM HUP
		if [ ! -e "$policy" ]; then
			ours=yes
			printf "#!/bin/sh\nexit 101\n" >"$policy"
			chmod 755 "$policy"
		fi
		export DEBIAN_FRONTEND=noninteractive
		{ apt-get -q update && apt-get -qy install --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null || {
			tail -n 20 "$log" >&2
			exit 1
		}' sh "$@"
}

if [ "${1:-}" = --list ]; then
	shift
	packages_of "$@"
	exit 0
fi
[ $# -gt 0 ] || { sed -n '2,6s/^# //p' "$0" >&2; exit 2; }
reasons=
for task; do reasons="$reasons${reasons:+; }$(why "$task")"; done
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	echo "sluice: this is no Debian; what is needed has to be there already: $(packages_of "$@" | tr '\n' ' ')" >&2
	exit 0
fi
missing=
for package in $(packages_of "$@"); do
	is_installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
	echo "sluice: packages are missing, and neither root nor sudo is here to install them. As root: apt-get install$missing" >&2
	exit 1
fi
echo "sluice: installing$missing ($reasons)"
# shellcheck disable=SC2086
install_quietly $missing || { echo "sluice: apt could not install them" >&2; exit 1; }
