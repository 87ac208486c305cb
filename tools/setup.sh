#!/usr/bin/env bash
# Installs what the tests need and the machine lacks: PostgreSQL's server
# binaries, Chromium, Node.js 20 with npm, a C compiler for the race detector
# and, on Debian and its kin, Apache with mod_auth_openidc; with the argument
# "bench", wrk too. Where it may not install, it
# prints the line that does and fails.
set -euo pipefail

what=${1:-test}

has() { command -v "$1" >/dev/null 2>&1; }

has_postgres() {
	has initdb && return
	local bin
	for bin in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin; do
		[ -x "$bin/initdb" ] && [ -x "$bin/postgres" ] && return
	done
	return 1
}

has_chromium() {
	has chromium || has chromium-browser || has google-chrome || has google-chrome-stable ||
		[ -x "/Applications/Chromium.app/Contents/MacOS/Chromium" ] ||
		[ -x "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" ]
}

# The global crypto object that openid-client needs came with Node.js 20.
has_node() { has node && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; }

# Elsewhere the tests that need it are left out. Its package brings apache2-bin,
# which has no service that could start.
has_apache() {
	[ ! -e /etc/debian_version ] ||
		{ [ -x /usr/sbin/apache2 ] && [ -e /usr/lib/apache2/modules/mod_auth_openidc.so ]; }
}

# missing prints the names, in the system's package manager, of what is missing;
# its arguments are the names of PostgreSQL, Chromium, Node.js, npm, compiler, wrk,
# mod_auth_openidc.
# Measuring needs neither a browser nor a C compiler.
missing() {
	has_postgres || echo "$1"
	if [ "$what" = bench ]; then
		has wrk || echo "$6"
		return 0
	fi
	has_chromium || echo "$2"
	has_node || echo "$3"
	has npm || echo "$4"
	has cc || has gcc || has clang || echo "$5"
	has_apache || echo "$7"
}

# words joins lines and drops repetitions.
words() { sort -u | paste -s -d ' ' -; }

if has apt-get; then
	packages=$(missing postgresql chromium nodejs npm build-essential wrk libapache2-mod-auth-openidc | words)
	install="apt-get install -y --no-install-recommends $packages"
	if [ -n "$packages" ]; then
		if [ "$(id -u)" -eq 0 ]; then
			as_root=(env)
		elif has sudo && sudo -n true 2>/dev/null; then
			as_root=(sudo -n env)
		else
			echo "The tests need: $packages. Install with: sudo $install" >&2
			exit 1
		fi
		echo "Installing $packages"
		# Debian's package starts a cluster of its own where services can be
		# started; the tests neither need nor touch it.
		"${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get update -qq
		# Unquoted: one word for each package.
		# shellcheck disable=SC2086
		"${as_root[@]}" DEBIAN_FRONTEND=noninteractive $install -qq
	fi
elif [ "$(uname)" = Darwin ] && has brew; then
	formulas=$(missing postgresql@17 '' node node '' wrk '' | words)
	if [ -n "${formulas// /}" ]; then
		echo "Installing $formulas"
		# shellcheck disable=SC2086
		brew install $formulas
	fi
	if [ "$what" != bench ] && ! has_chromium; then
		brew install --cask chromium
	fi
fi

left=$(missing "PostgreSQL's server (initdb, postgres, pg_ctl)," 'Chromium,' 'Node.js 20 or newer,' 'npm,' 'a C compiler,' 'wrk,' 'Apache with mod_auth_openidc,' | paste -s -d ' ' -)
if [ -n "$left" ]; then
	echo "The tests still need ${left%,}. Install with your system's package manager, e.g. on Debian: apt-get install postgresql chromium nodejs npm build-essential wrk libapache2-mod-auth-openidc" >&2
	exit 1
fi
