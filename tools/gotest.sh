#!/usr/bin/env bash
# Runs `go test` with the given arguments, and closes with what a reader looks
# for: in how many tests each outside program took part, and what failed.
#
# PROGRAMS lists the programs that must have taken part. Test suites append lines
# "PROGRAM COUNT" to the file that GATEHOUSE_TEST_USES names; its name changes
# with every run, so that go test answers nothing from its cache. A COUNT of 0
# is a test that was left out for want of the program.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export GATEHOUSE_TEST_USES=$scratch/uses
: >"$GATEHOUSE_TEST_USES"

# Packages without tests and passes without any match are no news.
go test "$@" 2>&1 | tee "$scratch/log" | grep -a --line-buffered -vE '\[no test files\]$|\[no tests to run\]$'
status=${PIPESTATUS[0]}

echo
awk '{ n[$1] += $2; out[$1] += $2 == 0 }
	END { for (p in n) printf "%s took part in %d tests%s\n", p, n[p], out[p] ? "; left out for want of it: " out[p] : "" }' "$GATEHOUSE_TEST_USES" | sort
for program in ${PROGRAMS:-}; do
	if ! awk -v p="$program" '$1 == p { n += $2 } END { exit !(n > 0) }' "$GATEHOUSE_TEST_USES"; then
		echo "FAIL: $program took part in no test"
		[ "$status" -ne 0 ] || status=1
	fi
done

if [ "$status" -ne 0 ]; then
	echo
	echo "What failed (the output of each stands above, before its package's FAIL line):"
	grep -aE '^ *--- FAIL|^FAIL[[:space:]]+[^[:space:]]|^panic:|^WARNING: DATA RACE|^[^[:space:]]+\.go:[0-9]+:[0-9]+: ' "$scratch/log" | awk '!seen[$0]++' | head -n 100
else
	echo "all tests passed"
fi
exit "$status"
