#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: scripts/test.sh RUN PACKAGE...
#
# Runs the tests of the packages that match RUN, with the race detector, and writes
# what `go test -json` does, for testsummary. Those that boot whole systems come
# last and alone: they take both processors of a small machine, and the others have
# time limits.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

run=$1
shift
whole=github.com/pamprompt/pamprompt/tests/boot
systems=() others=()
# -e: what is wrong with a package is for go test to say.
listed=$(go list -e "$@")
while IFS= read -r package; do
	case $package in
	'') ;;
	"$whole") systems+=("$package") ;;
	*) others+=("$package") ;;
	esac
done <<<"$listed"

status=0
# part TIMEOUT PACKAGE...
part() {
	if (($# > 1)); then
		go test -json -race -count=1 -timeout "$1" -run "$run" "${@:2}" || status=1
	fi
}
part 15m "${others[@]}"
part 30m "${systems[@]}"
exit $status
