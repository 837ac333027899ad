#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: scripts/test.sh RUN PACKAGE...
#
# Runs the tests of the packages that match RUN, with the race detector, and writes
# what `go test -json` does, for testsummary. Those that load it and those that boot
# whole systems come last and alone: they take both processors of a small machine, and
# the others have time limits. The load has no race detector: it measures the memory of
# the programs as they are released (PAMPROMPT_SOAK says how long; the Makefile has it).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

run=$1
shift
tests=github.com/pamprompt/pamprompt/tests
systems=() loads=() others=()
# -e: what is wrong with a package is for go test to say.
listed=$(go list -e "$@")
while IFS= read -r package; do
	case $package in
	'') ;;
	"$tests/boot") systems+=("$package") ;;
	"$tests/soak") loads+=("$package") ;;
	*) others+=("$package") ;;
	esac
done <<<"$listed"

status=0
# part TIMEOUT FLAG PACKAGE...
part() {
	if (($# > 2)); then
		go test -json "$2" -count=1 -timeout "$1" -run "$run" "${@:3}" || status=1
	fi
}
part 15m -race "${others[@]}"
part 90m -race=false "${loads[@]}"
part 30m -race "${systems[@]}"
exit $status
