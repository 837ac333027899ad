#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: scripts/files.sh KIND...
#
# Lists the files of the project, from its root, one a line: the tracked ones
# and those that git would track. Kinds are the endings of names (go, sh, xml)
# and "bash": whatever starts with a line that says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

all() {
	if git rev-parse --git-dir >/dev/null 2>&1; then
		git ls-files --cached --others --exclude-standard | sort -u
	else
		find . \( -path ./.git -o -path ./build \) -prune -o -type f -print | sed 's|^\./||' | sort
	fi | while IFS= read -r file; do
		# A file that was removed is listed until the removal is committed.
		if [[ -f $file ]]; then printf '%s\n' "$file"; fi
	done
}

for kind in "$@"; do
	if [[ $kind == bash ]]; then
		all | while IFS= read -r file; do
			read -r first <"$file" 2>/dev/null || continue
			if [[ $first == '#!'*bash ]]; then printf '%s\n' "$file"; fi
		done
	else
		all | grep -E "\.$kind\$" || true
	fi
done
