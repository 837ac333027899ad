#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: scripts/setup.sh [build|demo|check|test]
#
# Installs the Debian packages that the named target needs (default: all of
# them), and only those that are missing. Without root it says what to run.
# It installs nothing else: Go modules come with the first build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build=(gcc libc6-dev libpam0g-dev)
demo=(bash libpam-modules libpam-oath oathtool dbus-daemon systemd util-linux)
check=(git libxml2-utils libdbus-1-dev polkitd protobuf-compiler shellcheck)
test=(bash-completion fish groff-base zsh libpam-wrapper libpam-google-authenticator libpam-pwquality dbus-broker python3-dbus python3-gi pkgconf procps plymouth polkitd valgrind systemd-container debootstrap)

what=${1:-all}
case $what in
build) packages=("${build[@]}") ;;
demo) packages=("${build[@]}" "${demo[@]}") ;;
check) packages=("${build[@]}" "${check[@]}") ;;
test | all) packages=("${build[@]}" "${demo[@]}" "${check[@]}" "${test[@]}") ;;
*)
	printf 'usage: scripts/setup.sh [build|demo|check|test]\n' >&2
	exit 2
	;;
esac

need_go() {
	local want have
	want=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
	if ! have=$(go env GOVERSION 2>/dev/null); then
		printf 'Go is missing: install Go %s or later from https://go.dev/dl/ and put its bin directory into PATH\n' "$want" >&2
		return 1
	fi
	have=${have#go}
	if [[ $(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n 1) != "$want" ]]; then
		printf 'Go %s is too old: install Go %s or later from https://go.dev/dl/\n' "$have" "$want" >&2
		return 1
	fi
}

# missing prints the packages that are not installed, on one line.
missing() {
	local package status
	for package in "$@"; do
		status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
		if [[ $status != installed ]]; then printf '%s ' "$package"; fi
	done
}

need_go
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	printf 'note: this is no Debian system, so nothing was installed; what is needed is in these packages of Debian: %s\n' "${packages[*]}" >&2
	exit 0
fi
read -ra wanted <<<"$(missing "${packages[@]}")"
if ((${#wanted[@]} == 0)); then
	exit 0
fi
if ((EUID != 0)); then
	printf 'These packages are missing. As root:\n\n  apt-get update && apt-get install --no-install-recommends %s\n\n' "${wanted[*]}" >&2
	exit 1
fi
printf 'installing %s\n' "${wanted[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update && apt-get install --yes --no-install-recommends "${wanted[@]}"; } >"$log" 2>&1; then
	cat "$log" >&2
	printf 'installing packages failed; the lines above say why\n' >&2
	exit 1
fi
