#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: scripts/package.sh deb|rpm VERSION
#
# Makes a package of what make build has built, in build/, with nfpm, whose version
# is in dist/packages/go.mod.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

kind=$1
case $kind in
deb) style=debian ;;
rpm) style=fedora ;;
*)
	printf 'usage: scripts/package.sh deb|rpm VERSION\n' >&2
	exit 2
	;;
esac
go -C dist/packages build -o "$PWD/build/nfpm" github.com/goreleaser/nfpm/v2/cmd/nfpm
TREE=$PWD/build/tree-$kind
rm -rf "$TREE"
DESTDIR=$TREE PREFIX=/usr PAM_STYLE=$style scripts/install.sh
# What an administrator may change is named one by one in nfpm.yaml.
rm -r "${TREE:?}/etc"
PAM=dist/pam.d/$style ARCH=$(go env GOARCH) VERSION=$2
export TREE PAM ARCH VERSION
build/nfpm package --config dist/packages/nfpm.yaml --packager "$kind" --target build/
