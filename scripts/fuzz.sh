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

# The parser of the PAM module is C. FuzzReply tries it without seeing its ways.
if [[ $time != --list ]]; then
	if command -v clang >/dev/null; then
		printf '== tests/pammodule, with libFuzzer\n'
		mkdir -p build/fuzz-corpus
		clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -o build/fuzz-reply tests/pammodule/fuzz_reply.c pam/reply.c
		seconds=${time%s}
		if [[ $time == *m ]]; then seconds=$((${time%m} * 60)); fi
		build/fuzz-reply -max_len=70000 -max_total_time="$seconds" build/fuzz-corpus
	else
		printf 'not run: libFuzzer, which the Debian packages clang and libclang-rt-14-dev have\n'
	fi
fi
