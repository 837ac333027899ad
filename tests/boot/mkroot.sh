#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: tests/boot/mkroot.sh DIR SUITE PACKAGE...
#
# Makes the root file system of a Debian suite in DIR, from the mirror that this
# machine's apt uses, and leaves it alone when it is there: who wants other packages
# names another DIR, since a machine may run above this one. Beside DIR are a lock
# and a log.
set -euo pipefail

dir=$1 suite=$2
shift 2
mkdir -p "$(dirname "$dir")"
exec 9>"$dir.lock"
flock 9
if [[ -e $dir ]]; then exit 0; fi
# shellcheck disable=SC2016 # apt expands them
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
	awk '$1 !~ /security/ { print $1; exit }')
script=/usr/share/debootstrap/scripts/$suite
if ! [[ -e $script ]]; then script=/usr/share/debootstrap/scripts/sid; fi # newer than debootstrap itself
packages=$(IFS=, && printf '%s' "$*")
rm -rf "$dir.new"
if ! debootstrap --variant=minbase --include="$packages" "$suite" "$dir.new" "$mirror" "$script" >"$dir.log" 2>&1; then
	tail -n 20 "$dir.log" >&2
	exit 1
fi
rm -rf "$dir.new"/var/cache/apt/archives/*.deb
# What tests start themselves.
rm -f "$dir.new"/etc/systemd/system/{sshd.service,multi-user.target.wants/{ssh,cron,atd}.service,sockets.target.wants/ssh.socket}
mv "$dir.new" "$dir"
