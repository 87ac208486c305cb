#!/usr/bin/env bash
# Runs every fuzz target for FUZZTIME seconds (default 60), two at a time with
# one worker each, and prints how many inputs each was given. A target that
# fails shows the input that it failed on, which is kept below testdata/fuzz of
# its package: `go test` runs it from then on. Arguments name targets or
# packages: tools/fuzz.sh FuzzParse ./oauth.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

seconds=${FUZZTIME:-60}
seconds=${seconds%s}
if ! [[ $seconds =~ ^[1-9][0-9]*$ ]]; then
	echo "FUZZTIME is a number of seconds, such as 60" >&2
	exit 2
fi

# one runs one target: its package's folder and its name.
one() {
	local folder=$1 target=$2 log=$scratch/$2.log began=$SECONDS passed=no
	cd "$folder" || return 1
	# Making an interesting input smaller may take a second, not a minute: it
	# keeps the worker from new ones.
	if "$scratch/${folder//\//-}.test" -test.run='^$' -test.fuzz="^$target\$" -test.fuzztime="${seconds}s" -test.fuzzminimizetime=1s \
		-test.fuzzcachedir="$cache/$folder" -test.parallel=1 >"$log" 2>&1; then
		passed=yes
	elif [ "$(grep -vE '^(fuzz: |--- FAIL: |FAIL$|PASS$|exit status|$)' "$log" | sort -u)" = '    context deadline exceeded' ]; then
		# Go says so, and nothing else, where its time is up while the worker is at
		# an input: none has failed.
		passed=yes
	fi
	if [ "$passed" = yes ]; then
		awk -v target="$target" -v folder="$folder" -v took=$((SECONDS - began)) '
			/was not built with coverage/ { blind = 1 }
			/^fuzz: elapsed:.*execs: / { sub(/.*execs: /, ""); execs = $1; sub(/.*new interesting: /, ""); found = $1 + 0 }
			END { printf "%-22s %-18s %10d inputs, %4d of them reached something new, %3d s\n", target, folder, execs, found, took; exit execs == 0 || blind }' "$log" && return
		echo "FAIL: $target in $folder was given no input, or inputs without guidance:"
		cat "$log"
		return 1
	fi
	echo "FAIL: $target in $folder"
	grep -v '^fuzz: elapsed' "$log"
	local input
	for input in $(sed -n 's/.*Failing input written to \(.*\)$/\1/p' "$log"); do
		echo "The input is $folder/$input:"
		cat "$input"
	done
	return 1
}

if [ "${1:-}" = --one ]; then
	one "$2" "$3"
	exit
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# What reached something new is kept, and is where the next run begins.
cache=$(go env GOCACHE)/fuzz/gatehouse.dev/gatehouse
export scratch cache
export FUZZTIME=$seconds

# Every target with its package's folder, those that were asked for.
grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed -E 's|^\./(.*)/[^/]*:func (.*)$|\1 \2|' | sort |
	while read -r folder target; do
		for wanted in "${@:-$target}"; do
			if [ "$wanted" = "$target" ] || [ "${wanted#./}" = "$folder" ]; then
				echo "$folder $target"
			fi
		done
	done >"$scratch/targets"
if ! [ -s "$scratch/targets" ]; then
	echo "no fuzz target is called that" >&2
	exit 2
fi

# Coverage counts in our packages and in the parsers that they call, and nowhere
# else: a server's pools, timers and ciphers go other ways at every call, which
# would pass for something new and leave no time for inputs. So the flag that
# `go test -fuzz` sets for all packages is set for those alone; all others come
# from the cache that every `go test` fills.
flags=()
for pattern in gatehouse.dev/gatehouse/... github.com/ory/fosite github.com/goccy/go-yaml/... github.com/go-jose/go-jose/v4/...; do
	flags+=(-gcflags="$pattern=-d=libfuzzer")
done
began=$SECONDS
for folder in $(cut -d ' ' -f 1 "$scratch/targets" | uniq); do
	go test -c "${flags[@]}" -o "$scratch/${folder//\//-}.test" "./$folder" || exit 1
done
echo "built in $((SECONDS - began)) s; $(wc -l <"$scratch/targets" | tr -d ' ') targets, $seconds s each, two at a time"

if xargs -P 2 -n 2 "$PWD/tools/fuzz.sh" --one <"$scratch/targets"; then
	echo "no input failed, $((SECONDS - began)) s in all"
else
	echo "FAIL: fuzzing found inputs that fail, above"
	exit 1
fi
