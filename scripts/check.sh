#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs every check that reads the code instead of running it, all of them also
# when one fails, and says at the end which failed. govulncheck needs its
# database from the network: without it, it is listed as not run, and that is
# the only thing that may be.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=()
not_run=()
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# check NAME COMMAND...: its output is shown when it fails.
check() {
	local name=$1
	shift
	if "$@" >"$out" 2>&1; then
		printf 'ok      %s\n' "$name"
	else
		printf 'FAIL    %s\n' "$name"
		head -n 60 "$out" | sed 's/^/        /'
		failed+=("$name")
	fi
}

formatted() {
	local bad
	bad=$(scripts/files.sh go | xargs gofmt -l -s)
	if [[ -n $bad ]]; then
		printf 'run make fmt:\n%s\n' "$bad"
		return 1
	fi
}

# Everything but the worker, and api/conv for programs that run PAM, must build
# without cgo: no libpam in the broker.
pure_go() {
	local packages
	mapfile -t packages < <(go list ./api/... | grep -v '/api/conv$')
	CGO_ENABLED=0 go build -o /dev/null ./cmd/pamprompt-broker &&
		CGO_ENABLED=0 go build -o /dev/null ./cmd/pamprompt-client &&
		CGO_ENABLED=0 go build -o /dev/null ./cmd/pamprompt-conv &&
		CGO_ENABLED=0 go vet "${packages[@]}" ./broker/... ./policy/... ./dbus-1/...
}

spdx() {
	local file bad=0
	while IFS= read -r file; do
		if ! head -n 8 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0'; then
			printf '%s has no SPDX-License-Identifier line\n' "$file"
			bad=1
		fi
	done < <(
		scripts/files.sh go sh py c h proto xml conf policy service socket toml bash | grep -v /testdata/ | sort -u
		printf 'Makefile\n'
	)
	return $bad
}

shell() { scripts/files.sh bash | xargs shellcheck --external-sources; }

xml() {
	local dtd=/usr/share/xml/dbus-1/introspect.dtd file files
	mapfile -t files < <(scripts/files.sh xml)
	xmllint --nonet --noout --dtdvalid "$dtd" "${files[@]}" || return 1
	mapfile -t files < <(scripts/files.sh policy)
	xmllint --nonet --noout --dtdvalid /usr/share/polkit-1/policyconfig-1.dtd "${files[@]}" || return 1
	# The DTD of bus configurations knows none of the attributes that all of
	# them use (dbus 1.14), so those are only parsed.
	mapfile -t files < <(scripts/files.sh conf)
	for file in "${files[@]}"; do
		if grep -q '<busconfig>' "$file"; then xmllint --nonet --noout "$file" || return 1; fi
	done
}

seeds() {
	local folder target count bad=0
	while read -r folder target count; do
		if ((count == 0)); then
			printf '%s in %s has no seeds: commit some in %s/testdata/fuzz/%s\n' "$target" "$folder" "$folder" "$target"
			bad=1
		fi
	done < <(scripts/fuzz.sh --list)
	return $bad
}

# govulncheck fetches its database; that it cannot is no finding.
vulnerabilities() {
	if go tool govulncheck ./... >"$out" 2>&1; then
		printf 'ok      govulncheck\n'
	elif grep -q 'fetching vulnerabilities' "$out"; then
		printf 'not run govulncheck\n'
		not_run+=("govulncheck: its database could not be had: $(tail -n 1 "$out")")
	else
		printf 'FAIL    govulncheck\n'
		sed 's/^/        /' "$out"
		failed+=(govulncheck)
	fi
}

long_files() {
	local file lines
	while IFS= read -r file; do
		lines=$(wc -l <"$file")
		if ((lines > 400)); then printf 'note    %s has %s lines: does it hold two things?\n' "$file" "$lines"; fi
	done < <(scripts/files.sh go sh bash | grep -v '\.pb\.go$' | sort -u)
}

check gofmt formatted
check 'go vet' go vet ./...
check staticcheck go tool staticcheck ./...
check 'no cgo but in the worker' pure_go
check 'import directions' go test ./tests/imports
check 'go.mod is tidy' go mod tidy -diff
check 'generated code' scripts/generate.sh --check
check 'SPDX lines' spdx
check shellcheck shell
check 'XML is valid' xml
check 'seeds of fuzz targets' seeds
vulnerabilities
long_files

printf '\n'
for line in "${not_run[@]}"; do printf 'not run: %s\n' "$line"; done
if ((${#failed[@]} > 0)); then
	printf 'failed: %s\n' "$(printf '%s, ' "${failed[@]}" | sed 's/, $//')"
	exit 1
fi
printf 'all checks passed\n'
