#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: scripts/generate.sh [--check]
#
# Generates api/worker/worker.pb.go from worker.proto, with protoc of the
# system and protoc-gen-go at the version in go.mod. With --check it changes
# nothing and fails when the file in the tree differs. The line that names the
# version of protoc does not count: the code does not depend on it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tree=api/worker/worker.pb.go
if ! command -v protoc >/dev/null; then
	printf 'protoc is missing: install the Debian package protobuf-compiler, or run scripts/setup.sh\n' >&2
	exit 1
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
go build -o "$tmp/protoc-gen-go" google.golang.org/protobuf/cmd/protoc-gen-go
protoc --plugin="$tmp/protoc-gen-go" --go_out="$tmp" --go_opt=module=github.com/pamprompt/pamprompt api/worker/worker.proto

comparable() { sed -E 's|^(//[[:space:]]+protoc[[:space:]]+)v.*|\1any|' "$1"; }

case ${1:-} in
--check)
	if ! diff -u --label "$tree" --label generated <(comparable "$tree") <(comparable "$tmp/$tree") | head -n 40; then
		printf '%s is stale: run make generate\n' "$tree" >&2
		exit 1
	fi
	;;
'')
	cat "$tmp/$tree" >"$tree"
	;;
*)
	printf 'usage: scripts/generate.sh [--check]\n' >&2
	exit 2
	;;
esac
