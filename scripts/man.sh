#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: scripts/man.sh VERSION FOLDER
#
# Writes the manual pages into a folder: those of the client's commands, made of the
# commands, and those of dist/man, made of the documentation.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$1 folder=$2
rm -rf "$folder"
mkdir -p "$folder"
if SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null)} && [[ $SOURCE_DATE_EPOCH ]]; then
	export SOURCE_DATE_EPOCH
else
	unset SOURCE_DATE_EPOCH
fi
unset GOOS GOARCH # they run here
export CGO_ENABLED=0
go run -tags man -ldflags "-X main.version=$version" ./cmd/pamprompt-client "$folder"
go run ./scripts/man -version "$version" "$folder"
