#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: scripts/fuzz.sh [TIME | --list]
#
# Runs every fuzz target for TIME (default 10s), one after the other. --list
# prints them instead: the package's folder, the target, and how many committed
# seeds it has in testdata/fuzz.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

targets() {
	grep -rEoH --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . |
		sed -E 's|^\./(.*)/[^/]+:func (.*)$|\1 \2|' | sort
}

seeds() {
	local folder=$1/testdata/fuzz/$2
	if [[ -d $folder ]]; then find "$folder" -type f | wc -l; else echo 0; fi
}

time=${1:-10s}
while read -r -u 3 folder target; do
	if [[ $time == --list ]]; then
		printf '%s %s %s\n' "$folder" "$target" "$(seeds "$folder" "$target")"
	else
		printf '== %s %s\n' "$folder" "$target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "./$folder"
	fi
done 3< <(targets)
